"""Errors of PostgreSQL and of the way to it become `StoreError` here: what happened, why, and what to do.

`explain` tells the kinds apart by SQLSTATE, never by the text, which depends on the server's language. psycopg raises some that end the
session (such as IdleInTransactionSessionTimeout) as other classes than OperationalError: whether the connection still lives is
asked of the connection.
"""

from __future__ import annotations

import psycopg

from engine.errors import Fenced, StoreError
from engine.stores.error_translation import COMMIT_FAILED, READ_FAILED, Translation

__all__ = ["COMMIT_FAILED", "NOT_OURS", "READ_FAILED", "explain", "kind_of", "store_errors", "translated"]

NOT_OURS = "RC001"
"""SQLSTATE of the fence, see `advance` in the schema."""

WHY_NOT_BACK = ". If it does not come back, its log says why: without room on the disk of pg_wal it ends"
"""A database server whose write-ahead log has no room ends, and nobody who was connected hears why."""

KINDS: dict[str, tuple[str, str]] = {
    "53100": ("disk full", "the disk of the database server is full: free space on it; it goes on by itself then"),
    "53200": ("out of memory", "the database server has no memory left: give it more, or lower its max_connections"),
    "53300": ("too many connections", "the database takes no more connections: raise its max_connections, or close some; a replica needs about ten"),
    "53400": ("limit", "a limit that is configured on the database server is reached"),
    "25006": ("read-only", "the server takes no writes: it is a standby, or default_transaction_read_only is on. Name the primary in store.dsn, or all servers (host=a,b); after a failover it goes on by itself"),
    "57014": ("statement timeout", "a statement took too long and was given up: look for locks (pg_locks) and for a slow disk on the database server"),
    "55P03": ("lock timeout", "another session holds a lock for too long: pg_locks and pg_stat_activity say which"),
    "40P01": ("deadlock", "another session held what this one needed, and the other way round; it is tried again"),
    "40001": ("conflict", "another session changed the same row; it is tried again"),
    "25P03": ("idle in transaction", "this replica stood still inside a transaction for longer than the lease, so the server gave it up"),
    "57P01": ("shut down", "an administrator ended the session, or the server is being shut down; it goes on by itself when the server is back"),
    "57P02": ("crashed", "a process of the database server crashed; it goes on by itself when the server is back" + WHY_NOT_BACK),
    "57P03": ("starting", "the server starts up or shuts down and takes no connections yet; it goes on by itself" + WHY_NOT_BACK),
    "57P05": ("idle", "the server ended an idle session (idle_session_timeout); it goes on by itself"),
    "28P01": ("password", "the server refused the password: look at store.dsn and at where the password is read from"),
    "28000": ("not allowed to connect", "the server refused this role or this address: look at pg_hba.conf and at store.dsn"),
    "3D000": ("no database", "the database in store.dsn does not exist: create it, owned by the role"),
    "42501": ("missing right", "the role may not do this: make it the owner of the database, or grant it CREATE on the database and all rights on the schema rollcall"),
    "42P01": ("no schema", "the tables are not there: start one replica with a role that may create them"),
}  # fmt: skip
"""SQLSTATE -> (kind, what it means and what to do)."""

LOST = (
    "connection lost",
    "the connection to the database failed; it goes on by itself when the server can be reached" + WHY_NOT_BACK,
)

CLASSES: dict[str, tuple[str, str]] = {
    "08": LOST,
    "53": ("out of resources", "the database server has run out of something: its log says of what"),
    "57": ("ended", "the server ended the session or the statement; it goes on by itself"),
    "58": ("system error", "the database server had an error of its operating system: its log says which"),
    "XX": ("damaged", "the database server found something damaged: stop, look at its log, and restore a backup"),
}  # fmt: skip
"""The first two characters of SQLSTATE -> the same, for those that `KINDS` does not name."""


def kind_of(error: psycopg.Error) -> str:
    """Which kind of failure it is, in a word or two; `other` for what no table names."""
    return _known(error)[0]


def explain(what: str, error: psycopg.Error) -> StoreError:
    """The error for people; `what` says which work failed. Fenced for the fence's own."""
    if error.sqlstate == NOT_OURS:
        return Fenced(f"{what}: another replica owns the cell")
    kind, advice = _known(error)
    said = " ".join(str(error).split())
    return StoreError(f"{what}: {kind}: {advice} ({said})" if advice else f"{what}: {said}")


def _known(error: psycopg.Error) -> tuple[str, str]:
    state = error.sqlstate
    if state is None:
        if not isinstance(error, psycopg.OperationalError):
            return "other", ""
        # An error before the session begins carries no SQLSTATE in psycopg; its text is all there is.
        text = str(error)
        found = next((one for words, one in _TEXTS.items() if words in text), None)
        return KINDS[found] if found is not None else LOST
    return KINDS.get(state) or CLASSES.get(state[:2]) or ("other", "")


_TEXTS = {
    "too many clients already": "53300",
    "remaining connection slots": "53300",
    "too many connections for": "53300",
    "password authentication failed": "28P01",
    "no password supplied": "28P01",
    "no pg_hba.conf entry": "28000",
    "is not permitted to log in": "28000",
    "session is read-only": "25006",
    "server is in hot standby mode": "25006",
    "server is not in hot standby mode": "25006",
    "the database system is starting up": "57P03",
    "the database system is shutting down": "57P03",
    "the database system is in recovery mode": "57P03",
    "does not exist": "3D000",
}
"""What libpq says while it connects, in English -> SQLSTATE. Another language is `connection lost`, with the text."""


_TRANSLATION = Translation(psycopg.Error, explain)

store_errors = _TRANSLATION.store_errors
translated = _TRANSLATION.translated
