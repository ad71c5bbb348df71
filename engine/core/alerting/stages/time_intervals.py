"""Stage `mute`: is the instant inside a `mute` interval of the rule, or outside every `active` one? It ends at the interval's edge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from engine.core.alerting.alert import Alert
from engine.core.alerting.stages.base import PASS, Stage, StageReport, Suppressed, Verdict
from engine.core.alerting.suppressions import Suppressions, mute_until
from engine.core.presence.client_state import ClientState
from engine.core.rules import Rule
from engine.core.times import FOREVER

REASON: Final = "mute"


def is_needed(rule: Rule) -> bool:
    """Has the rule time intervals?"""
    return rule.mute is not None or rule.active is not None


class TimeIntervalStage(Stage):
    """The intervals of one rule. What they say is remembered up to their next edge."""

    def __init__(self, rule: Rule, suppressions: Suppressions) -> None:
        self.reason = REASON
        self.mutes_reminders = True
        self.edge_ms: int | None = None  # when alerts that wait are looked at; None: none waits
        self._rule = rule
        self._suppressions = suppressions
        self._suppressed = Suppressed(REASON, mute_until(rule.name))
        self._from_ms = 0  # what the intervals say is known from here
        self._until_ms = 0  # up to here, excluded
        self._is_muted = False

    def check(self, alert: Alert, state: ClientState, at_ms: int) -> Verdict:
        """See `Stage`."""
        return self._suppressed if self.is_muted(at_ms) else PASS

    def is_muted(self, at_ms: int) -> bool:
        """Do the intervals mute the rule at this instant?"""
        if not self._from_ms <= at_ms < self._until_ms:
            rule = self._rule
            self._until_ms = self._next_change(at_ms)
            self._from_ms = at_ms
            self._is_muted = (rule.mute is not None and rule.mute.covers(at_ms)) or (
                rule.active is not None and not rule.active.covers(at_ms)
            )
        return self._is_muted

    def edge_after(self, at_ms: int) -> int:
        """The first instant after this one at which the intervals may say otherwise; `FOREVER`: they never do."""
        return self._until_ms if self._from_ms <= at_ms < self._until_ms else self._next_change(at_ms)

    def _next_change(self, at_ms: int) -> int:
        intervals = (self._rule.mute, self._rule.active)
        return min([one.next_change_ms(at_ms) for one in intervals if one is not None], default=FOREVER)

    def wait(self, alert: Alert, until: str, at_ms: int) -> None:
        """See `Stage`."""
        self.await_edge(at_ms)
        self._suppressions.wait(until, alert)

    def await_edge(self, at_ms: int) -> None:
        """Have the alerts that wait looked at when the intervals may say otherwise."""
        due_ms = self.edge_after(at_ms)
        if self.edge_ms != due_ms:
            self.edge_ms = due_ms
            self._suppressions.await_edge(due_ms, self._rule.name)

    def passed(self, alerts: Sequence[Alert], at_ms: int) -> None:
        """Nothing to do."""

    def report(self, alert: Alert, state: ClientState, at_ms: int) -> StageReport:
        """See `Stage`."""
        edge_ms = self.edge_after(at_ms)
        is_muted = self.is_muted(at_ms)
        return StageReport(REASON, not is_muted, {}, edge_ms if is_muted and edge_ms < FOREVER else None)
