"""Parts of the service: kept going, seen when they fail, and never in the way of a stop."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from engine.clock import EngineClock, SystemClock
from engine.errors import StoreError
from engine.runtime import supervision
from engine.runtime.supervision import Supervisor
from engine.telemetry import Event
from tests.written_log import WrittenLog


async def until(holds: object) -> None:
    async with asyncio.timeout(20):
        while not holds():  # type: ignore[operator]
            await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "RETRY_AFTER_S", 0.0)
    monkeypatch.setattr(supervision, "STEADY_S", 0.0)
    monkeypatch.setattr(supervision, "LOOK_EVERY_S", 0.0)


@pytest.mark.parametrize("how", ["raises", "ends", "is cancelled from inside", "meets a store error"])
def test_a_part_that_stops_is_shown_started_again_and_well_when_it_works(how: str, log: WrittenLog) -> None:
    async def go() -> None:
        works, runs = asyncio.Event(), 0

        async def work() -> None:
            nonlocal runs
            runs += 1
            if runs < 3:
                if how == "raises":
                    raise ZeroDivisionError("oh")
                if how == "is cancelled from inside":
                    raise asyncio.CancelledError
                if how == "meets a store error":
                    raise StoreError("the disk is full")
                return
            works.set()
            await asyncio.Event().wait()

        supervisor = Supervisor(SystemClock())
        task = supervisor.keep("rules", work)
        await until(lambda: supervisor.troubles())
        (trouble,) = supervisor.troubles()
        assert (trouble.name, trouble.is_vital) == ("rules", True) and trouble.since_ms > 0
        await works.wait()
        look = asyncio.create_task(supervisor.look_around())
        await until(lambda: not supervisor.troubles())
        assert supervisor.restarts() == {"rules": 2}
        for one in (task, look):
            one.cancel()
        await asyncio.gather(task, look, return_exceptions=True)
        assert task.cancelled()

    asyncio.run(go())
    assert len(log.lines(Event.TASK_FAILED)) == (0 if how == "meets a store error" else 1)
    assert log.line(Event.TASK_RECOVERED)["task"] == "rules"


def test_a_step_of_the_clock_moves_the_beginning_of_a_trouble_with_it() -> None:
    clock = EngineClock()
    supervisor = Supervisor(clock)
    supervisor.watch("log", lambda: "nobody reads it")
    (before,) = supervisor.troubles()
    clock.take(-3_600_000)
    (after,) = supervisor.troubles()
    assert after.since_ms == before.since_ms - 3_600_000 <= clock.now_ms()


def test_a_part_that_lives_elsewhere_is_asked_and_one_that_cannot_say_is_in_trouble() -> None:
    said: list[str | None] = [None, "the thread has ended", None]

    def broken() -> str | None:
        raise OSError("gone")

    supervisor = Supervisor(SystemClock())
    supervisor.watch("writer", lambda: said.pop(0))
    found = [[(trouble.name, trouble.reason) for trouble in supervisor.troubles()] for _ in range(3)]
    assert found == [[], [("writer", "the thread has ended")], []]
    supervisor.watch("writer", broken, is_vital=False)
    (trouble,) = supervisor.troubles()
    assert "gone" in trouble.reason and not trouble.is_vital


def test_a_part_that_is_done_is_not_started_again() -> None:
    async def go() -> None:
        async def work() -> None:
            pass

        supervisor = Supervisor(SystemClock())
        await supervisor.keep("source file", work, may_end=True)
        assert supervisor.troubles() == [] and supervisor.restarts() == {"source file": 0}

    asyncio.run(go())


def test_a_part_ends_although_a_library_answers_the_end_with_another_exception() -> None:
    async def go() -> None:
        begun = asyncio.Event()

        async def work() -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise OSError("the connection is closed") from None

        task = Supervisor(SystemClock()).keep("source cloud", work)
        await begun.wait()
        task.cancel()
        await asyncio.wait([task], timeout=60)
        assert task.cancelled()

    asyncio.run(go())


HANGS = """
import threading, time
from engine.runtime.shutdown import end_within
from engine.telemetry import setup_logging
setup_logging("info", "json")
threading.Thread(target=time.sleep, args=(600,), name="a thread that hangs").start()
end_within(0.1)
"""


def test_a_stop_ends_although_a_thread_hangs_and_says_which() -> None:
    done = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    log = WrittenText(done.stderr)
    (line,) = log.lines("service.stop_forced")
    assert "a thread that hangs" in line


class WrittenText:
    """The log of another process."""

    def __init__(self, text: str) -> None:
        self._text = text

    def lines(self, name: str) -> list[str]:
        """The lines about one event."""
        return [line for line in self._text.splitlines() if f'"event":"{name}"' in line]
