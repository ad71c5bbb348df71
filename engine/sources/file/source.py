"""Events from a file of JSON lines, read once or followed while it grows, is rotated, emptied or replaced.

Every batch carries the place after its last line, which is committed together with its effect: after a restart reading
goes on exactly there. One turn of the loop (`FileSource._turn`) works in this order, and the order is what keeps it
exact:

1. Note the time, then whether newer files follow the one at hand. 2. Read. 3. Hand over the lines that are complete.
4. At the end: if newer files were seen in step 1, everything of the old one has been read now, so go on to the next;
otherwise everything held at the noted time has been read, so that is how far the source is caught up.

What was lost (the file was emptied or replaced before its end was read, and no copy is found) is handed over as a
`Gap`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from engine.core.events import Rejection
from engine.errors import ClockSuspect
from engine.sources.acceptance import MAX_LINE_BYTES
from engine.sources.base import MAX_BATCH_EVENTS, Batch, Gap, Offer, SourceHealth
from engine.sources.file.tail import Place, Rewritten, Tail, find, next_file, successors
from engine.sources.wire import decode_lines, suspect_clock

POLL_S: Final = 0.1
"""Seconds between two looks at a file that has nothing new."""

RETRY_S: Final = (0.1, 0.5, 1.0, 2.0, 5.0)
"""Seconds before the first, second … retry of what failed; the last one is kept."""

log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True, eq=False)
class _Handed:
    """A batch that was offered and is not known to be committed."""

    batch: Batch
    verdict: asyncio.Future[Exception | None]


@dataclass(slots=True, kw_only=True, eq=False)
class FileSource:
    """Reads one path; `follow` says whether to stay when its end is reached.

    `now_ms` reads the clock; `max_future_ms` is how far events may lie ahead of it. `window` is how many batches may be
    unacknowledged at a time; with more than one, the engine must fail every later batch of this source after a failed
    one.
    """

    name: str
    path: Path
    follow: bool
    now_ms: Callable[[], int]
    max_future_ms: int = 60_000
    window: int = 1
    poll_s: float = POLL_S
    retry_s: tuple[float, ...] = RETRY_S
    type: str = field(default="file", init=False)
    _tail: Tail | None = field(default=None, init=False)
    _handed: deque[_Handed] = field(default_factory=deque, init=False)
    _failures: int = field(default=0, init=False)  # in a row
    _trouble: str = field(default="", init=False)
    _finished: bool = field(default=False, init=False)
    _caught_up_ms: int | None = field(default=None, init=False)
    _read_at_ms: int | None = field(default=None, init=False)
    _last_event_at_ms: int | None = field(default=None, init=False)

    async def run(self, offer: Offer, position: str | None) -> None:
        """Read from `position` on; returns when a file that is not followed has been read and committed."""
        place = Place.parse(position)
        self._read_at_ms = place.read_at_ms if place is not None else None
        try:
            while not self._finished:
                try:
                    if self._tail is None:
                        await self._begin(offer, place)
                    await self._turn(offer)
                except (OSError, ClockSuspect) as trouble:
                    await self._wait_out(trouble)
        except Exception as fault:
            self._trouble = f"stopped by a fault of ours: {fault!r}"  # or it would look as if nothing came any more
            raise
        finally:
            if self._tail is not None:
                self._tail.close()

    def caught_up_to(self, now_ms: int) -> int | None:
        """The instant at which the end was seen that has been read and committed; always the present once finished."""
        return now_ms if self._finished else self._caught_up_ms

    def health(self, now_ms: int) -> SourceHealth:
        """How it is doing at `now_ms` (epoch milliseconds); `lag` is in bytes."""
        lag = max(0, self._tail.size - self._tail.offset) if self._tail is not None else None
        return SourceHealth(
            name=self.name,
            type=self.type,
            connected=self._finished or (self._tail is not None and not self._trouble),
            detail=self._detail(),
            caught_up_to_ms=self.caught_up_to(now_ms),
            last_event_at_ms=self._last_event_at_ms,
            lag=0 if self._finished else lag,
            lag_unit="bytes",
        )

    def _detail(self) -> str:
        if self._trouble:
            return self._trouble
        if self._finished:
            return f"{self.path} has been read"
        if self._tail is None:
            return f"waiting for {self.path}"
        return f"reading {self._tail.path} at byte {self._tail.offset} of {self._tail.size}"

    async def _wait_out(self, trouble: OSError | ClockSuspect) -> None:
        """Show what is wrong, wait, and let the loop try again: nothing was moved past."""
        if isinstance(trouble, ClockSuspect):
            self._trouble = f"degraded: clock: {trouble}"
        elif isinstance(trouble, FileNotFoundError):
            self._trouble = f"waiting for {self.path}, which does not exist"
        else:
            self._trouble = f"cannot read {self.path}: {trouble.strerror or trouble}"
        await asyncio.sleep(self._pause_s())

    def _pause_s(self) -> float:
        pause = self.retry_s[min(self._failures, len(self.retry_s) - 1)]
        self._failures += 1
        return pause

    async def _begin(self, offer: Offer, place: Place | None) -> None:
        """Open the file at the place where reading stopped, or where it can go on after a gap."""
        if place is None:
            self._tail = Tail(self.path)
        else:
            await self._go_on_after(offer, place, "the file that was read last is gone or was rewritten")

    async def _go_on_after(self, offer: Offer, place: Place, why: str) -> None:
        """Find the rest of what was being read; without it, note the gap and take the oldest file that came later."""
        found = find(self.path, place)
        if found is None:  # a rotation may be under way, and a file that changes its name is easily missed
            await asyncio.sleep(self.poll_s)
            found = find(self.path, place)
        if found is None:
            later = successors(self.path, None, place.mtime_ns) or [self.path]
            found = Tail(later[0])
            await self._note_gap(offer, found, why)
        self._tail = found

    async def _note_gap(self, offer: Offer, start: Tail, why: str) -> None:
        now_ms = self.now_ms()
        gap = Gap(source=self.name, noted_at_ms=now_ms, from_ms=self._read_at_ms, to_ms=now_ms, reason=why)
        log.warning("source_gap", extra={"source": self.name, "path": str(self.path), "reason": why})
        position = start.place(now_ms).text()
        await self._hand_over(offer, Batch(source=self.name, received_at_ms=now_ms, gaps=[gap], position=position))

    async def _turn(self, offer: Offer) -> None:
        tail = self._tail
        assert tail is not None
        noted_ms = self.now_ms()
        # Opened now: until the old file's end is committed, the path may be given to yet another one.
        later = next_file(self.path, tail.identity, tail.mtime_ns) if self._was_replaced(tail) else None
        try:
            await self._read_on(offer, tail, later, noted_ms)
        finally:
            if later is not None and self._tail is not later:
                later.close()

    async def _read_on(self, offer: Offer, tail: Tail, later: Tail | None, noted_ms: int) -> None:
        try:
            chunk = tail.read()
        except Rewritten as how:
            await self._continue_elsewhere(offer, tail, f"{tail.path} was truncated or rewritten: {how}")
            return
        self._read_at_ms = noted_ms
        final = chunk.at_end and (later is not None or not self.follow)
        complete = len(chunk.data) if final else chunk.data.rfind(b"\n") + 1
        if complete:
            reached = noted_ms if chunk.at_end and later is None else None
            await self._take_lines(offer, tail, chunk.data[:complete], noted_ms, reached)
        elif chunk.data and (tail.skipping or len(chunk.data) > MAX_LINE_BYTES):
            await self._skip(offer, tail, chunk.data, noted_ms)
        self._failures, self._trouble = 0, ""
        if chunk.at_end:
            await self._at_end(offer, tail, later, noted_ms)

    def _was_replaced(self, tail: Tail) -> bool:
        """Whether the path now names another file, or none, than the one at hand."""
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return True
        return (stat.st_dev, stat.st_ino) != tail.identity

    async def _continue_elsewhere(self, offer: Offer, tail: Tail, why: str) -> None:
        place = tail.place(self._read_at_ms or self.now_ms())
        await self._go_on_after(offer, place, why)
        tail.close()

    async def _at_end(self, offer: Offer, tail: Tail, later: Tail | None, noted_ms: int) -> None:
        await self._all_committed(offer)
        if later is not None:
            self._tail = later
            tail.close()
        elif not self.follow:
            self._finished = True
        elif not self.path.exists():
            self._trouble = f"waiting for {self.path}, which does not exist any more"
            await asyncio.sleep(self.poll_s)
        else:
            self._caught_up_ms = noted_ms
            await asyncio.sleep(self.poll_s)

    async def _take_lines(self, offer: Offer, tail: Tail, data: bytes, now_ms: int, reached_ms: int | None) -> None:
        """Hand over whole lines in batches. `reached_ms`: caught up to that once they are all applied."""
        if tail.skipping:
            rest_of_long_line = data.find(b"\n") + 1 or len(data)
            tail.consume(data[:rest_of_long_line], 1)
            tail.skipping = False
            data = data[rest_of_long_line:]
        read = len(data)
        for piece, lines in _pieces(data):
            decoded = decode_lines(lines, now_ms, self.max_future_ms, first_line=tail.line)
            suspect_clock(decoded)
            tail.consume(piece, len(lines))
            read -= len(piece)
            batch = Batch(
                source=self.name,
                received_at_ms=now_ms,
                events=decoded.events,
                raw=decoded.raw,
                rejected=decoded.rejected,
                position=tail.place(now_ms).text(),
                caught_up_to_ms=reached_ms if read == 0 else None,
            )
            self._last_event_at_ms = now_ms
            await self._hand_over(offer, batch)

    async def _skip(self, offer: Offer, tail: Tail, data: bytes, now_ms: int) -> None:
        """Move past the beginning, or more, of a line that is too long for memory; it is rejected once."""
        rejected = []
        if not tail.skipping:
            reason = f"the line is longer than {MAX_LINE_BYTES} bytes"
            rejected = [Rejection(tail.line, reason, data[:MAX_LINE_BYTES])]
        tail.skipping = True
        tail.consume(data, 0)
        position = tail.place(now_ms).text()
        batch = Batch(source=self.name, received_at_ms=now_ms, rejected=rejected, position=position)
        await self._hand_over(offer, batch)

    async def _hand_over(self, offer: Offer, batch: Batch) -> None:
        """Offer a batch once fewer than `window` wait for their commit."""
        while len(self._handed) >= self.window:
            await self._first_committed(offer)
        await self._offer(offer, batch)

    async def _all_committed(self, offer: Offer) -> None:
        while self._handed:
            await self._first_committed(offer)

    async def _offer(self, offer: Offer, batch: Batch) -> None:
        loop = asyncio.get_running_loop()
        verdict: asyncio.Future[Exception | None] = loop.create_future()

        def acknowledge(failure: Exception | None) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_answer, verdict, failure)  # the writer may run in a thread of its own

        handed = _Handed(batch=replace(batch, acknowledge=acknowledge), verdict=verdict)
        self._handed.append(handed)
        await offer(handed.batch)

    async def _first_committed(self, offer: Offer) -> None:
        """Wait for the oldest batch. When it failed, offer it and all that failed behind it again, in their order."""
        failure = await self._handed[0].verdict
        if failure is None:
            self._handed.popleft()
            return
        verdicts = [(handed.batch, await handed.verdict) for handed in self._handed]
        self._handed.clear()
        self._trouble = f"not stored: {failure}"
        await asyncio.sleep(self._pause_s())
        for batch, verdict in verdicts:
            if verdict is not None:
                await self._offer(offer, batch)


def _answer(verdict: asyncio.Future[Exception | None], failure: Exception | None) -> None:
    if not verdict.done():  # it is when we were cancelled before the writer was done
        verdict.set_result(failure)


def _pieces(data: bytes) -> Iterator[tuple[bytes, list[bytes]]]:
    """Whole lines (of the last one the break may be missing) in pieces of one batch: their bytes, and themselves."""
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    start = 0
    for first in range(0, len(lines), MAX_BATCH_EVENTS):
        some = lines[first : first + MAX_BATCH_EVENTS]
        end = start + sum(map(len, some)) + len(some)
        yield data[start:end], some
        start = end
