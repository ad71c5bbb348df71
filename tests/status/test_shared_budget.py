"""Several processes behind one address, on a simulated clock: whatever dies, joins or loses the ledger, the service sees no more than the rate."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.query_shares import (
    FLOOR_MS,
    LEASE_MS,
    LINGER_MS,
    Granted,
    QueryShare,
    counted,
    exchanged,
    fair_shares,
    floor_of,
)
from engine.errors import StoreError
from engine.status.shared_budget import PRESSED_S, SharedBudget
from tests.status.standin import most_within

CLOSED_SECOND_S = 1.0 + 1e-9


@dataclass(eq=False)
class World:
    """A clock, a service that notes its calls, and a ledger in memory. The ledger's clock shows something else, as databases' do."""

    seed: int = 0
    now_s: float = 1_000.0
    seen_s: list[float] = field(default_factory=list)
    shares: dict[str, QueryShare] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)

    @property
    def ledger_ms(self) -> int:
        return round(self.now_s * 1000) - 3_600_000


class MemoryLedger:
    """The ledger as one process reaches it: now and then not at all, or its answer is lost."""

    def __init__(self, world: World, member: str) -> None:
        self._world, self._member = world, member
        self.is_cut_off = False
        self.loses_answers = False

    def exchange(self, *, using: int, floor: int, wanted: int, rate: int) -> Granted:
        if self.is_cut_off:
            raise StoreError("cut off")
        world = self._world
        written, granted = exchanged(
            list(world.shares.values()), self._member, using=using, floor=floor, wanted=wanted, rate=rate, now_ms=world.ledger_ms
        )  # fmt: skip
        world.shares[self._member] = written
        assert sum(counted(share, world.ledger_ms) for share in world.shares.values()) <= rate
        if self.loses_answers:
            raise StoreError("the answer was lost")
        return granted

    def leave(self) -> None:
        if self.is_cut_off:
            raise StoreError("cut off")
        share = self._world.shares[self._member]
        self._world.shares[self._member] = share._replace(floor=0, until_ms=self._world.ledger_ms)


class Process:
    """One process whose workers ask as often as its share allows."""

    def __init__(self, world: World, member: str, rate: int, slowest_s: float, workers: int = 64) -> None:
        self.world, self.member, self.rate, self.slowest_s = world, member, rate, slowest_s
        self.ledger = MemoryLedger(world, member)
        self.budget = SharedBudget(rate, self.ledger, lambda: world.now_s)
        self.is_busy = True
        self.made = 0
        self._idle = workers
        self._running: list[tuple[float, float]] = []  # end, seen
        self._renewal_s = world.now_s

    def step(self) -> float:
        """Do what is due; when to come back at the latest."""
        world, budget = self.world, self.budget
        if world.now_s >= self._renewal_s:
            budget.renew()
            self._renewal_s = world.now_s + budget.next_renewal_s()
        while self._running and self._running[0][0] <= world.now_s:
            world.seen_s.append(self._running.pop(0)[1])
            budget.done()
            self._idle += 1
        wait_s = 1.0
        while self.is_busy and self._idle and (wait_s := budget.reserve()) == 0.0:
            end_s = world.now_s + world.chance.uniform(0.0, self.slowest_s)
            seen_s = world.chance.choice([world.now_s, end_s, world.chance.uniform(world.now_s, end_s)])
            self._running = sorted([*self._running, (end_s, seen_s)])
            self._idle -= 1
            self.made += 1
        self._renewal_s = min(self._renewal_s, world.now_s + budget.next_renewal_s())
        ends = [self._running[0][0]] if self._running else []
        return min([self._renewal_s, world.now_s + max(wait_s, 1e-4), *ends])

    def die(self) -> None:
        """As after `kill -9`: calls that were running have been seen by now, if ever."""
        self.world.seen_s += [min(seen_s, self.world.now_s) for _, seen_s in self._running]


def run(world: World, processes: list[Process], for_s: float) -> None:
    until_s = world.now_s + for_s
    while world.now_s < until_s:
        world.now_s = max(world.now_s + 1e-6, min(min(process.step() for process in processes), until_s))


@settings(deadline=None, max_examples=25)
@given(
    rate=st.integers(1, 40),
    seed=st.integers(0, 1 << 30),
    count=st.integers(1, 4),
    slowest_s=st.sampled_from([0.0, 0.05, 1.5]),
)
def test_no_sliding_second_ever_sees_more_than_the_rate_whatever_happens(
    rate: int, seed: int, count: int, slowest_s: float
) -> None:
    world = World(seed)
    processes = [Process(world, f"{number}", rate, slowest_s) for number in range(count)]
    for turn in range(30):
        run(world, processes, world.chance.uniform(0.1, 4.0))
        one = world.chance.randrange(count)
        process = processes[one]
        what = world.chance.choice(["kill", "busy", "cut off", "lost answers", "nothing", "leave"])
        if what in ("kill", "leave"):
            process.die()
            if what == "leave" and not process.ledger.is_cut_off and process.member in world.shares:
                process.ledger.leave()
            processes[one] = Process(world, f"{one} after {turn}", rate, slowest_s)
        elif what == "busy":
            process.is_busy = not process.is_busy
        elif what == "cut off":
            process.ledger.is_cut_off = not process.ledger.is_cut_off
        elif what == "lost answers":
            process.ledger.loses_answers = not process.ledger.loses_answers
    for process in processes:
        process.die()
    assert most_within(world.seen_s, CLOSED_SECOND_S) <= rate


def test_who_needs_it_gets_nearly_all_and_two_get_half_each() -> None:
    world = World(1)
    busy, other = Process(world, "a", 300, 0.03), Process(world, "b", 300, 0.03)
    other.is_busy = False
    run(world, [busy, other], 10)
    before = busy.made
    run(world, [busy, other], 20)
    assert busy.made - before >= 0.9 * 300 * 20
    other.is_busy = True
    run(world, [busy, other], 10)
    made = busy.made, other.made
    run(world, [busy, other], 20)
    for process, earlier in ((busy, made[0]), (other, made[1])):
        assert 0.9 * 150 * 20 <= process.made - earlier <= 150 * 21
    busy.is_busy = False
    run(world, [busy, other], PRESSED_S + 10)
    earlier = other.made
    run(world, [busy, other], 10)
    assert other.made - earlier >= 0.9 * 285 * 10
    assert most_within(world.seen_s, CLOSED_SECOND_S) <= 300


def test_without_the_ledger_a_process_keeps_its_floor_for_a_while_and_others_get_the_rest() -> None:
    world = World(2)
    lost, other = Process(world, "a", 100, 0.0), Process(world, "b", 100, 0.0)
    run(world, [lost, other], 10)
    lost.ledger.is_cut_off = True
    run(world, [lost, other], (LEASE_MS + LINGER_MS) / 1000 + 10)
    before = lost.made, other.made
    run(world, [lost, other], 10)
    assert 0.8 * floor_of(100) * 10 <= lost.made - before[0] <= floor_of(100) * 11
    assert other.made - before[1] >= 0.9 * (100 - floor_of(100)) * 10
    assert lost.budget.trouble == "cut off"
    world.now_s += (LEASE_MS + FLOOR_MS) / 1000
    before = lost.made, other.made
    run(world, [lost, other], 10)
    assert lost.made == before[0]
    assert other.made - before[1] >= 0.8 * 95 * 10  # it began anew as well
    lost.ledger.is_cut_off = False
    run(world, [lost, other], 10)
    assert lost.made > before[0]
    assert most_within(world.seen_s, CLOSED_SECOND_S) <= 100


def test_who_never_reached_the_ledger_makes_no_call() -> None:
    world = World(3)
    process = Process(world, "a", 100, 0.0)
    process.ledger.is_cut_off = True
    run(world, [process], 20)
    assert process.made == 0


def test_the_lowest_rate_that_anybody_is_configured_with_holds() -> None:
    shares = [QueryShare("b", 50, 5, 50, 60, 10_000)]
    written, granted = exchanged(shares, "a", using=0, floor=0, wanted=300, rate=300, now_ms=0)
    assert (granted.limit, written.limit, written.rate) == (10, 10, 300)


@given(st.integers(0, 400), st.dictionaries(st.text("abc", max_size=3), st.integers(0, 400), min_size=1, max_size=6))
def test_shares_are_fair(whole: int, wishes: dict[str, int]) -> None:
    found = fair_shares(whole, wishes)
    assert sum(found.values()) <= whole
    assert all(found[name] <= wish for name, wish in wishes.items())
    assert sum(found.values()) == min(whole, sum(wishes.values()))
    short = [name for name in wishes if found[name] < wishes[name]]
    assert all(found[one] + 1 >= found[other] for one in short for other in wishes)


@pytest.mark.parametrize("gone", [True, False])
def test_a_share_that_is_given_back_is_free_after_a_moment(gone: bool) -> None:
    world = World()
    first = SharedBudget(100, MemoryLedger(world, "a"), lambda: world.now_s)
    first.renew()
    if gone:
        first.close()
    world.now_s += LINGER_MS / 1000
    second = SharedBudget(100, MemoryLedger(world, "b"), lambda: world.now_s)
    second.renew()
    assert counted(world.shares["a"], world.ledger_ms) == (0 if gone else floor_of(100))
    if not gone:
        first.close()
    second.close()
