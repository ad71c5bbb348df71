"""A fleet that does not exist: devices that come and go, reported the way a broker reports them, from a seed.

The same `SyntheticFleet` always produces the same events. Pure: time is simulated, chance comes from the seed alone.
Read `SyntheticFleet` (what can be asked for), then `arrivals` (events in the order in which an engine would learn of them).
What happens to a device is decided in `_Story`; what happens to the messages about it in `_Story._report`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush
from typing import Final, NamedTuple

from engine.core.events import CONNECT, DISCONNECT, TCPCLEAN, LifecycleEvent

GROUP: Final = "GID_SIM"
KINDS: Final = ("pump", "valve", "cam", "meter")
"""Device names are a kind and a number that counts over all kinds: `pump-00001`, `valve-00002`, …"""

START_MS: Final = 1_767_225_600_000
"""When a story starts that is not played in real time: 2026-01-01T00:00:00Z."""

EVENTS_PER_CYCLE: Final = 2.4
"""About how many events one stay and absence of a device make: a connect, a tcpclean, and often a disconnect."""

DELAY_MS: Final = 30
"""What a message usually takes at most from the broker to us, milliseconds."""

DROP_WITHIN_MS: Final = 1_000
"""A failover drops every connection within this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """A broker failover: all connections drop `at_ms` after the start; a share `returns` within `spread_ms`."""

    at_ms: int
    returns: float = 0.95
    spread_ms: int = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticFleet:
    """Who is in the fleet and how it behaves; shares lie between 0 and 1, durations are milliseconds."""

    clients: int
    seed: int = 1
    start_ms: int = START_MS  # epoch milliseconds; also goes into channel ids, so that a later start makes new ones
    spread_ms: int = 5_000  # everyone connects within this
    session_ms: int = 180_000  # a stay, on average
    away_ms: int = 13_000  # an absence, on average; between half and one and a half of it
    flap_ms: int = 4_000  # a short absence, at most
    graceful: float = 0.4  # of the ends: announced by a disconnect
    flaps: float = 0.25  # of the ends: back after a short absence
    takeovers: float = 0.15  # of the ends: the next connection comes first, the old one's close after it
    late: float = 0.03  # of the messages: late, so out of order
    max_late_ms: int = 3_000
    duplicates: float = 0.02  # of the messages: delivered twice
    losses: float = 0.0  # of the messages: never delivered
    storm: Storm | None = None

    def at_rate(self, events_per_s: float) -> SyntheticFleet:
        """The same fleet with stays (if need be, absences) that make about so many events a second."""
        cycle_ms = self.clients * EVENTS_PER_CYCLE * 1000 / events_per_s
        away_ms = max(1, min(self.away_ms, round(cycle_ms / 2)))
        return replace(self, session_ms=max(1, round(cycle_ms - away_ms)), away_ms=away_ms)

    def faster(self, speed: float) -> SyntheticFleet:
        """The same fleet, living so many times as fast; messages travel as slowly as before."""

        def short(duration_ms: int) -> int:
            return max(1, round(duration_ms / speed))

        storm = self.storm
        if storm is not None:
            storm = replace(storm, at_ms=short(storm.at_ms), spread_ms=short(storm.spread_ms))
        return replace(
            self,
            spread_ms=short(self.spread_ms),
            session_ms=short(self.session_ms),
            away_ms=short(self.away_ms),
            flap_ms=short(self.flap_ms),
            storm=storm,
        )


class Arrival(NamedTuple):
    """One message, and the instant at which it arrives (epoch milliseconds)."""

    received_at_ms: int
    event: LifecycleEvent

    @property
    def line(self) -> bytes:
        """The event as the broker words it; names, channels and addresses of a fleet need no escapes."""
        return self._body().encode() + b"}"

    def recorded(self) -> bytes:
        """The same with the instant of its arrival, as a recording of a feed has it."""
        return f'{self._body()},"received_at":{self.received_at_ms}}}'.encode()

    def _body(self) -> str:
        client, event_type, time_ms, channel, ip = self.event
        head = f'{{"clientId":"{client}","time":{time_ms},"eventType":"{event_type}"'
        return f'{head},"channelId":"{channel}","clientIp":"{ip}"'


def arrivals(fleet: SyntheticFleet) -> Iterator[Arrival]:
    """All events of a fleet, without end, in the order of arrival."""
    return _Story(fleet).arrivals()


class _Story:
    """The life of every device, one step at a time.

    `_due` holds the next step of each device; a failover puts a new one there, and the step that it replaces is
    recognised by its turn. A step only ever makes messages that arrive at or after it, so what arrives earlier can
    leave.
    """

    def __init__(self, fleet: SyntheticFleet) -> None:
        self._fleet = fleet
        self._chance = random.Random(f"{fleet.seed}/{fleet.start_ms}/{fleet.clients}")
        self._names = [f"{GROUP}@@@{KINDS[i % len(KINDS)]}-{i + 1:05d}" for i in range(fleet.clients)]
        self._channels = [""] * fleet.clients  # empty: not connected
        self._addresses = [""] * fleet.clients
        self._turns = [0] * fleet.clients
        first = [fleet.start_ms + int(self._chance.random() * fleet.spread_ms) for _ in range(fleet.clients)]
        self._due = [(at_ms, client, 0) for client, at_ms in enumerate(first)]
        heapify(self._due)
        self._on_the_way: list[tuple[int, int, LifecycleEvent]] = []
        self._sent = 0

    def arrivals(self) -> Iterator[Arrival]:
        storm = self._fleet.storm
        storm_at_ms = self._fleet.start_ms + storm.at_ms if storm is not None else None
        waiting, due, turns = self._on_the_way, self._due, self._turns
        while due:
            at_ms, client, turn = due[0]
            if storm is not None and storm_at_ms is not None and at_ms >= storm_at_ms:
                self._failover(storm, storm_at_ms)
                storm_at_ms = None
                continue
            heappop(due)
            if turn != turns[client]:
                continue
            while waiting and waiting[0][0] <= at_ms:
                arrives_ms, _, event = heappop(waiting)
                yield Arrival(arrives_ms, event)
            if self._channels[client]:
                self._end(client, at_ms)
            else:
                self._connect(client, at_ms)
                self._stay(client, at_ms)
        while waiting:
            arrives_ms, _, event = heappop(waiting)
            yield Arrival(arrives_ms, event)

    def _next(self, client: int, at_ms: int) -> None:
        heappush(self._due, (at_ms, client, self._turns[client]))

    def _connect(self, client: int, at_ms: int) -> None:
        chance = self._chance
        self._channels[client] = f"{chance.getrandbits(128):032x}"
        self._addresses[client] = (
            f"10.{client >> 16 & 255}.{client >> 8 & 255}.{client & 255}:{chance.getrandbits(15) + 1024}"
        )
        self._report(client, CONNECT, at_ms, self._channels[client])

    def _stay(self, client: int, at_ms: int) -> None:
        # A stay of less than 100 ms is left out: it would make a device that reconnects without pause.
        self._next(client, at_ms + 100 + int(self._chance.expovariate(1 / self._fleet.session_ms)))

    def _end(self, client: int, at_ms: int) -> None:
        """The connection ends: taken over by the next one, or for a short or a long absence."""
        fleet, chance, old = self._fleet, self._chance, self._channels[client]
        kind = chance.random()
        if kind < fleet.takeovers:
            self._report(client, TCPCLEAN, at_ms + chance.randrange(50, 1_000), old)
            self._connect(client, at_ms)
            self._stay(client, at_ms)
            return
        closed_ms = at_ms
        if chance.random() < fleet.graceful:
            self._report(client, DISCONNECT, at_ms, old)
            closed_ms += chance.randrange(2, 50)
        self._report(client, TCPCLEAN, closed_ms, old)
        self._channels[client] = ""
        if kind < fleet.takeovers + fleet.flaps:
            away_ms = chance.random() * fleet.flap_ms
        else:
            away_ms = (0.5 + chance.random()) * fleet.away_ms
        self._next(client, closed_ms + 10 + int(away_ms))

    def _failover(self, storm: Storm, at_ms: int) -> None:
        """Every connection drops. Of those that return, a third are reported out of order: the new connection first."""
        chance = self._chance
        for client, old in enumerate(self._channels):
            if not old:
                continue
            self._turns[client] += 1
            dropped_ms = at_ms + chance.randrange(DROP_WITHIN_MS)
            back_ms = dropped_ms + 10 + int(chance.random() * storm.spread_ms)
            if chance.random() >= storm.returns:
                back_ms = dropped_ms + 20 * self._fleet.away_ms
            elif chance.random() < 1 / 3:
                dropped_ms = back_ms + chance.randrange(50, 1_000)
            self._report(client, TCPCLEAN, dropped_ms, old)
            self._channels[client] = ""
            self._next(client, back_ms)

    def _report(self, client: int, event_type: str, at_ms: int, channel: str) -> None:
        """Send a message, unless it is lost; perhaps late, perhaps twice."""
        fleet, chance = self._fleet, self._chance
        if fleet.losses and chance.random() < fleet.losses:
            return
        event = LifecycleEvent(self._names[client], event_type, at_ms, channel, self._addresses[client])
        arrives_ms = at_ms + int(chance.random() * DELAY_MS)
        luck = chance.random()
        if luck < fleet.late:
            arrives_ms += int(chance.random() * fleet.max_late_ms)
        heappush(self._on_the_way, (arrives_ms, self._sent, event))
        self._sent += 1
        if luck >= 1 - fleet.duplicates:
            heappush(self._on_the_way, (arrives_ms + int(chance.random() * fleet.max_late_ms), self._sent, event))
            self._sent += 1
