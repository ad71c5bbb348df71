"""The cookie of a session: for this host alone, for no script, not sent by forms of other sites, and over TLS only where there is TLS.

With TLS it is called `__Host-…`: a browser accepts that from nobody but this host, so no other service of the domain can put one in. Read
`secrets_of`.
"""

from __future__ import annotations

from typing import Final

from starlette.responses import Response
from starlette.types import Scope

PLAIN: Final = "rollcall_session"
SECURE: Final = "__Host-rollcall_session"

MAX_CANDIDATES: Final = 3
"""Cookies of the name that are looked at: a browser may hold several, of different paths."""


def secrets_of(cookie: bytes, *, is_secure: bool) -> list[str]:
    """What the header `Cookie` holds under our name, in its order."""
    if b"rollcall_session=" not in cookie:
        return []
    name = SECURE if is_secure else PLAIN
    pairs = (part.strip().partition("=") for part in cookie.decode("latin-1").split(";"))
    return [value for key, _, value in pairs if key == name and value][:MAX_CANDIDATES]


def give(response: Response, scope: Scope, secret: str) -> None:
    """Have the browser keep a session until it is closed, or until the session ends."""
    secure = scope["scheme"] == "https"
    response.set_cookie(SECURE if secure else PLAIN, secret, path="/", secure=secure, httponly=True, samesite="lax")


def take(response: Response, scope: Scope) -> None:
    """Have the browser drop it."""
    secure = scope["scheme"] == "https"
    response.delete_cookie(SECURE if secure else PLAIN, path="/", secure=secure, httponly=True, samesite="lax")
