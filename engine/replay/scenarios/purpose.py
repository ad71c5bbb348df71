"""Finds tests that cannot fail: they compare nothing, or nothing happens in them. Such a test does not pass."""

from __future__ import annotations

from collections.abc import Sequence

from engine.core.rules import Rule
from engine.replay.scenarios.scenario import Scenario

NO_EXPECTATION = "expects nothing, so it would always pass: add `expect` or `alerts` (`expect: []`: no delivery)"


def without_purpose(scenario: Scenario, rules: Sequence[Rule]) -> tuple[str, ...]:
    """Every reason why a test would pass whatever its rules do."""
    found = []
    if scenario.expect is None and scenario.alerts is None:
        found.append(NO_EXPECTATION)
    has_schedule = any("schedule" in rule.triggers for rule in rules)
    if not (scenario.events or scenario.answers) and not (has_schedule and scenario.until_ms is not None):
        hint = " (a schedule needs `until`)" if has_schedule else ""
        found.append(f"has no events, so nothing would happen in it{hint}")
    return tuple(found)
