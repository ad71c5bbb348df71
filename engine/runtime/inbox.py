"""What waits for the writer: batches of sources, and pieces of work that need a transaction.

Other threads put in; only the writer's thread takes out, puts back and replaces.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from engine.errors import StoreError
from engine.sources.base import Batch

T = TypeVar("T")

MAX_TURN_EVENTS = 1_000
"""Events in one transaction."""


class Work(NamedTuple):
    """A piece of work for the next transaction, and who waits for its result."""

    do: Callable[[], Any]
    done: Future[Any]

    def attempt(self) -> WorkResult:
        """Do it. What it raises is its caller's and does not stop others; StoreError, which undoes the transaction, is raised."""
        try:
            return WorkResult(self.done, self.do(), None)
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001  # its caller gets it
            return WorkResult(self.done, None, error)


class WorkResult(NamedTuple):
    """What became of a piece of work, for whoever waits, once the transaction has committed or failed."""

    done: Future[Any]
    value: Any
    error: Exception | None

    def settle(self) -> None:
        """Give it to whoever waits."""
        if self.error is not None:
            self.done.set_exception(self.error)
        else:
            self.done.set_result(self.value)


@dataclass(slots=True)
class Turn:
    """What one transaction takes on."""

    batches: list[Batch]
    works: list[Work]

    @property
    def is_empty(self) -> bool:
        """Is there nothing to do?"""
        return not self.batches and not self.works


class Inbox:
    """Batches and works in the order in which they came."""

    def __init__(self) -> None:
        self._batches: deque[Batch] = deque()
        self._works: deque[Work] = deque()
        self._woken = threading.Condition()
        self._stopping = False
        self._alone = 0  # so many batches are taken one by one

    # From any thread

    def offer(self, batch: Batch) -> None:
        """Add a batch."""
        with self._woken:
            self._batches.append(batch)
            self._woken.notify()

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Add a piece of work; the future is done when it has committed or failed."""
        done: Future[T] = Future()
        with self._woken:
            self._works.append(Work(work, done))
            self._woken.notify()
        return done

    def stop(self) -> None:
        """Nothing more is waited for: `wait` returns False once everything is taken."""
        with self._woken:
            self._stopping = True
            self._woken.notify()

    @property
    def is_stopping(self) -> bool:
        """Has `stop` been called?"""
        return self._stopping

    @property
    def holds_batches(self) -> bool:
        """Do batches wait?"""
        return bool(self._batches)

    # In the writer's thread

    def wait(self, seconds: float) -> bool:
        """Until something comes in, at most so long. False: stopped, and nothing is left."""
        with self._woken:
            if not self._batches and not self._works and not self._stopping:
                self._woken.wait(seconds)
            return bool(self._batches or self._works or not self._stopping)

    def pause(self, seconds: float) -> None:
        """Wait although something is there, because the last try failed; not when stopping."""
        with self._woken:
            if not self._stopping:
                self._woken.wait(seconds)

    def take(self) -> Turn:
        """Batches of at most `MAX_TURN_EVENTS` events together (a larger one alone), and all other work."""
        batches: list[Batch] = []
        room = MAX_TURN_EVENTS
        while self._batches:
            size = len(self._batches[0].events) + len(self._batches[0].rejected)
            if batches and (size > room or self._alone):
                break
            room -= size
            batches.append(self._batches.popleft())
        self._alone = max(0, self._alone - 1)
        works = []
        while self._works:
            works.append(self._works.popleft())
        return Turn(batches, works)

    def take_all(self) -> Turn:
        """Everything that waits, when nobody will ever do it."""
        with self._woken:
            left = Turn(list(self._batches), list(self._works))
            self._batches.clear()
            self._works.clear()
        return left

    def put_back(self, batches: Sequence[Batch]) -> None:
        """These come first again, in their order."""
        with self._woken:
            self._batches.extendleft(reversed(batches))

    def replace(self, place: int, batch: Batch) -> None:
        """This batch stands in for the one that waits at a place, counted from the first."""
        self._batches[place] = batch

    def take_one_by_one(self, count: int) -> None:
        """The next so many batches get a transaction each, because together they failed."""
        self._alone = count


def acknowledgement(batch: Batch, error: Exception | None = None) -> Callable[[], None]:
    """A call that acknowledges a batch to its source: it is durable, or (with an error) refused."""
    return lambda: batch.acknowledge(error) if batch.acknowledge is not None else None


def refusals(batches: Sequence[Batch], works: Sequence[Work], error: Exception) -> list[Callable[[], None]]:
    """Calls for whoever waits: nothing was done."""
    refused = [acknowledgement(batch, error) for batch in batches]
    return refused + [WorkResult(work.done, None, error).settle for work in works]
