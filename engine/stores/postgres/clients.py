"""Client states of a cell in PostgreSQL: a cache of the journal, written lazily."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from engine.core.presence.client_state import ClientState, state_of_row
from engine.stores.postgres.failures import COMMIT_FAILED, translated
from engine.stores.postgres.queries import queries
from engine.stores.postgres.session import Session

Q = queries("clients.sql")

ROWS_AT_ONCE = 50_000
"""Client rows that are read with one question."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list).decode


@translated(COMMIT_FAILED)
class PostgresClients:
    """See `stores.base.Clients`."""

    def __init__(self, session: Session, cell: int) -> None:
        self._session, self._cell = session, cell

    def load(self) -> dict[str, ClientState]:
        """Every client row, as states."""
        states: dict[str, ClientState] = {}
        found = self._session.rows(Q["load_first"], (self._cell, ROWS_AT_ONCE))
        while True:
            for client, packed in found:
                states[client] = state_of_row(_decode(packed), client)
            if len(found) < ROWS_AT_ONCE:
                return states
            found = self._session.rows(Q["load_next"], (self._cell, found[-1][0], ROWS_AT_ONCE))

    def write(self, clients: Iterable[tuple[str, ClientState | None]]) -> None:
        """Write states (None: forgotten) as of the newest committed journal row."""
        ids: list[str] = []
        last: list[int] = []
        packed: list[bytes] = []
        gone: list[str] = []
        for client, state in clients:
            if state is None:
                gone.append(client)
            else:
                ids.append(client)
                last.append(state.last)
                packed.append(_encode(state.as_row()))
        if ids:
            self._session.write(Q["write"], (self._cell, ids, last, packed))
        if gone:
            self._session.write(Q["delete"], (self._cell, gone))

    def forgotten(self) -> dict[str, int]:
        """Clients that were forgotten, and when, oldest first."""
        return dict(self._session.rows(Q["forgotten"], (self._cell,)))

    def write_forgotten(self, clients: Iterable[tuple[str, int | None]]) -> None:
        """Remember when clients were forgotten; None: no longer."""
        rows = dict(clients)
        kept = {client: at_ms for client, at_ms in rows.items() if at_ms is not None}
        if kept:
            self._session.write(Q["write_forgotten"], (self._cell, list(kept), list(kept.values())))
        if gone := [client for client, at_ms in rows.items() if at_ms is None]:
            self._session.write(Q["delete_forgotten"], (self._cell, gone))
