"""Traces of a small fleet in every kind of trouble: what happens to clients one by one, to whole groups, and to the feed.

A story is a list of chapters: lives of single clients (those of `tests.oracle.traces`), a group that goes offline together or one by one,
flapping, takeovers, noise that makes no sense, and quiet spans of minutes to days. Its times lie on a coarse grid, so that equal instants
and deadlines that meet events are common. The same random numbers always tell the same story.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any

from tests.oracle.traces import START_MS, Grid, arrivals, disturbed, grid_of, life, line_of

Event = dict[str, Any]
Arrival = tuple[int, int, Event]
"""When an event is received (epoch milliseconds), its place within that instant, and the event itself."""

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000

CLIENTS = (
    *(f"G1@@@a{number}" for number in range(1, 7)),
    *(f"G2@@@{device}" for device in ("a1", "a2", "c1", "c2", "c3")),
    *(f"G3@@@p-00{number}" for number in range(1, 4)),
    "lonely",
    "G2@@@..",
    'G3@@@<b>&"é',
    "G3@@@two words",
)
"""Everybody who may occur; the last ones are names that templates and URLs have to survive."""

ADDRESSES = ("10.1.0.7:4711", "10.1.0.9:1", "10.2.0.7:1", "10.2.0.250:99", "[2001:db8::7]:4711", "no address", None)

STARTS = tuple(
    int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)
    for text in (
        "2026-01-01T00:00:00",
        "2026-02-28T23:50:00",
        "2026-03-28T23:30:00",  # clocks in Berlin go forward an hour and a half later
        "2026-10-24T23:30:00",  # and back
        "2026-11-01T04:30:00",  # back in New York
        "2026-06-15T07:55:00",
    )
)
QUIET = (0, 0, 10 * MINUTE, 2 * HOUR, DAY, 6 * DAY)
"""The longest quiet spans of a story, milliseconds."""


@dataclass(frozen=True, kw_only=True)
class Story:
    """What happened, in the order of arrival; `clients` are those that it is about."""

    grid: Grid
    start_ms: int
    clients: tuple[str, ...]
    arrivals: tuple[Arrival, ...]

    @property
    def span_ms(self) -> int:
        """From the start to the last arrival."""
        return max((received for received, _, _ in self.arrivals), default=self.start_ms) - self.start_ms

    def lines(self, random: Random) -> list[bytes]:
        """The story as lines of a trace, some of them malformed or out of order."""
        told = [line_of(random, self.grid, received, event) for received, _, event in self.arrivals]
        return disturbed(random, self.grid, told)


def story(random: Random, *, longest: int) -> Story:
    """A story of up to about `longest` arrivals."""
    start_ms = random.choice(STARTS)
    clients = random.sample(CLIENTS, random.choice([2, 4, 8, 12, len(CLIENTS), len(CLIENTS)]))
    teller = _Teller(
        random=random, grid=grid_of(random), clients=clients, quiet_ms=random.choice(QUIET), at_ms=start_ms
    )
    chapters: list[Callable[[], None]] = [
        teller.lives,
        teller.lives,
        teller.blackout,
        teller.stragglers,
        teller.stragglers,
        teller.flaps,
        teller.takeovers,
        teller.noise,
        teller.quiet,
    ]
    teller.arrive()
    for _ in range(random.randint(2, 9)):
        if len(teller.arrivals) < longest:
            random.choice(chapters)()
    found = sorted(teller.arrivals, key=lambda arrival: arrival[:2])[:longest]
    return Story(grid=teller.grid, start_ms=start_ms, clients=tuple(clients), arrivals=tuple(found))


@dataclass(kw_only=True)
class _Teller:
    """A story in the making; `at_ms` is where its clock stands."""

    random: Random
    grid: Grid
    clients: list[str]
    quiet_ms: int
    at_ms: int
    arrivals: list[Arrival] = field(default_factory=list)
    channels: dict[str, str] = field(default_factory=dict)  # the newest one that each client opened
    opened: int = 0

    def arrive(self) -> None:
        """Most of the fleet connects, one after the other."""
        self._tell([self._connect(client, self.at_ms + self._ticks(0, 3)) for client in self._some()])

    def lives(self) -> None:
        """A few clients live by themselves, in parallel."""
        self.opened += 1
        for client in self.random.sample(self.clients, self.random.choice([1, 1, 2])):
            events = life(self.random, self.grid, client)
            for event in events:
                event["time"] += self.at_ms - START_MS
                if self.random.random() < 0.9:  # else a channel of an earlier chapter comes again
                    event["channelId"] += f".{self.opened}"
            self._tell(events)

    def blackout(self) -> None:
        """A group goes offline within a few ticks, with stragglers; some come back, at once or one by one."""
        members = self._group()
        online = [self._connect(client, self.at_ms) for client in members if self.random.random() < 0.6]
        dark_ms = self.at_ms + self._ticks(1, 4)
        spread = self.random.choice([0, 1, 2, 2, 6])
        gone = [event for client in members for event in self._leave(client, dark_ms + self._ticks(0, spread))]
        pace = self.random.choice([0, self.grid.tick, self.grid.hold, MINUTE])
        back_ms = dark_ms + self.random.choice([self.grid.tick, self.grid.hold, 2 * self.grid.hold, 3 * MINUTE, HOUR])
        back = [
            self._connect(client, back_ms + place * pace)
            for place, client in enumerate(members)
            if self.random.random() < 0.8
        ]
        self._tell([*online, *gone, *back])

    def stragglers(self) -> None:
        """A group that was online goes offline: some at once, the others one by one at an even pace; so they come back."""
        members, pace = self._group(), self._ticks(1, 3)
        online = [self._connect(client, self.at_ms) for client in members]
        dark_ms = self.at_ms + self.grid.hold + self._ticks(2, 10)
        at_once = self.random.randint(1, 3)
        events: list[Event] = []
        for place, client in enumerate(members):
            events += self._leave(client, dark_ms + max(0, place - at_once) * pace)
        back_ms = dark_ms + len(members) * pace + self.random.choice([self.grid.tick, self.grid.hold, self.grid.window])
        back = [self._connect(client, back_ms + place * pace) for place, client in enumerate(members)]
        self._tell([*online, *events, *back[: self.random.randint(0, len(back))]])

    def flaps(self) -> None:
        """One client comes and goes, faster than anybody waits."""
        client = self.random.choice(self.clients)
        events: list[Event] = []
        step = self.random.choice([self.grid.tick, max(self.grid.tick, self.grid.hold // 2), self.grid.hold + 1])
        for _ in range(self.random.randint(3, 9)):
            self._move(step)
            events.append(self._connect(client, self.at_ms))
            self._move(step)
            events += self._leave(client, self.at_ms)
        if self.random.random() < 0.7:
            events.append(self._connect(client, self.at_ms))
        self._tell(events)

    def takeovers(self) -> None:
        """New channels while older ones live; closes come late, or never."""
        client = self.random.choice(self.clients)
        events: list[Event] = []
        for _ in range(self.random.randint(2, 6)):
            old = self.channels.get(client)
            events.append(self._connect(client, self.at_ms))
            if old is not None and self.random.random() < 0.6:
                late = self.random.choice([0, 1, self.grid.skew, self.grid.tick, self.grid.hold])
                events.append(self._event(client, "tcpclean", old, self.at_ms + late))
            self._move(self.random.choice([0, self.grid.skew, self.grid.tick, self.grid.window // 4]))
        self._tell(events)

    def noise(self) -> None:
        """Events that no broker would send: any type, any of few channels, any time near, equal times."""
        near = [0, 0, 1, self.grid.skew, self.grid.skew + 1, self.grid.hold, self.grid.window, 2 * HOUR]
        events: list[Event] = []
        for _ in range(self.random.randint(1, 25)):
            client, kind = self.random.choice(self.clients), self.random.choice(["connect", "disconnect", "tcpclean"])
            channel = self.random.choice(["n1", "n2", "n3", self.channels.get(client, "n4")])
            sign = self.random.choice([-1, 1, 1])
            events.append(self._event(client, kind, channel, max(0, self.at_ms + sign * self.random.choice(near))))
            self._move(self._ticks(0, 1))
        self._tell(events)

    def quiet(self) -> None:
        """Nothing happens for long."""
        if self.quiet_ms:
            self._move(self.random.choice([self.quiet_ms, self.random.randint(1, self.quiet_ms)]))

    def _tell(self, events: list[Event]) -> None:
        """Let events travel (they may be lost, doubled or late), and move the clock to a while after the last one."""
        self.arrivals += arrivals(self.random, self.grid, events)
        latest = max((event["time"] for event in events), default=self.at_ms)
        pauses = [0, self.grid.tick, self.grid.hold, self.grid.hold + self.grid.tick, self.grid.window]
        self.at_ms = max(self.at_ms, min(latest, self.at_ms + HOUR)) + self.random.choice(pauses)

    def _group(self) -> list[str]:
        """The clients of one group, in any order."""
        group = self.random.choice(self.clients).partition("@@@")[0]
        members = [client for client in self.clients if client.partition("@@@")[0] == group]
        return self.random.sample(members, len(members))

    def _some(self) -> list[str]:
        return [client for client in self.clients if self.random.random() < 0.85]

    def _ticks(self, least: int, most: int) -> int:
        return self.grid.tick * self.random.randint(least, most)

    def _move(self, by_ms: int) -> None:
        self.at_ms += by_ms

    def _connect(self, client: str, at_ms: int) -> Event:
        self.opened += 1
        self.channels[client] = f"ch{self.opened}"
        return self._event(client, "connect", self.channels[client], at_ms)

    def _leave(self, client: str, at_ms: int) -> list[Event]:
        """The newest channel ends, with a goodbye or without one; sometimes the end itself is lost."""
        channel = self.channels.get(client, "never-opened")
        events: list[Event] = []
        if self.random.random() < 0.3:
            events.append(self._event(client, "disconnect", channel, at_ms))
        if self.random.random() < 0.93:
            events.append(self._event(client, "tcpclean", channel, at_ms))
        return events

    def _event(self, client: str, kind: str, channel: str, at_ms: int) -> Event:
        event = {"clientId": client, "time": at_ms, "eventType": kind, "channelId": channel}
        address = ADDRESSES[hash_of(client) % len(ADDRESSES)] if self.random.random() < 0.9 else ADDRESSES[2]
        return {**event, "clientIp": address} if address else event


def hash_of(text: str) -> int:
    """A number that is the same in every process, as `hash` is not."""
    return sum((place + 1) * ord(letter) for place, letter in enumerate(text))
