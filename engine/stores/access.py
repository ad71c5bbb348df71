"""What a store keeps about who may use it, and what they did: users, tokens, sessions, the audit log.

It belongs to the installation and not to a cell. Passwords, tokens and sessions are kept as hashes only. Part of the seam that
`stores.base` describes. Instants are epoch milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRow:
    """A local user."""

    name: str
    role: str
    password: str  # Argon2's own text: parameters, salt and hash
    created_at_ms: int
    password_at_ms: int  # when the password was set: sessions that are older have ended


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRow:
    """A token for programs."""

    name: str
    role: str
    hash: str  # SHA-256 of the token, in hexadecimal
    created_at_ms: int
    expires_at_ms: int | None
    created_by: str


N = TypeVar("N", UserRow, TokenRow)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRow:
    """A browser that somebody has signed in with."""

    hash: str  # SHA-256 of what is in its cookie
    name: str
    kind: str  # how they signed in: user, oidc, token or config
    role: str  # of the kind oidc: what the provider said then; of the others, the present role counts
    credential: str  # what they signed in with, in a form that changes with it
    address: str
    created_at_ms: int
    seen_at_ms: int
    expires_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAudit:
    """An act as it is written down in the transaction of its first effect. Texts of JSON, None: nothing to say."""

    at_ms: int
    who: str
    kind: str
    address: str
    act: str
    arguments: str
    before: str | None = None
    after: str | None = None


class AuditRow(NamedTuple):
    """An entry of the audit log."""

    id: int
    at_ms: int
    who: str
    kind: str
    address: str
    act: str
    arguments: str
    before: str | None
    after: str | None


def named(rows: Iterable[N], name: object) -> N | None:
    """The user or the token of this name; None: there is none."""
    return next((row for row in rows if row.name == name), None)


class AccessTables(Protocol):
    """The rows. What writes needs a transaction around it. StoreError when that fails."""

    def users(self) -> list[UserRow]:
        """Every user, by name."""
        ...

    def write_user(self, user: UserRow) -> None:
        """Add a user, or replace the one of this name."""
        ...

    def remove_user(self, name: str) -> bool:
        """Remove a user with all sessions; False: there is none."""
        ...

    def tokens(self) -> list[TokenRow]:
        """Every token, by name, also expired ones."""
        ...

    def write_token(self, token: TokenRow) -> None:
        """Add a token; no other has its name."""
        ...

    def remove_token(self, name: str) -> bool:
        """Remove a token; False: there is none."""
        ...

    def sessions(self) -> list[SessionRow]:
        """Every session."""
        ...

    def session(self, hash_: str) -> SessionRow | None:
        """One session."""
        ...

    def write_session(self, session: SessionRow) -> None:
        """Add a session; of many of one user, the oldest ends."""
        ...

    def touch_session(self, hash_: str, seen_at_ms: int) -> None:
        """A session was in use."""
        ...

    def remove_session(self, hash_: str) -> None:
        """End a session."""
        ...

    def remove_sessions_of(self, name: str, kind: str) -> None:
        """End all sessions of a user or a token."""
        ...

    def add_audit(self, entry: NewAudit) -> int:
        """Write an entry; its number."""
        ...

    def finish_audit(self, number: int, after: str) -> None:
        """Write what became of it."""
        ...

    def audit(
        self,
        *,
        who: str | None = None,
        act: str | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[AuditRow]:
        """Entries, newest first; `before`: only older ones than this number."""
        ...

    def purge_access(self, *, now_ms: int, idle_before_ms: int, audit_before_ms: int) -> int:
        """Drop sessions that are over and old entries of the audit log; how many rows."""
        ...
