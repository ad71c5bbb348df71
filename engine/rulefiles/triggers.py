"""What kinds of triggers there are, for what a rule with one of them can have."""

from __future__ import annotations

from typing import Final

ABOUT_MANY: Final = frozenset({"outage", "quorum", "schedule"})
"""Triggers whose alerts are about many clients at once; a rule with one of them has no other trigger."""

WITHOUT_FOR: Final = frozenset(
    {"first_seen", "never_seen", "flapping", "stable", "duplicate", "unverified", "feed", "outage", "schedule"}
)
"""Triggers that are not a status that can last for a while."""

LASTING: Final = frozenset({"offline", "online", "quorum"})
"""Triggers that are a status which clients may already have when a rule is new."""
