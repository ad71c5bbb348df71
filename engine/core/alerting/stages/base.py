"""What a stage is: one question that may keep an alert from firing.

A rule's stages are compiled when it is loaded, in the order of `pipeline.STAGES` and only those that it needs. A stage never
changes an alert: it answers `PASS`, `Suppressed` or `AWAITS_ANSWER`, and `pipeline` does what follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from engine.core.alerting.alert import Alert
from engine.core.presence.client_state import ClientState


class Verdict:
    """What a stage answers: one of the three below."""

    __slots__ = ()


class Pass(Verdict):
    """The stage lets the alert through."""

    __slots__ = ()


class AwaitsAnswer(Verdict):
    """The stage cannot say before the broker has answered a query."""

    __slots__ = ()


class Suppressed(Verdict):
    """The stage keeps the alert back."""

    __slots__ = ("is_final", "reason", "until")

    def __init__(self, reason: str, until: str = "", *, is_final: bool = False) -> None:
        self.reason: Final = reason
        self.is_final: Final = is_final  # it is not looked at again: the alert is dropped
        # What has to end before the alert is looked at again, see `suppressions`; "": the stage itself says so, when the client
        # stops flapping, when there is room in a throttle, when an answer comes.
        self.until: Final = until


PASS: Final = Pass()
AWAITS_ANSWER: Final = AwaitsAnswer()


class StageReport:
    """What stands, or stood, between a client and a firing at one point of the way: for `why-not`."""

    __slots__ = ("detail", "passes", "stage", "until_ms")

    def __init__(self, stage: str, passes: bool, detail: dict[str, Any], until_ms: int | None = None) -> None:
        self.stage: Final = stage  # a reason of SEMANTICS section 6, or a step before or after the stages
        self.passes: Final = passes
        self.detail: Final = detail  # what a sentence is made of: ids and names as plain values, instants in `_ms`
        self.until_ms: Final = (
            until_ms  # when a suppressing stage passes by itself at the earliest, where that is known
        )


class Stage:
    """One question about an alert of one rule that is due.

    `reason`: why an alert is suppressed that does not pass. `mutes_reminders`: is it asked before reminders and group
    notifications as well? `counts_together`: is it asked after all alerts of one decision have passed the other stages,
    because what passes together counts as one?
    """

    reason: str = ""
    mutes_reminders: bool = False
    counts_together: bool = False

    def check(self, alert: Alert, state: ClientState, at_ms: int) -> Verdict:
        """May the alert fire at this instant? `state` is its client's, `NEW_CLIENT` when it is about no client."""
        raise NotImplementedError

    def wait(self, alert: Alert, until: str, at_ms: int) -> None:
        """The alert was suppressed by this stage: have it looked at again when `until` has ended."""
        raise NotImplementedError

    def passed(self, alerts: Sequence[Alert], at_ms: int) -> None:
        """These alerts have passed every stage by one decision and fire."""
        raise NotImplementedError

    def report(self, alert: Alert, state: ClientState, at_ms: int) -> StageReport:
        """What the stage says of an alert, which need not be due; changes nothing."""
        raise NotImplementedError
