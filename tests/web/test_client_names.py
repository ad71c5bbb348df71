"""The names of clients: every name once, in order, whatever was added or forgotten between two reads."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.web import client_names
from engine.web.client_names import ClientNames

NAMES = st.text("ab@/", min_size=1, max_size=6)


@given(st.lists(st.tuples(st.booleans(), st.lists(NAMES, max_size=30), NAMES)), st.sampled_from(["", "a", "b@@@"]))
def test_it_lists_what_is_there_after_any_additions_and_removals(
    turns: list[tuple[bool, list[str], str]], prefix: str
) -> None:
    states: dict[str, int] = {}
    found = ClientNames(states)
    for adds, names, cursor in turns:
        for name in names:
            if adds:
                states[name] = 1
            else:
                states.pop(name, None)
        listed = [name for name in found.after(cursor, prefix) if name in states]
        assert listed == sorted(name for name in states if name > cursor and name.startswith(prefix))


def test_buckets_are_cut_as_they_grow_and_nothing_is_lost() -> None:
    states = {f"c{number:06}": 1 for number in range(client_names.BUCKET)}
    found = ClientNames(states)
    assert sum(1 for _ in found.after("")) == len(states)
    for start in range(0, 40 * client_names.BUCKET, 400):
        states.update((f"c{number:06}", 1) for number in range(start, start + 400))
        next(found.after("c", ""))
    assert list(found.after("")) == sorted(states)
    assert list(found.after("c079990")) == [f"c{number:06}" for number in range(79_991, 80_000)]


def test_names_may_be_added_while_a_page_is_read() -> None:
    states = {f"c{number}": 1 for number in range(5_000)}
    before = set(states)
    found = ClientNames(states)
    go_on = threading.Event()

    def add() -> None:
        for number in range(5_000, 60_000):
            states[f"c{number}"] = 1
        go_on.set()

    writer = threading.Thread(target=add)
    writer.start()
    while not go_on.is_set():
        listed = list(found.after(""))
        assert listed == sorted(set(listed))
        assert before <= set(listed)
    writer.join()
    assert list(found.after("")) == sorted(states)


@pytest.mark.parametrize("clients", [200, 30_000])
@pytest.mark.parametrize(
    ("mistyped", "is_found"),
    [
        ("GID_PUMP@@@pump-1l", True),
        ("GID_PUMP@@@pmup-17", True),
        ("GID_PUMP@@@PUMP-42", True),
        ("something else", False),
        ("", False),
    ],
)
def test_a_mistyped_id_is_answered_with_one_that_is_like_it(clients: int, mistyped: str, is_found: bool) -> None:
    names = ClientNames({f"GID_PUMP@@@pump-{number}": None for number in range(clients)})
    found = names.nearest(mistyped)
    assert (found is not None and found.startswith("GID_PUMP@@@pump-")) if is_found else found is None
