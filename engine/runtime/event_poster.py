"""Takes what a replica has accepted over HTTP to the inbox of the cell, where its owner finds it. Read `EventPoster.offer`.

Every replica does this, the owner too: so what was answered 202 is applied once, whoever owns the cell now or later.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Final, Protocol

from engine.errors import Overloaded, StoreError
from engine.runtime.inbox import acknowledgement
from engine.sources.base import Batch
from engine.stores.posted import PostedEvents
from engine.telemetry import Event, logger

MAX_TOGETHER: Final = 64
"""Batches that are written in one transaction, at most 64,000 events: what came while the one before was written."""

log = logger(__name__)


class Post(Protocol):
    """Where events are written."""

    def post(self, entries: list[PostedEvents]) -> None:
        """Write them in one transaction. StoreError when that fails, Overloaded while too many wait."""
        ...

    def close(self) -> None:
        """Give the connection up."""
        ...


class EventPoster:
    """Offered batches are acknowledged when they are committed to the inbox. `start` it, `close` it."""

    def __init__(self, inbox: Post, parts: Callable[[Batch], list[PostedEvents]] | None = None) -> None:
        """`parts`: a batch as the entries of several cells; None: there is one cell."""
        self._parts = parts or (lambda batch: [posted(batch)])
        self.trouble: str | None = None  # why the last transaction failed
        self._inbox = inbox
        self._waiting: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="event-poster", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    async def offer(self, batch: Batch) -> None:
        """Take one batch; its `acknowledge` is called once it is durable, or was not taken. Who offers bounds what waits."""
        self._waiting.put(batch)

    def close(self) -> None:
        """Write what waits, and end."""
        self._waiting.put(None)
        if self._thread.ident is not None:
            self._thread.join()
        self._inbox.close()

    def _run(self) -> None:
        while not self._is_closed:
            batches = self._taken()
            if batches:
                self._write(batches)

    def _taken(self) -> list[Batch]:
        """What waits, at least one; fewer when it is closed."""
        found: list[Batch] = []
        first = self._waiting.get()
        while first is not None:
            found.append(first)
            if len(found) >= MAX_TOGETHER or self._waiting.empty():
                return found
            first = self._waiting.get()
        self._is_closed = True
        return found

    def _write(self, batches: list[Batch]) -> None:
        failure: Exception | None = None
        try:
            self._inbox.post([entry for batch in batches for entry in self._parts(batch)])
            self.trouble = None
        except (StoreError, Overloaded) as error:
            failure, self.trouble = error, str(error)
        except Exception as error:  # the thread must not be lost, and the senders must be answered
            log.error(Event.INTERNAL_ERROR, part="event poster", exc_info=error)
            failure = StoreError(f"internal error: {type(error).__name__}")
        for batch in batches:
            acknowledgement(batch, failure)()


def posted(batch: Batch) -> PostedEvents:
    """A batch as an entry of the inbox."""
    rejected = [(one.reason, one.raw) for one in batch.rejected]
    return PostedEvents(batch.source, batch.raw, rejected, batch.rejected_more)
