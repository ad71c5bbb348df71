"""Which replica should own which cell: the cells are shared out, one move at a time, and then nothing moves any more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.cell_placement import (
    BEHIND,
    OWNER,
    STANDBY,
    ReplicaStanding,
    better_owner,
    cells_owned,
    should_wait,
)


def standings(owners: dict[int, str], names: list[str]) -> list[ReplicaStanding]:
    """Every replica stands by for each cell that it does not own."""
    return [
        ReplicaStanding(cell, name, OWNER if name == owner else STANDBY)
        for cell, owner in owners.items()
        for name in names
    ]


@st.composite
def fleets(draw: st.DrawFn) -> tuple[dict[int, str], list[str]]:
    names = [f"r{number}" for number in range(draw(st.integers(1, 4)))]
    cells = range(1, draw(st.integers(1, 7)) + 1)
    return {cell: draw(st.sampled_from(names)) for cell in cells}, names


@given(fleets())
def test_cells_move_until_they_are_shared_out_and_then_stay(found: tuple[dict[int, str], list[str]]) -> None:
    owners, names = found
    for _ in range(len(owners) * len(names)):
        seen = standings(owners, names)
        moves = {cell: to for cell, owner in owners.items() if (to := better_owner(seen, cell, owner)) is not None}
        # All owners decide by what they have seen; each gives at most one cell away.
        assert len({owners[cell] for cell in moves}) == len(moves)
        if not moves:
            break
        cell = min(moves)
        assert moves[cell] != owners[cell]
        owners[cell] = moves[cell]
    counts = cells_owned(standings(owners, names)).values()
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize(
    ("seen", "to"),
    [
        ([(1, "a", OWNER), (2, "a", OWNER), (1, "b", STANDBY), (2, "b", STANDBY)], {2: "b"}),
        ([(1, "a", OWNER), (2, "a", OWNER), (1, "b", STANDBY), (2, "b", BEHIND)], {1: "b"}),  # b is warm for one only
        ([(1, "a", OWNER), (2, "a", OWNER), (1, "b", BEHIND), (2, "b", BEHIND)], {}),
        ([(1, "a", OWNER), (2, "b", OWNER), (1, "b", STANDBY), (2, "a", STANDBY)], {}),
        ([(1, "a", OWNER), (2, "a", OWNER), (3, "b", OWNER), (1, "b", STANDBY), (2, "b", STANDBY)], {}),  # 2 and 1
        ([(1, "a", OWNER)], {}),
    ],
)
def test_a_cell_goes_to_a_warm_replica_that_owns_two_fewer(
    seen: list[tuple[int, str, str]], to: dict[int, str]
) -> None:
    rows = [ReplicaStanding(*one) for one in seen]
    assert {cell: found for cell in (1, 2) if (found := better_owner(rows, cell, "a")) is not None} == to


@pytest.mark.parametrize(
    ("seen", "waits"),
    [
        ([(2, "b", STANDBY)], True),
        ([(2, "b", BEHIND)], False),
        ([(1, "b", STANDBY)], False),  # for another cell
        ([(2, "b", STANDBY), (3, "b", OWNER)], False),  # it has as many
        ([(2, "a", STANDBY)], False),
    ],
)
def test_a_replica_with_a_cell_leaves_a_free_one_to_a_warm_replica_with_fewer(
    seen: list[tuple[int, str, str]], waits: bool
) -> None:
    assert should_wait([ReplicaStanding(*one) for one in seen], 2, "a", 1) is waits
