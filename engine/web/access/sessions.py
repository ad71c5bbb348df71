"""Sessions of browsers. The cookie holds a secret that only the browser has; the store has its hash. Read `Sessions.find`.

A session ends `auth.session` after its login, `auth.idle` after its last request, at a logout, and as soon as what it was opened with is no
longer valid: a password that was changed, a user or token that was removed. A login always makes a new secret, whatever the browser came with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final

from engine.core.access import ADMIN, CONFIG, OIDC, TOKEN, USER, Caller
from engine.errors import Overloaded, StoreError
from engine.stores.base import AccessTables, NewAudit, SessionRow
from engine.web.access.directory import Directory
from engine.web.access.door import AccessDoor
from engine.web.access.settings import AuthSettings
from engine.web.access.tokens import hash_of, new_secret

SECRET_CHARS: Final = 43
"""Of the secret in a cookie: 32 bytes in base64."""

TOUCH_MS: Final = 60_000
"""How old the note of the last request may become before it is written again; at most a tenth of `auth.idle`."""

FRESH_S: Final = 3.0
"""Where other processes write sessions as well, one that was read so long ago is read again."""

MAX_KNOWN: Final = 20_000
"""Sessions that are kept in memory; of more, the newest."""

MAX_LOOKUPS: Final = 50
"""Cookies that nobody knows and that are looked up at the same time."""


class Sessions:
    """The sessions of this installation; on the event loop."""

    def __init__(self, door: AccessDoor, directory: Directory, auth: AuthSettings, threads: ThreadPoolExecutor) -> None:
        self._door, self._directory, self._auth, self._threads = door, directory, auth, threads
        self._known: dict[str, tuple[SessionRow, float]] = {}  # with when it was read, of the loop's time
        self._lookups = 0
        self._touching: set[asyncio.Future[None]] = set()

    def know(self, sessions: list[SessionRow]) -> None:
        """These are all that there are: at the start of the only process that writes them."""
        self._known = {session.hash: (session, 0.0) for session in sessions[-MAX_KNOWN:]}

    def forget_all_but(self, holds: Callable[[SessionRow], bool]) -> None:
        """Some have ended: read what is left again, or drop it."""
        self._known = {hash_: found for hash_, found in self._known.items() if holds(found[0])}

    async def find(self, secret: str, now_ms: int, *, is_asked: bool = True) -> SessionRow | None:
        """The session of a cookie, if it goes on; StoreError or Overloaded when that cannot be found out.

        `is_asked`: does a person ask for something? A page that updates itself does not put off the end of its session.
        """
        if len(secret) != SECRET_CHARS or not secret.isascii():
            return None
        hash_ = hash_of(secret)
        session = await self._session(hash_)
        if session is None or not self.goes_on(session, now_ms):
            return None
        if is_asked and now_ms - session.seen_at_ms >= min(TOUCH_MS, self._auth.idle_ms // 10):
            session = replace(session, seen_at_ms=now_ms)
            self._known[hash_] = (session, asyncio.get_running_loop().time())
            self._write_later(hash_, now_ms)
        return session

    async def _session(self, hash_: str) -> SessionRow | None:
        loop = asyncio.get_running_loop()
        known = self._known.get(hash_)
        if not self._door.is_shared:
            return None if known is None else known[0]
        if known is not None and loop.time() - known[1] < FRESH_S:
            return known[0]
        if known is None and self._lookups >= MAX_LOOKUPS:
            raise Overloaded("too many sessions are looked up at the same time")
        self._lookups += known is None
        try:
            found: SessionRow | None = await loop.run_in_executor(
                self._threads, self._door.read, lambda tables: tables.session(hash_)
            )
        except StoreError:
            if known is None:
                raise
            return known[0]  # a database that is away must not put on-call people out
        finally:
            self._lookups -= known is None
        if found is None:
            self._known.pop(hash_, None)
        else:
            self._keep(found)
        return found

    def _keep(self, session: SessionRow) -> None:
        self._known.pop(session.hash, None)
        while len(self._known) >= MAX_KNOWN:
            self._known.pop(next(iter(self._known)))
        self._known[session.hash] = (session, asyncio.get_running_loop().time())

    def _write_later(self, hash_: str, now_ms: int) -> None:
        work = asyncio.get_running_loop().run_in_executor(
            self._threads, self._door.write, lambda tables: tables.touch_session(hash_, now_ms)
        )
        self._touching.add(work)
        work.add_done_callback(self._touched)

    def _touched(self, work: asyncio.Future[None]) -> None:
        self._touching.discard(work)
        if not work.cancelled():
            work.exception()  # written at the next request then

    def goes_on(self, session: SessionRow, now_ms: int) -> bool:
        """Is it still one?"""
        return self.caller_of(session, now_ms) is not None

    def caller_of(self, session: SessionRow, now_ms: int, address: str = "") -> Caller | None:
        """Whose session it is, with the role that they have now; None: it has ended."""
        if session.expires_at_ms <= now_ms or session.seen_at_ms + self._auth.idle_ms <= now_ms:
            return None
        role = self._role_of(session, now_ms)
        if role is None:
            return None
        return Caller(name=session.name, kind=session.kind, role=role, address=address)

    def _role_of(self, session: SessionRow, now_ms: int) -> str | None:
        directory = self._directory
        if session.kind == USER:
            user = directory.users.get(session.name)
            return None if user is None or str(user.password_at_ms) != session.credential else user.role
        if session.kind == TOKEN:
            token = directory.tokens.get(session.name)
            if token is None or token.hash != session.credential:
                return None
            return None if token.expires_at_ms is not None and token.expires_at_ms <= now_ms else token.role
        if session.kind == CONFIG:
            return ADMIN if session.credential == directory.config_hash else None
        if session.kind == OIDC and self._auth.oidc is not None:
            return session.role if session.credential == provider_mark(self._auth) else None
        return None

    async def open(self, caller: Caller, credential: str, now_ms: int, replaced: str = "") -> str:
        """Somebody has signed in: the secret of the new session. `replaced`: the secret of the one that the browser had."""
        secret = new_secret()
        session = SessionRow(
            hash=hash_of(secret),
            name=caller.name,
            kind=caller.kind,
            role=caller.role,
            credential=credential,
            address=caller.address,
            created_at_ms=now_ms,
            seen_at_ms=now_ms,
            expires_at_ms=now_ms + self._auth.session_ms,
        )
        old = hash_of(replaced) if replaced else None
        entry = _entry(caller, "Login", now_ms)

        def work(tables: AccessTables) -> None:
            if old is not None:
                tables.remove_session(old)
            tables.write_session(session)
            tables.add_audit(entry)

        await asyncio.get_running_loop().run_in_executor(self._threads, self._door.write, work)
        if old is not None:
            self._known.pop(old, None)
        self._keep(session)
        return secret

    async def end(self, secret: str, caller: Caller, now_ms: int) -> None:
        """A logout."""
        hash_ = hash_of(secret)
        self._known.pop(hash_, None)
        entry = _entry(caller, "Logout", now_ms)

        def work(tables: AccessTables) -> None:
            tables.remove_session(hash_)
            tables.add_audit(entry)

        await asyncio.get_running_loop().run_in_executor(self._threads, self._door.write, work)


def provider_mark(auth: AuthSettings) -> str:
    """What changes when sessions of the identity provider end, because another one was configured."""
    oidc = auth.oidc
    return "" if oidc is None else hash_of(f"{oidc.issuer} {oidc.client_id}")


def _entry(caller: Caller, act: str, now_ms: int) -> NewAudit:
    return NewAudit(at_ms=now_ms, who=caller.name, kind=caller.kind, address=caller.address, act=act, arguments="{}")
