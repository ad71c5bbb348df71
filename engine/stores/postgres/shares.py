"""The shares of calls that replicas behind one address make, written down in the database; see `core.query_shares`."""

from __future__ import annotations

import secrets
import threading
from typing import Any, Final

from engine.core.query_shares import Granted, QueryShare, counted, exchanged
from engine.stores.postgres.database import Database
from engine.stores.postgres.failures import translated
from engine.stores.postgres.queries import queries
from engine.stores.postgres.session import Session
from engine.stores.postgres.transactions import unfenced

Q = queries("shares.sql")

STATUS: Final = "status"
"""The ledger of status queries: one for all replicas of a database, which are taken to be behind one address."""


@translated("the shares of status queries cannot be exchanged")
class PostgresShares:
    """This process's place in a ledger; see `status.shared_budget.ShareLedger`. From any thread, one at a time."""

    def __init__(self, database: Database, ledger: str = STATUS, place: str = "") -> None:
        """`place`: tells those apart who share it in one replica."""
        self._session = Session(database)
        self._replica, self._ledger = f"{database.replica} {place}".strip(), ledger
        self._member = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._is_known = False

    def exchange(self, *, using: int, floor: int, wanted: int, rate: int) -> Granted:
        """Renew and change this process's share in one short transaction."""
        with self._lock, unfenced(self._session):
            return self._exchange(using, floor, wanted, rate)

    def leave(self) -> None:
        """This process makes no more calls."""
        with self._lock:
            try:
                with unfenced(self._session):
                    self._session.write(Q["leave"], (self._ledger, self._member))
            finally:
                self._session.drop()

    def close(self) -> None:
        """Give the connection up; the share stays written down until it ends."""
        self._session.drop()

    def _exchange(self, using: int, floor: int, wanted: int, rate: int) -> Granted:
        session, ledger = self._session, self._ledger
        session.write(Q["lock"], (ledger,))
        if not self._is_known:
            session.write(Q["forget_predecessors"], (ledger, self._replica, self._member))
        now_ms = int(_first(session.row(Q["now"])))
        shares = [QueryShare(*row) for row in session.rows(Q["all"], (ledger,))]
        written, granted = exchanged(
            shares, self._member, using=using, floor=floor, wanted=wanted, rate=rate, now_ms=now_ms
        )
        row = (ledger, self._member, self._replica, *written[1:])
        session.write(Q["write"], row)
        gone = [share.member for share in shares if not counted(share, now_ms) and share.member != self._member]
        if gone:
            session.write(Q["delete"], (ledger, gone))
        self._is_known = True
        return granted


def _first(row: tuple[Any, ...] | None) -> Any:
    assert row is not None
    return row[0]
