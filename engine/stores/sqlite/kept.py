"""Silences, and what goes on for many alerts together, in the SQLite store: rows from the values of the core and back.

`write` is called with what a step changed, inside the writer's transaction; `read` after a start and after a failed commit.
"""

from __future__ import annotations

import sqlite3

from engine.core.alerting.alert import Kept, Output
from engine.core.alerting.silences import Silence
from engine.stores.kept_rows import kept_of, kept_rows, member_rows, silence_of_row, silence_row
from engine.stores.sqlite.queries import queries

Q = queries("kept.sql")


def write(connection: sqlite3.Connection, out: Output) -> None:
    """Write what a step changed; what is over leaves no row."""
    if out.silences:
        connection.executemany(Q["write_silence"], [silence_row(one) for one in out.silences.values()])
    kinds_changed = (
        out.groups,
        out.outages,
        out.schedules,
        out.bursts,
        out.members,
        out.routed,
        out.escalations,
        out.past,
    )
    if not any(kinds_changed):
        return
    kept = list(kept_rows(out))
    connection.executemany(Q["write_kept"], [row for row in kept if row[2] is not None])
    connection.executemany(Q["delete_kept"], [row[:2] for row in kept if row[2] is None])
    members, over = member_rows(out)
    connection.executemany(Q["write_member"], members)
    connection.executemany(Q["delete_members"], [(name,) for name in over])


def read(connection: sqlite3.Connection) -> Kept:
    """Everything that is kept, silences included that are over."""
    execute = connection.execute
    return kept_of(execute(Q["all_kept"]), execute(Q["all_members"]), execute(Q["all_silences"]))


def silences(
    connection: sqlite3.Connection,
    *,
    now_ms: int,
    state: str | None,
    author: str | None,
    limit: int,
    cursor: tuple[int, str] | None,
) -> list[Silence]:
    """Silences, newest first; `state`: planned, active or expired; `cursor` is (from_ms, id)."""
    at_ms, id_ = cursor if cursor is not None else (None, "")
    wanted = {"state": state, "now": now_ms, "author": author, "at": at_ms, "id": id_, "limit": limit}
    return [silence_of_row(row) for row in connection.execute(Q["silences"], wanted)]


def silence(connection: sqlite3.Connection, id_: str) -> Silence | None:
    """One silence, None when there is none."""
    row = connection.execute(Q["silence"], (id_,)).fetchone()
    return None if row is None else silence_of_row(row)


def purge(connection: sqlite3.Connection, before_ms: int, limit: int) -> int:
    """Drop silences, and what rules said, that were over before an instant; returns how many."""
    gone = connection.execute(Q["purge_silences"], (before_ms, limit)).rowcount
    return gone + connection.execute(Q["purge_versions"], (before_ms,)).rowcount
