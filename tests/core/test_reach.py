"""Whose events can decide together under a rule: what a replay may deal out over processors."""

from __future__ import annotations

import pytest

from engine.core.rules import (
    CLIENT,
    FLEET,
    GROUP,
    Grouping,
    Match,
    OutageTerms,
    Parent,
    QuorumTerms,
    Rule,
    Schedule,
    reach,
)
from tests.core.worlds import Every, Hours, rule

TABLE: list[tuple[str, Rule, str]] = [
    ("a plain rule", rule("r", "offline"), CLIENT),
    ("a reminder", rule("r", "offline", repeat_ms=1), CLIENT),
    ("a throttle of one group", rule("r", "offline", throttle=(1, "1m"), match=Match(group=("G",))), GROUP),
    ("groups", rule("r", "offline", grouping=Grouping()), FLEET),
    ("groups of one client each", rule("r", "offline", grouping=Grouping(by=("client",))), CLIENT),
    ("what a window suppressed", rule("r", "offline", mute=Hours(("0s", "1m"))), FLEET),
    ("an outage", rule("r", "outage", outage=OutageTerms()), FLEET),
    ("an inhibited one", rule("r", "offline", inhibited_by=("s",)), FLEET),
    ("one with parents", rule("r", "offline", parents=(Parent(rule="s", equal=("site",)),)), FLEET),
    ("a quorum", rule("r", "quorum", quorum=QuorumTerms()), FLEET),
    ("a roll call", rule("r", "schedule", schedule=Schedule(ticks=Every("1h"))), FLEET),
]


@pytest.mark.parametrize(("why", "one", "expected"), TABLE, ids=[row[0] for row in TABLE])
def test_reach(why: str, one: Rule, expected: str) -> None:
    assert reach(one) == expected
