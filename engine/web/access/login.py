"""The page to sign in on, and the way out. Read `add_login`.

Its form carries a secret that stands in a cookie as well, because there is no session yet: a page of another site cannot sign a browser
in as somebody else. After the login a person gets to the page that they wanted, if it is one of ours.
"""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from starlette.responses import RedirectResponse

from engine.core.access import ANYBODY, Caller
from engine.errors import Forbidden, RollcallError, Unavailable
from engine.web.access.cookies import give, take
from engine.web.access.forms import FIELD, SESSION, STALE, base_of, fields_of, read_form
from engine.web.access.gate import Access, TooManyLogins
from engine.web.access.roles import CALLER
from engine.web.access.tokens import new_secret
from engine.web.html_page import html_response
from engine.web.problems import status_of
from engine.web.service import Service

LOGIN_COOKIE: Final = "rollcall_login"
MAX_NEXT_CHARS: Final = 2_000
_PATH: Final = re.compile(r"/(?![/\\])[!-\[\]-~]*")
"""A path of this service: a browser would take `//host` and `/\\host` for another one, and drops control characters."""


def next_page(wanted: str) -> str:
    """Where to go after the login: what was wanted if it is a path of ours, else the first page."""
    is_ours = len(wanted) <= MAX_NEXT_CHARS and _PATH.fullmatch(wanted) is not None
    return wanted if is_ours and not wanted.startswith(("/login", "/logout")) else "/"


def redirect(request: Request, path: str) -> Response:
    """To a page of ours, wherever a proxy serves it."""
    return RedirectResponse(f"{base_of(request)}{path}", 303)


def add_login(app: FastAPI, service: Service) -> None:
    """Add the page, its form, and the logout."""
    access = service.access

    async def show(request: Request, wanted: str, name: str = "", refused: str = "", status: int = 200) -> Response:
        secret = request.cookies.get(LOGIN_COOKIE) or new_secret()
        shown = {
            "base": base_of(request),
            "csrf": secret,
            "next": wanted,
            "name": name,
            "refused": refused,
            "ways": _ways(access),
        }
        response = await asyncio.to_thread(html_response, "login.html", shown, status)
        secure = request.scope["scheme"] == "https"
        response.set_cookie(LOGIN_COOKIE, secret, path="/", secure=secure, httponly=True, samesite="lax")
        return response

    @app.get("/login", include_in_schema=False)
    async def page(request: Request, next: str = "/", refused: str = "") -> Response:
        """The page to sign in on. `refused`: why the provider's login did not work, by its number in `REFUSALS`."""
        wanted = next_page(next)
        caller = request.scope.get(CALLER)
        if isinstance(caller, Caller) and (caller.kind == ANYBODY or SESSION in request.scope) and not refused:
            return redirect(request, wanted)
        return await show(
            request, wanted, refused=REFUSALS.get(refused, ""), status=403 if refused in REFUSALS else 200
        )

    @app.post("/login", include_in_schema=False)
    async def sign_in(request: Request) -> Response:
        """Sign in with a name and a password, or with a token alone."""
        wanted, name = "/", ""
        try:
            form = await fields_of(request)
            wanted, name = next_page(form.get("next", "/")), form.get("name", "").strip()
            expected = request.cookies.get(LOGIN_COOKIE, "")
            if not expected or not hmac.compare_digest(form.get(FIELD, "").encode(), expected.encode()):
                raise Forbidden(STALE)
            address = str(request.client.host) if request.client is not None else ""
            old = request.scope.get(SESSION, "")
            secret = await access.sign_in(name, form.get("password", ""), address, old)
        except TooManyLogins as error:
            response = await show(request, wanted, name, str(error), 429)
            response.headers["Retry-After"] = str(int(error.wait_s) + 1)
            return response
        except RollcallError as error:
            response = await show(request, wanted, name, str(error), status_of(error))
            if isinstance(error, Unavailable):
                response.headers["Retry-After"] = str(error.retry_after_s)
            return response
        return signed_in(request, secret, wanted)

    @app.post("/logout", include_in_schema=False)
    async def sign_out(request: Request) -> Response:
        """End the session."""
        session, caller = request.scope.get(SESSION), request.scope.get(CALLER)
        if session and isinstance(caller, Caller):
            await read_form(request)
            await access.sessions.end(session, caller, access.now_ms())
        response = redirect(request, "/login")
        take(response, request.scope)
        return response


def signed_in(request: Request, secret: str, wanted: str) -> Response:
    """The answer to a login that worked."""
    response = redirect(request, wanted)
    give(response, request.scope, secret)
    response.delete_cookie(LOGIN_COOKIE, path="/")
    return response


def refused_login(request: Request, wanted: str, reason: str) -> Response:
    """The answer to a login at the provider that did not work; `reason` is one of `REFUSALS`."""
    return redirect(request, f"/login?refused={reason}&next={quote(wanted, safe='')}")


REFUSALS: Final[Mapping[str, str]] = {
    "stale": "The login at the provider took too long, or was begun in another browser. Please try again.",
    "denied": "The provider did not sign you in.",
    "role": "The provider knows you, but none of your groups gives you a role here. Ask an administrator.",
    "provider": "The provider could not be asked, or its answer cannot be trusted. The log of the service says why.",
}
"""Why a login at the provider did not work: only these sentences, so that nobody can make a link that shows another."""


def _ways(access: Access) -> dict[str, Any]:
    """Which ways to sign in there are, for the page."""
    auth, directory = access.auth, access.directory
    return {
        "users": auth.users and bool(directory.users),
        "tokens": bool(directory.tokens) or directory.config_hash is not None,
        "oidc": None if auth.oidc is None else auth.oidc.label,
    }
