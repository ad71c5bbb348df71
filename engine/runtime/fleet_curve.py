"""Once a minute the writer counts the fleet, between its transactions and in slices. Read `FleetCurve.go_on`, then `write`.

A count is of one instant: the states are immutable, so a list of them is a picture of the fleet. What was counted is
written along with the next transaction.
"""

from __future__ import annotations

from typing import NamedTuple

from engine.core.alerting.outages import Outage
from engine.core.fleet import Fleet
from engine.core.fleet_count import ON_HOLD, FleetCount
from engine.core.presence.client_state import OFFLINE, ONLINE, UNKNOWN, ClientState
from engine.stores.base import FleetSample, StatusCounts, Store

MINUTE_MS = 60_000

COUNTED_AT_ONCE = 5_000
"""Clients of one slice: 1 ms, or 4 ms where the core is not compiled."""

MAX_GROUPS = 50
"""MQTT groups whose curves are kept, those with most clients."""

PROGRESS_EVERY_MS = 5_000
"""Time between two looks at how outages go."""

EAGER_POINTS = 120
"""Points of one outage, after which there is at most one a minute."""


class _Noted(NamedTuple):
    """What was written of an outage last. `at_ms`: of the steady clock."""

    outage: Outage
    joined: int
    back: int
    at_ms: int
    points: int


class FleetCurve:
    """Counts the fleet, and follows its outages. Used by the writer's thread alone."""

    def __init__(self, store: Store, fleet: Fleet) -> None:
        self._store, self._fleet = store, fleet
        self._minute_ms = 0  # the newest minute whose count was begun
        self._begun_at_ms = 0  # when that was
        self._count: FleetCount | None = None
        self._left: list[ClientState] = []
        self._sample: FleetSample | None = None  # counted, not written yet
        self._counted = self._totals()
        self._looked_at_ms = 0  # at the outages, of the steady clock
        self._noted: dict[str, _Noted] = {}
        self._changed: list[tuple[str, int, int]] = []  # outages that have moved on, not written yet

    def _totals(self) -> tuple[int, int]:
        return self._fleet.counts.flaps_suppressed, self._fleet.counts.transitions

    @property
    def is_under_way(self) -> bool:
        """Are clients left to count?"""
        return self._count is not None

    @property
    def is_due(self) -> bool:
        """Is there something to write?"""
        return self._sample is not None or bool(self._changed)

    def go_on(self, now_ms: int, steady_ms: int) -> None:
        """Between two transactions: begin the count of a minute, or count a slice, and look at the outages now and then."""
        if steady_ms - self._looked_at_ms >= PROGRESS_EVERY_MS:
            self._looked_at_ms = steady_ms
            self._changed = self._progress(steady_ms)
        if self._count is not None:
            self._count_slice(self._count)
        elif now_ms // MINUTE_MS * MINUTE_MS != self._minute_ms and self._sample is None:
            since_ms, self._begun_at_ms, self._minute_ms = self._begun_at_ms, now_ms, now_ms // MINUTE_MS * MINUTE_MS
            # After a start, or when the clock was set, nobody knows which verdicts were counted before.
            is_next = 0 <= now_ms - since_ms <= 2 * MINUTE_MS
            self._left = list(self._fleet.states.values())
            self._count = FleetCount(since_ms if is_next else now_ms)
            self._count_slice(self._count)

    def _count_slice(self, count: FleetCount) -> None:
        count.add(self._left[-COUNTED_AT_ONCE:])
        del self._left[-COUNTED_AT_ONCE:]
        if not self._left:
            self._count = None
            self._sample = self._finished(count)

    def _finished(self, count: FleetCount) -> FleetSample:
        flaps, transitions = self._totals()
        before, self._counted = self._counted, (flaps, transitions)
        groups = {"": _counts(count.total)}
        groups |= {name: _counts(numbers) for name, numbers in count.largest(MAX_GROUPS)}
        latencies = [(status, bucket, verdicts) for (status, bucket), verdicts in count.latencies.items()]
        return FleetSample(self._minute_ms, groups, flaps - before[0], transitions - before[1], latencies)

    def _progress(self, steady_ms: int) -> list[tuple[str, int, int]]:
        """Outages of which something else is to be written than what was."""
        found, noted = list[tuple[str, int, int]](), dict[str, _Noted]()
        going_on = self._fleet.alerts.inhibitors.going_on()
        for alert, outage in going_on.items():
            last, joined, back = self._noted.get(alert), outage.total, outage.back
            is_early = last is not None and last.points >= EAGER_POINTS and steady_ms - last.at_ms < MINUTE_MS
            if last is not None and (is_early or (last.joined, last.back) == (joined, back)):
                noted[alert] = last
                continue
            noted[alert] = _Noted(outage, joined, back, steady_ms, 1 if last is None else last.points + 1)
            found.append((alert, joined, back))
        for alert, last in self._noted.items():
            outage = last.outage
            if alert not in going_on and (last.joined, last.back) != (outage.total, outage.back):  # how it ended
                found.append((alert, outage.total, outage.back))
        self._noted = noted
        newer = {alert for alert, *_ in found}
        return [*(one for one in self._changed if one[0] not in newer), *found]

    def write(self, now_ms: int) -> None:
        """Inside a transaction: write what was counted."""
        if self._sample is not None:
            self._store.measures.add(self._sample)
        if self._changed:
            self._store.measures.add_progress(now_ms, self._changed)

    def committed(self) -> None:
        """The transaction with `write` in it is durable."""
        self._sample = None
        self._changed = []


def _counts(numbers: list[int]) -> StatusCounts:
    return StatusCounts(
        online=numbers[ONLINE], offline=numbers[OFFLINE], unknown=numbers[UNKNOWN], on_hold=numbers[ON_HOLD]
    )
