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
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Final, TypeVar

from engine.core.events import Rejection
from engine.errors import ClockSuspect
from engine.sources.acceptance import MAX_LINE_BYTES
from engine.sources.base import Batch, Gap, Offer, SourceHealth
from engine.sources.file.disk_thread import DiskThread
from engine.sources.file.lines import CutLine, is_event, last_line_end, pieces
from engine.sources.file.regular import NotRegular
from engine.sources.file.rotation import Look, find, look, oldest_after
from engine.sources.file.tail import FileChunk, FilePlace, Tail, WrongEncoding
from engine.sources.offer_window import OfferWindow
from engine.sources.retry_pause import RETRY_S, RetryPause
from engine.sources.wire import BLANKS, Decoded, decode_lines, suspect_clock
from engine.telemetry import Event, logger

POLL_S: Final = 0.1
"""Seconds between two looks at a file that has nothing new."""

HANG_S: Final = 10.0
"""Seconds after which a disk that has not answered is shown as the trouble of the source. It is waited for all the same."""

LAST_LINE_S: Final = 5.0
"""Seconds without anything new after which a last line that is a whole event is taken although it has no line break."""

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
    last_line_s: float = LAST_LINE_S
    type: str = field(default="file", init=False)
    _tail: Tail | None = field(default=None, init=False)
    _disk: DiskThread = field(init=False)
    _cut: CutLine | None = field(default=None, init=False)
    _last_line: tuple[tuple[int, int], int, float] | None = field(default=None, init=False)
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
        tail = self._tail
        inside = ""
        if tail.long_from is not None:
            inside = f", inside a line of more than {tail.offset - tail.long_from} bytes, which is too long"
        return f"reading {tail.path} at byte {tail.offset} of {tail.size}{inside}"

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
        elif isinstance(trouble, NotRegular | WrongEncoding):
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
        chunk, later = found.chunk, found.later
        if found.unreadable:
            await self._pass_over(offer, tail, later, found.unreadable, noted_ms)
            return
        if chunk is None:
            await self._continue_elsewhere(offer, tail, found.rewritten)
            return
        self._read_at_ms = noted_ms
        if chunk.at_end and later is not None:
            await self._read_last(offer, tail, later, chunk.data, noted_ms)
        else:
            reached = noted_ms if chunk.at_end and not found.trouble else None
            await self._read_more(offer, tail, chunk, noted_ms, reached)
        self._retry.reset()
        self._trouble = found.trouble if chunk.at_end and self.follow and later is None else ""
        if chunk.at_end:
            await self._at_end(offer, tail, found, noted_ms)

    async def _read_more(
        self, offer: Offer, tail: Tail, chunk: FileChunk, noted_ms: int, reached_ms: int | None
    ) -> None:
        """Take the lines that are complete; at the end of a file that is not followed, or of a quiet one, the last one too."""
        data, complete = chunk.data, last_line_end(chunk.data)
        if chunk.at_end and (not self.follow or self._has_whole_last_line(tail, data[complete:], noted_ms)):
            complete = len(data)
        if complete or (tail.skipping and chunk.at_end and not self.follow):
            await self._take_lines(offer, tail, data[:complete], noted_ms, reached_ms)
        elif tail.skipping or len(data) > MAX_LINE_BYTES:
            if not tail.skipping:
                tail.begin_long_line()
            tail.consume(data, 0)

    def _has_whole_last_line(self, tail: Tail, line: bytes, now_ms: int) -> bool:
        """Whether the last line is a whole event although it lacks its line break, and nothing was added to it for a while.

        Nothing but blanks could be added to it: so it is not taken too early.
        """
        before, self._last_line = self._last_line, (tail.identity, tail.offset + len(line), monotonic())
        if not line or tail.skipping or before is None or before[:2] != self._last_line[:2]:
            return False
        self._last_line = before
        return monotonic() - before[2] >= self.last_line_s and is_event(line, now_ms, self.max_future_ms)

    async def _read_last(self, offer: Offer, tail: Tail, later: Tail, data: bytes, noted_ms: int) -> None:
        """Take everything to the end of a file that another one follows. The rest of a cut line may stand in that one."""
        complete = last_line_end(data)
        if complete:
            await self._take_lines(offer, tail, data[:complete], noted_ms, None)
        rest, place = data[complete:], tail.place(noted_ms)
        if place.offset and await self._on_disk(lambda: later.resume(place)):
            return  # the same lines and more, in a copy or written anew: what is left is read there
        cut = self._cut or CutLine(tail.line, b"")  # a line may be cut more than once
        line = cut.start + rest
        if tail.skipping or len(line) > MAX_LINE_BYTES or is_event(line, noted_ms, self.max_future_ms):
            await self._take_lines(offer, tail, rest, noted_ms, None)
        elif line.strip(BLANKS):
            self._cut = CutLine(cut.number, line)

    async def _pass_over(self, offer: Offer, tail: Tail, later: Tail | None, why: str, now_ms: int) -> None:
        """A file that cannot be read at all is waited for, until another one follows it: then it is rejected as a whole."""
        if later is None:
            raise WrongEncoding(why)
        rejected = [Rejection(tail.line, why, b"")]
        position = later.place(now_ms).text()
        await self._offer(offer, Batch(source=self.name, received_at_ms=now_ms, rejected=rejected, position=position))
        self._tail = later
        self._disk.post(tail.close)

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
            rejected = self._reject_cut(now_ms) + await self._end_long_line(tail, data[:rest_of_long_line])
            self._cut = None
            data = data[rest_of_long_line:]
            reached = None if data else reached_ms
            await self._offer_lines(offer, tail, Decoded([], [], rejected, 0), now_ms, reached)
        read = len(data)
        for piece, lines in pieces(data):
            rejected = self._join(lines, now_ms)
            decoded = decode_lines(lines, now_ms, self.max_future_ms, first_line=tail.line)
            suspect_clock(decoded)
            tail.consume(piece, len(lines))
            read -= len(piece)
            self._cut = None
            decoded = decoded._replace(rejected=rejected + decoded.rejected) if rejected else decoded
            await self._offer_lines(offer, tail, decoded, now_ms, reached_ms if read == 0 else None)

    async def _offer_lines(
        self, offer: Offer, tail: Tail, decoded: Decoded, now_ms: int, reached_ms: int | None
    ) -> None:
        self._last_event_at_ms = now_ms
        batch = Batch(
            source=self.name,
            received_at_ms=now_ms,
            events=decoded.events,
            raw=decoded.raw,
            rejected=decoded.rejected,
            position=tail.place(now_ms).text(),
            caught_up_to_ms=reached_ms,
        )
        await self._offer(offer, batch)

    def _join(self, lines: list[bytes], now_ms: int) -> list[Rejection]:
        """Put the line that was cut at the end of the file before together again; if that gives no event, it is rejected."""
        cut = self._cut
        if cut is None:
            return []
        joined = cut.start + lines[0]
        if is_event(joined, now_ms, self.max_future_ms):
            lines[0] = joined
            return []
        return self._reject_cut(now_ms)

    def _reject_cut(self, now_ms: int) -> list[Rejection]:
        cut = self._cut
        if cut is None:
            return []
        return decode_lines([cut.start], now_ms, self.max_future_ms, first_line=cut.number).rejected

    async def _end_long_line(self, tail: Tail, rest: bytes) -> list[Rejection]:
        """Move past the rest of a line that is too long for memory; it is rejected once, with its length."""
        found = []
        if tail.long_from is not None:
            start = await self._on_disk(tail.start_of_long_line)
            length = tail.offset + len(rest.rstrip(b"\r\n")) - tail.long_from
            found.append(Rejection(tail.line, f"the event is {length} bytes long, {MAX_LINE_BYTES} are allowed", start))
        tail.consume(rest, 1)
        tail.end_long_line()
        return found

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
