"""Rules in SQLite: those that were loaded before, and what each said at which time."""

from __future__ import annotations

import sqlite3

from engine.stores.sqlite.failures import COMMIT_FAILED, translated
from engine.stores.sqlite.queries import queries

Q = queries("queries.sql")
VERSIONS = queries("kept.sql")


@translated(COMMIT_FAILED)
class SqliteRules:
    """See `stores.base.Rules`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def all(self) -> dict[str, tuple[str, int | None]]:
        """Rules that were loaded before: name -> (definition, missing since)."""
        rows = self._connection.execute(Q["all_rules"])
        return {name: (definition, missing) for name, definition, _, missing in rows}

    def write(self, name: str, definition: str, now_ms: int, missing_since_ms: int | None) -> None:
        """Remember a rule, and the definition as in force from now on when it differs from the newest one."""
        self._connection.execute(Q["write_rule"], (name, definition, now_ms, missing_since_ms))
        self._connection.execute(VERSIONS["write_version"], {"name": name, "definition": definition, "at": now_ms})

    def delete(self, name: str) -> None:
        """Forget a rule; what it said at which time is kept until it is purged."""
        self._connection.execute(Q["delete_rule"], (name,))


def rule_at(connection: sqlite3.Connection, rule: str, at_ms: int) -> str | None:
    """The definition of a rule that was in force at an instant; None: not known (any more)."""
    row = connection.execute(VERSIONS["version_at"], (rule, at_ms)).fetchone()
    return None if row is None else str(row[0])
