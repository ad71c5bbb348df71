"""Rules of a cell in PostgreSQL: those that were loaded before, and what each said at which time."""

from __future__ import annotations

from engine.stores.postgres.failures import COMMIT_FAILED, translated
from engine.stores.postgres.queries import queries
from engine.stores.postgres.session import Session

Q = queries("kept.sql")


@translated(COMMIT_FAILED)
class PostgresRules:
    """See `stores.base.Rules`."""

    def __init__(self, session: Session, cell: int) -> None:
        self._session, self._cell = session, cell

    def all(self) -> dict[str, tuple[str, int | None]]:
        """Rules that were loaded before: name -> (definition, missing since)."""
        rows = self._session.rows(Q["all_rules"], (self._cell,))
        return {name: (definition, missing) for name, definition, missing in rows}

    def write(self, name: str, definition: str, now_ms: int, missing_since_ms: int | None) -> None:
        """Remember a rule, and the definition as in force from now on when it differs from the newest one."""
        self._session.write(Q["write_rule"], (self._cell, name, definition, now_ms, missing_since_ms))
        version = {"cell": self._cell, "name": name, "at": now_ms, "definition": definition}
        self._session.write(Q["write_version"], version)

    def delete(self, name: str) -> None:
        """Forget a rule; what it said at which time is kept until it is purged."""
        self._session.write(Q["delete_rule"], (self._cell, name))
