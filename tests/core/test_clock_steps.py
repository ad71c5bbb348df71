"""Our own clock is set, ahead or back: what waits goes on waiting for as long as before, and nothing acts early or years late.

The stories are those of `test_kept`, told by clients whose clocks are right, to an engine whose clock is set while they go on. What
came of them is put down by the time that has really passed; it must be what comes of the same story without any step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.core.alerting.planned_delivery import PlannedDelivery
from engine.core.events import LifecycleEvent
from engine.core.history import FACT_OFFSET, Fact, apply_row
from engine.core.presence.client_state import ClientState, Transition
from engine.core.rules import Grouping, OutageTerms, Parent, QuorumTerms, Rule, Schedule
from engine.core.times import FOREVER
from tests.core.test_kept import GROUPS, NOTIFY, STEPS, STORY, RowWorld, Turn, act, stories
from tests.core.worlds import START_MS, Every, World, at, rule

DAY_MS = 86_400_000
TEN_YEARS_MS = 3_650 * DAY_MS

MEASURED = (
    rule("again", "offline", repeat_ms=50_000, recovery=True),
    rule("late", "offline", for_="35s", recovery=True),
    rule(
        "gone",
        "outage",
        outage=OutageTerms(at_least=2, within_ms=40_000, recover_within_ms=90_000),
        recovery=True,
        repeat_ms=60_000,
    ),
    rule("few", "offline", throttle=(1, "80s"), recovery=True, inhibited_by=("gone",)),
    rule("grouped", "offline", grouping=Grouping(wait_ms=20_000, interval_ms=60_000), repeat_ms=100_000, recovery=True),
    rule("pair", "quorum", quorum=QuorumTerms(down=2), for_="30s", recovery=True, repeat_ms=45_000),
    rule("child", "offline", "online", parents=(Parent(rule="pair", equal=("group",)),), recovery=True),
    rule("new", "first_seen", grouping=Grouping(wait_ms=20_000, interval_ms=60_000)),
    rule("climbs", "offline", actions=(NOTIFY,), escalate=STEPS, recovery=True),
    rule(
        "climbs-together",
        "offline",
        actions=(NOTIFY,),
        escalate=STEPS,
        grouping=Grouping(wait_ms=10_000, interval_ms=45_000),
    ),
)
"""Rules that measure time. Those with windows and schedules go by the wall clock, and are told about one by one below."""

STEPS_MS = st.sampled_from([-TEN_YEARS_MS, -120_000, -60_000, -2_500, 2_500, 120_000, TEN_YEARS_MS])


class SteppedWorld(RowWorld):
    """A world whose clock is set while its story goes on; `real` is every line by the time that has passed."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        super().__init__(rules, flapping_start=60)
        self.shift_ms = 0
        self.real: list[str] = []
        self.keys: list[str] = []

    def commit(self) -> None:
        """See `World`: also notes when the lines really were."""
        before = len(self.lines)
        super().commit()
        for line, story in zip(self.lines[before:], self.story[before:], strict=True):
            at_ms = line.settled_at_ms if isinstance(line, Transition) else line.at_ms
            words = sorted("+".join(sorted(word.split("+"))) for word in story.split()[1:])
            self.real.append(f"{at_ms - self.shift_ms - START_MS} {' '.join(words)}")
            if isinstance(line, PlannedDelivery):
                self.keys.append(line.key)

    def set_clock(self, real_ms: int, step_ms: int) -> None:
        """Nothing but the clock is another than before. What is due by then has acted, as the writer wakes for it."""
        before_ms = real_ms + self.shift_ms
        while (due := self.fleet.next_due(running_on=True)) <= before_ms:
            self.turn(due, lambda fleet: None)
        now_ms = before_ms + step_ms
        self.fleet.begin()
        self.fleet.begin_row(len(self.keys) + 1)
        self.fleet.step_clients(self.fleet.step(step_ms, now_ms), step_ms, now_ms)
        self.shift_ms += step_ms
        self.rows.write(self.fleet.alerts.out)
        self.commit()


def client_of(turn: Turn) -> str:
    """The client that a turn is about."""
    return f"{GROUPS[turn.client]}@@@{turn.client}"


def applied(event: LifecycleEvent, now_ms: int) -> Any:
    """An event as something done to a fleet."""
    return lambda fleet: fleet.apply([event], now_ms, now_ms)


def told(
    story: Sequence[Turn], steps: Sequence[tuple[int, int]] = (), rules: Sequence[Rule] = MEASURED
) -> SteppedWorld:
    """A story to an engine whose clock is set: (when, by how much), after the start and in milliseconds."""
    world, left = SteppedWorld(rules), sorted(steps)
    for turn in story:
        if turn.what == "plan":  # it goes by the wall clock
            continue
        while left and left[0][0] < turn.at_ms:
            world.set_clock(START_MS + left[0][0], left[0][1])
            left.pop(0)
            world.cut()
        real_ms = START_MS + turn.at_ms
        now_ms = real_ms + world.shift_ms
        if turn.what in ("connect", "tcpclean"):  # the broker's clock is right
            do = applied(LifecycleEvent(client_of(turn), turn.what, real_ms, turn.channel, "10.0.0.1:1"), now_ms)
        else:
            do = act(turn, now_ms)
        world.turn(real_ms + world.shift_ms, do, fails=turn.befalls == "fails")
    while (due := world.fleet.next_due(running_on=True)) < FOREVER:
        world.turn(due, lambda fleet: None)
    return world


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None)
@given(stories(), st.lists(st.tuples(st.integers(0, 400_000), STEPS_MS), max_size=4))
def test_whatever_is_done_to_the_clock_everything_acts_when_it_would_have(
    story: list[Turn], steps: list[tuple[int, int]]
) -> None:
    stepped, plain = told(story, steps), told(story)
    assert sorted(stepped.real) == sorted(plain.real)
    assert len(set(stepped.keys)) == len(stepped.keys), "two deliveries share a key: one of them would never be sent"


@pytest.mark.parametrize("step_ms", [-TEN_YEARS_MS, -60_000, -50_000, 50_000, 60_000, TEN_YEARS_MS])
@pytest.mark.parametrize("place", range(0, 300_000, 50_000))
def test_a_step_at_any_place_of_a_full_story(place: int, step_ms: int) -> None:
    stepped, plain = told(STORY, [(place, step_ms)]), told(STORY)
    assert sorted(stepped.real) == sorted(plain.real)
    assert len(set(stepped.keys)) == len(stepped.keys)


def stepped_world(world: World, instant: str, step_ms: int, shift_ms: int = 0) -> World:
    """The clock of a world, which is ahead by `shift_ms` already, is set at an instant."""
    now_ms = at(instant) + shift_ms + step_ms
    return world.act(lambda fleet: fleet.step_clients(fleet.step(step_ms, now_ms), step_ms, now_ms))


def test_a_clock_that_was_ten_years_ahead_holds_back_no_offline_once_it_is_right() -> None:
    world = World(rule("dark", "offline"))
    ahead = START_MS + TEN_YEARS_MS
    world.batch([LifecycleEvent("G@@@p1", "connect", START_MS, "A", "")], ahead)
    world.batch([LifecycleEvent("G@@@p1", "tcpclean", START_MS + 1_000, "A", "")], ahead + 1_000)
    world.act(lambda fleet: fleet.step_clients(fleet.step(-TEN_YEARS_MS, at("2s")), -TEN_YEARS_MS, at("2s")))
    assert world.pass_to("30s").status("p1") == "online"
    assert world.pass_to("31s").status("p1") == "offline"
    assert world.state("p1").heard_ms <= at("31s"), "no answer would be newer for ten years"


def test_a_clock_that_is_put_ahead_pages_nobody_early() -> None:
    world = World(rule("dark", "offline", for_="5m")).tell("0s p1 connect A", "60s p1 tcpclean A")
    stepped_world(world.pass_to("61s"), "61s", 3_600_000)
    assert world.pass_to("1h1m29s").status("p1") == "online"
    assert world.pass_to("1h1m30s").status("p1") == "offline"
    assert world.pass_to("1h5m59s").deliveries == []
    assert world.pass_to("1h6m").deliveries == ["1h6m dark > p1 log firing"]


def test_an_hour_that_the_clock_skips_brings_the_missed_ticks_of_a_schedule_once() -> None:
    roll = rule("roll", "schedule", schedule=Schedule(ticks=Every("2m"), catch_up="once"))
    world = World(roll).tell("0s p1 connect A").pass_to("3m")
    stepped_world(world, "3m", 3_600_000)
    assert world.pass_to("1h3m").deliveries[1:] == ["1h3m roll > p1 log firing"]


def test_ticks_that_were_held_are_not_held_again_when_the_clock_is_put_back_a_little() -> None:
    roll = rule("roll", "schedule", schedule=Schedule(ticks=Every("2m"), catch_up="once"))
    world = World(roll).tell("0s p1 connect A").pass_to("4m1s")
    assert len(world.deliveries) == 2
    stepped_world(world, "4m1s", -61_000)
    assert len(world.pass_to("5m59s").deliveries) == 2
    assert len(world.pass_to("6m").deliveries) == 3


def test_a_schedule_does_not_wait_for_a_clock_to_come_back_that_was_years_ahead() -> None:
    roll = rule("roll", "schedule", schedule=Schedule(ticks=Every("12h"), catch_up="skip"))
    world = World(roll).tell("0s p1 connect A")
    world.act(lambda fleet: fleet.advance(START_MS + 20 * DAY_MS, START_MS + 20 * DAY_MS))
    before = len(world.deliveries)
    world.act(lambda fleet: fleet.step(-20 * DAY_MS, at("3m")))
    assert world.pass_to("12h").deliveries[before:] == ["12h roll > p1 log firing"]


def test_a_silence_that_was_made_while_the_clock_was_ahead_lasts_as_long_as_it_was_to() -> None:
    world = World(rule("dark", "offline"))
    world.silence("10h", "10h5m", device=("p1",))
    stepped_world(world, "10h", -36_000_000)
    world.tell("1s p1 connect A", "2s p1 tcpclean A")
    assert world.pass_to("4m59s").deliveries == []
    assert world.pass_to("5m").deliveries == ["5m dark > p1 log firing"]


@pytest.mark.parametrize("steps_ms", [(3_600_000,), (-3_600_000,), (3_600_000, -3_600_000), (-3_600_000, 3_600_000)])
def test_a_silence_lasts_as_long_as_it_was_to_whatever_is_done_to_the_clock(steps_ms: tuple[int, ...]) -> None:
    world = World(rule("dark", "offline", repeat_ms=60_000)).tell("2h p1 connect A", "2h p1 tcpclean A")
    world.silence("2h", "2h5m", device=("p1",))
    shift_ms = 0
    for minute, step_ms in enumerate(steps_ms, 1):
        stepped_world(world, f"2h{minute}m", step_ms, shift_ms)
        shift_ms += step_ms
    end_ms = at("2h5m") + shift_ms
    world.act(lambda fleet: fleet.advance(end_ms - 1, end_ms - 1))
    assert world.deliveries == []
    world.act(lambda fleet: fleet.advance(end_ms, end_ms))
    assert len(world.deliveries) == 1


def test_a_clock_that_skips_the_end_of_a_planned_silence_brings_one_firing_and_no_reminder_of_the_time_it_skipped() -> (
    None
):
    world = World(rule("dark", "offline", repeat_ms=60_000)).plan("0s", "1s", "10m", device=("p1",))
    world.tell("2s p1 connect A", "3s p1 tcpclean A").pass_to("1m")
    stepped_world(world, "1m", 3_600_000)
    assert world.pass_to("1h1m30s").deliveries == ["1h1m dark > p1 log firing"]


def test_a_planned_silence_keeps_the_instants_that_people_wrote_down() -> None:
    world = World(rule("dark", "offline")).plan("1h", "1h10m", "1h20m", device=("p1",))
    stepped_world(world, "1h", -1_800_000)  # the clock shows 30m now
    world.tell("31m p1 connect A", "32m p1 tcpclean A").pass_to("33m")
    assert world.deliveries == ["32m30s dark > p1 log firing"]
    world.tell("1h9m p1 connect B", "1h10m p1 tcpclean B")
    assert world.pass_to("2h").deliveries[1:] == ["1h20m dark > p1 log firing"]


def test_the_journal_tells_a_step_again_to_every_client_whose_row_does_not_hold_it() -> None:
    world = World().tell("0s p1 connect A", "1s p1 tcpclean A", "1s p2 connect B")
    before: dict[str, ClientState] = dict(world.fleet.states)
    fleet = world.fleet
    fleet.begin()
    fleet.begin_row(9)
    fleet.step_clients(fleet.step(-7_000, at("3s") - 7_000), -7_000, at("3s") - 7_000)
    facts: list[Fact] = list(fleet.facts)
    fleet.commit()
    again = dict(before)
    apply_row(again, 9, [], facts, at("3s") - 7_000, world.policy)
    assert again == fleet.states
    assert again["G@@@p1"].hold_since_ms == before["G@@@p1"].hold_since_ms - 7_000
    apply_row(again, 9, [], facts, at("3s") - 7_000, world.policy)  # a row that holds it already
    assert again == fleet.states
    assert again["G@@@p1"].last >> 20 == 9 and again["G@@@p1"].last & FACT_OFFSET
