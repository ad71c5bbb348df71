"""How the fleet is counted: each client once, whatever the slices, and durations to within a quarter."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.fleet_count import MAX_COUNTED_GROUPS, FleetCount, bucket_of, bucket_start_ms, percentile_ms
from engine.core.presence.client_state import NEVER, OFFLINE, ONLINE, UNKNOWN, ClientState


def state(client: str, settled: int = ONLINE, hold_ms: int = NEVER, settled_at_ms: int = 0) -> ClientState:
    return ClientState(
        client=client, settled=settled, hold_since_ms=hold_ms, occurred_at_ms=1_000, settled_at_ms=settled_at_ms
    )


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["A@@@1", "A@@@2", "B@@@1", "", "@@@", "none", "C@@@@@@"]),
            st.sampled_from([0, 1, 2]),
            st.booleans(),
        )
    ),
    st.integers(1, 7),
)
def test_every_client_is_counted_once_whatever_the_slices(clients: list[tuple[str, int, bool]], size: int) -> None:
    states = [state(name, settled, 5 if held else NEVER) for name, settled, held in clients]
    count = FleetCount(0)
    for start in range(0, len(states), size):
        count.add(states[start : start + size])
    wanted = [sum(settled == status for _, settled, _ in clients) for status in (UNKNOWN, OFFLINE, ONLINE)]
    assert count.total == [*wanted, sum(held for *_, held in clients)]
    for group in ("A", "B", "C"):
        of_group = [(settled, held) for name, settled, held in clients if name.startswith(f"{group}@@@")]
        numbers = count.groups.get(group, [0, 0, 0, 0])
        assert numbers[ONLINE] == sum(settled == ONLINE for settled, _ in of_group)
        assert numbers[3] == sum(held for _, held in of_group)
    assert set(count.groups) <= {"A", "B", "C"}, "an id without a group is of no group"


def test_groups_that_a_device_makes_up_do_not_fill_the_memory() -> None:
    count = FleetCount(0)
    count.add([state(f"G{number}@@@x") for number in range(MAX_COUNTED_GROUPS + 500)] + [state("G7@@@y")])
    assert len(count.groups) == MAX_COUNTED_GROUPS and count.total[ONLINE] == MAX_COUNTED_GROUPS + 501
    assert [name for name, _ in count.largest(2)] == ["G7", "G0"]


def test_only_verdicts_since_the_last_count_have_their_duration_counted() -> None:
    count = FleetCount(since_ms=31_000)
    count.add([state("A@@@1", OFFLINE, settled_at_ms=31_000), state("A@@@2", OFFLINE, settled_at_ms=30_999)])
    count.add([state("A@@@3", UNKNOWN, settled_at_ms=90_000)])
    assert count.latencies == {(OFFLINE, bucket_of(30_000)): 1}


@given(st.integers(0, 1 << 50))
def test_a_bucket_holds_its_duration_and_is_a_quarter_of_an_octave_wide(duration_ms: int) -> None:
    bucket = bucket_of(duration_ms)
    start_ms, end_ms = bucket_start_ms(bucket), bucket_start_ms(bucket + 1)
    assert start_ms <= duration_ms < end_ms
    assert end_ms - start_ms <= max(1, start_ms // 4)


@pytest.mark.parametrize("part", [0.5, 0.99, 1.0])
def test_a_percentile_is_right_to_within_a_quarter(part: float) -> None:
    random = Random(7)
    durations = sorted(int(random.lognormvariate(9, 2)) for _ in range(2_000))
    exact = durations[round(part * len(durations)) - 1]
    found = percentile_ms([(bucket_of(duration), 1) for duration in durations], part)
    assert found is not None and abs(found - exact) <= exact / 4 + 1


def test_without_verdicts_there_is_no_percentile_and_a_date_in_the_future_counts_as_at_once() -> None:
    assert percentile_ms([], 0.5) is None
    assert bucket_of(-5) == 0
