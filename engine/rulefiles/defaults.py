"""`defaults` of a rule file: keys for every rule of the file that does not set them.

A default applies where it can: a key that the triggers of a rule cannot have (`for` with `first_seen`, `match` with `feed`) is left out
there, and a rule that `inhibited_by` of the defaults names does not inherit it. A mistake in a default is reported once, where it
stands. Read `inherit`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from engine.config.matchers import as_tuple
from engine.core.rules import ABOUT_SOURCES, AT_ONCE, VERIFIABLE
from engine.errors import Problem
from engine.rulefiles.triggers import ABOUT_MANY, LASTING, WITHOUT_FOR

DEFAULTS: Final = "defaults"

Inherited = tuple[Mapping[str, Any], frozenset[str]]
"""A rule with what it inherits, and the keys that it has inherited."""


def inherit(entry: Mapping[str, Any], defaults: Mapping[str, Any]) -> Inherited:
    """A rule with each default that it does not set itself and that its triggers can have; values are not copied."""
    if not defaults:
        return entry, frozenset()
    triggers = as_tuple(entry.get("trigger", defaults.get("trigger", ())))
    keys = frozenset(key for key in defaults if key not in entry and _applies(key, defaults, triggers, entry))
    return {**{key: defaults[key] for key in defaults if key in keys}, **entry}, keys


def _applies(key: str, defaults: Mapping[str, Any], triggers: Sequence[str], entry: Mapping[str, Any]) -> bool:
    if key == "inhibited_by":
        return not ABOUT_SOURCES & set(triggers) and entry.get("name") not in _inhibitors(defaults[key])
    return key not in _POSSIBLE or _POSSIBLE[key](frozenset(triggers))


def _inhibitors(written: Any) -> list[Any]:
    some = [written] if isinstance(written, (str, Mapping)) else written
    return [one.get("rule") if isinstance(one, Mapping) else one for one in some]


_POSSIBLE: Final[Mapping[str, Callable[[frozenset[str]], bool]]] = {
    "for": lambda triggers: not triggers & WITHOUT_FOR,
    "match": lambda triggers: not triggers & ABOUT_SOURCES,
    "existing": lambda triggers: bool(triggers & LASTING),
    "verify": lambda triggers: bool(triggers & VERIFIABLE),
    "verify_failure": lambda triggers: bool(triggers & VERIFIABLE),
    "verify_within": lambda triggers: bool(triggers & VERIFIABLE),
    "grouping": lambda triggers: not triggers & {*ABOUT_SOURCES, *ABOUT_MANY},
    "repeat": lambda triggers: not triggers <= AT_ONCE,
    "on_recovery": lambda triggers: not triggers <= AT_ONCE,
    "escalate": lambda triggers: not triggers & AT_ONCE,
    "outage": lambda triggers: "outage" in triggers,
    "quorum": lambda triggers: "quorum" in triggers,
    "schedule": lambda triggers: "schedule" in triggers,
}
"""Keys that only some triggers can have; every other key fits each rule."""


class DefaultProblems:
    """The mistakes in the defaults of one file: each is found again with every rule that inherits the key."""

    def __init__(self) -> None:
        self._found: dict[Problem, list[str]] = {}
        self._heirs = 0

    def take(self, name: str, problems: Sequence[Problem]) -> list[Problem]:
        """The problems of one rule without those of its defaults, which are kept."""
        self._heirs += 1
        own = []
        for problem in problems:
            if problem.path == DEFAULTS or problem.path.startswith(f"{DEFAULTS}."):
                names = self._found.setdefault(problem, [])
                if name not in names[-1:]:
                    names.append(name)
            else:
                own.append(problem)
        return own

    def all(self) -> list[Problem]:
        """Each mistake once; with the first rule that has it, if not every rule does."""
        return [
            problem
            if len(names) == self._heirs
            else replace(problem, message=f"{problem.message} (for the rule `{names[0]}`)")
            for problem, names in self._found.items()
        ]
