"""The addresses of a login at the identity provider: to it, and back. Read `add_oidc_login`."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from starlette.responses import RedirectResponse

from engine.core.access import OIDC, Caller
from engine.core.foreign_text import foreign_text
from engine.errors import RollcallError
from engine.telemetry import Event, logger
from engine.web.access.forms import SESSION
from engine.web.access.login import next_page, refused_login, signed_in
from engine.web.access.sessions import provider_mark
from engine.web.service import Service

COOKIE: Final = "rollcall_oidc"

AT_ONCE: Final = 4
"""Logins that wait for the provider at the same time."""

MAX_MESSAGE_CHARS: Final = 300

log = logger(__name__)


def add_oidc_login(app: FastAPI, service: Service) -> None:
    """Add the addresses; without a provider they lead back to the page to sign in on."""
    access = service.access
    provider: Any = None
    if access.auth.oidc is not None:
        from engine.web.access.oidc import Provider  # its packages take a while to load

        provider = Provider(access.auth.oidc, f"{access.http.external_url}/login/oidc/callback")
    threads = ThreadPoolExecutor(AT_ONCE, "oidc")

    @app.get("/login/oidc", include_in_schema=False)
    async def begin(request: Request, next: str = "/") -> Response:
        """To the provider."""
        from engine.web.access.oidc import LoginRefused

        wanted = next_page(next)
        if provider is None:
            return refused_login(request, wanted, "denied")
        try:
            begun = await asyncio.get_running_loop().run_in_executor(threads, provider.begin, wanted)
        except (LoginRefused, RollcallError) as error:
            return _refused(request, wanted, error)
        response = RedirectResponse(begun.url, 303)
        secure = request.scope["scheme"] == "https"
        response.set_cookie(COOKIE, begun.cookie, 600, path="/", secure=secure, httponly=True, samesite="lax")
        return response

    @app.get("/login/oidc/callback", include_in_schema=False)
    async def finish(
        request: Request,
        code: str = "",
        state: str = "",
        iss: str | None = None,
        error: str | None = None,
        error_description: str = "",
        error_uri: str = "",
        session_state: str = "",
        scope: str = "",
    ) -> Response:
        """Back from the provider."""
        from engine.web.access.oidc import LoginRefused

        if provider is None:
            return refused_login(request, "/", "denied")
        query = {"code": code, "state": state}
        query |= {} if iss is None else {"iss": iss}
        query |= {} if error is None else {"error": error}
        cookie = request.cookies.get(COOKIE, "")
        try:
            known = await asyncio.get_running_loop().run_in_executor(threads, provider.finish, query, cookie)
            address = str(request.client.host) if request.client is not None else ""
            caller = Caller(name=known.name, kind=OIDC, role=known.role, address=address)
            old = request.scope.get(SESSION, "")
            secret = await access.sessions.open(caller, provider_mark(access.auth), access.now_ms(), old)
        except (LoginRefused, RollcallError) as refusal:
            response = _refused(request, "/", refusal)
        else:
            response = signed_in(request, secret, next_page(known.next))
        response.delete_cookie(COOKIE, path="/")
        return response


def _refused(request: Request, wanted: str, error: Exception) -> Response:
    log.warning(Event.OIDC_REFUSED, reason=foreign_text(str(error), MAX_MESSAGE_CHARS))
    return refused_login(request, wanted, getattr(error, "reason", "provider"))
