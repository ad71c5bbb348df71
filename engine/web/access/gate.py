"""Who asks: by a token, by the cookie of a session, or, where no login is needed, anybody. Read `Access.caller_of_headers` and `sign_in`.

It lives as long as the process. `load` before anything is served; `run` keeps it up to date.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar
from urllib.parse import unquote

from engine.core.access import CONFIG, EVERYBODY, TOKEN, USER, Caller
from engine.errors import NotSignedIn, RollcallError, StoreError
from engine.stores.base import AccessTables
from engine.telemetry import Event, logger
from engine.web.access.directory import CONFIG_NAME, Directory
from engine.web.access.door import AccessDoor
from engine.web.access.passwords import Passwords
from engine.web.access.sessions import Sessions
from engine.web.access.settings import AuthSettings, Hidden, HttpSettings
from engine.web.access.throttle import LoginThrottle
from engine.web.access.tokens import hash_of

T = TypeVar("T")

REFRESH_S: Final = 2.0
"""Where other processes write users and tokens as well, they are read again so often: so soon a removed one is refused everywhere."""

PURGE_S: Final = 600.0
"""Between two looks for sessions that are over and old entries of the audit log."""

OPERATOR_HEADER: Final = b"rollcall-operator"
"""By whom a command on this machine is run: believed together with its proof, and only for the audit log."""

MAX_NAME_CHARS: Final = 100

WRONG: Final = "the name or the password is wrong"

log = logger(__name__)


class TooManyLogins(RollcallError):
    """Too many failed; `wait_s` says how long no other is looked at."""

    code = "throttled"

    def __init__(self, wait_s: float) -> None:
        self.wait_s = wait_s
        minutes = max(1, round(wait_s / 60))
        super().__init__(f"too many logins failed: try again in {minutes} minute{'' if minutes == 1 else 's'}")


class Access:
    """Lets requests in. On the event loop, but for what says otherwise."""

    def __init__(
        self,
        auth: AuthSettings,
        http: HttpSettings,
        metrics_token: Hidden | None,
        door: AccessDoor,
        now_ms: Callable[[], int],
        local_proof: Callable[[], str],
    ) -> None:
        """`local_proof`: what a command on this machine shows, see `tokens.LOCAL_CHALLENGE`."""
        self.auth, self.http, self.door, self.now_ms = auth, http, door, now_ms
        self.directory = Directory(auth, http, None if metrics_token is None else metrics_token.reveal(), local_proof)
        self._threads = ThreadPoolExecutor(2, "access")
        self.sessions = Sessions(door, self.directory, auth, self._threads)
        self.throttle = LoginThrottle()
        self._passwords = Passwords()

    # Its life

    def load(self) -> None:
        """Blocks: read who there is. StoreError."""
        users, tokens, sessions = self.door.read(lambda tables: (tables.users(), tables.tokens(), tables.sessions()))
        self.directory.refresh(users, tokens)
        for session in sessions:
            if session.kind == USER:
                self.throttle.know(session.name, session.address)
        if not self.door.is_shared:
            self.sessions.know(sessions)

    def refresh(self) -> None:
        """Blocks: read again who there is, after a change. StoreError."""
        users, tokens = self.door.read(lambda tables: (tables.users(), tables.tokens()))
        self.directory.refresh(users, tokens)

    async def run(self) -> None:
        """Keep up with what other processes write, and drop what is over, until cancelled."""
        purge_s = 0.0
        while True:
            if time.monotonic() >= purge_s:
                purge_s = time.monotonic() + PURGE_S
                await self._purge()
            await asyncio.sleep(REFRESH_S)
            if self.door.is_shared:
                await self.in_thread(self.refresh)

    async def _purge(self) -> None:
        now_ms, auth = self.now_ms(), self.auth
        self.sessions.forget_all_but(lambda session: self.sessions.goes_on(session, now_ms))
        try:
            await self.in_thread(
                lambda: self.door.write(
                    lambda tables: tables.purge_access(
                        now_ms=now_ms, idle_before_ms=now_ms - auth.idle_ms, audit_before_ms=now_ms - auth.audit_ms
                    )
                )
            )
        except StoreError as error:
            log.warning(Event.ACCESS_NOT_PURGED, error=str(error))

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Do what blocks."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def ask(self, question: Callable[[AccessTables], T]) -> T:
        """Ask the rows, in a thread. StoreError."""
        return await self.in_thread(lambda: self.door.read(question))

    # Who asks

    @property
    def is_open(self) -> bool:
        """Is no login needed?"""
        return self.directory.is_open

    def caller_of_headers(self, headers: Mapping[bytes, bytes], path: str, address: str) -> Caller | None:
        """Who comes with an Authorization header; None when it is not right. Costs microseconds: events come this way."""
        scheme, _, given = headers[b"authorization"].partition(b" ")
        given, kind = given.strip(), scheme.lower()
        if kind == b"basic":
            try:
                given = base64.b64decode(given, validate=True).partition(b":")[2]
            except binascii.Error:
                return None
        elif kind != b"bearer":
            return None
        operator = headers.get(OPERATOR_HEADER)
        name = "" if operator is None else _name(operator)
        found = self.directory.caller_of_token(given, path, self.now_ms(), name)
        return None if found is None else Caller(name=found.name, kind=found.kind, role=found.role, address=address)

    async def caller_of_cookie(self, secret: str, address: str, *, is_asked: bool = True) -> Caller | None:
        """Whose session it is; None when it has ended or never was. StoreError when that cannot be found out. `is_asked`: see `Sessions.find`."""
        now_ms = self.now_ms()
        session = await self.sessions.find(secret, now_ms, is_asked=is_asked)
        return None if session is None else self.sessions.caller_of(session, now_ms, address)

    def anybody(self, address: str) -> Caller | None:
        """Whoever asks without showing anything; None when that is not enough."""
        if not self.directory.is_open:
            return None
        return Caller(name=EVERYBODY.name, kind=EVERYBODY.kind, role=EVERYBODY.role, address=address)

    # Signing in

    async def sign_in(self, name: str, password: str, address: str, replaced: str) -> str:
        """A new session for a user with a password, or for a token without a name: the secret of its cookie.

        `replaced`: the secret of the session that the browser had, which ends. NotSignedIn when it is wrong, TooManyLogins, Overloaded,
        StoreError.
        """
        now_s = time.monotonic()
        wait_s = self.throttle.begin(name, address, now_s)
        if wait_s > 0:
            raise TooManyLogins(wait_s)
        found = self._of_token(password, address) if not name else await self._of_user(name, password, address)
        if found is None:
            raise NotSignedIn(WRONG if name else "the token is wrong, or has expired")
        self.throttle.succeeded(name, address)
        caller, credential = found
        return await self.sessions.open(caller, credential, self.now_ms(), replaced)

    async def _of_user(self, name: str, password: str, address: str) -> tuple[Caller, str] | None:
        user = self.directory.users.get(name)
        if not await self._passwords.verify(None if user is None else user.password, password):
            return None
        assert user is not None
        return Caller(name=user.name, kind=USER, role=user.role, address=address), str(user.password_at_ms)

    def _of_token(self, token: str, address: str) -> tuple[Caller, str] | None:
        found = self.directory.caller_of_token(token.strip().encode("utf-8", "replace"), "", self.now_ms())
        if found is None or found.kind not in (TOKEN, CONFIG) or (found.kind == CONFIG and found.name != CONFIG_NAME):
            return None
        caller = Caller(name=found.name, kind=found.kind, role=found.role, address=address)
        return caller, hash_of(token.strip())


def _name(raw: bytes) -> str:
    name = unquote(raw.decode("latin-1"), errors="replace").strip()[:MAX_NAME_CHARS]
    return name if name.isprintable() else ""
