"""A day in which every neighbour of the service fails in turn: nothing is lost, and `/readyz` is true to what works.

Time is simulated by scale: the holds and lags of the configuration are a 600th of what they stand for, so an hour of the day is
about six seconds, and nothing in the test waits for the length of an hour: one ends when all that it caused has happened. That is
honest because the service only compares durations with each other and with what arrives, and its processes, sockets, files and
signals are real; a wall clock that runs faster would be refused by it as a clock that was set. What cannot be configured (the pauses
of breakers, the ten seconds until a part counts as well) stays as long as it is, and makes some hours longer: a day takes minutes.
`deliveries.max_age` stays a day, so a delivery is dead only because it was refused.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.acceptance.service import eventually
from tests.hostile.day import ENDS, Day, a_day
from tests.hostile.day_faults import BY_NAME, HOURS, Hour, readyz, sentences

REPEATS = {"the webhook process is killed", "the service is killed"}
"""In these hours a webhook may be sent again with the same key: whoever sent it died before it was noted."""

SLOW = "not caught up for"
"""Six hundred times faster than time, a second in which a busy machine does nothing is ten minutes: that is true, and no neighbour's fault."""


@contextmanager
def watched(day: Day, hour: Hour, leaves: str) -> Iterator[None]:
    """All through this `/readyz` is asked again and again; fails when it ever told of something that works."""
    over, strangers = threading.Event(), set()

    def watch() -> None:
        while not over.wait(0.1):
            for one in sentences(readyz(day)):
                if SLOW not in one and not any(
                    says(day, names, one) for names in (hour.names, hour.also, hour.leaves, leaves)
                ):
                    strangers.add(one)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert not strangers, f"{hour.name}: /readyz names what works: {strangers}"


def says(day: Day, names: str, sentence: str) -> bool:
    """Is this about what is named? Nothing is about nobody."""
    return bool(names) and re.match(names.format(shaky=day.shaky.port), sentence) is not None


def live_through(day: Day, hour: Hour) -> None:
    """One hour: the fault, the fleet, what is said, the end of the fault, and all as it should be again."""
    hour.begin(day)
    day.move()
    if hour.spared is not None:
        eventually(day.push)
        day.heard(*hour.spared)
    elif not day.push():
        assert not hour.is_ready
    if hour.names:
        said = eventually(lambda: readyz(day), lambda said: any(says(day, hour.names, one) for one in sentences(said)))
        assert said["ready"] == hour.is_ready, said
    else:
        eventually(lambda: readyz(day), lambda said: said["ready"] == hour.is_ready)
    if hour.name == "a rule file is broken":
        eventually(lambda: readyz(day)["refused_edits"])
    hour.end(day)
    eventually(day.push)
    day.heard(*ENDS)
    left = eventually(lambda: sentences(readyz(day)), lambda found: all(says(day, hour.leaves, one) for one in found))
    assert readyz(day)["ready"] and not readyz(day)["refused_edits"], left


def live(day: Day, hours: Iterable[Hour]) -> None:
    """These hours, and what must be true after them."""
    leaves = ""
    for hour in hours:
        print(hour.name, flush=True)
        before = Counter(arrival.key for arrival in day.good.seen())
        with watched(day, hour, leaves):
            live_through(day, hour)
        leaves = hour.leaves
        if hour.name not in REPEATS:
            again = {key for key, count in Counter(one.key for one in day.good.seen()).items() if count > 1}
            assert again <= {key for key, count in before.items() if count > 1}, hour.name
    firings = sum(phases.count("firing") for phases in day.phases.values())
    assert firings and not day.running.items("/v1/deliveries", state="due")
    dead = day.running.items("/v1/deliveries", state="dead")
    assert len(dead) >= firings and {row["rule"] for row in dead} == {"refused"}
    assert all(row["last_error"] for row in dead)
    keys = [arrival.key for arrival in day.refusing.first_seen()]
    assert len(keys) == firings
    eventually(
        lambda: {line["message"].split()[0] for line in day.running.log_lines("action.log")},
        lambda found: found == set(day.phases),
    )
    assert not re.search("Traceback", day.running.log_text())


def test_some_hours_of_a_day_in_which_neighbours_fail(tmp_path: Path) -> None:
    with a_day(tmp_path, seed=13) as day:
        live(
            day,
            [BY_NAME[name] for name in ("the webhook receiver: resets", "the file is a FIFO", "the service is killed")],
        )


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [1])
def test_a_day_in_which_every_neighbour_fails_in_turn(tmp_path: Path, seed: int) -> None:
    assert len(HOURS) == 24
    with a_day(tmp_path, seed) as day:
        live(day, HOURS)
