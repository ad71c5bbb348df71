"""Errors of SQLite become `StoreError` here, so that nobody outside this folder knows which store it is."""

from __future__ import annotations

import inspect
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar

from engine.errors import StoreError

COMMIT_FAILED = "the store could not commit"
READ_FAILED = "the store could not be read"

C = TypeVar("C", bound=type)


@contextmanager
def store_errors(what: str) -> Iterator[None]:
    """What SQLite raises inside the block comes out as StoreError; `what` says which work failed."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"{what}: {error}") from error


def translated(what: str) -> Callable[[C], C]:
    """Decorate a class: its public methods raise StoreError where SQLite raises.

    A piece of work inside a transaction must fail the whole transaction, not only itself: SQLite may have rolled back by
    itself (on a full disk), and what follows in the block would be committed alone. Generators are not covered; the
    block around them (`transaction`, `reading`) is.
    """

    def decorate(cls: C) -> C:
        for name, member in list(vars(cls).items()):
            if not name.startswith("_") and inspect.isfunction(member) and not inspect.isgeneratorfunction(member):
                setattr(cls, name, _translated(member, what))
        return cls

    return decorate


def _translated(method: Callable[..., Any], what: str) -> Callable[..., Any]:
    @wraps(method)
    def call(*arguments: Any, **named: Any) -> Any:
        try:
            return method(*arguments, **named)
        except sqlite3.Error as error:
            raise StoreError(f"{what}: {error}") from error

    return call
