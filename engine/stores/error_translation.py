"""Errors of a store's own library become `StoreError`, so that nobody outside its folder knows which store it is. Read `Translation`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Generic, TypeVar

from engine.errors import StoreError

COMMIT_FAILED = "the store could not commit"
READ_FAILED = "the store could not be read"

C = TypeVar("C", bound=type)
E = TypeVar("E", bound=Exception)


class Translation(Generic[E]):
    """Turns one kind of error into StoreError; `what` says which work failed."""

    def __init__(self, raised: type[E], explain: Callable[[str, E], StoreError]) -> None:
        """`raised`: what the library raises; `explain`: the error for people, from `what` and that."""
        self._raised, self._explain = raised, explain

    @contextmanager
    def store_errors(self, what: str) -> Iterator[None]:
        """What the library raises inside the block comes out as StoreError."""
        try:
            yield
        except self._raised as error:
            raise self._explain(what, error) from error

    def translated(self, what: str) -> Callable[[C], C]:
        """Decorate a class: its public methods raise StoreError where the library raises.

        A piece of work inside a transaction must fail the whole transaction, not only itself: the store may have rolled back by
        itself (on a full disk), and what follows in the block would be committed alone. Generators are not covered; the
        block around them (`transaction`, `reading`) is.
        """

        def decorate(cls: C) -> C:
            for name, member in list(vars(cls).items()):
                if not name.startswith("_") and inspect.isfunction(member) and not inspect.isgeneratorfunction(member):
                    setattr(cls, name, self._translated(member, what))
            return cls

        return decorate

    def _translated(self, method: Callable[..., Any], what: str) -> Callable[..., Any]:
        raised, explain = self._raised, self._explain

        @wraps(method)
        def call(*arguments: Any, **named: Any) -> Any:
            try:
                return method(*arguments, **named)
            except raised as error:
                raise explain(what, error) from error

        return call
