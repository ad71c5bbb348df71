"""What `rollcall check` finds out about a database before a replica starts on it: is it reached, new enough, and may the role do what is needed?"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, Final, NamedTuple

import psycopg

from engine.core.cell_division import Division, division_problem
from engine.errors import StoreError
from engine.stores.postgres.cells import division_of
from engine.stores.postgres.database import SCHEMA, Database
from engine.stores.postgres.failures import kind_of, store_errors
from engine.stores.postgres.queries import migrations, queries

Q = queries("examination.sql")

AWAY: Final = {"connection lost", "starting", "shut down", "crashed"}
"""Kinds of failures that say nothing about the configuration: `check` may run where the database cannot be reached."""

SKEW_MS: Final = 1_000
"""Clocks that differ by less are as good as equal."""


class Finding(NamedTuple):
    """Something to correct, or with `is_warning` to know."""

    text: str
    is_warning: bool = False


def examine(
    database: Database, now_s: Callable[[], float] = time.time, wanted: Sequence[Division] | None = None
) -> list[Finding]:
    """What is wrong with the database for a replica; nothing is changed in it. `now_s`: the clock of this machine, `wanted`: the cells of the configuration."""
    try:
        with closing(database.connect()) as connection, store_errors("the database could not be examined"):
            found = _rights(connection)
            if not found:  # else the version may not be asked for either
                found = _version(connection) or _division(connection, wanted)
            return [*found, *_durability(connection), *_clock(connection, now_s)]
    except StoreError as error:
        cause = error.__cause__
        if isinstance(cause, psycopg.Error) and kind_of(cause) in AWAY:
            return [Finding(f"it was not checked: {error}", is_warning=True)]
        return [Finding(str(error))]


def _row(connection: psycopg.Connection, name: str, **values: Any) -> tuple[Any, ...]:
    found = connection.execute(Q[name].encode(), values).fetchone()
    assert found is not None
    return found


def _rights(connection: psycopg.Connection) -> list[Finding]:
    role, name, may_create, exists = _row(connection, "database", schema=SCHEMA)
    if not exists:
        if may_create:
            return []
        return [
            Finding(
                f"the role {role} may not create the schema {SCHEMA}: make it the owner of the database, or GRANT CREATE ON DATABASE {name} TO {role}"
            )
        ]
    may_use, may_create_in = _row(connection, "schema", schema=SCHEMA)
    if not (may_use and may_create_in):
        return [Finding(f"the role {role} may not work in the schema {SCHEMA}: GRANT ALL ON SCHEMA {SCHEMA} TO {role}")]
    (foreign,) = _row(connection, "foreign_tables", schema=SCHEMA)
    if foreign:
        return [
            Finding(
                f"the role {role} does not own {foreign} tables of the schema {SCHEMA}, and cannot keep them: use the role that made them, or ALTER TABLE ... OWNER TO {role}"
            )
        ]
    return []


def _version(connection: psycopg.Connection) -> list[Finding]:
    (is_there,) = _row(connection, "has_version", schema=SCHEMA)
    if not is_there:
        return []
    (version,) = _row(connection, "version")
    newest = migrations()[-1][0]
    if version <= newest:
        return []
    return [
        Finding(
            f"the database was written by a newer version of Rollcall (schema {version}; this version supports up to {newest}): upgrade this replica"
        )
    ]


def _division(connection: psycopg.Connection, wanted: Sequence[Division] | None) -> list[Finding]:
    if wanted is None:
        return []
    (is_kept,) = _row(connection, "keeps_division", schema=SCHEMA)
    kept = division_of(connection) if is_kept else []
    if not kept or not _row(connection, "are_used")[0]:
        return []
    problem = division_problem(wanted, kept)
    return [] if problem is None else [Finding(problem)]


def _durability(connection: psycopg.Connection) -> list[Finding]:
    fsync, full_page_writes = _row(connection, "durability")
    off = [name for name, value in (("fsync", fsync), ("full_page_writes", full_page_writes)) if value == "off"]
    if not off:
        return []
    return [
        Finding(
            f"{' and '.join(off)} is off on the database server: a power cut can lose what was acknowledged, or damage the database; switch it on",
            is_warning=True,
        )
    ]


def _clock(connection: psycopg.Connection, now_s: Callable[[], float]) -> list[Finding]:
    before_s = now_s()
    (database_ms,) = _row(connection, "clock")
    after_s = now_s()
    skew_ms = database_ms - round((before_s + after_s) * 500)
    if abs(skew_ms) <= SKEW_MS + round((after_s - before_s) * 1000):
        return []
    ahead = "ahead of" if skew_ms > 0 else "behind"
    return [
        Finding(
            f"the clock of the database server is {abs(skew_ms) / 1000:.1f} s {ahead} that of this machine: decisions are made by the database's"
            " clock, so events look late or in the future if that is the wrong one; set both by NTP",
            is_warning=True,
        )
    ]
