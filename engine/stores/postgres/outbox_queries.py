"""The named statements over the outbox of one cell, in the writer's transaction."""

from __future__ import annotations

from typing import Any

from engine.stores.postgres.queries import queries
from engine.stores.postgres.session import Session

Q = queries("outbox.sql")


class OutboxQueries:
    """Runs statements of `outbox.sql` for a cell; `cell` is given to each."""

    def __init__(self, session: Session, cell: int) -> None:
        self.session = session
        self.cell = cell

    def rows(self, name: str, **values: Any) -> list[tuple[Any, ...]]:
        """All rows of an answer."""
        return self.session.rows(Q[name], {"cell": self.cell, **values})

    def one(self, name: str, **values: Any) -> tuple[Any, ...]:
        """The one row of an answer that always has one."""
        row = self.session.row(Q[name], {"cell": self.cell, **values})
        assert row is not None, "such a statement has one row"
        return row

    def write(self, name: str, **values: Any) -> None:
        """Change rows."""
        self.session.write(Q[name], {"cell": self.cell, **values})

    def changed(self, name: str, **values: Any) -> int:
        """Change rows; how many."""
        return self.session.changed(Q[name], {"cell": self.cell, **values})
