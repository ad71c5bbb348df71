"""The side of a store beside its writer: what people and the dispatcher ask. Part of the seam that `stores.base` describes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from engine.core.alerting.silences import Silence
from engine.core.delivery import OutboxItem
from engine.sources.base import Gap
from engine.stores.rows import (
    AlertLife,
    AlertRow,
    CorrectionRow,
    CurvePoint,
    DeliveryRow,
    FiringRow,
    HistoryEntry,
    JournalRow,
    LatencyCount,
    ProgressPoint,
    QuarantineRow,
    ReconciliationRow,
    RuleAlerts,
    RuleDeliveries,
    Share,
    SourceRow,
    Totals,
    Waiting,
)


class Reader(Protocol):
    """What is asked of a store beside the writer, by people and by the dispatcher.

    Answers from what was committed before the question. Raises StoreError.

    Lists come newest first. `cursor` is where the page before ended: only what is older comes.
    """

    def alerts(
        self,
        *,
        state: str | None = None,
        rule: str | None = None,
        client: str | None = None,
        limit: int = 100,
        cursor: tuple[int, str] | None = None,
    ) -> list[AlertRow]:
        """Alerts; `cursor` is (started_at_ms, id)."""
        ...

    def held_back(self, *, limit: int = 100) -> list[AlertRow]:
        """Alerts that are suppressed at present; those whose status has reverted since are not among them."""
        ...

    def firing(self, *, limit: int = 100) -> list[FiringRow]:
        """What fires at present, groups and bundles as one; what is not acknowledged comes first."""
        ...

    def alerts_of(self, id_: str, *, limit: int = 100) -> list[AlertRow]:
        """Open alerts with this id, or all of the group or the bundle with this id."""
        ...

    def alert(self, id_: str) -> AlertRow | None:
        """One alert, None when there is none (any more)."""
        ...

    def alert_life(self, id_: str) -> AlertLife | None:
        """What else is kept of one alert, None when there is none (any more)."""
        ...

    def deliveries(
        self,
        *,
        state: str | None = None,
        rule: str | None = None,
        client: str | None = None,
        alert: str | None = None,
        limit: int = 100,
        cursor: int | None = None,
    ) -> list[DeliveryRow]:
        """Deliveries; `cursor` is an id."""
        ...

    def delivery(self, number: int) -> DeliveryRow | None:
        """One delivery, None when there is none (any more)."""
        ...

    def silences(
        self,
        *,
        now_ms: int,
        state: str | None = None,
        author: str | None = None,
        limit: int = 100,
        cursor: tuple[int, str] | None = None,
    ) -> list[Silence]:
        """Silences; `state`: active or expired at `now_ms`; `cursor` is (from_ms, id)."""
        ...

    def rule_at(self, rule: str, at_ms: int) -> str | None:
        """The definition of a rule that was in force at an instant; None: not known (any more)."""
        ...

    def silence(self, id_: str) -> Silence | None:
        """One silence, None when there is none (any more)."""
        ...

    def quarantine(self, *, limit: int = 100, cursor: int | None = None) -> list[QuarantineRow]:
        """What was not accepted; `cursor` is an id."""
        ...

    def sources(self) -> dict[str, SourceRow]:
        """How far each source was read, by its name."""
        ...

    def gaps(self, limit: int = 1000) -> list[Gap]:
        """Recorded gaps of all sources."""
        ...

    def reconciliations(self, *, limit: int = 100, cursor: int | None = None) -> list[ReconciliationRow]:
        """Sweeps; `cursor` is an id."""
        ...

    def reconciliation(self, number: int) -> ReconciliationRow | None:
        """One sweep, None when there is none (any more)."""
        ...

    def corrections(self, reconciliation: int | None, *, limit: int = 1000, cursor: int = 0) -> list[CorrectionRow]:
        """What was corrected, of one sweep or (None) at all; oldest first, `cursor` is an id."""
        ...

    def history(self, position: int) -> Iterator[HistoryEntry]:
        """A client's entries from a history position backwards; ends early where older history was purged."""
        ...

    def newest_journal(self, events: int) -> list[JournalRow]:
        """As many of the newest rows of the journal as have so many events, newest first, without facts and positions.

        Never more than `journal_rows.MAX_NEWEST_ROWS`.
        """
        ...

    def totals(self) -> Totals:
        """How much there is."""
        ...

    def recorded(self, before: int | None, *, limit: int) -> list[JournalRow]:
        """Rows of the journal of the own cell that have events, newest first, without facts and positions; only older ones than `before`."""
        ...

    def alerts_since(self, since_ms: int) -> list[RuleAlerts]:
        """Alerts that began since an instant (epoch ms), counted by rule, state and reason."""
        ...

    def deliveries_since(self, since_ms: int) -> list[RuleDeliveries]:
        """Deliveries that were decided since an instant (epoch ms), counted by rule, phase and state."""
        ...

    def fleet_curve(self, group: str, from_ms: int, to_ms: int, step_ms: int, *, limit: int) -> list[CurvePoint]:
        """The fleet's curve from an instant to another, oldest first, in steps; `group`: empty for the whole fleet."""
        ...

    def curve_groups(self) -> list[str]:
        """The MQTT groups that were counted in the newest minute, by name."""
        ...

    def verdict_latency(self, from_ms: int, to_ms: int, step_ms: int, *, limit: int) -> list[LatencyCount]:
        """How long verdicts took between two instants, oldest first, in steps."""
        ...

    def outage_progress(self, alert: str, *, limit: int) -> list[ProgressPoint]:
        """How the outage of an alert went, oldest first."""
        ...

    def outages(self, from_ms: int, to_ms: int, *, limit: int = 100) -> list[AlertRow]:
        """Outages that went on between two instants."""
        ...

    def waiting(self, now_ms: int) -> Waiting:
        """Which targets have something to send at `now_ms` (epoch ms), and when the next retry is due."""
        ...

    def due(self, now_ms: int, shares: Sequence[Share]) -> list[OutboxItem]:
        """What may leave at `now_ms`: for each share retries first, then fresh ones in the order in which they were decided.

        Nothing that the share already holds, and nothing whose lane has an earlier unfinished delivery that waits for a
        retry or is held; an earlier fresh one of the same lane comes before it in the answer, or is held by the caller.
        """
        ...
