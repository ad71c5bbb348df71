"""Client states in SQLite: a cache of the journal, written lazily."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

import msgspec

from engine.core.presence.client_state import ClientState, state_of_row
from engine.stores.sqlite.failures import COMMIT_FAILED, translated
from engine.stores.sqlite.queries import queries

Q = queries("queries.sql")

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list).decode


@translated(COMMIT_FAILED)
class SqliteClients:
    """See `stores.base.Clients`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def load(self) -> dict[str, ClientState]:
        """Every client row, as states."""
        states: dict[str, ClientState] = {}
        for client, _, packed in self._connection.execute(Q["all_clients"]):
            states[client] = state_of_row(_decode(packed), client)
        return states

    def write(self, clients: Iterable[tuple[str, ClientState | None]]) -> None:
        """Write states (None: forgotten) as of the newest committed journal row."""
        kept, gone = [], []
        for client, state in clients:
            if state is None:
                gone.append((client,))
            else:
                kept.append((client, state.last, _encode(state.as_row())))
        self._connection.executemany(Q["write_client"], kept)
        if gone:
            self._connection.executemany(Q["delete_client"], gone)

    def forgotten(self) -> dict[str, int]:
        """Clients that were forgotten, and when, oldest first."""
        return dict(self._connection.execute(Q["all_forgotten"]).fetchall())

    def write_forgotten(self, clients: Iterable[tuple[str, int | None]]) -> None:
        """Remember when clients were forgotten; None: no longer."""
        rows = list(clients)
        kept = [(client, at_ms) for client, at_ms in rows if at_ms is not None]
        self._connection.executemany(Q["write_forgotten"], kept)
        self._connection.executemany(Q["delete_forgotten"], [(client,) for client, at_ms in rows if at_ms is None])
