"""The budget under a simulated clock: whatever calls take and whenever the process dies, the service sees no more than the rate."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import RollcallError
from engine.status.budget import HOLD_S, LOST_S, Budget
from engine.status.last_call import LastCallFile, StatusBusy
from tests.status.standin import most_within

CLOSED_SECOND_S = 1.0 + 1e-9
EPOCH_S = 1_000_000_000.0


class Simulation:
    """Workers that ask as often as the budget allows, on a clock of our own; kills and restarts if wanted."""

    def __init__(self, rate: int, seed: int, last_call: Path | None = None) -> None:
        self.now_s = 100.0
        self.seen_s: list[float] = []
        self.rate = rate
        self._path = last_call
        self._chance = random.Random(seed)
        self._open: LastCallFile | None = None
        self.restart()

    def restart(self) -> None:
        """As after `kill -9`: calls that were running have been seen by now, if ever."""
        if self._open is not None:
            self._open.close()
        self._open = LastCallFile(self._path, lambda: EPOCH_S + self.now_s) if self._path is not None else None
        self.budget = Budget(self.rate, lambda: self.now_s, last_call=self._open)

    def run(self, for_s: float, workers: int, latencies_s: tuple[float, float], restarts: int = 0) -> int:
        """Calls that were made in so much time."""
        until_s = self.now_s + for_s
        kills = sorted(self._chance.uniform(self.now_s, until_s) for _ in range(restarts))
        idle = workers
        running: list[tuple[float, float]] = []  # end, seen
        made = 0
        while self.now_s < until_s:
            if kills and self.now_s >= kills[0]:
                kills.pop(0)
                self.seen_s += [min(seen_s, self.now_s) for _, seen_s in running]
                idle, running = workers, []
                self.restart()
            while running and running[0][0] <= self.now_s:
                _, seen_s = running.pop(0)
                self.seen_s.append(seen_s)
                self.budget.done()
                idle += 1
            wait_s = HOLD_S
            while idle and (wait_s := self.budget.reserve()) == 0.0:
                end_s = self.now_s + self._chance.uniform(*latencies_s)
                # Early, late and anywhere between: the extremes are where a window goes wrong.
                seen_s = self._chance.choice([self.now_s, end_s, self._chance.uniform(self.now_s, end_s)])
                running = sorted([*running, (end_s, seen_s)])
                idle -= 1
                made += 1
            jitter_s = self._chance.choice([0.0, 0.0, self._chance.uniform(0, 0.01)])
            steps = [self.now_s + wait_s + jitter_s] if idle else []
            steps += [running[0][0]] if running else []
            steps += kills[:1]
            self.now_s = max(self.now_s, min(steps))
        self.seen_s += [seen_s for _, seen_s in running]
        return made

    def close(self) -> None:
        if self._open is not None:
            self._open.close()


@settings(deadline=None, max_examples=60)
@given(
    rate=st.integers(1, 60),
    seed=st.integers(0, 1 << 30),
    workers=st.integers(1, 80),
    slowest_s=st.sampled_from([0.0, 0.02, 0.5, 3.0]),
    restarts=st.integers(0, 8),
)
def test_no_sliding_second_ever_sees_more_than_the_rate(
    rate: int, seed: int, workers: int, slowest_s: float, restarts: int
) -> None:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as closing:
        made = Simulation(rate, seed, Path(folder) / "last_call")
        closing.callback(made.close)
        made.run(8, workers, (0.0, slowest_s), restarts)
        assert most_within(made.seen_s, CLOSED_SECOND_S) <= rate
        assert made.seen_s


@pytest.mark.parametrize("seed", [1, 2])
def test_at_300_a_second_and_20_ms_nearly_all_of_it_is_used(seed: int) -> None:
    simulation = Simulation(300, seed)
    made = simulation.run(60, 32, (0.01, 0.03))
    assert made >= 0.95 * 300 * 60
    assert most_within(simulation.seen_s, CLOSED_SECOND_S) <= 300


def test_300_a_second_hold_over_restarts_too(tmp_path: Path) -> None:
    simulation = Simulation(300, 3, tmp_path / "last_call")
    simulation.run(30, 64, (0.0, 0.4), restarts=10)
    assert most_within(simulation.seen_s, CLOSED_SECOND_S) <= 300
    simulation.close()


class Hand:
    """A clock moved by hand; sleeping moves it too."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def test_calls_come_evenly_after_a_small_burst() -> None:
    clock = Hand()
    budget = Budget(100, clock, sleep=clock.sleep)
    starts = []
    for _ in range(40):
        assert budget.take(10)
        starts.append(clock.now_s)
        budget.done()
    assert most_within(starts, 0.1) <= 16  # a tenth of the rate, and the burst
    assert starts[-1] >= 0.33


def test_a_call_without_an_answer_counts_longer() -> None:
    clock = Hand()
    budget = Budget(2, clock)
    assert budget.reserve() == 0.0
    budget.done(answered=False)
    clock.now_s = HOLD_S + 0.1
    assert budget.counted() == 1
    clock.now_s = LOST_S
    assert budget.counted() == 0


def test_a_running_call_counts_however_long_it_takes() -> None:
    clock = Hand()
    budget = Budget(1, clock)
    assert budget.reserve() == 0.0
    clock.now_s = 100.0
    assert budget.reserve() >= 1.0
    budget.done()
    assert budget.reserve() == pytest.approx(HOLD_S)
    clock.now_s += HOLD_S
    assert budget.reserve() == 0.0


def test_a_pause_holds_for_all_callers_and_is_never_shortened() -> None:
    clock = Hand()
    budget = Budget(10, clock)
    budget.pause(5)
    budget.pause(1)
    assert budget.reserve() == 5.0
    clock.now_s = 5.0
    assert budget.reserve() == 0.0


def test_taking_gives_up_at_once_when_it_cannot_be_in_time() -> None:
    clock = Hand()
    budget = Budget(10, clock, sleep=clock.sleep)
    budget.pause(5)
    assert not budget.take(2)
    assert clock.now_s == 0.0
    assert budget.take(5)
    assert clock.now_s == 5.0


def test_what_was_not_reserved_cannot_end() -> None:
    with pytest.raises(ValueError, match="reserved"):
        Budget(1).done()
    with pytest.raises(ValueError, match="at least 1 call"):
        Budget(0)


def test_threads_never_count_more_than_the_rate() -> None:
    budget = Budget(20)
    start = threading.Barrier(8)
    most = []

    def some() -> int:
        start.wait()
        made = 0
        for _ in range(2000):
            if budget.reserve() == 0.0:
                made += 1
                most.append(budget.counted())
                budget.done()
        return made

    with ThreadPoolExecutor(8) as threads:
        made = sum(threads.map(lambda _: some(), range(8)))
    assert made >= 1 and max(most) <= 20


def test_a_new_file_waits_for_nothing_and_a_used_one_for_a_second(tmp_path: Path) -> None:
    path = tmp_path / "last_call"
    first = LastCallFile(path)
    assert first.quiet_s() == 0.0
    first.touch()
    first.close()
    second = LastCallFile(path)
    assert second.quiet_s() == HOLD_S
    second.close()
    second.close()


def test_another_process_that_ends_soon_is_waited_for(tmp_path: Path) -> None:
    first = LastCallFile(tmp_path / "last_call")
    with pytest.raises(StatusBusy):
        LastCallFile(tmp_path / "last_call", within_s=0.01)
    with ThreadPoolExecutor(1) as threads:
        second = threads.submit(LastCallFile, tmp_path / "last_call", within_s=60.0)
        first.close()
        second.result(60).close()


@pytest.mark.parametrize(("age_s", "quiet_s"), [(3600, 0.0), (0.5, HOLD_S), (-3600, HOLD_S)])
def test_the_last_call_decides_also_one_in_the_future(tmp_path: Path, age_s: float, quiet_s: float) -> None:
    path = tmp_path / "last_call"
    LastCallFile(path).close()
    at_s = time.time() - age_s
    os.utime(path, (at_s, at_s))
    last_call = LastCallFile(path)
    assert last_call.quiet_s() == quiet_s
    clock = Hand()
    assert Budget(10, clock, last_call=last_call).reserve() == quiet_s
    last_call.close()


def test_an_opening_without_a_call_requires_no_wait(tmp_path: Path) -> None:
    for _ in range(3):
        last_call = LastCallFile(tmp_path / "last_call")
        assert last_call.quiet_s() == 0.0
        last_call.close()


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(RollcallError, match="last_call cannot be written: No such file"):
        LastCallFile(tmp_path / "none" / "last_call")


HOLDER = """
import sys
from pathlib import Path
from engine.status.budget import Budget
from engine.status.last_call import LastCallFile
last_call = LastCallFile(Path(sys.argv[1]))
assert Budget(10, last_call=last_call).reserve() == 0.0
print("asking", flush=True)
sys.stdin.read()
"""


def test_another_process_has_it_until_it_dies(tmp_path: Path) -> None:
    path = tmp_path / "last_call"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == b"asking\n"
        with pytest.raises(StatusBusy, match="another Rollcall process"):
            LastCallFile(path)
        other.send_signal(signal.SIGKILL)
        other.wait()
        last_call = LastCallFile(path)
        assert last_call.quiet_s() == HOLD_S
        last_call.close()
