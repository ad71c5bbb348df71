"""Events from a file of JSON lines, read once or followed while it grows, is rotated, emptied or replaced.

Every batch carries the place after its last line, which is committed together with its effect: after a restart reading
goes on exactly there. One turn of the loop (`FileSource._turn`) works in this order, and the order is what makes it
exactly-once:

1. Note the time, then whether newer files follow the current one. 2. Read. 3. Offer the lines that are complete.
4. At the end: if newer files were seen in step 1, the whole old one has been read by now, so go on to the next;
otherwise everything the file held at the noted time has been read, so the source is caught up to that time.

Lines that were lost (the file was emptied or replaced before its end was read, and no copy is found) are reported as a
`Gap`.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from engine.core.events import Rejection
from engine.errors import ClockSuspect
from engine.sources.acceptance import MAX_LINE_BYTES
from engine.sources.base import MAX_BATCH_EVENTS, Batch, Gap, Offer, SourceHealth
from engine.sources.file.disk_thread import DiskThread
from engine.sources.file.regular import NotRegular
from engine.sources.file.tail import FilePlace, Look, Tail, find, look, oldest_after
from engine.sources.offer_window import OfferWindow
from engine.sources.retry_pause import RETRY_S, RetryPause
from engine.sources.wire import decode_lines, suspect_clock
from engine.telemetry import Event, logger

POLL_S: Final = 0.1
"""Seconds between two looks at a file that has nothing new."""

HANG_S: Final = 10.0
"""Seconds after which a disk that has not answered is shown as the trouble of the source. It is waited for all the same."""

_OPEN_AGAIN: Final = frozenset({errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO})
"""Failures of a disk or share that was taken away: an open file stays useless, also when it is back."""

T = TypeVar("T")
log = logger(__name__)


@dataclass(slots=True, kw_only=True, eq=False)
class FileSource:
    """Reads one path; `follow` says whether to wait for more lines when its end is reached.

    `now_ms` reads the clock; `max_future_ms` is how far events may lie ahead of it. `window` is how many batches may be
    uncommitted at a time; with more than one, the engine must fail every later batch of this source after a failed
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
    hang_s: float = HANG_S
    type: str = field(default="file", init=False)
    _tail: Tail | None = field(default=None, init=False)
    _disk: DiskThread = field(init=False)
    _window: OfferWindow[None] = field(init=False)
    _retry: RetryPause = field(init=False)
    _trouble: str = field(default="", init=False)
    _finished: bool = field(default=False, init=False)
    _caught_up_ms: int | None = field(default=None, init=False)
    _read_at_ms: int | None = field(default=None, init=False)
    _last_event_at_ms: int | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Retries start with the shortest pause."""
        self._retry = RetryPause(self.retry_s)
        self._disk = DiskThread(f"file source {self.name}")

    async def run(self, offer: Offer, position: str | None) -> None:
        """Read from `position` on; returns when a file that is not followed has been read and committed."""
        self._window = OfferWindow(self.window)  # belongs to the event loop that runs this
        place = FilePlace.parse(position)
        self._read_at_ms = place.read_at_ms if place is not None else None
        try:
            while not self._finished:
                try:
                    if self._tail is None:
                        await self._begin(offer, place)
                    await self._turn(offer)
                except (OSError, ClockSuspect) as trouble:
                    place = self._let_go(trouble) or place
                    await self._wait_out(trouble)
        except Exception as fault:
            self._trouble = f"internal error, the source has stopped: {fault!r}"  # or it would look like a quiet file
            raise
        finally:
            if self._tail is not None:
                self._disk.post(self._tail.close)
            self._disk.end()

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

    def _let_go(self, trouble: OSError | ClockSuspect) -> FilePlace | None:
        """Close a file that only opening it again can make readable; the place to go on at, None when nothing was closed."""
        tail = self._tail
        if tail is None or not isinstance(trouble, OSError) or trouble.errno not in _OPEN_AGAIN:
            return None
        self._tail = None
        self._disk.post(tail.close)
        return tail.place(self._read_at_ms or self.now_ms())

    async def _wait_out(self, trouble: OSError | ClockSuspect) -> None:
        """Show what is wrong, wait, and let the loop try again from the same place."""
        if isinstance(trouble, ClockSuspect):
            self._trouble = f"degraded: clock: {trouble}"
        elif isinstance(trouble, FileNotFoundError):
            self._trouble = f"waiting for {self.path}, which does not exist"
        elif isinstance(trouble, NotRegular):
            self._trouble = str(trouble)
        else:
            self._trouble = f"cannot read {self.path}: {trouble.strerror or trouble}"
        await asyncio.sleep(self._retry.next_s())

    async def _on_disk(self, work: Callable[[], T]) -> T:
        """Do something that touches the disk. While the disk does not answer, only this source waits, and it says so."""
        call = self._disk.begin(work)
        hangs = asyncio.get_running_loop().call_later(self.hang_s, self._note_hang)
        try:
            return await call
        finally:
            hangs.cancel()

    def _note_hang(self) -> None:
        self._trouble = f"the disk of {self.path} does not answer: a read has not returned for {self.hang_s:g} s"

    async def _begin(self, offer: Offer, place: FilePlace | None) -> None:
        """Open the file at the place where reading stopped, or where it can go on after a gap."""
        if place is None:
            self._tail = await self._on_disk(lambda: Tail(self.path))
        else:
            await self._go_on_after(offer, place, "the file that was being read was deleted or rewritten")

    async def _go_on_after(self, offer: Offer, place: FilePlace, why: str) -> None:
        """Find the rest of what was being read; without it, note the gap and take the oldest file that came later."""
        found = await self._on_disk(lambda: find(self.path, place))
        if found is None:  # a rotation may be under way, and a file that changes its name is easily missed
            await asyncio.sleep(self.poll_s)
            found = await self._on_disk(lambda: find(self.path, place))
        if found is None:
            found = await self._on_disk(lambda: oldest_after(self.path, place))
            await self._note_gap(offer, found, why)
        self._tail = found

    async def _note_gap(self, offer: Offer, start: Tail, why: str) -> None:
        now_ms = self.now_ms()
        gap = Gap(source=self.name, noted_at_ms=now_ms, from_ms=self._read_at_ms, to_ms=now_ms, reason=why)
        log.warning(Event.SOURCE_GAP, source=self.name, reason=why, path=str(self.path))
        position = start.place(now_ms).text()
        await self._offer(offer, Batch(source=self.name, received_at_ms=now_ms, gaps=[gap], position=position))

    async def _turn(self, offer: Offer) -> None:
        tail = self._tail
        assert tail is not None
        noted_ms = self.now_ms()
        found = await self._on_disk(lambda: look(self.path, tail))
        try:
            await self._read_on(offer, tail, found, noted_ms)
        finally:
            if found.later is not None and self._tail is not found.later:
                self._disk.post(found.later.close)

    async def _read_on(self, offer: Offer, tail: Tail, found: Look, noted_ms: int) -> None:
        chunk = found.chunk
        if chunk is None:
            await self._continue_elsewhere(offer, tail, found.rewritten)
            return
        self._read_at_ms = noted_ms
        final = chunk.at_end and (found.later is not None or not self.follow)
        complete = len(chunk.data) if final else chunk.data.rfind(b"\n") + 1
        if complete:
            reached = noted_ms if chunk.at_end and found.later is None and not found.trouble else None
            await self._take_lines(offer, tail, chunk.data[:complete], noted_ms, reached)
        elif chunk.data and (tail.skipping or len(chunk.data) > MAX_LINE_BYTES):
            await self._skip(offer, tail, chunk.data, noted_ms)
        self._retry.reset()
        self._trouble = found.trouble if chunk.at_end and self.follow and found.later is None else ""
        if chunk.at_end:
            await self._at_end(offer, tail, found, noted_ms)

    async def _continue_elsewhere(self, offer: Offer, tail: Tail, why: str) -> None:
        place = tail.place(self._read_at_ms or self.now_ms())
        await self._go_on_after(offer, place, why)
        self._disk.post(tail.close)

    async def _at_end(self, offer: Offer, tail: Tail, found: Look, noted_ms: int) -> None:
        await self._all_committed(offer)
        if found.later is not None:
            self._tail = found.later
            self._disk.post(tail.close)
        elif not self.follow:
            self._finished = True
        else:
            if not found.trouble:
                self._caught_up_ms = noted_ms
            await asyncio.sleep(self.poll_s)

    async def _take_lines(self, offer: Offer, tail: Tail, data: bytes, now_ms: int, reached_ms: int | None) -> None:
        """Offer whole lines in batches. `reached_ms`: the source is caught up to that instant once they are all applied."""
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
            await self._offer(offer, batch)

    async def _skip(self, offer: Offer, tail: Tail, data: bytes, now_ms: int) -> None:
        """Move past a part of a line that is too long for memory; the line is rejected once."""
        rejected = []
        if not tail.skipping:
            reason = f"the line is longer than {MAX_LINE_BYTES} bytes"
            rejected = [Rejection(tail.line, reason, data[:MAX_LINE_BYTES])]
        tail.skipping = True
        tail.consume(data, 0)
        position = tail.place(now_ms).text()
        batch = Batch(source=self.name, received_at_ms=now_ms, rejected=rejected, position=position)
        await self._offer(offer, batch)

    async def _offer(self, offer: Offer, batch: Batch) -> None:
        """Offer a batch once fewer than `window` wait for their commit."""
        while self._window.is_full:
            await self._window.next_commit(offer, self._not_stored)
        await self._window.offer(offer, batch, None)

    async def _all_committed(self, offer: Offer) -> None:
        while self._window:
            await self._window.next_commit(offer, self._not_stored)

    def _not_stored(self, failure: Exception) -> float:
        """Show why a batch was not committed; seconds to wait before it is offered again."""
        self._trouble = f"not stored: {failure}"
        return self._retry.next_s()


def _pieces(data: bytes) -> Iterator[tuple[bytes, list[bytes]]]:
    """Split into pieces of one batch: the bytes of a piece, and its lines. The last line may lack its line break."""
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    start = 0
    for first in range(0, len(lines), MAX_BATCH_EVENTS):
        some = lines[first : first + MAX_BATCH_EVENTS]
        end = start + sum(map(len, some)) + len(some)
        yield data[start:end], some
        start = end
