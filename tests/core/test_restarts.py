"""A run that is cut anywhere goes on as if it had not been cut; a commit that fails leaves nothing behind.

The world here keeps what the service keeps: a journal row and the changed alerts and throttles with each transaction, client
rows whenever they happen to be written. A restart reads all of it back. Lines must be the same as without the cut, instant by
instant; which of several clients comes first within one instant is nobody's promise, so deadlines of clients never meet here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from engine.core.events import LifecycleEvent
from engine.core.presence.client_state import NEW_CLIENT
from engine.core.rules import Rule
from engine.core.times import FOREVER
from engine.stores.sqlite.store import SqliteStore
from engine.testing import temporary_folder
from tests.core.worlds import POLICY, START_MS, To, World, event, full, notify, rule

RULES = (
    rule("dark", "offline", recovery=True),
    rule("long-dark", "offline", for_="50s", recovery=True),
    rule("few", "offline", throttle=(1, "45s"), recovery=True),
    rule("few-each", "offline", "online", throttle=(1, "20s", "client"), flapping_skip=False, recovery=True),
    rule("back", "online", for_="5s", recovery=True),
    rule("new", "first_seen"),
    rule("restless", "flapping", recovery=True),
    rule("calm", "stable", throttle=(1, "30s")),
    rule("twice", "duplicate", recovery=True),
    replace(rule("routed", "offline", actions=notify("oncall")), on_recovery=notify("oncall")),
)


class KeptWorld(World):
    """A world whose transactions are kept in a store, and that can be cut and begun again from it.

    Its route leads to another receiver every few seconds, so that a firing and what follows it would be told apart.
    """

    routes_at_first: ClassVar = {
        "oncall": [To("chat", *[(f"{start}s", f"{start + 7}s") for start in range(0, 2_000, 14)]), To("pager")]
    }

    def __init__(self, store: SqliteStore, *rules: Rule) -> None:
        super().__init__(*rules)
        self.store = store
        self.row = self.checkpoint = 0

    def turn(self, events: list[LifecycleEvent], to_ms: int, *, fails: int = 0, purge: bool = False) -> None:
        """One transaction: time passes, then a batch is applied. It is refused `fails` times before it commits."""
        for _ in range(fails):
            self._decide(events, to_ms)
            self.fleet.rollback()
            self.fleet.restore(self.store.alerts.open(), self.store.alerts.throttles(), self.store.alerts.kept())
        self._decide(events, to_ms)
        if purge:
            self.fleet.alerts.purge(to_ms, 3)
        with self.store.transaction():
            fleet, out = self.fleet, self.fleet.alerts.out
            if fleet.previous or fleet.facts:
                self.row += 1
                raw = [msgspec.json.encode(one) for one in events]
                self.store.journal.append(self.row, to_ms, "test", raw, fleet.previous, fleet.facts)
            self.store.alerts.write(out.alerts.values())
            self.store.alerts.write_throttles(out.throttles.values())
            self.store.alerts.write_kept(out)
        self.commit()

    def _decide(self, events: list[LifecycleEvent], to_ms: int) -> None:
        self.fleet.begin()
        self.fleet.begin_row(self.row + 1)
        self.fleet.advance(to_ms, to_ms)
        self.fleet.apply(events, to_ms, to_ms)

    def write_rows(self, clients: Iterator[str] | list[str], *, checkpoint: bool = False) -> None:
        """Client rows are written, as of now; with `checkpoint` the journal up to here is not needed any more."""
        with self.store.transaction():
            states = ((client, self.fleet.state_of(client)) for client in clients)
            self.store.clients.write((client, state) for client, state in states if state is not NEW_CLIENT)
        if checkpoint:
            self.checkpoint = self.row

    def restart(self) -> None:
        """All that was in memory is gone; what is in the store is read back."""
        self.fleet = self._new_fleet()
        self.fleet.states.update(self.store.clients.load())
        for row in self.store.journal.after(self.checkpoint):
            events = [msgspec.json.decode(raw, type=LifecycleEvent) for raw in row.events]
            self.fleet.apply_row_again(row.id, events, row.facts, row.at_ms)
        self.fleet.restore(self.store.alerts.open(), self.store.alerts.throttles(), self.store.alerts.kept())

    def run_on(self) -> KeptWorld:
        """Let the clock run while anything is due."""
        while (due := self.fleet.next_due()) < FOREVER:
            self.turn([], due)
        return self


@contextmanager
def kept(*rules: Rule) -> Iterator[KeptWorld]:
    """A new world over a store of its own, in memory where the machine has a file system there."""
    with temporary_folder() as folder:
        store = SqliteStore.open(folder)
        try:
            yield KeptWorld(store, *rules)
        finally:
            store.close()


@dataclass(frozen=True)
class Turn:
    """One batch: when it is received (seconds), what it holds, and what befalls the engine around it."""

    second: int
    rows: tuple[tuple[str, str, str, int], ...]  # client, kind, channel, seconds late
    befalls: str = ""  # cut: before it; fails: its first commit; rows, checkpoint, purge: something is tidied after it


@st.composite
def stories(draw: st.DrawFn) -> list[Turn]:
    """Up to a dozen batches about three clients over a few minutes."""
    second, turns = 0, []
    channels = dict.fromkeys("abc", 0)
    for _ in range(draw(st.integers(1, 14))):
        second += draw(st.sampled_from([1, 2, 4, 10, 15, 29, 31, 60]))
        rows = []
        for client in draw(st.lists(st.sampled_from("abc"), max_size=3)):
            kind = draw(st.sampled_from(["connect", "connect", "tcpclean", "tcpclean", "tcpclean", "disconnect"]))
            channels[client] += kind == "connect"
            channel = max(0, channels[client] - draw(st.sampled_from([0, 0, 0, 1])))
            rows.append((client, kind, f"{client}{channel}", draw(st.sampled_from([0, 0, 0, 1, 20]))))
        turns.append(
            Turn(second, tuple(rows), draw(st.sampled_from(["", "", "cut", "fails", "rows", "checkpoint", "purge"])))
        )
    return turns


def played(turns: list[Turn], *, troubled: bool) -> list[str]:
    """Every line of a story, those of one instant sorted; untroubled: as if nothing befell the engine."""
    with kept(*RULES) as world:
        for turn in turns:
            if troubled and turn.befalls == "cut":
                world.restart()
            for client in "abc":  # a batch a client, milliseconds apart, so that no deadlines of two clients meet
                told = [row for row in turn.rows if row[0] == client]
                now = START_MS + turn.second * 1_000 + 7 * "abc".index(client)
                events = [
                    LifecycleEvent(full(client), kind, now - late * 1_000, channel, "10.0.0.1:1")
                    for _, kind, channel, late in told
                ]
                befalls = turn.befalls if troubled else ""
                world.turn(events, now, fails=int(befalls == "fails"), purge=befalls == "purge")
            if troubled and turn.befalls in ("rows", "checkpoint"):
                clients = [full(client) for client in ("abc" if turn.befalls == "checkpoint" else "b")]
                world.write_rows(clients, checkpoint=turn.befalls == "checkpoint")
        if troubled and turns[-1].befalls == "rows":
            world.restart()
        return sorted(world.run_on().story)


QUICK = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
TWO_LIVE = (("a", "connect", "a1", 0), ("a", "connect", "a2", 0), ("a", "connect", "a3", 0))


@QUICK
@given(stories())
@example(  # a duplicate that is over but for its takeovers, when the engine is cut
    [
        Turn(0, TWO_LIVE),
        Turn(4, (("a", "tcpclean", "a1", 0), ("a", "tcpclean", "a2", 0))),
        Turn(5, (), "cut"),
        Turn(6, (("b", "connect", "b1", 0),)),
    ]
)
def test_whatever_befalls_the_engine_the_lines_are_the_same(turns: list[Turn]) -> None:
    assert played(turns, troubled=True) == played(turns, troubled=False)


STORY = [
    Turn(0, (("a", "connect", "a1", 0), ("b", "connect", "b1", 0), ("c", "connect", "c1", 0))),
    Turn(10, (("a", "tcpclean", "a1", 0), ("b", "tcpclean", "b1", 1))),
    Turn(12, (("a", "connect", "a2", 0), ("c", "connect", "c2", 0))),
    Turn(20, (("a", "disconnect", "a2", 0), ("a", "tcpclean", "a2", 0))),
    Turn(45, (("c", "tcpclean", "c2", 0), ("c", "tcpclean", "c1", 0))),
    Turn(70, ()),
    Turn(100, (("b", "connect", "b2", 0),)),
]
"""Holds, a `for`, flapping, throttles with room to wait for, a graceful end: something is under way at every turn."""


@pytest.mark.parametrize("checkpoint", [False, True], ids=["from the journal", "from client rows"])
@pytest.mark.parametrize("place", range(len(STORY)))
def test_a_cut_at_every_turn(place: int, checkpoint: bool) -> None:
    turns = [replace(turn, befalls="cut") if number == place else turn for number, turn in enumerate(STORY)]
    if checkpoint and place:
        turns[place - 1] = replace(turns[place - 1], befalls="checkpoint")
    assert played(turns, troubled=True) == played(STORY, troubled=False)


@pytest.mark.parametrize("place", range(len(STORY)))
def test_a_failed_commit_at_every_turn(place: int) -> None:
    turns = [replace(turn, befalls="fails") if number == place else turn for number, turn in enumerate(STORY)]
    assert played(turns, troubled=True) == played(STORY, troubled=False)


def test_states_read_back_are_the_states_that_were_written() -> None:
    with kept(*RULES) as world:
        for turn in STORY[:4]:
            for client, kind, channel, _ in turn.rows:
                now = START_MS + turn.second * 1_000
                world.turn([LifecycleEvent(full(client), kind, now, channel, "")], now)
        before = dict(world.fleet.states)
        world.restart()
        assert world.fleet.states == before
        world.write_rows([full(client) for client in "abc"], checkpoint=True)
        world.restart()
        assert world.fleet.states == before


def test_a_rolled_back_batch_leaves_states_deadlines_and_clock_as_they_were() -> None:
    with kept(*RULES) as world:
        world.turn([event("0s a connect A")[0]], START_MS)
        before, due, clock = dict(world.fleet.states), world.fleet.next_due(), world.fleet.clock_ms
        world.fleet.begin()
        world.fleet.advance(START_MS + 60_000, START_MS + 60_000)
        world.fleet.apply([event("60s a tcpclean A")[0], event("60s b connect B")[0]], START_MS + 60_000, 0)
        assert world.fleet.published(full("b")) is None
        assert world.fleet.published(full("a")) == before[full("a")]
        world.fleet.rollback()
        world.fleet.restore(world.store.alerts.open(), world.store.alerts.throttles())
        assert (world.fleet.states, world.fleet.next_due(), world.fleet.clock_ms) == (before, due, clock)
        assert (world.fleet.counts.transitions, world.fleet.counts.flaps_suppressed) == (1, 0)


def test_after_a_restart_a_throttle_remembers_what_it_let_through_and_who_waits() -> None:
    with kept(rule("few", "offline", throttle=(1, "10m"))) as world:
        for number, client in enumerate("abc"):
            now = START_MS + number * 1_000
            world.turn([LifecycleEvent(full(client), "tcpclean", now, "1", "")], now)
        world.turn([], START_MS + 60_000)
        world.restart()
        assert world.run_on().alerts == [
            "30s few a firing",
            "31s few b suppressed throttle",
            "32s few c suppressed throttle",
            "10m30s few b firing",
            "10m30s few c firing",
        ]
        assert world.deliveries[-1] == "10m30s few > b+c log firing"


def test_after_a_restart_a_recovery_still_carries_the_name_under_which_its_firing_was_told() -> None:
    with kept(rule("few", "offline", throttle=(1, "1m"), recovery=True)) as world:
        for number, client in enumerate("abc"):
            now = START_MS + number * 1_000
            world.turn([LifecycleEvent(full(client), "tcpclean", now, "1", "")], now)
        world.turn([], START_MS + 120_000)
        world.restart()
        for second, client in (180, "c"), (190, "b"):
            back = START_MS + second * 1_000
            world.turn([LifecycleEvent(full(client), "connect", back, "2", "")], back)
            world.restart()
        assert world.run_on().deliveries[1:] == ["1m30s few > b+c log firing", "6m30s few > b+c log recovery"]
        assert world.planned[1].alert == world.planned[2].alert


def test_the_knobs_may_change_over_a_restart_and_holds_are_measured_by_the_new_ones() -> None:
    with kept() as world:
        world.turn([event("0s a tcpclean A")[0]], START_MS)
        world.policy = replace(POLICY, offline_ms=120_000)
        world.restart()
        assert world.run_on().transitions == ["2m a offline first"]


@pytest.mark.parametrize("from_the_journal", [False, True])
def test_flapping_that_new_knobs_call_calm_ends_at_its_newest_change(from_the_journal: bool) -> None:
    with kept(rule("restless", "flapping", recovery=True)) as world:
        for second, kind, channel in [
            (0, "connect", "1"),
            (5, "tcpclean", "1"),
            (10, "connect", "2"),
            (15, "tcpclean", "2"),
        ]:
            now = START_MS + second * 1_000
            world.turn([LifecycleEvent(full("a"), kind, now, channel, "")], now)
        if not from_the_journal:
            world.write_rows([full("a")], checkpoint=True)
        world.policy = replace(POLICY, flapping_start=6, flapping_stop=5)
        world.restart()
        world.turn([], START_MS + 20_000)
        assert world.alerts == ["15s restless a firing", "15s restless a resolved"]
