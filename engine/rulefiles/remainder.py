"""What is left of a rule file when what does not fit its schema is taken out: it is checked too, so that one run reports every mistake.

Nothing may follow from what is not there: a rule knows which of its keys are lost. Read `lost_keys`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from engine.config.pruning import PrunedDocument
from engine.config.schema import load_schema
from engine.config.yamlfile import KeyPath, written
from engine.rulefiles.defaults import DEFAULTS
from engine.rulefiles.triggers import ABOUT_MANY


def rule_placeholder(path: KeyPath, around: Any) -> Any:
    """What stands in for a name, a trigger or a version that is wrong or missing, so that the rest of its rule can be read."""
    if path == ("version",):
        return 1
    if path == ("rules",):
        return []
    if len(path) == 3 and path[0] == "rules" and path[2] == "name":
        return "rule-without-name"
    is_key = (len(path) == 3 and path[0] == "rules") or (len(path) == 2 and path[0] == "defaults")
    if is_key and path[-1] == "trigger":
        return next((trigger for trigger in sorted(ABOUT_MANY) if trigger in around), "offline")
    return None


_ASKED_FOR: Final = frozenset({"labels", "grouping", "throttle", "verify", "actions", *ABOUT_MANY})
"""Keys from whose absence something follows."""


def lost_keys(document: PrunedDocument) -> Mapping[int, frozenset[str]]:
    """For each rule of the document, by its number there, its keys that are lost, in full or in part; those that it inherits as well.

    An unknown key may be another one that is misspelled, so it stands for each that is not there.
    """
    known = load_schema("rules")["$defs"]["rule"]["properties"].keys()
    by_rule: dict[object, set[str]] = {}
    inherited: set[str] = set()
    for path in document.lost:
        if len(path) > 2 and path[0] == "rules":
            by_rule.setdefault(path[1], set()).add(str(path[2]))
        elif path[0] == DEFAULTS and len(path) > 1:
            inherited.add(str(path[1]))
        elif path[0] not in ("version", "rules"):
            inherited |= _ASKED_FOR
    if not inherited <= known:
        inherited |= _ASKED_FOR
    there = document.value.get(DEFAULTS, {}).keys()
    found = {}
    for index, entry in enumerate(document.value["rules"]):
        own = by_rule.get(document.original(("rules", index))[1], set())
        lost = own | {key for key in inherited if key not in entry}
        found[index] = frozenset(lost if own <= known else lost | (_ASKED_FOR - entry.keys() - there))
    return found


def consequences(document: PrunedDocument) -> set[tuple[str, str]]:
    """The file and the place of everything that lacks a part: what is wrong with it may follow from that alone."""
    return {(document.file, written(path[:length])) for path in document.lost for length in range(1, len(path) + 1)}
