"""One queue, read by one thread: from where reading stopped, through gaps and outages, to its end and on.

One thread per queue, because a pull from a broker that hangs takes ten seconds, and no other queue may wait for it. Read
`QueueReader.run`; where reading begins is decided in `_begin`, what happens when messages are gone in `_after_a_gap`.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from engine.sources.base import MAX_BATCH_EVENTS, Gap
from engine.sources.rocketmq.client import ClientGone
from engine.sources.rocketmq.intake import Intake, QueueChunk
from engine.sources.rocketmq.pipe import BROKER_TIMEOUT, FOUND, OFFSET_ILLEGAL, Pulled, QueueName
from engine.sources.rocketmq.positions import UNKNOWN, QueuePlace

PULL_MESSAGES: Final = MAX_BATCH_EVENTS
"""Messages asked for in one pull; brokers give 32 by default."""

IDLE_S: Final = (0.02, 0.05, 0.1, 0.2)
"""Seconds before a queue that has nothing new is asked again: the longer it is quiet, up to the last one."""

RETRY_S: Final = (0.1, 0.5, 1.0, 2.0)
"""Seconds before a queue that does not answer is asked again."""

MAX_ENDS: Final = 64
"""Ends of a queue that were seen and whose messages are not committed yet; further ones are not remembered."""

EVERYTHING: Final = b"*"


class Puller(Protocol):
    """What a reader needs of a consumer."""

    def pull(self, name: QueueName, tags: bytes, offset: int, at_most: int) -> Pulled:
        """Messages from an offset on."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderSettings:
    """What all readers of a source share. `start_ms`: a queue never read begins there; None: at its oldest message."""

    source: str
    puller: Puller
    intake: Intake
    tags: bytes
    start_ms: int | None
    now_ms: Callable[[], int]
    stop: threading.Event


class _NoAnswer(Exception):
    """The broker did not answer; the text says why."""


class QueueReader:
    """Reads one queue. Its attributes are read by other threads; each is written by one."""

    def __init__(self, name: QueueName, place: QueuePlace | None, settings: ReaderSettings) -> None:
        """`place`: where reading stopped, None for a queue that was never read."""
        self.name = name
        self.trouble = ""  # why it does not answer, empty while it does
        self.trouble_since_s: float | None = time.monotonic()  # None while it answers; not yet is as good as not
        self.max_offset: int | None = None  # the queue's end, when it was last seen
        self.committed = place.offset if place is not None else UNKNOWN
        self.last_event_at_ms: int | None = None  # when messages of it were handed over last
        self.caught_up_ms: int | None = None
        self.is_let_go = False  # the queue was removed: the thread ends
        self._place = place
        self._is_recognised = place is None  # whether the log was found to be the one that was read
        self._settings = settings
        self._ends: deque[tuple[int, int]] = deque()  # (offset, instant): ends seen, not committed yet
        self._ends_lock = threading.Lock()
        self._quiet = self._failures = 0
        self.thread = threading.Thread(target=self.run, name=f"rocketmq {name}", daemon=True)

    # In the reader's own thread

    def run(self) -> None:
        """Pull until `stop` is set. Whatever goes wrong is shown in `trouble`, and tried again."""
        stop = self._settings.stop
        while not stop.is_set() and not self.is_let_go:
            try:
                pause_s = self._turn()
            except (_NoAnswer, ClientGone) as trouble:
                pause_s = self._failed(str(trouble))
            except Exception as fault:  # noqa: BLE001  # a reader that ended unnoticed would hold back every verdict
                pause_s = self._failed(f"internal error: {fault!r}")
            if pause_s:
                stop.wait(pause_s)

    def _turn(self) -> float:
        """One pull; seconds to wait before the next."""
        place = self._place
        if place is None:
            return self._move(self._begin())
        if not self._is_recognised:
            replaced = self._was_replaced(place)
            self._is_recognised = True
            if replaced:
                return self._after_a_gap(
                    place, f"{self.name} is not the log that was read before: its topic was recreated"
                )
        asked_ms = self._settings.now_ms()
        pulled = self._ask(place.offset, self._settings.tags, PULL_MESSAGES)
        if pulled.status == OFFSET_ILLEGAL:
            return self._illegal(place, pulled)
        self.max_offset = pulled.max_offset
        following = max(place.offset, pulled.next_offset, pulled.last_offset + 1)
        if following > place.offset:
            self._take(place, pulled, following)
        if following >= pulled.max_offset:
            self._note_end(following, asked_ms)
        self._answered()
        self._quiet = 0 if following > place.offset else self._quiet + 1
        return 0.0 if following > place.offset else IDLE_S[min(self._quiet, len(IDLE_S)) - 1]

    def _take(self, place: QueuePlace, pulled: Pulled, following: int) -> None:
        """Hand over what was found; without messages for us only the new place."""
        read = (pulled.last_offset, pulled.last_stored_at_ms) if pulled.bodies else place[1:3]
        after = QueuePlace(following, *read, place.reached_at_ms)
        if self._settings.intake.put(QueueChunk(queue=self.name, place=after, bodies=pulled.bodies, tags=pulled.tags)):
            self._place = after

    def _move(self, place: QueuePlace, gap: Gap | None = None) -> float:
        """Go on at another place; handed over at once, so that a restart goes on there too."""
        if self._settings.intake.put(QueueChunk(queue=self.name, place=place, gap=gap)):
            self._place = place
        self._answered()
        return 0.0

    def _begin(self) -> QueuePlace:
        """Where a queue begins that was never read."""
        bounds = self._ask(0, EVERYTHING, 1)
        start_ms = self._settings.start_ms
        self._is_recognised = True
        return QueuePlace(bounds.min_offset if start_ms is None else self._search(start_ms, bounds))

    def _search(self, at_ms: int, bounds: Pulled) -> int:
        """The offset of the first message that the broker stored at `at_ms` or later, by halving."""
        low, high = bounds.min_offset, bounds.max_offset
        while low < high:
            middle = (low + high) // 2
            stored_at_ms = self._stored_at(middle)
            if stored_at_ms is None or stored_at_ms < at_ms:  # None: it expired while we looked
                low = middle + 1
            else:
                high = middle
        return low

    def _stored_at(self, offset: int) -> int | None:
        """When the message at an offset was stored, epoch milliseconds; None when there is none."""
        found = self._ask(offset, EVERYTHING, 1)
        return found.last_stored_at_ms if found.status == FOUND and found.last_offset == offset else None

    def _was_replaced(self, place: QueuePlace) -> bool:
        """Whether the last message that was read is another one now."""
        if place.last_offset == UNKNOWN:
            return False
        stored_at_ms = self._stored_at(place.last_offset)
        return stored_at_ms is not None and stored_at_ms != place.stored_at_ms

    def _illegal(self, place: QueuePlace, pulled: Pulled) -> float:
        """The broker has nothing at our offset, before or behind it."""
        if place.offset < pulled.min_offset:
            lost = pulled.min_offset - place.offset
            why = f"{self.name}: {lost} messages expired before they were read (offsets {place.offset} to {pulled.min_offset - 1})"
        else:
            why = f"{self.name} was truncated or recreated: it was read up to offset {place.offset} and ends at {pulled.max_offset}"
        return self._after_a_gap(place, why)

    def _after_a_gap(self, place: QueuePlace, why: str) -> float:
        """Report what is lost, and go on at the oldest kept message that is not older than the one read last."""
        bounds = self._ask(0, EVERYTHING, 1)
        offset = bounds.min_offset
        if place.stored_at_ms != UNKNOWN:
            offset = self._search(place.stored_at_ms, bounds)
        now_ms = self._settings.now_ms()
        stored_at_ms = self._stored_at(offset) if offset < bounds.max_offset else None
        gap = Gap(
            source=self._settings.source,
            noted_at_ms=now_ms,
            from_ms=place.gap_from_ms(),
            to_ms=now_ms if stored_at_ms is None else stored_at_ms,
            reason=why,
        )
        return self._move(QueuePlace(offset, reached_at_ms=place.reached_at_ms), gap)

    def _ask(self, offset: int, tags: bytes, at_most: int) -> Pulled:
        pulled = self._settings.puller.pull(self.name, tags, offset, at_most)
        if pulled.status == BROKER_TIMEOUT:
            raise _NoAnswer(pulled.why)
        return pulled

    def _note_end(self, offset: int, asked_ms: int) -> None:
        """Everything the queue held at `asked_ms` lies before `offset`."""
        ends = self._ends
        with self._ends_lock:
            if self.committed >= offset:
                self.caught_up_ms = asked_ms
            elif ends and ends[-1][0] == offset:
                ends[-1] = (offset, asked_ms)
            elif len(ends) < MAX_ENDS:
                ends.append((offset, asked_ms))

    def _answered(self) -> None:
        self.trouble, self.trouble_since_s, self._failures = "", None, 0

    def _failed(self, why: str) -> float:
        self.trouble = why
        if self.trouble_since_s is None:
            self.trouble_since_s = time.monotonic()
        self._is_recognised = False  # the topic may be recreated before it answers again
        self._failures += 1
        return RETRY_S[min(self._failures, len(RETRY_S)) - 1]

    # From other threads

    def let_go(self) -> QueueChunk | None:
        """End the reader of a removed queue. Returns a chunk with the gap when unread messages were lost with it, else None."""
        self.is_let_go = True
        place, end = self._place, self.max_offset
        if place is None or end is None or end <= place.offset:
            return None
        now_ms = self._settings.now_ms()
        why = f"{self.name} was removed before {end - place.offset} messages in it were read"
        gap = Gap(
            source=self._settings.source, noted_at_ms=now_ms, from_ms=place.gap_from_ms(), to_ms=now_ms, reason=why
        )
        return QueueChunk(queue=self.name, place=place, gap=gap)

    def commit(self, offset: int) -> None:
        """What lies before `offset` is committed."""
        ends = self._ends
        with self._ends_lock:
            self.committed = offset
            while ends and ends[0][0] <= offset:
                reached_ms = ends.popleft()[1]
                self.caught_up_ms = max(reached_ms, self.caught_up_ms or reached_ms)

    @property
    def lag(self) -> int | None:
        """Messages not yet committed, of all tags; None: not known."""
        return (
            None if self.max_offset is None or self.committed == UNKNOWN else max(0, self.max_offset - self.committed)
        )
