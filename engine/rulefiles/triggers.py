"""What kinds of triggers there are, for what a rule with one of them can have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from engine.core.rules import ABOUT_SOURCES, UNDELIVERED

ABOUT_MANY: Final = frozenset({"outage", "quorum", "schedule"})
"""Triggers whose alerts are about many clients at once; a rule with one of them has no other trigger."""

ABOUT_NO_CLIENT: Final[Mapping[str, str]] = {
    "feed": "a source",
    "cell": "a cell",
    UNDELIVERED: "a target of deliveries",
}
"""Triggers whose alerts are about no client, with what they are about."""

WITHOUT_FOR: Final = ABOUT_SOURCES | {
    "first_seen",
    "never_seen",
    "flapping",
    "stable",
    "duplicate",
    "unverified",
    "outage",
    "schedule",
}
"""Triggers that are not a status that can last for a while."""

LASTING: Final = frozenset({"offline", "online", "quorum"})
"""Triggers that are a status which clients may already have when a rule is new."""
