"""Every background part of the service under one roof: kept going, and seen when it is not. Read `Supervisor.keep` and `watch`.

A part is either a coroutine, which `keep` runs again, with growing pauses, whenever it raises or ends; or something that lives
elsewhere (a thread, a process, the log), which `watch` asks for its trouble. What is wrong with a part is in `troubles` until it has
worked for `STEADY_S`: `/readyz`, the metrics and the heartbeat read it there. The log has one line for each change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from engine.clock import Clock, SteadyClock
from engine.errors import StoreError
from engine.telemetry import Event, logger

RETRY_AFTER_S: Final = 1.0
"""Before a part that failed is started again; doubled each time."""

LONGEST_RETRY_S: Final = 60.0
"""The longest of these pauses."""

STEADY_S: Final = 10.0
"""A part that has worked for so long is well again."""

LOOK_EVERY_S: Final = 1.0
"""Between two looks at the parts that live elsewhere."""

log = logger(__name__)

Look = Callable[[], str | None]
"""Says what is wrong with a part, None when nothing is. Cheap, never blocks; called on the event loop and in other threads."""


class PartTrouble(NamedTuple):
    """A part of the service that does not work, and since when (epoch milliseconds)."""

    name: str
    reason: str
    since_ms: int
    restarts: int  # since the service started
    is_vital: bool  # without it the service is not ready; else it is degraded


@dataclass(slots=True)
class _Part:
    name: str
    is_vital: bool
    look: Look | None = None
    is_logged: bool = True
    reason: str | None = None
    since_ms: int = 0  # of the steady clock
    failures: int = 0  # since it was well
    restarts: int = 0
    began_s: float | None = None  # the loop's time; None: it waits for its next start


class Supervisor:
    """Runs and watches the parts of one service, on its event loop."""

    def __init__(self, clock: Clock) -> None:
        self._steady = SteadyClock(clock)  # so that a step of the clock moves no beginning
        self._parts: dict[str, _Part] = {}

    def keep(
        self,
        name: str,
        work: Callable[[], Awaitable[None]],
        *,
        is_vital: bool = True,
        may_end: bool = False,
        event: Event = Event.TASK_FAILED,
    ) -> asyncio.Task[None]:
        """Run `work` until the task is cancelled. `may_end`: returning means that there is nothing left to do."""
        part = self._parts.setdefault(name, _Part(name, is_vital))
        return asyncio.create_task(self._kept(part, work, may_end, event), name=name)

    def watch(self, name: str, look: Look, *, is_vital: bool = True, is_logged: bool = True) -> None:
        """Show what `look` says about a part. `is_logged`: its changes are logged here, because it does not do so itself."""
        self._parts[name] = _Part(name, is_vital, look, is_logged)

    def drop(self, names: Iterable[str]) -> None:
        """Show and watch these parts no more: they belong to what has ended. The tasks of `keep` are cancelled by who has them."""
        for name in names:
            self._parts.pop(name, None)

    def troubles(self) -> list[PartTrouble]:
        """What is wrong now. May be called in any thread."""
        found = []
        for part in list(self._parts.values()):
            self._look_at(part)
            reason = part.reason
            if reason is not None:
                since_ms = self._steady.engine_ms(part.since_ms)
                found.append(PartTrouble(part.name, reason, since_ms, part.restarts, part.is_vital))
        return found

    def names(self) -> list[str]:
        """Every part there is."""
        return list(self._parts)

    def restarts(self) -> dict[str, int]:
        """How often each part was started again."""
        return {part.name: part.restarts for part in list(self._parts.values()) if part.look is None}

    async def look_around(self) -> None:
        """Look at every part from time to time, until cancelled, so that changes are logged when they happen."""
        loop = asyncio.get_running_loop()
        while True:
            for part in list(self._parts.values()):
                self._look_at(part)
                is_steady = part.began_s is not None and loop.time() - part.began_s >= STEADY_S
                if part.look is None and part.reason is not None and is_steady:
                    self._well(part)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _kept(self, part: _Part, work: Callable[[], Awaitable[None]], may_end: bool, event: Event) -> None:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        while True:
            part.began_s = loop.time()
            try:
                await work()
                if may_end:
                    self._well(part)
                    return
                self._failed(part, "it ended by itself", None, event)
            except asyncio.CancelledError as error:
                if task is None or task.cancelling():
                    raise
                self._failed(part, "it was cancelled from inside", error, event)  # by a library; nobody wants it to end
            except Exception as error:  # noqa: BLE001  # whatever it is, this part is tried again and the others go on
                self._failed(part, f"{type(error).__name__}: {error}", error, event)
            if task is not None and task.cancelling():  # a library answered the end with another exception
                raise asyncio.CancelledError
            if loop.time() - (part.began_s or 0) >= STEADY_S:
                part.failures = 1
            part.began_s = None
            await asyncio.sleep(min(LONGEST_RETRY_S, RETRY_AFTER_S * 2 ** min(part.failures - 1, 10)))
            part.restarts += 1

    def _look_at(self, part: _Part) -> None:
        if part.look is None:
            return
        try:
            reason = part.look()
        except Exception as error:  # noqa: BLE001  # a part that cannot even say how it is
            reason = f"{type(error).__name__}: {error}"
        if reason is not None:
            self._failed(part, reason, None, Event.TASK_FAILED)
        elif part.reason is not None:
            self._well(part)

    def _failed(self, part: _Part, reason: str, error: BaseException | None, event: Event) -> None:
        is_new = part.reason is None
        if is_new:
            part.since_ms = self._steady.now_ms()
        part.reason = reason
        part.failures += 1
        if is_new and part.is_logged and not isinstance(error, StoreError):  # the writer has logged that
            facts = (
                {"source": part.name.removeprefix("source ")} if event is Event.SOURCE_FAILED else {"task": part.name}
            )
            log.error(event, **facts, error=reason, exc_info=error)

    def _well(self, part: _Part) -> None:
        if part.reason is not None and part.is_logged:
            log.info(Event.TASK_RECOVERED, task=part.name, failures=part.failures)
        part.reason, part.failures = None, 0
