"""The rows about access as statements of SQL, whatever executes them: the same in every store. Read `SqlAccess`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, Final, TypeVar

from engine.stores.access import AuditRow, NewAudit, SessionRow, TokenRow, UserRow

PURGED_ROWS: Final = 2_000
"""Entries of the audit log that one purge removes: a slice that never holds up the writer."""

SESSIONS_OF_ONE: Final = 50
"""Browsers that one user can be signed in with at the same time."""

ALL_NUMBERS: Final = (1 << 63) - 1
"""Greater than the number of any entry."""

Values = dict[str, Any]

R = TypeVar("R", UserRow, TokenRow, SessionRow)


class SqlAccess:
    """See `stores.access.AccessTables`."""

    def __init__(
        self, rows: Callable[[str, Values], Sequence[Sequence[Any]]], changed: Callable[[str, Values], int]
    ) -> None:
        """`rows` executes a statement, by its name, and gives what it returns; `changed` gives how many rows it changed."""
        self._rows, self._changed = rows, changed

    def users(self) -> list[UserRow]:
        """Every user."""
        return [_row(UserRow, row) for row in self._rows("users", {})]

    def write_user(self, user: UserRow) -> None:
        """Add or replace one."""
        self._changed("write_user", _values(user))

    def remove_user(self, name: str) -> bool:
        """Remove one."""
        self.remove_sessions_of(name, "user")
        return self._changed("remove_user", {"name": name}) > 0

    def tokens(self) -> list[TokenRow]:
        """Every token."""
        return [_row(TokenRow, row) for row in self._rows("tokens", {})]

    def write_token(self, token: TokenRow) -> None:
        """Add one."""
        self._changed("write_token", _values(token))

    def remove_token(self, name: str) -> bool:
        """Remove one."""
        self.remove_sessions_of(name, "token")
        return self._changed("remove_token", {"name": name}) > 0

    def sessions(self) -> list[SessionRow]:
        """Every session."""
        return [_row(SessionRow, row) for row in self._rows("sessions", {})]

    def session(self, hash_: str) -> SessionRow | None:
        """One session."""
        found = self._rows("session", {"hash": hash_})
        return _row(SessionRow, found[0]) if found else None

    def write_session(self, session: SessionRow) -> None:
        """Add one."""
        self._changed("write_session", _values(session))
        self._changed("trim_sessions", {"name": session.name, "kind": session.kind, "kept": SESSIONS_OF_ONE})

    def touch_session(self, hash_: str, seen_at_ms: int) -> None:
        """It was in use."""
        self._changed("touch_session", {"hash": hash_, "seen_at": seen_at_ms})

    def remove_session(self, hash_: str) -> None:
        """End one."""
        self._changed("remove_session", {"hash": hash_})

    def remove_sessions_of(self, name: str, kind: str) -> None:
        """End all of one."""
        self._changed("remove_sessions_of", {"name": name, "kind": kind})

    def add_audit(self, entry: NewAudit) -> int:
        """Write an entry."""
        return int(self._rows("add_audit", _values(entry))[0][0])

    def finish_audit(self, number: int, after: str) -> None:
        """Write what became of it."""
        self._changed("finish_audit", {"id": number, "after": after})

    def audit(
        self, *, who: str | None = None, act: str | None = None, before: int | None = None, limit: int = 100
    ) -> list[AuditRow]:
        """Entries, newest first."""
        older = ALL_NUMBERS if before is None else before
        return [AuditRow(*row) for row in self._rows("audit", {"who": who, "act": act, "older": older, "limit": limit})]

    def purge_access(self, *, now_ms: int, idle_before_ms: int, audit_before_ms: int) -> int:
        """Drop what is over."""
        gone = self._changed("purge_sessions", {"now": now_ms, "idle": idle_before_ms})
        return gone + self._changed("purge_audit", {"audit": audit_before_ms, "limit": PURGED_ROWS})


# A row has its columns in the order of the fields; an instant's column has no unit in its name.


def _row(kind: type[R], row: Sequence[Any]) -> R:
    return kind(**{field.name: value for field, value in zip(fields(kind), row, strict=True)})


def _values(row: UserRow | TokenRow | SessionRow | NewAudit) -> Values:
    return {field.name.removesuffix("_ms"): getattr(row, field.name) for field in fields(row)}
