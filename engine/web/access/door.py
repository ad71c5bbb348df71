"""What this room needs of the store: the rows about access, in a transaction of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from engine.stores.base import AccessTables

T = TypeVar("T")


class AccessDoor(Protocol):
    """The rows about access, from any thread. Both methods block. StoreError when the store cannot be used."""

    @property
    def is_shared(self) -> bool:
        """Do other processes write these rows as well?"""
        ...

    def read(self, question: Callable[[AccessTables], T]) -> T:
        """Ask what has been committed."""
        ...

    def write(self, work: Callable[[AccessTables], T]) -> T:
        """Do something in one transaction; returns once it has committed."""
        ...
