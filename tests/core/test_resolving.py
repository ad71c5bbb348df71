"""§3: observed status is a function of the set of a client's events. Tables first, then properties.

The naive reading is `tests.oracle.presence`: it keeps everything, prunes nothing and starts from scratch at each question.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.core.presence import resolver
from engine.core.presence.client_state import MAX_CHANNELS, STATUS_NAMES, UNKNOWN, Channels, ClientState, state_of_row
from engine.core.presence.evidence import REASONS, TOO_MANY_CHANNELS, doubts, readings
from engine.core.presence.resolver import observe, observe_any
from tests.oracle import presence
from tests.oracle.reading import Told

SKEW_MS = 1_000
T0 = 1_767_225_600_000
Event = tuple[str, int, str]  # kind, milliseconds after T0, channel

CONNECT, DISCONNECT, TCPCLEAN = "connect", "disconnect", "tcpclean"


def resolved(events: Sequence[Event], how: Any = observe) -> tuple[Channels, int, list[bool]]:
    """Channels, observed status and takeovers after events in this order."""
    channels: Channels = ()
    observed = UNKNOWN
    takeovers = []
    for kind, time, channel in events:
        channels, observed, takeover = how(channels, kind, T0 + time, channel, observed, SKEW_MS)
        takeovers.append(takeover)
    return channels, observed, takeovers


def status(events: Sequence[Event]) -> str:
    """The observed status after events in this order."""
    return STATUS_NAMES[resolved(events)[1]]


def graceful(events: Sequence[Event]) -> bool:
    """Whether an offline that settled now would be graceful."""
    return resolver.graceful(resolved(events)[0])


def state_with(channels: Channels) -> ClientState:
    """A state of which only the channels matter."""
    flat = [value for channel in channels for value in channel.as_row()]
    return state_of_row((flat, UNKNOWN, UNKNOWN, 0, 0, 0, None, 0, (), 0, (), "", 0))


def told(events: Sequence[Event]) -> list[Told]:
    """The events as the naive reading takes them."""
    return [Told("c", kind, T0 + time, channel, "", T0 + time) for kind, time, channel in events]


# Tables: every order of the events of a row ends alike.

STATUSES: list[tuple[str, str, list[Event]]] = [
    ("a connect puts a client online", "online", [(CONNECT, 0, "A")]),
    ("a tcpclean takes it offline", "offline", [(CONNECT, 0, "A"), (TCPCLEAN, 5_000, "A")]),
    ("a client of which only a close was seen is offline", "offline", [(TCPCLEAN, 0, "A")]),
    ("a disconnect alone says nothing about the status", "unknown", [(DISCONNECT, 0, "A")]),
    ("a disconnect never changes the status", "online", [(CONNECT, 0, "A"), (DISCONNECT, 5_000, "A")]),
    (
        "a late close of an old channel never takes a client offline",
        "online",
        [(CONNECT, 0, "A"), (CONNECT, 60_000, "B"), (TCPCLEAN, 90_000, "A")],
    ),
    (
        "a lost close of a superseded channel does not hold a client online",
        "offline",
        [(CONNECT, 0, "A"), (CONNECT, 60_000, "B"), (TCPCLEAN, 90_000, "B")],
    ),
    ("a close in the same millisecond closes", "offline", [(CONNECT, 0, "A"), (TCPCLEAN, 0, "A")]),
    ("a close dated the skew before its connect closes", "offline", [(CONNECT, 1_000, "A"), (TCPCLEAN, 0, "A")]),
    ("a close dated more than the skew before is ignored", "online", [(CONNECT, 1_001, "A"), (TCPCLEAN, 0, "A")]),
    (
        "a close that is ignored does not undo one that counts",
        "offline",
        [(CONNECT, 5_000, "A"), (TCPCLEAN, 0, "A"), (TCPCLEAN, 6_000, "A")],
    ),
    (
        "two channels within the skew are both live",
        "online",
        [(CONNECT, 0, "A"), (CONNECT, 1_000, "B"), (TCPCLEAN, 5_000, "B")],
    ),
    (
        "one millisecond more and the older is superseded",
        "offline",
        [(CONNECT, 0, "A"), (CONNECT, 1_001, "B"), (TCPCLEAN, 5_000, "B")],
    ),
    (
        "the newest connect counts whether it is closed or not",
        "offline",
        [(CONNECT, 0, "A"), (CONNECT, 60_000, "B"), (TCPCLEAN, 60_000, "B"), (CONNECT, 30_000, "C")],
    ),
    (
        "a close of a channel never seen takes nobody offline",
        "online",
        [(CONNECT, 0, "A"), (TCPCLEAN, 60_000, "X")],
    ),
]


@pytest.mark.parametrize(("why", "expected", "events"), STATUSES, ids=[row[0] for row in STATUSES])
def test_status_in_whatever_order_the_events_come(why: str, expected: str, events: list[Event]) -> None:
    assert {order: status(order) for order in permutations(events)} == dict.fromkeys(permutations(events), expected)


def test_a_close_that_comes_before_its_own_connect_still_closes_it() -> None:
    assert status([(TCPCLEAN, 5_000, "A")]) == "offline"
    assert status([(TCPCLEAN, 5_000, "A"), (CONNECT, 0, "A")]) == "offline"


def test_a_redelivered_connect_of_a_closed_channel_never_brings_a_client_back() -> None:
    story = [(CONNECT, 0, "A"), (TCPCLEAN, 5_000, "A")]
    assert status([*story, (CONNECT, 0, "A")]) == "offline"
    later = [*story, (CONNECT, 60_000, "B"), (TCPCLEAN, 70_000, "B")]  # by now A is forgotten
    assert status([*later, (CONNECT, 0, "A")]) == "offline"
    assert status([*later, (CONNECT, 60_000, "B")]) == "offline"


GRACEFUL: list[tuple[str, bool, list[Event]]] = [
    ("a goodbye, then the close", True, [(CONNECT, 0, "A"), (DISCONNECT, 5_000, "A"), (TCPCLEAN, 5_000, "A")]),
    ("no goodbye", False, [(CONNECT, 0, "A"), (TCPCLEAN, 5_000, "A")]),
    (
        "a goodbye of a channel that is not the newest does not count",
        False,
        [(CONNECT, 0, "A"), (DISCONNECT, 5_000, "A"), (CONNECT, 60_000, "B"), (TCPCLEAN, 70_000, "B")],
    ),
    (
        "of two channels with the newest connect either may have said it",
        True,
        [
            (CONNECT, 0, "A"),
            (CONNECT, 0, "B"),
            (DISCONNECT, 5_000, "A"),
            (TCPCLEAN, 5_000, "A"),
            (TCPCLEAN, 9_000, "B"),
        ],
    ),
    ("with no connect seen: of the newest close", True, [(DISCONNECT, 5_000, "A"), (TCPCLEAN, 5_000, "A")]),
    (
        "with no connect seen: not of an older close",
        False,
        [(DISCONNECT, 5_000, "A"), (TCPCLEAN, 5_000, "A"), (TCPCLEAN, 6_000, "B")],
    ),
    (
        "a connect seen outweighs a newer close without one",
        True,
        [(CONNECT, 0, "A"), (DISCONNECT, 1_000, "A"), (TCPCLEAN, 2_000, "A"), (TCPCLEAN, 9_000, "B")],
    ),
]


@pytest.mark.parametrize(("why", "expected", "events"), GRACEFUL, ids=[row[0] for row in GRACEFUL])
def test_graceful_in_whatever_order_the_events_come(why: str, expected: bool, events: list[Event]) -> None:
    assert all(graceful(order) is expected for order in permutations(events))


DOUBTS: list[tuple[str, int, list[Event]]] = [
    ("nothing doubtful about one live channel", 0, [(CONNECT, 0, "A")]),
    ("nothing doubtful about a clean end", 0, [(CONNECT, 0, "A"), (TCPCLEAN, 5_000, "A")]),
    ("two channels are live", 1, [(CONNECT, 0, "A"), (CONNECT, 500, "B")]),
    ("no connect was ever seen", 1, [(TCPCLEAN, 0, "A")]),
    ("a superseded channel was not closed", 1, [(CONNECT, 0, "A"), (CONNECT, 60_000, "B")]),
    (
        "a superseded channel was closed after all",
        0,
        [(CONNECT, 0, "A"), (CONNECT, 60_000, "B"), (TCPCLEAN, 61_000, "A")],
    ),
    ("the only live channel said goodbye", 1, [(CONNECT, 0, "A"), (DISCONNECT, 5_000, "A")]),
]


@pytest.mark.parametrize(("why", "count", "events"), DOUBTS, ids=[row[0] for row in DOUBTS])
def test_doubts(why: str, count: int, events: list[Event]) -> None:
    assert len(doubts(state_with(resolved(events)[0]), SKEW_MS)) == count


# Properties. Times lie on a grid of half a skew, so that differences of exactly a skew, or two, are common.

GRID_MS = SKEW_MS // 2


@st.composite
def lives(draw: st.DrawFn, channels: int = 5, early_goodbyes: bool = False) -> list[Event]:
    """The events of one client within the model: a channel connects once, any of its events may be missing or early.

    `early_goodbyes`: disconnects may lie long before their own connect, which the contract prunes (see the test for it).
    """
    events: list[Event] = []
    for name in "ABCDEFGH"[: draw(st.integers(1, channels))]:
        start = GRID_MS * draw(st.integers(0, 24))
        if draw(st.integers(0, 9)):
            events.append((CONNECT, start, name))
        ends = draw(st.lists(st.integers(-4, 12), max_size=2))
        goodbyes = draw(st.lists(st.integers(-8 if early_goodbyes else -2, 12), max_size=2))
        events += [(TCPCLEAN, start + GRID_MS * steps, name) for steps in ends]
        events += [(DISCONNECT, start + GRID_MS * steps, name) for steps in goodbyes]
    return events


@st.composite
def tellings(draw: st.DrawFn) -> tuple[list[Event], list[Event]]:
    """A life as it happened, and the same as it was told: in any order, any of it more than once."""
    life = draw(lives())
    again = draw(st.lists(st.sampled_from(life), max_size=6)) if life else []
    return life, draw(st.permutations(life + again))


@given(tellings())
def test_any_order_and_any_duplicates_end_in_the_same_status_and_grace(
    telling: tuple[list[Event], list[Event]],
) -> None:
    life, order = telling
    assert status(order) == status(life)
    assert graceful(order) == graceful(life)


@given(tellings())
@example(
    ([], [(CONNECT, 0, "A"), (TCPCLEAN, 0, "A"), (CONNECT, 1_000, "B"), (TCPCLEAN, 1_000, "B"), (CONNECT, 0, "A")])
)
def test_after_every_event_the_status_is_what_the_naive_reading_of_all_events_says(
    telling: tuple[list[Event], list[Event]],
) -> None:
    _, order = telling
    for end in range(len(order) + 1):
        so_far = order[:end]
        assert status(so_far) == presence.observed(told(so_far), SKEW_MS), so_far
        if status(so_far) == "offline":
            assert graceful(so_far) == presence.said_goodbye(told(so_far)), so_far


@given(tellings())
def test_live_channels_are_those_of_the_naive_reading(telling: tuple[list[Event], list[Event]]) -> None:
    _, order = telling
    channels = resolved(order)[0]
    live = presence.live(told(order), SKEW_MS)
    assert resolver.live_count(channels, SKEW_MS) == len(live)
    for name in "ABCDEFGH":
        assert resolver.live_elsewhere(channels, name, SKEW_MS) == bool(live - {name})


@given(tellings())
def test_a_takeover_is_a_new_connect_beside_a_live_channel(telling: tuple[list[Event], list[Event]]) -> None:
    _, order = telling
    takeovers = resolved(order)[2]
    for place, (kind, time, channel) in enumerate(order):
        before = told(order[:place])
        begun = presence.connects(before)
        fresh = kind == CONNECT and channel not in begun and T0 + time >= max(begun.values(), default=0) - SKEW_MS
        assert takeovers[place] == (fresh and bool(presence.live(before, SKEW_MS) - {channel}))


@given(
    st.lists(st.tuples(st.sampled_from([CONNECT, DISCONNECT, TCPCLEAN]), st.integers(0, 16), st.sampled_from("ABC")))
)
def test_the_fast_path_answers_what_the_general_one_answers_even_outside_the_model(
    steps: list[tuple[str, int, str]],
) -> None:
    events = [(kind, GRID_MS * time, channel) for kind, time, channel in steps]
    assert resolved(events, observe) == resolved(events, observe_any)


@given(tellings())
def test_an_event_that_says_nothing_new_leaves_the_very_same_state(telling: tuple[list[Event], list[Event]]) -> None:
    _, order = telling
    channels, observed, _ = resolved(order)
    for channel in channels:
        name, *times = channel.as_row()
        for kind, time in zip((CONNECT, TCPCLEAN, DISCONNECT), times, strict=True):
            if time is not None:
                assert observe(channels, kind, time, name, observed, SKEW_MS)[0] is channels


@given(lives(early_goodbyes=True))
def test_a_goodbye_may_be_forgotten_only_when_it_lies_two_skews_before_the_newest_connect(life: list[Event]) -> None:
    connects = [time for kind, time, _ in life if kind == CONNECT]
    edge = max(connects, default=0) - 2 * SKEW_MS
    certain = [entry for entry in life if entry[0] != DISCONNECT or entry[1] >= edge]
    if status(life) == "offline" and presence.said_goodbye(told(certain)):
        assert all(graceful(order) for order in ([*life], [*reversed(life)]))


# What is kept.


def a_long_life(sessions: int, closed: bool) -> list[Event]:
    """One session after another, a minute each."""
    connects: list[Event] = [(CONNECT, number * 60_000, f"c{number}") for number in range(sessions)]
    closes: list[Event] = [(TCPCLEAN, time + 30_000, channel) for _, time, channel in connects] if closed else []
    return sorted([*connects, *closes], key=lambda event: event[1])


def test_closed_sessions_of_the_past_leave_nothing_behind() -> None:
    channels, _, _ = resolved(a_long_life(1_000, closed=True))
    assert len(channels) == 1


@pytest.mark.parametrize("closed", [True, False])
def test_never_more_than_the_cap_is_kept_and_the_newest_decide(closed: bool) -> None:
    channels, observed, _ = resolved(a_long_life(100, closed))
    assert len(channels) <= MAX_CHANNELS
    assert STATUS_NAMES[observed] == ("offline" if closed else "online")


def test_at_the_cap_the_oldest_entry_is_dropped_first_and_the_client_is_doubtful() -> None:
    channels, _, _ = resolved(a_long_life(MAX_CHANNELS + 1, closed=False))
    assert [channel.id for channel in channels] == [f"c{number}" for number in range(1, MAX_CHANNELS + 1)]
    assert TOO_MANY_CHANNELS in {doubt.code for doubt in doubts(state_with(channels), SKEW_MS)}


def test_an_old_entry_that_comes_late_to_a_full_state_is_the_one_that_is_dropped() -> None:
    full, observed, _ = resolved([(CONNECT, 1_000_000 + number, f"c{number}") for number in range(MAX_CHANNELS)])
    after, observed, _ = observe(full, CONNECT, T0, "ancient", observed, SKEW_MS)
    assert "ancient" not in {channel.id for channel in after}
    assert STATUS_NAMES[observed] == "online"


HOSTILE = st.lists(
    st.tuples(
        st.sampled_from([CONNECT, DISCONNECT, TCPCLEAN]),
        st.integers(-5_000, 5_000),
        st.sampled_from([f"h{n}" for n in range(60)]),
    ),
    min_size=60,
    max_size=140,
)


@given(HOSTILE)
def test_hostile_input_never_keeps_more_than_the_cap(events: list[Event]) -> None:
    channels: Channels = ()
    observed = UNKNOWN
    for kind, time, channel in events:
        channels, observed, _ = observe(channels, kind, T0 + time, channel, observed, SKEW_MS)
        assert len(channels) <= MAX_CHANNELS
        assert len({channel.id for channel in channels}) == len(channels)


@given(tellings())
def test_a_client_once_known_is_never_unknown_again(telling: tuple[list[Event], list[Event]]) -> None:
    _, order = telling
    seen = [status(order[:end]) for end in range(len(order) + 1)]
    known = [one != "unknown" for one in seen]
    assert known == sorted(known)


@given(tellings())
def test_the_evidence_names_every_kept_event_once_and_oldest_first(telling: tuple[list[Event], list[Event]]) -> None:
    _, order = telling
    channels, _, _ = resolved(order)
    found = readings(state_with(channels), SKEW_MS)
    assert len(found) == sum(time is not None for channel in channels for time in channel.as_row()[1:])
    assert [reading.time_ms for reading in found] == sorted(reading.time_ms for reading in found)
    assert all(reading.why in REASONS for reading in found)
