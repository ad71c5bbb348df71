"""Checks over the rules of all files: references between rules that lead nowhere, never take effect, or form a cycle."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from engine.config.matchers import as_tuple
from engine.config.schema import did_you_mean
from engine.core.rules import AT_ONCE
from engine.errors import Problem
from engine.rulefiles.context import RuleContext
from engine.rulefiles.options import inhibitors_in
from engine.rulefiles.triggers import ABOUT_MANY, ABOUT_NO_CLIENT

WrittenRule = tuple[RuleContext, Mapping[str, Any]]
"""A rule: where it stands, and its mapping with what it inherits."""


def inhibition_problems(rules: Sequence[WrittenRule], names: Collection[str]) -> Iterator[Problem]:
    """Every entry of `inhibited_by` that names no rule or can never inhibit, and every cycle, once.

    `names` are those of all rules, including rules too broken to be among `rules`.
    """
    known = {entry["name"]: (context, entry) for context, entry in rules}
    inhibitors: dict[str, tuple[str, ...]] = {}
    for name, (context, entry) in known.items():
        document = context.document
        written = [one if isinstance(one, str) else one["rule"] for one in inhibitors_in(entry)]
        inhibitors[name] = tuple(word for word in written if word in known)
        for place, one in enumerate(inhibitors_in(entry)):
            path = context.place(("inhibited_by",))
            if not isinstance(one, str) and isinstance(entry["inhibited_by"], list):
                path = (*path, place)
            word = one if isinstance(one, str) else one["rule"]
            if word not in names:
                yield document.problem(path, f"there is no rule `{word[:100]}`{did_you_mean(word, list(names))}")
            elif word not in known:
                continue  # it has mistakes of its own
            elif (message := _no_effect(known[word][1], entry)) is not None:
                yield document.problem(path, message)
            elif known[word][1].get("shadow", False) and not entry.get("shadow", False):
                message = f"`{word}` is a shadow rule, which inhibits only shadow rules"
                yield document.problem(path, message, warning=isinstance(one, str))
            elif not isinstance(one, str):
                message = _unequal(known[word][1], entry, as_tuple(one["equal"]))
                if message is not None:
                    yield document.problem(path, message)
    for cycle in _cycles(inhibitors):
        context, _ = known[cycle[0]]
        shown = " → ".join([*cycle, cycle[0]][:20])
        yield context.document.problem(context.place(("inhibited_by",)), f"forms a cycle: {shown}")


def _no_effect(inhibitor: Mapping[str, Any], inhibited: Mapping[str, Any]) -> str | None:
    """Why one rule can never inhibit another; None when it can."""
    triggers = set(as_tuple(inhibitor["trigger"]))
    for trigger, about in ABOUT_NO_CLIENT.items():
        if trigger in triggers | set(as_tuple(inhibited["trigger"])):
            return (
                f"`{inhibitor['name']}` can never inhibit `{inhibited['name']}`: "
                f"alerts of the trigger `{trigger}` are about {about}, not about clients"
            )
    if triggers <= AT_ONCE:
        return f"`{inhibitor['name']}` can never inhibit: its alerts resolve immediately"
    return None


def _unequal(parent: Mapping[str, Any], child: Mapping[str, Any], equal: Sequence[str]) -> str | None:
    """Why alerts of two rules can never have the same values of these names; None when they can."""
    for entry in (parent, child):
        trigger = next((one for one in as_tuple(entry["trigger"]) if one in ABOUT_MANY), None)
        if trigger is None:
            continue
        key = as_tuple(entry.get(trigger, {}).get("by", ("group",))) if trigger != "schedule" else ()
        for name in equal:
            if name not in key:
                has = f"only {', '.join(key)}" if key else "nothing of that kind"
                return (
                    f"`{parent['name']}` can never inhibit `{child['name']}`: alerts of `{entry['name']}` are about many "
                    f"clients and have {has}, not `{name[:60]}`"
                )
    return None


def _cycles(edges: Mapping[str, Sequence[str]]) -> Iterator[list[str]]:
    """Every cycle that a walk over the names meets, each once. Not recursive: files may chain thousands of rules."""
    done: set[str] = set()
    for start in edges:
        path: dict[str, None] = {}  # in order
        stack: list[tuple[str, bool]] = [(start, False)]
        while stack:
            name, is_left = stack.pop()
            if is_left:
                done.add(path.popitem()[0])
            elif name not in done:
                path[name] = None
                stack.append((name, True))
                for other in edges[name]:
                    if other in path:
                        names = list(path)
                        yield names[names.index(other) :]
                    elif other not in done:
                        stack.append((other, False))
