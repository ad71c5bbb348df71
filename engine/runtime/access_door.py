"""The rows about access as the running service and commands reach them: see `web.access.door.AccessDoor`. Read `EmbeddedDoor`.

With the embedded store they are written by the writer, in its next transaction: it is the only one that writes. With a store that several
replicas share each of them writes by itself, whoever owns the cell.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from engine.config.loader import Config
from engine.errors import Unavailable
from engine.runtime.store_factory import database_of
from engine.stores.base import AccessTables, Reader, Store
from engine.stores.sqlite.reader import SqliteReader

if TYPE_CHECKING:  # it needs a package that is not always installed
    from engine.runtime.cell import Cell
    from engine.stores.postgres.access import PostgresAccessDoor

T = TypeVar("T")

WRITTEN_WITHIN_S = 20.0
"""How long a login waits for the writer."""


class EmbeddedDoor:
    """The rows in the embedded store of a running service."""

    is_shared = False

    def __init__(self, cell: Callable[[], Cell]) -> None:
        """`cell`: the only one."""
        self._cell = cell

    def read(self, question: Callable[[AccessTables], T]) -> T:
        """See `AccessDoor`."""

        def ask(reader: Reader) -> T:
            assert isinstance(reader, SqliteReader)
            return question(reader.access)

        return self._cell().read(ask)

    def write(self, work: Callable[[AccessTables], T]) -> T:
        """See `AccessDoor`."""
        cell = self._cell()
        try:
            return cell.writer.submit(lambda: work(cell.store.access)).result(WRITTEN_WITHIN_S)
        except TimeoutError:
            raise Unavailable(f"the store did not commit within {WRITTEN_WITHIN_S:.0f} s; try again") from None


class SharedDoor:
    """The rows in a store that several replicas share; connected when they are first needed."""

    is_shared = True

    def __init__(self, config: Config) -> None:
        self._config = config
        self._door: PostgresAccessDoor | None = None

    def _opened(self) -> PostgresAccessDoor:
        if self._door is None:
            from engine.stores.postgres.access import PostgresAccessDoor

            self._door = PostgresAccessDoor(database_of(self._config))
        return self._door

    def read(self, question: Callable[[AccessTables], T]) -> T:
        """See `AccessDoor`."""
        return self._opened().read(question)

    def write(self, work: Callable[[AccessTables], T]) -> T:
        """See `AccessDoor`."""
        return self._opened().write(work)

    def close(self) -> None:
        """Give the connection up."""
        if self._door is not None:
            self._door.close()


class OfflineDoor:
    """The rows in the embedded store that a command has opened for writing."""

    is_shared = False

    def __init__(self, store: Store) -> None:
        self._store = store

    def read(self, question: Callable[[AccessTables], T]) -> T:
        """See `AccessDoor`."""
        return question(self._store.access)

    def write(self, work: Callable[[AccessTables], T]) -> T:
        """See `AccessDoor`."""
        with self._store.transaction():
            return work(self._store.access)
