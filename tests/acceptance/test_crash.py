"""Kills at any moment, under load: nothing is lost, nothing is decided twice, nothing overtakes."""

from __future__ import annotations

import os
import random
import signal
import threading
from pathlib import Path

import pytest

from tests.acceptance.load import SOURCES, UNGUARDED, Load, rules_of
from tests.acceptance.service import Service, eventually, service, sink

KILLS = int(os.environ.get("ROLLCALL_KILLS", "50"))
SEED = int(os.environ.get("ROLLCALL_SEED", "20260101"))


def survive(running: Service, process_ended: threading.Event | None = None) -> None:
    """Wait until the process has been killed by its failpoint."""
    process = running.process
    assert process is not None
    eventually(process.poll, lambda code: code is not None)
    assert process.returncode == -signal.SIGKILL, running.log_text()[-2000:]


@pytest.mark.long
@pytest.mark.timeout(600)
def test_fifty_kills_under_load_lose_nothing_and_decide_nothing_twice(tmp_path: Path) -> None:
    dice = random.Random(SEED)
    with sink() as target, service(tmp_path, sources=SOURCES, deliveries=UNGUARDED) as running:
        running.rules(*rules_of(target.url))
        load = Load(running, SEED, rotates=True)
        running.start()
        load.start()
        # A log that was rotated before it was ever read is nobody's: the first life has begun to read before it is killed.
        eventually(lambda: running.items("/v1/sources"), lambda found: any(source["position"] for source in found))
        running.kill()
        for kill in range(KILLS):
            # Client rows are written often in every second life, seldom in the others: recovery meets both.
            often = {"ROLLCALL_CHECKPOINT": f"{dice.randint(5, 60)}:{dice.randint(1, 40)}"} if kill % 2 else {}
            process = running.start(ready=False, **often)
            if dice.random() < 0.8:
                running.wait_ready()
                wait_s = dice.uniform(0.0, 0.4)
            else:
                wait_s = dice.uniform(0.0, 1.2)  # somewhere between starting and working
            threading.Event().wait(wait_s)  # the moment of the kill, which nothing depends on
            assert process.poll() is None, running.log_text()[-2000:]
            running.kill()
        running.start()
        load.stop()
        load.wait_quiet()
        load.check(target)
        assert load.accepted > KILLS and len(load.lines) > KILLS and (load.rotations or KILLS < 10)
        assert running.terminate() == 0
    assert "Traceback" not in running.log_text()


@pytest.mark.parametrize(
    ("failpoint", "places"),
    [
        ("before_commit", (2,)),
        ("after_commit", (3,)),
        ("checkpoint", (4,)),
        pytest.param("before_commit", (1, 3, 5, 8, 13, 21), marks=pytest.mark.long),
        pytest.param("after_commit", (1, 2, 5, 8, 13, 21), marks=pytest.mark.long),
        pytest.param("checkpoint", (1, 2, 3, 5, 7, 9, 12, 15, 19), marks=pytest.mark.long),
    ],
)
def test_a_kill_around_any_commit_and_inside_any_checkpoint_loses_nothing(
    tmp_path: Path, failpoint: str, places: tuple[int, ...]
) -> None:
    holds = {"offline": "100ms", "online": "0s"}
    with sink() as target, service(tmp_path, sources=SOURCES, debounce=holds, deliveries=UNGUARDED) as running:
        running.rules(*rules_of(target.url))
        load = Load(running, len(failpoint))
        load.start()
        for place in places:
            running.start(ready=False, ROLLCALL_FAILPOINT=f"{failpoint}:{place}", ROLLCALL_CHECKPOINT="25:7")
            survive(running)
        running.start(ROLLCALL_CHECKPOINT="25:7")
        load.stop()
        load.wait_quiet()
        load.check(target)
        assert running.metric("rollcall_checkpoints") > 0
        # Once more from the rows that the last checkpoints wrote.
        running.kill()
        running.start()
        load.wait_quiet()
        load.check(target)
