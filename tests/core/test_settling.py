"""§5: holds, settling, flapping, the interlock, and the order of one instant. Hold 30 s; flapping from 4 until 1 in a minute."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.presence import debounce
from engine.core.presence.client_state import FLAPPING, OFFLINE, Transition
from tests.core.worlds import POLICY, START_MS, World, at, event, happened, ms, rule, span

# Holds.

TRANSITIONS: list[tuple[str, list[str], list[str]]] = [
    ("an online settles at once, and the first one says so", ["0s p1 connect A"], ["0s p1 online first"]),
    ("a first status may be offline", ["0s p1 tcpclean A"], ["30s p1 offline first"]),
    ("a disconnect alone settles nothing", ["0s p1 disconnect A"], []),
    (
        "an offline settles when its hold is over",
        ["0s p1 connect A", "60s p1 tcpclean A"],
        ["0s p1 online first", "1m30s p1 offline"],
    ),
    (
        "the hold counts from when the engine learned of it",
        ["0s p1 connect A", "60s/70s p1 tcpclean A"],
        ["0s p1 online first", "1m40s p1 offline"],
    ),
    (
        "one that reverts a millisecond before its hold is over is a suppressed flap, shown in the next transition",
        ["0s p1 connect A", "60s p1 tcpclean A", "89s999ms p1 connect B", "5m p1 tcpclean B"],
        ["0s p1 online first", "5m30s p1 offline flaps=1"],
    ),
    (
        "one that reverts in the instant in which its hold is over has settled before",
        ["0s p1 connect A", "60s p1 tcpclean A", "1m30s p1 connect B"],
        ["0s p1 online first", "1m30s p1 offline", "1m30s p1 online"],
    ),
    (
        "the flaps counted begin anew with each transition",
        ["0s p1 connect A", "5m p1 tcpclean A", "5m10s p1 connect B", "10m p1 tcpclean B", "20m p1 connect C"],
        ["0s p1 online first", "10m30s p1 offline flaps=1", "20m p1 online"],
    ),
    (
        "a hold that reverted does not lend its time to the next one",
        ["0s p1 connect A", "60s p1 tcpclean A", "80s p1 connect B", "85s p1 tcpclean B"],
        ["0s p1 online first", "1m55s p1 offline flaps=1"],
    ),
    (
        "a takeover changes nothing",
        ["0s p1 connect A", "60s p1 connect B", "65s p1 tcpclean A"],
        ["0s p1 online first"],
    ),
    (
        "a duplicate neither restarts nor ends a hold",
        ["0s p1 connect A", "60s p1 tcpclean A", "60s/80s p1 tcpclean A", "0s/85s p1 connect A"],
        ["0s p1 online first", "1m30s p1 offline"],
    ),
    (
        "a goodbye makes it graceful",
        ["0s p1 connect A", "60s p1 disconnect A", "60s p1 tcpclean A"],
        ["0s p1 online first", "1m30s p1 offline graceful"],
    ),
    (
        "a goodbye that comes during the hold counts",
        ["0s p1 connect A", "60s p1 tcpclean A", "60s/1m29s999ms p1 disconnect A"],
        ["0s p1 online first", "1m30s p1 offline graceful"],
    ),
    (
        "a goodbye that comes in the instant in which it settles is too late",
        ["0s p1 connect A", "60s p1 tcpclean A", "60s/1m30s p1 disconnect A"],
        ["0s p1 online first", "1m30s p1 offline"],
    ),
    (
        "an online is never graceful",
        ["0s p1 disconnect A", "0s p1 connect A"],
        ["0s p1 online first"],
    ),
    (
        "an early close and then its connect: offline all along, settled once",
        ["0s p1 tcpclean A", "0s/10s p1 connect A"],
        ["30s p1 offline first"],
    ),
    (
        "one client's events say nothing of another's",
        ["0s p1 connect A", "0s p2 connect A", "60s p1 tcpclean A"],
        ["0s p1 online first", "0s p2 online first", "1m30s p1 offline"],
    ),
]


@pytest.mark.parametrize(("why", "events", "expected"), TRANSITIONS, ids=[row[0] for row in TRANSITIONS])
def test_transitions(why: str, events: list[str], expected: list[str]) -> None:
    assert happened((), *events).transitions == expected


def test_a_transition_tells_the_brokers_time_the_engines_and_when_it_settled_apart() -> None:
    world = happened((), "0s p1 connect A", "60s/70s p1 tcpclean A")
    state = world.state("p1")
    assert [span(one) for one in (state.occurred_at_ms, state.since_ms, state.settled_at_ms)] == [
        "1m",
        "1m10s",
        "1m40s",
    ]


def test_holds_may_differ_by_client_and_direction() -> None:
    def holds_of(client: str) -> tuple[int, int]:
        return (120_000, 5_000) if client.startswith("CELL") else (30_000, 0)

    policy = replace(POLICY, holds_of=holds_of)
    story = ["0s CELL@@@a connect A", "0s b connect A", "60s CELL@@@a tcpclean A", "60s b tcpclean A"]
    assert happened((), *story, policy=policy).transitions == [
        "0s b online first",
        "5s CELL@@@a online first",
        "1m30s b offline",
        "3m CELL@@@a offline",
    ]


def test_an_online_that_reverts_within_its_hold_of_a_client_never_seen_is_a_flap_into_offline() -> None:
    policy = replace(POLICY, online_ms=10_000)
    world = World(policy=policy).tell("0s p1 connect A", "5s p1 tcpclean A").run_on()
    assert world.transitions == ["35s p1 offline first"]


def test_without_holds_every_change_is_a_transition_in_its_own_instant() -> None:
    policy = replace(POLICY, offline_ms=0)
    world = happened((), "0s p1 connect A", "0s p1 tcpclean A", "2s p1 connect B", policy=policy)
    assert world.transitions == ["0s p1 online first", "0s p1 offline", "2s p1 online"]


# Flapping.


def flapping_of(*rows: str, until: str) -> bool:
    world = World().tell(*rows).pass_to(until)
    return bool(world.state("p1").flags & FLAPPING)


CHANGES = ["0s p1 connect A", "10s p1 tcpclean A", "20s p1 connect B", "30s p1 tcpclean B"]
FLAPPINGS: list[tuple[str, list[str], str, bool]] = [
    ("three changes are not yet flapping", CHANGES[:3], "25s", False),
    ("the fourth change inside the window starts it, the first status included", CHANGES, "30s", True),
    ("a change as old as the window counts no more", [*CHANGES[:3], "60s p1 tcpclean B"], "60s", False),
    ("one a millisecond younger does", [*CHANGES[:3], "59s999ms p1 tcpclean B"], "59s999ms", True),
    ("it lasts while two are left", CHANGES, "1m19s999ms", True),
    ("it stops in the instant in which one is left", CHANGES, "1m20s", False),
    ("a change during it makes it last", [*CHANGES, "75s p1 connect C"], "1m20s", True),
    ("and stops a window after the last but one", [*CHANGES, "75s p1 connect C"], "1m30s", False),
    ("changes count by the broker's time", ["0s/50s p1 connect A", *CHANGES[1:3], "60s p1 tcpclean B"], "60s", False),
    ("what only repeats is no change", [*CHANGES[:3], "20s/25s p1 connect B", "0s/26s p1 connect A"], "26s", False),
    (
        "takeovers are no changes",
        ["0s p1 connect A", "2s p1 connect B", "4s p1 connect C", "6s p1 connect D"],
        "7s",
        False,
    ),
]


@pytest.mark.parametrize(("why", "events", "until", "expected"), FLAPPINGS, ids=[row[0] for row in FLAPPINGS])
def test_flapping(why: str, events: list[str], until: str, expected: bool) -> None:
    assert flapping_of(*events, until=until) is expected


def test_while_flapping_transitions_are_recorded_all_the_same() -> None:
    assert happened((), *CHANGES).transitions == ["0s p1 online first", "1m p1 offline flaps=1"]


@given(st.lists(st.integers(0, 130), min_size=1, max_size=12), st.integers(0, 130))
def test_flapping_counts_the_changes_younger_than_the_window(times: list[int], later: int) -> None:
    """Whatever the order in which changes are learned of, the kept ones decide as all of them would."""
    kept: tuple[int, ...] = ()
    now = START_MS + 130_000
    for time in times:
        kept = debounce.with_time(kept, START_MS + time * 1_000, now, POLICY)
    young = [time for time in times if now - (START_MS + time * 1_000) < POLICY.flapping_window_ms]
    assert (len(kept) >= POLICY.flapping_start) == (len(young) >= POLICY.flapping_start)
    assert list(kept) == sorted(kept)
    then = now + later * 1_000
    left = sum(then - (START_MS + time * 1_000) < POLICY.flapping_window_ms for time in young)
    calm = debounce.calm_at(debounce.younger(kept, now, POLICY), POLICY)
    assert (left <= POLICY.flapping_stop) == (calm is None or calm <= then)


def test_times_kept_for_one_client_are_bounded() -> None:
    policy = replace(POLICY, flapping_start=60)  # the most that a configuration may ask for
    times: tuple[int, ...] = ()
    for number in range(1_000):
        times = debounce.with_time(times, START_MS + number, START_MS + number, policy)
    assert 60 <= len(times) <= debounce.MAX_TIMES


# The feed interlock.

DARK = rule("dark", "offline", recovery=True)


def cut(*rules: object) -> World:
    """A client that was cut at 60 s, with rules."""
    return World(*rules).tell("0s p1 connect A", "60s p1 tcpclean A")  # type: ignore[arg-type]


def test_an_offline_hold_waits_until_every_source_has_been_read_up_to_its_deadline() -> None:
    world = cut(DARK).pass_to("2m", silence="1m29s999ms")
    assert world.status("p1") == "online"
    assert world.pass_to("3m", silence="1m30s").transitions[1:] == ["3m p1 offline"]
    assert world.alerts == ["3m dark p1 firing"]


def test_a_hold_that_was_never_held_back_settles_at_its_own_instant_however_late_the_clock_is_looked_at() -> None:
    assert cut().pass_to("10m", silence="10m").transitions[1:] == ["1m30s p1 offline"]
    assert cut().pass_to("10m", silence="1m30s").transitions[1:] == ["1m30s p1 offline"]


def test_a_reconnect_that_was_waiting_to_be_read_prevents_the_transition() -> None:
    world = cut(DARK).pass_to("10m", silence="1m")
    world.batch([event("80s p1 connect B")[0]], at("10m"), watermark_ms=at("80s"))
    assert world.pass_to("20m").transitions[1:] == []
    assert world.alerts == []


def test_an_online_hold_does_not_rest_on_silence() -> None:
    world = World(policy=replace(POLICY, online_ms=5_000)).tell("0s p1 connect A")
    assert world.pass_to("6s", silence="-1h").transitions == ["5s p1 online first"]


def test_flapping_stops_while_a_source_is_behind() -> None:
    world = World(rule("calm", "stable")).tell(*CHANGES)
    assert world.pass_to("2m", silence="30s").alerts == ["1m20s calm p1 firing", "1m20s calm p1 resolved"]


def test_an_offline_for_waits_as_well_and_an_online_for_does_not() -> None:
    long_dark, long_back = rule("long-dark", "offline", for_="2m"), rule("long-back", "online", for_="1m")
    world = cut(long_dark).pass_to("1m30s").pass_to("5m", silence="2m59s999ms")
    assert world.alerts == ["1m30s long-dark p1 pending"]
    assert world.pass_to("6m", silence="3m").alerts[1:] == ["6m long-dark p1 firing"]
    back = cut(long_back).pass_to("1m30s").tell("2m p1 connect B")
    assert back.pass_to("5m", silence="2m").alerts == ["2m long-back p1 pending", "3m long-back p1 firing"]


def test_a_hold_of_no_length_waits_for_the_sources_too() -> None:
    world = World(policy=replace(POLICY, offline_ms=0)).tell("0s p1 connect A")
    world.batch([event("60s p1 tcpclean A")[0]], at("60s"), watermark_ms=at("30s"))
    assert world.transitions[1:] == []
    assert world.pass_to("2m", silence="59s999ms").transitions[1:] == []
    assert world.pass_to("3m", silence="2m").transitions[1:] == ["3m p1 offline"]


def test_a_hold_of_no_length_that_waited_settles_when_it_is_released() -> None:
    world = World(policy=replace(POLICY, offline_ms=0)).tell("0s p1 connect A")
    world.batch([event("60s p1 tcpclean A")[0]], at("60s"), watermark_ms=at("30s"))
    assert world.pass_to("3m", silence="2m").transitions[1:] == ["3m p1 offline"]


def test_what_was_held_back_acts_after_what_was_due_meanwhile_so_the_clock_never_goes_back() -> None:
    policy = replace(POLICY, online_ms=5_000)
    world = World(DARK, rule("calm", "stable"), policy=policy)
    world.tell("0s p1 connect A", "60s p1 tcpclean A", *(row.replace("p1", "p2") for row in CHANGES))
    world.pass_to("1m20s")
    world.batch([event("1m58s p3 connect A")[0]], at("1m58s"), watermark_ms=at("1m"))
    world.pass_to("3m", silence="3m")
    instants = [line.settled_at_ms if hasattr(line, "settled_at_ms") else line.at_ms for line in world.lines]
    assert instants == sorted(instants), world.story


def test_only_the_holds_whose_deadline_the_sources_have_reached_are_released() -> None:
    world = World().tell("0s p1 connect A", "0s p2 connect A", "60s p1 tcpclean A", "70s p2 tcpclean A")
    world.pass_to("5m", silence="1m35s")
    assert world.transitions[2:] == ["1m30s p1 offline"]
    assert world.pass_to("6m", silence="1m39s999ms").transitions[3:] == []
    assert world.pass_to("7m", silence="1m40s").transitions[3:] == ["7m p2 offline"]


# One instant, one order.


def test_at_the_instant_of_its_end_flapping_no_longer_suppresses() -> None:
    policy = replace(POLICY, offline_ms=50_000)
    world = World(DARK, policy=policy).tell(*CHANGES).run_on()
    # Flapping stops at 1m20s, which is when the hold begun at 30s is over.
    assert world.story[1:] == ["1m20s p1 offline flaps=1", "1m20s dark p1 firing", "1m20s dark > p1 log firing"]


def test_holds_settle_before_a_for_is_over() -> None:
    world = World(rule("long", "online", for_="30s")).tell("0s p1 connect A", "1h p1 tcpclean A", "2h p1 connect B")
    # Cut so that the offline settles in the instant in which the `for` of the online is over.
    world.tell("2h p1 tcpclean B").run_on()
    assert "firing" not in " ".join(world.alerts)


def test_a_for_that_is_over_in_the_instant_of_an_event_fires_before_the_event() -> None:
    world = World(rule("long", "offline", for_="60s", recovery=True)).tell("0s p1 connect A", "10s p1 tcpclean A")
    world.tell("70s p1 connect B")
    assert world.alerts == ["40s long p1 pending", "1m10s long p1 firing", "1m10s long p1 resolved"]


def test_what_is_due_at_or_before_an_event_happens_before_it() -> None:
    world = World(DARK).tell("0s p1 connect A", "10s p1 tcpclean A", "40s p2 connect A")
    assert world.story == [
        "0s p1 online first",
        "40s p1 offline",
        "40s dark p1 firing",
        "40s dark > p1 log firing",
        "40s p2 online first",
    ]


# Batches.

STORIES = st.lists(
    st.tuples(
        st.integers(0, 40),
        st.sampled_from(["p1", "p2", "p3"]),
        st.sampled_from(["connect", "connect", "tcpclean", "tcpclean", "disconnect"]),
        st.sampled_from("ABC"),
    ),
    max_size=25,
)


RULES = (
    rule("dark", "offline", recovery=True),
    rule("long-dark", "offline", for_="45s"),
    rule("back", "online", throttle=(1, "1m")),
    rule("few", "offline", throttle=(1, "1m"), recovery=True),
    rule("calm", "stable"),
    rule("twice", "duplicate"),
)


def rows_of(story: list[tuple[int, str, str, str]]) -> list[str]:
    """A drawn story as rows, in the order of time."""
    return sorted(f"{5 * time:03d}s {client} {kind} {client}{channel}" for time, client, kind, channel in story)


@given(STORIES, st.data())
def test_events_of_one_instant_may_come_in_any_batches(
    story: list[tuple[int, str, str, str]], data: st.DataObject
) -> None:
    """A batch is cut anywhere: the same lines, in the same order."""
    single, batched = World(*RULES).tell(*rows_of(story)), World(*RULES)
    told = [event(row) for row in rows_of(story)]
    while told:
        received = told[0][1]
        same = [one for one, instant in told if instant == received]
        size = data.draw(st.integers(1, len(same)))
        batched.batch(same[:size], received)
        told = told[size:]
    assert batched.run_on().story == single.run_on().story


@given(STORIES)
def test_many_events_with_their_instants_at_once_are_as_one_after_another(
    story: list[tuple[int, str, str, str]],
) -> None:
    """The way of `replay`: deadlines are passed between the events of one batch."""
    told = [event(row) for row in rows_of(story)]
    single = World(*RULES).tell(*rows_of(story)).run_on()
    at_once = World(*RULES)
    at_once.fleet.begin()
    at_once.fleet.apply([one for one, _ in told], 0, 0, [instant for _, instant in told])
    at_once.commit()
    assert at_once.run_on().story == single.story


@given(STORIES, st.lists(st.integers(0, 200), min_size=30, max_size=30))
def test_whatever_a_source_lags_nothing_rests_on_silence_it_has_not_reached(
    story: list[tuple[int, str, str, str]], lags: list[int]
) -> None:
    """Offline deadlines act when every source has been read up to them, in order of the clock; the end is the same."""
    world, caught_up = World(*RULES), 0
    for (one, received), lag in zip([event(row) for row in rows_of(story)], lags, strict=False):
        caught_up = max(caught_up, received - lag * 1_000)  # never goes back
        lines = len(world.lines)
        world.batch([one], received, watermark_ms=caught_up)
        for line in world.lines[lines:]:
            if isinstance(line, Transition) and line.status == OFFLINE:
                assert line.since_ms + POLICY.offline_ms <= caught_up
                assert line.settled_at_ms >= line.since_ms + POLICY.offline_ms
    world.run_on()
    instants = [line.settled_at_ms if isinstance(line, Transition) else line.at_ms for line in world.lines]
    assert instants == sorted(instants), world.story
    prompt = World(*RULES).tell(*rows_of(story)).run_on()
    assert {client: world.status(client) for client in ("p1", "p2", "p3")} == {
        client: prompt.status(client) for client in ("p1", "p2", "p3")
    }


def test_durations_of_stories_are_read_as_they_are_written() -> None:
    assert [span(at(text)) for text in ("0s", "1m30s", "89s999ms", "-1s")] == ["0s", "1m30s", "1m29s999ms", "-1s"]
    assert ms("1h1m1s1ms") == 3_661_001
