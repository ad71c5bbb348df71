"""A backend on which the first effect of an act brings something along: that it was taken, that it is written down. Read `FirstEffect._first`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from engine.errors import StoreError
from engine.runtime.operator_api import Backend
from engine.sources.base import Batch
from engine.stores.base import AccessTables, Reader

T = TypeVar("T")


class FirstEffect:
    """Passes everything on to another backend. See `Backend`. What `_along` does is committed with the first effect, or with none."""

    def __init__(self, backend: Backend) -> None:
        self.has_begun = False  # has the act had an effect?
        self.config, self.store, self.codec = backend.config, backend.store, backend.codec
        self._backend = backend

    def _along(self) -> None:
        """Inside the first transaction, before what the act does there. What it raises undoes the transaction."""

    @property
    def fleet(self) -> Any:
        """See `Backend`."""
        return self._backend.fleet

    @property
    def views(self) -> Any:
        """See `Backend`."""
        return self._backend.views

    @property
    def by(self) -> str:
        """See `Backend`."""
        return self._backend.by

    def now_ms(self) -> int:
        """See `Backend`."""
        return self._backend.now_ms()

    def asked_ms(self) -> int:
        """See `Backend`."""
        return self._backend.asked_ms()

    def read(self, question: Callable[[Reader], T]) -> T:
        """See `Backend`."""
        return self._backend.read(question)

    def inspect(self, work: Callable[[], T]) -> T:
        """See `Backend`. What only looks is no effect."""
        return self._backend.inspect(work)

    def change(self, work: Callable[[], T]) -> T:
        """See `Backend`."""
        return self._first(self._backend.change, work)

    def write(self, work: Callable[[], T]) -> T:
        """See `Backend`."""
        return self._first(self._backend.write, work)

    def access(self, work: Callable[[AccessTables], T]) -> T:
        """See `Backend`."""
        return self._backend.access(work)

    def offer(self, batch: Batch) -> None:
        """See `Backend`."""
        self._begin()
        self._backend.offer(batch)

    def wake_dispatcher(self) -> None:
        """See `Backend`."""
        self._backend.wake_dispatcher()

    def begin_sweep(self, *, dry_run: bool) -> int:
        """See `Backend`."""
        self._begin()
        return self._backend.begin_sweep(dry_run=dry_run)

    def _begin(self) -> None:
        """The effect follows elsewhere: what goes along has a transaction of its own before it."""
        if not self.has_begun:
            self.write(lambda: None)

    def _first(self, transact: Callable[[Callable[[], T]], T], work: Callable[[], T]) -> T:
        if self.has_begun:
            return transact(work)
        has_gone_along = False

        def both() -> T:
            nonlocal has_gone_along
            self._along()
            has_gone_along = True
            return work()

        try:
            found = transact(both)
        except StoreError:
            raise  # nothing was committed
        except BaseException:
            self.has_begun = has_gone_along  # what `work` raises undoes nothing
            raise
        self.has_begun = True
        return found
