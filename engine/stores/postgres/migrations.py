"""Bring the schema to the newest version: one numbered file after another, by one replica at a time, all of them or none."""

from __future__ import annotations

import psycopg

from engine.errors import StoreError
from engine.stores.postgres.database import SCHEMA
from engine.stores.postgres.queries import migrations, script

MIGRATING = 0x726F6C6C
"""Number of the advisory lock that is held while migrating."""


def migrate(connection: psycopg.Connection) -> None:
    """Create the schema, or bring it to this version. StoreError when a newer version wrote it."""
    newest = migrations()[-1][0]
    if check_version(connection) == newest:
        return
    with connection.transaction():
        # It takes as long as it takes, also while another replica does it.
        connection.execute("SET LOCAL statement_timeout = 0")
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (MIGRATING,))
        version = check_version(connection)  # another replica may have done it meanwhile
        if version == 0:
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS schema_version (version integer NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
            )
        for number, name in migrations():
            if number > version:
                connection.execute(script(name))
                connection.execute("INSERT INTO schema_version (version) VALUES (%s)", (number,))


def check_version(connection: psycopg.Connection) -> int:
    """The newest migration that was applied; 0: none. StoreError when a newer version of Rollcall wrote the database."""
    row = connection.execute("SELECT to_regclass(%s)", (f"{SCHEMA}.schema_version",)).fetchone()
    if row is None or row[0] is None:
        return 0
    found = connection.execute("SELECT coalesce(max(version), 0) FROM schema_version").fetchone()
    version, newest = int(found[0]) if found is not None else 0, migrations()[-1][0]
    if version > newest:
        raise StoreError(
            f"the database was written by a newer version of Rollcall (schema {version}; this version supports up to {newest}): upgrade this replica"
        )
    return version
