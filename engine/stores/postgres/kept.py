"""Silences, and what goes on for many alerts together, in PostgreSQL.

`write` is called with what a step changed, inside the writer's transaction; `read` after a start and after a failed commit.
"""

from __future__ import annotations

from engine.core.alerting.alert import Kept, Output
from engine.stores.kept_rows import kept_of, kept_rows, member_rows, silence_row
from engine.stores.postgres.queries import queries
from engine.stores.postgres.session import Session, writable

Q = queries("kept.sql")


def write(session: Session, cell: int, out: Output) -> None:
    """Write what a step changed; what is over leaves no row."""
    session.write_many(Q["write_silence"], [(cell, *silence_row(one)) for one in out.silences.values()])
    rows = {(kind, id_): value for kind, id_, value in kept_rows(out)}
    going_on = [(*key, value) for key, value in rows.items() if value is not None]
    if going_on:
        session.write(Q["write_kept"], (cell, *map(list, zip(*going_on, strict=True))))
    if over := [key for key, value in rows.items() if value is None]:
        session.write(Q["delete_kept"], (*map(list, zip(*over, strict=True)), cell))
    members, ended = member_rows(out)
    if members:
        session.write(Q["write_members"], (cell, *map(list, zip(*members, strict=True))))
    if ended:
        session.write(Q["delete_members"], (cell, ended))


def read(session: Session, cell: int) -> Kept:
    """Everything that is kept, silences included that are over."""
    kept = kept_of(*(session.rows(Q[name], (cell,)) for name in ("all_kept", "all_members", "all_silences")))
    # Names that earlier versions made had a character that a row of a member could not hold; the outage's own row is JSON.
    named = {writable(outage.name): outage.name for outage in kept.outages}
    kept.members = [(named.get(name, name), client, standing) for name, client, standing in kept.members]
    return kept


def purge(session: Session, cell: int, before_ms: int, limit: int) -> int:
    """Drop silences, and what rules said, that were over before an instant; returns how many."""
    old = {"cell": cell, "before": before_ms, "limit": limit}
    return session.changed(Q["purge_silences"], old) + session.changed(Q["purge_versions"], old)
