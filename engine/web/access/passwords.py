"""Passwords of local users: hashed with Argon2id, a few at a time. Read `Passwords.verify`.

A hash takes 64 MiB and a good part of a second, so that nobody can try many. It is computed in a thread of its own: not even a flood of
logins takes more than one core from the engine, or more than this memory.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from engine.errors import BadQuestion, Overloaded

MIN_CHARS: Final = 12
MAX_BYTES: Final = 1_024

WAITING: Final = 20
"""Logins that may wait for their turn; more are asked to come back."""

_HASHER: Final = PasswordHasher()

_NOBODYS: Final = "$argon2id$v=19$m=65536,t=3,p=4$QSo1FNR4WywUtguvUoCBbQ$uIcvSQ6CXTWrw//ag7H2Kph6PuBlYXhWrU3uVmwqvZE"
"""Of no password: verified for names that do not exist, so that an answer takes as long whether there is a user or not."""


def password_problem(password: str, name: str = "") -> str | None:
    """Why a password cannot be used, as a sentence; None when it can."""
    if len(password) < MIN_CHARS:
        return f"the password has fewer than {MIN_CHARS} characters"
    if len(password.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        return f"the password is longer than {MAX_BYTES} bytes"
    if not password.isprintable():
        return "the password has control characters"
    if name and password.casefold() == name.casefold():
        return "the password is the name"
    return "the password is one character, repeated" if len(set(password)) == 1 else None


def hashed(password: str, name: str = "") -> str:
    """A password as it is kept. It takes a while. BadQuestion when it cannot be used."""
    if problem := password_problem(password, name):
        raise BadQuestion(problem)
    return _HASHER.hash(password)


def is_right(kept: str | None, password: str) -> bool:
    """Is it the password? `kept` None: there is no such user, and it takes as long to say so."""
    try:
        return _HASHER.verify(_NOBODYS if kept is None else kept, password.encode("utf-8", "replace")) and bool(kept)
    except (Argon2Error, InvalidHashError):
        return False


class Passwords:
    """Verifies passwords one after the other, beside the event loop."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "passwords")
        self._waiting = 0

    async def verify(self, kept: str | None, password: str) -> bool:
        """See `is_right`. Overloaded while too many wait."""
        if len(password) > MAX_BYTES:
            password = ""  # as wrong, and no longer to compute
        if self._waiting >= WAITING:
            raise Overloaded("too many people sign in at the same time; try again in a moment")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, is_right, kept, password)
        finally:
            self._waiting -= 1
