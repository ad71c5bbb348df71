"""What differs between two replays of the same events with different rules: `replay --against`. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

Line = dict[str, Any]


def changes_between(ours: Iterable[Line], theirs: Iterable[Line]) -> list[Line]:
    """The alert and delivery lines that only one of two replays has, in the order of their instants.

    Each is the line of the replay with one key more: `only` is `rules` for a line of `ours`, `against` for one of `theirs`.
    """
    left, right = _by_content(ours), _by_content(theirs)
    gone = [{"only": "rules", **line} for content, line in left.items() if content not in right]
    new = [{"only": "against", **line} for content, line in right.items() if content not in left]
    return sorted(gone + new, key=lambda line: str(line["at"]))


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
