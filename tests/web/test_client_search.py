"""Clients are found as one look at each of them would find them, page after page, however many there are and however short the time is."""

from __future__ import annotations

import random
import re
import threading
from itertools import count

import pytest

from engine.core.presence.client_state import FLAPPING, NEVER, ClientState
from engine.web import client_search
from engine.web.client_search import ClientSearch, ClientsWanted, merged
from engine.web.fleet_counts import LEAST_S, CountedNowAndThen, count_by_status

UNKNOWN, OFFLINE, ONLINE = 0, 1, 2


class Clients:
    """States as a fleet shows them: what is not committed yet is only in `states`."""

    def __init__(self, number: int, seed: int, groups: str = "ABc") -> None:
        chance = random.Random(seed)
        names = [f"{chance.choice(groups)}@@@{chance.choice(['Pump', 'cam'])}-{n:05}" for n in range(number)]
        chance.shuffle(names)
        self.states = {name: self.state(name, chance) for name in names}
        self.hidden = set(chance.sample(names, number // 50))

    @staticmethod
    def state(name: str, chance: random.Random) -> ClientState:
        settled = chance.choices([UNKNOWN, ONLINE, OFFLINE], [1, 60, 2])[0]
        hold = 5 if chance.random() < 0.01 else NEVER
        return ClientState(
            client=name,
            settled=settled,
            observed=settled,
            flags=FLAPPING * (chance.random() < 0.02),
            hold_since_ms=hold,
        )

    def published(self, name: str) -> ClientState | None:
        return None if name in self.hidden else self.states.get(name)


WANTED = [
    ClientsWanted(),
    ClientsWanted(status=ONLINE),
    ClientsWanted(status=OFFLINE),
    ClientsWanted(status=UNKNOWN, text="pump"),
    ClientsWanted(text="p-0123"),
    ClientsWanted(text="nothing like it"),
    ClientsWanted(text="pump 12"),
    ClientsWanted(text="b p 0 7", status=ONLINE),
    ClientsWanted(text="12 pump"),
    ClientsWanted(flag="flapping", status=OFFLINE),
    ClientsWanted(flag="on hold"),
    ClientsWanted(group="B"),
    ClientsWanted(group="B", device="cam-00017", status=ONLINE),
    ClientsWanted(status=OFFLINE, group="c", matches=lambda name, ip: name.endswith("7")),
]


def is_wanted(wanted: ClientsWanted, name: str, state: ClientState) -> bool:
    group, device = name.split("@@@")
    has = {"flapping": bool(state.flags & FLAPPING), "on hold": state.hold_since_ms != NEVER}
    return (
        wanted.status in (None, state.settled)
        and wanted.group in (None, group)
        and wanted.device in (None, device)
        and re.search(".*".join(wanted.text.split()), name.lower()) is not None
        and (wanted.flag is None or has[wanted.flag])
        and (wanted.matches is None or wanted.matches(name, state.ip))
    )


@pytest.mark.parametrize("is_slow", [False, True])
@pytest.mark.parametrize("wanted", WANTED, ids=range(len(WANTED)))
def test_pages_hold_what_one_look_at_each_client_finds(wanted: ClientsWanted, is_slow: bool) -> None:
    ticks = count()
    fleets = [Clients(9_000, 1), Clients(2_500, 2, "De")]
    # A clock that goes on by a second at each look at it: every page has less time than it needs.
    searches = [
        ClientSearch(fleet, 1_000, (lambda: float(next(ticks))) if is_slow else (lambda: 0.0))  # type: ignore[arg-type]
        for fleet in fleets
    ]
    expected = sorted(
        name
        for fleet in fleets
        for name in fleet.states
        if (state := fleet.published(name)) is not None and is_wanted(wanted, name, state)
    )
    found: list[str] = []
    cursor: str | None = ""
    pages = 0
    while cursor is not None:
        clients, following = merged([search.page(wanted, 70, cursor) for search in searches], 70)
        assert len(clients) <= 70
        assert following is None or following > cursor
        found += [name for name, _ in clients]
        cursor, pages = following, pages + 1
    assert found == expected
    assert pages * 70 >= len(expected)


def test_a_common_status_is_not_collected() -> None:
    fleet = Clients(30_000, 3)
    assert client_search._with_status(fleet.states, ONLINE) is None
    offline = client_search._with_status(fleet.states, OFFLINE)
    assert offline == sorted(name for name, state in fleet.states.items() if state.settled == OFFLINE)


# Counts


def test_a_count_holds_for_longer_the_longer_it_takes() -> None:
    now_s, takes_s, counted = 0.0, 0.0, 0

    def count_them() -> int:
        nonlocal now_s, counted
        now_s += takes_s
        counted += 1
        return counted

    found = CountedNowAndThen[int](lambda: now_s, share=0.1)
    assert (found.value(count_them), found.value(count_them)) == (1, 1)
    now_s += LEAST_S
    takes_s = 0.5
    assert found.value(count_them) == 2
    now_s += 4.9
    assert found.value(count_them) == 2
    now_s += 0.2
    assert found.value(count_them) == 3


def test_while_one_counts_the_others_get_the_last_count() -> None:
    now_s = 0.0
    counting, go_on = threading.Event(), threading.Event()

    def slowly() -> int:
        counting.set()
        assert go_on.wait(60)
        return 2

    found = CountedNowAndThen[int](lambda: now_s)
    assert found.value(lambda: 1) == 1
    now_s = 2 * LEAST_S
    one = threading.Thread(target=found.value, args=(slowly,))
    one.start()
    assert counting.wait(60)
    assert found.value(lambda: 3) == 1
    go_on.set()
    one.join()
    assert found.value(lambda: 3) == 2


def test_clients_are_counted_by_status() -> None:
    fleet = Clients(12_345, 4)
    settled = [state.settled for state in fleet.states.values()]
    expected = {name: settled.count(status) for status, name in enumerate(("unknown", "offline", "online"))}
    assert count_by_status([fleet.states]) == expected
