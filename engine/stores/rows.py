"""The values that go into a store and come out of it. Instants are epoch milliseconds."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from engine.core.history import Fact

MAX_REQUEST_CHARACTERS: Final = 8 * 1024 * 1024
"""Longest request that a store keeps, in characters of JSON. A longer one is written dead, because it could be too big for the
store, and a transaction that fails for it would fail each time."""


class NewDelivery(NamedTuple):
    """One rendered delivery as it is decided. Instants are epoch milliseconds."""

    key: str  # deterministic: a key that the outbox has already is the same delivery
    rule: str
    client: str | None
    group_key: str | None  # JSON text, for deliveries about several clients or a source
    clients: Sequence[str] | None
    alert: str
    action: str  # webhook or log
    target: str  # scheme://host:port/literal/path, or "log"
    lane: str  # rule, client or key, and target
    phase: str  # firing or recovery
    state: str  # due, held or shadow; dead when it could not be rendered
    decided_at_ms: int
    request: Mapping[str, Any] | str  # or its JSON text
    error: str | None = None  # why it is dead, or what the default body replaces


class Share(NamedTuple):
    """How much of one target's work is wanted: at most `limit` items, none of the ids in `holding`.

    `fresh_first`: those that were never tried come before retries, as every other probe wants it.
    """

    target: str
    limit: int
    holding: Collection[int]
    fresh_first: bool = False


class Waiting(NamedTuple):
    """What an outbox has to do: targets with something due now, and when (epoch ms) the next retry is due, if any."""

    targets: tuple[str, ...]
    next_due_at_ms: int | None


class Recorded(NamedTuple):
    """What a `record` changed, as counts."""

    delivered: int = 0
    retried: int = 0
    dead: int = 0


class Attempt(NamedTuple):
    """One attempt at a delivery, as it is kept. Instants are epoch milliseconds."""

    ended_at_ms: int
    duration_ms: int | None  # None: not measured
    outcome: str  # delivered, retry later or rejected
    answer: str | None  # the beginning of what the target said, or what went wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRow:
    """One delivery as people see it. Instants are epoch milliseconds."""

    id: int
    key: str
    rule: str
    client: str | None
    group_key: str | None  # JSON text
    clients: tuple[str, ...] | None
    alert: str
    action: str
    target: str
    state: str
    attempts: int
    due_at_ms: int  # of a due one: the next attempt; else when it came to its state
    last_error: str | None
    lane: str
    phase: str
    decided_at_ms: int
    request: Mapping[str, Any]
    kept_attempts: tuple[Attempt, ...] = ()  # the newest `core.delivery.MAX_ATTEMPTS_KEPT`, oldest first
    renewed_at_ms: int | None = None  # when an operator retried or released it last


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRow:
    """One alert as people see it. Instants are epoch milliseconds."""

    id: str
    rule: str
    client: str | None
    source: str | None  # what it is about when it is about no client
    state: str
    reason: str | None
    started_at_ms: int
    resolved_at_ms: int | None
    key: str | None = None  # JSON of {name: value}, of outages and roll calls
    acknowledged_by: str | None = None


class AlertLife(NamedTuple):
    """What is kept of an alert beside its row. Instants are epoch milliseconds."""

    fired_at_ms: int | None
    notification: str | None  # the group or the bundle that it was told in; None: it was told alone, or not at all


@dataclass(frozen=True, slots=True, kw_only=True)
class FiringRow:
    """What fires and was told together: a group, a bundle, or one alert."""

    id: str  # what acknowledges all of it: the id of the group or the bundle, or of the alert
    first: AlertRow  # one of them; its start is that of the earliest
    count: int
    acknowledged: int  # how many of them somebody acknowledged


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineRow:
    """One event that could not be accepted. Instants are epoch milliseconds."""

    id: int
    received_at_ms: int
    source: str
    reason: str
    raw: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRow:
    """How far a source was read when it was last committed. Instants are epoch milliseconds, None: not known."""

    position: str | None = None
    caught_up_to_ms: int | None = None
    last_event_at_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """One thing the history knows about a client: an event as it was accepted (`raw`), or what passing time brought (`fact`)."""

    position: int
    previous: int  # position of the client's entry before this one, 0: there is none
    at_ms: int  # when the engine learned of the event, or when the fact happened
    source: str  # who handed the event over
    raw: bytes | None = None
    fact: str | None = None  # settled, calmed, forgotten or answered
    answer: tuple[int, int, bool] | None = None  # of an answered one, see `core.fleet.Fact`
    client: str | None = None  # the client of a fact; of an event, `raw` names it


class Tally(NamedTuple):
    """Clients of a sweep whose answer is final, and what it was."""

    asked: int = 0
    agreed: int = 0
    corrected: int = 0
    unknown: int = 0  # the provider did not know, after all passes
    failed: int = 0  # the query failed, after all passes


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconciliationRow:
    """One sweep. Instants are epoch milliseconds; `finished_at_ms` None: it goes on."""

    id: int
    why: str  # schedule, operator, gap, restart or dry run
    scope: Mapping[str, Any] | None  # which clients it is about, None: all
    started_at_ms: int
    finished_at_ms: int | None
    total: int
    tally: Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCorrection:
    """An answer that contradicted the belief, with what the events had said (JSON values). Instants are epoch milliseconds."""

    reconciliation: int | None
    client: str
    at_ms: int
    believed: str
    connections: int
    said: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectionRow(NewCorrection):
    """The same as it is kept."""

    id: int


class StatusCounts(NamedTuple):
    """How many clients have each settled status; those on hold are among them."""

    online: int
    offline: int
    unknown: int
    on_hold: int


class FleetSample(NamedTuple):
    """What was counted in one minute. `at_ms`: its beginning, epoch milliseconds."""

    at_ms: int
    groups: Mapping[str, StatusCounts]  # by MQTT group; of the whole fleet under the empty name
    flaps: int
    transitions: int
    latencies: Sequence[tuple[int, int, int]]  # status, bucket of `core.fleet_count`, verdicts


class CurvePoint(NamedTuple):
    """The fleet in one step of its curve: means of numbers of clients, and what happened in it."""

    at_ms: int
    online: int
    offline: int
    unknown: int
    on_hold: int
    peak: int  # most clients that were offline at once
    flaps: int
    transitions: int


class LatencyCount(NamedTuple):
    """How many verdicts took about as long, in one step. `bucket`: see `core.fleet_count`."""

    at_ms: int
    status: int
    bucket: int
    verdicts: int


class ProgressPoint(NamedTuple):
    """How many clients had joined an outage at an instant (epoch ms), and how many were back."""

    at_ms: int
    joined: int
    back: int


class Totals(NamedTuple):
    """Counts for a page that people look at; `dead` and `quarantined` stop counting at `TOTALS_STOP`."""

    firing: int
    suppressed: int  # held back at present, as long as the status holds
    due: int
    held: int
    dead: int
    quarantined: int


TOTALS_STOP = 100_000
"""Where counting stops: beyond it the exact number does not matter."""


class RuleAlerts(NamedTuple):
    """So many alerts of one rule."""

    rule: str
    state: str
    reason: str | None
    has_fired: bool
    number: int


class RuleDeliveries(NamedTuple):
    """So many deliveries of one rule."""

    rule: str
    phase: str
    state: str
    number: int


class JournalRow(NamedTuple):
    """One row of the journal: a batch of one source, or what passing time brought about."""

    id: int
    at_ms: int
    source: str
    events: Sequence[bytes]  # one JSON text each
    previous: Sequence[int]  # for each event, its client's history position before it
    facts: Sequence[Fact]
