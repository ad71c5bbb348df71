"""Stage `silence`: does an operator's silence cover what the alert is about? It ends with the silence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from engine.core.alerting.alert import Alert
from engine.core.alerting.outages import Outage
from engine.core.alerting.quorums import Quorums
from engine.core.alerting.silences import Silence, Silences
from engine.core.alerting.stages.base import PASS, Stage, StageReport, Suppressed, Verdict
from engine.core.alerting.suppressions import Suppressions, silence_until
from engine.core.presence.client_state import ClientState

REASON: Final = "silence"


class SilenceStage(Stage):
    """The same for all rules, while any silence is open."""

    def __init__(
        self,
        silences: Silences,
        suppressions: Suppressions,
        outages: Mapping[str, Outage],
        quorums: Quorums,
        state_of: Callable[[str], ClientState],
    ) -> None:
        """`outages`: those going on, by the name of their alert."""
        self.reason = REASON
        self.mutes_reminders = True
        self._silences = silences
        self._suppressions = suppressions
        self._outages = outages
        self._quorums = quorums
        self._state_of = state_of

    def check(self, alert: Alert, state: ClientState, at_ms: int) -> Verdict:
        """See `Stage`."""
        silence = self.covering(alert, state, at_ms)
        return PASS if silence is None else Suppressed(REASON, silence_until(silence.id))

    def covering(self, alert: Alert, state: ClientState, at_ms: int) -> Silence | None:
        """The silence that covers what the alert is about; None for none."""
        if alert.client is not None:
            return self._silences.covering(alert.rule, alert.client, state.ip, at_ms)
        return self._silences.covering_key(alert.rule, alert.shown_key or {}, self.clients_of(alert), at_ms)

    def clients_of(self, alert: Alert) -> Iterator[tuple[str, str]]:
        """The clients that an alert about a key is about, with their addresses."""
        outage = self._outages.get(alert.name)
        clients: Iterable[str] = outage.offline_members() if outage is not None else alert.listed
        if alert.trigger == "quorum":
            clients = self._quorums.down(alert.rule, alert.key or "")
        elif outage is None and alert.count > len(alert.listed):
            return  # not all of them are known: a silence that covers those that are must not silence the others
        for client in clients:
            yield client, self._state_of(client).ip

    def wait(self, alert: Alert, until: str, at_ms: int) -> None:
        """See `Stage`."""
        self._suppressions.wait(until, alert)

    def passed(self, alerts: Sequence[Alert], at_ms: int) -> None:
        """Nothing to do."""

    def report(self, alert: Alert, state: ClientState, at_ms: int) -> StageReport:
        """See `Stage`."""
        silence = self.covering(alert, state, at_ms)
        if silence is None:
            return StageReport(REASON, True, {})
        about = {"id": silence.id, "author": silence.author, "comment": silence.comment, "rules": silence.rules}
        return StageReport(REASON, False, about, silence.until_ms)
