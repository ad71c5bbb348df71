"""What differs between two replays of the same events with different rules: `replay --against`. Pure.

The rules of the replay are the new ones, those of `--against` the old ones. Read `changes_between` and `totals_by_rule`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

Line = dict[str, Any]

ONLY_NEW = "only_new"
ONLY_OLD = "only_old"

TOTALS = ("firings", "deliveries", "people")
"""What is counted for each rule: alerts that fire, deliveries that would be sent, and their recipients."""


def changes_between(new: Iterable[Line], old: Iterable[Line]) -> list[Line]:
    """The alert and delivery lines that only one of two replays has, in the order of their instants.

    Each is a line of type `diff`: `side` says which replay has it, `kind` is the type of its line, the rest is that line.
    """
    ours, theirs = _by_content(new), _by_content(old)
    gone = [_changed(ONLY_OLD, line) for content, line in theirs.items() if content not in ours]
    added = [_changed(ONLY_NEW, line) for content, line in ours.items() if content not in theirs]
    return sorted(gone + added, key=lambda line: str(line["at"]))


def totals_by_rule(new: Iterable[Line], old: Iterable[Line]) -> list[Line]:
    """For each rule that does anything in one of two replays: `rule`, and of each of `TOTALS` the pair (before, after)."""
    after, before = _totals(new), _totals(old)
    nothing = dict.fromkeys(TOTALS, 0)
    return [
        {"rule": rule} | {name: (before.get(rule, nothing)[name], after.get(rule, nothing)[name]) for name in TOTALS}
        for rule in sorted(before.keys() | after.keys())
    ]


def original(change: Line) -> Line:
    """The line of the replay that a line of type `diff` is about."""
    rest = {name: value for name, value in change.items() if name not in ("type", "side", "kind")}
    return {"type": change["kind"], **rest}


def _changed(side: str, line: Line) -> Line:
    rest = {name: value for name, value in line.items() if name != "type"}
    return {"type": "diff", "side": side, "kind": line["type"], **rest}


def _totals(lines: Iterable[Line]) -> Mapping[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for line in lines:
        if line["type"] not in {"alert", "delivery"} or line.get("state") == "pending":
            continue
        totals = found.setdefault(line["rule"], dict.fromkeys(TOTALS, 0))
        if line["type"] == "alert":
            totals["firings"] += line["state"] == "firing"
        elif not line.get("state"):  # not a shadow rule's, neither dead nor held
            totals["deliveries"] += 1
            totals["people"] += _recipients(line)
    return found


def _recipients(delivery: Line) -> int:
    """How many recipients a delivery has: each address of an e-mail, a receiver, a webhook. A log line and a device are none."""
    if delivery["action"] == "email":
        return len(delivery["request"]["to"]) + len(delivery["request"]["cc"])
    return int(delivery["action"] in ("notify", "webhook"))


def _by_content(lines: Iterable[Line]) -> Mapping[str, Line]:
    """Alert lines that are not pending, and delivery lines, by what makes them equal."""
    found = {}
    for line in lines:
        if line["type"] not in {"alert", "delivery"} or line.get("state") == "pending":
            continue
        # The key of a delivery adds nothing to its other values; the key of an alert is what it is about.
        ignored = {"key"} if line["type"] == "delivery" else set()
        content = {name: value for name, value in line.items() if name not in ignored}
        found[json.dumps(content, sort_keys=True)] = line
    return found
