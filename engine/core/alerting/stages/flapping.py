"""Stage `flapping`: is the client flapping, and does the rule not say `flapping: fire`? It ends when the client stops flapping."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from engine.core.alerting.alert import Alert
from engine.core.alerting.stages.base import PASS, Stage, StageReport, Suppressed, Verdict
from engine.core.presence.client_state import FLAPPING, ClientState
from engine.core.rules import UNFLAPPABLE, Rule

REASON: Final = "flapping"
SUPPRESSED: Final = Suppressed(REASON)


def is_needed(rule: Rule) -> bool:
    """Can the stage suppress an alert of the rule?"""
    if not rule.flapping_skip:
        return False
    for trigger in rule.triggers:
        if trigger not in UNFLAPPABLE:
            return True
    return False


class FlappingStage(Stage):
    """The same for all rules that need it."""

    def __init__(self) -> None:
        self.reason = REASON

    def check(self, alert: Alert, state: ClientState, at_ms: int) -> Verdict:
        """See `Stage`."""
        return SUPPRESSED if state.flags & FLAPPING and alert.trigger not in UNFLAPPABLE else PASS

    def wait(self, alert: Alert, until: str, at_ms: int) -> None:
        """Nothing to do: the client's flapping stops by a timer of its own, and then `Triggers` looks at its alerts."""

    def passed(self, alerts: Sequence[Alert], at_ms: int) -> None:
        """Nothing to do."""

    def report(self, alert: Alert, state: ClientState, at_ms: int) -> StageReport:
        """See `Stage`."""
        return StageReport(REASON, self.check(alert, state, at_ms) is PASS, {"changes": list(state.changes)})
