"""Which role each address of the HTTP interface needs. What is not in the table is refused to everybody: to add a route, add its line.

The addresses of acts are not here: an act says itself which role it needs (`Act.needs`), see `all_needed`. An act that a page carries out needs
the role of the act besides that of the page: `service.do` sees to it. Read `NEEDED`, then `role_check`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final

from fastapi import FastAPI, Request
from fastapi.routing import APIRoute
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.core.access import ADMIN, OPERATOR, PUBLIC, SOURCE, VIEWER, Caller, check_may
from engine.errors import NotSignedIn
from engine.web.service import ExposedAct

NEEDED: Final[dict[str, str]] = {
    # Events and the service itself
    "POST /v1/events": SOURCE,
    "GET /healthz": PUBLIC,
    "GET /readyz": VIEWER,
    "GET /metrics": VIEWER,
    "GET /openapi.json": VIEWER,
    # To sign in
    "GET /login": PUBLIC,
    "POST /login": PUBLIC,
    "GET /login/oidc": PUBLIC,
    "GET /login/oidc/callback": PUBLIC,
    "POST /logout": PUBLIC,
    "GET /v1/me": PUBLIC,
    # Access
    "GET /v1/users": ADMIN,
    "GET /v1/tokens": ADMIN,
    "GET /v1/audit": VIEWER,
    # What is read
    "GET /v1/acts/{number}": VIEWER,
    "GET /v1/alerts": VIEWER,
    "GET /v1/alerts/{id_}": VIEWER,
    "GET /v1/alerts/{id_}/progress": VIEWER,
    "GET /v1/clients": VIEWER,
    "GET /v1/clients/{client:client}": VIEWER,
    "GET /v1/clients/{client:client}/explanation": VIEWER,
    "GET /v1/clients/{client:client}/status": VIEWER,
    "GET /v1/clients/{client:client}/timeline": VIEWER,
    "GET /v1/deliveries": VIEWER,
    "GET /v1/deliveries/{number:int}": VIEWER,
    "GET /v1/fleet/curve": VIEWER,
    "GET /v1/fleet/verdicts": VIEWER,
    "GET /v1/quality": VIEWER,
    "GET /v1/quarantine": VIEWER,
    "GET /v1/reconciliations": VIEWER,
    "GET /v1/reconciliations/{number:int}": VIEWER,
    "GET /v1/rules": VIEWER,
    "GET /v1/silences": VIEWER,
    "GET /v1/silences/{id_}": VIEWER,
    "GET /v1/sources": VIEWER,
    # Pages, and what changes of them
    "GET /": VIEWER,
    "GET /about": VIEWER,
    "GET /alert/{id}": VIEWER,
    "GET /alerts": VIEWER,
    "GET /assets/{name}": PUBLIC,  # the page to sign in on loads them
    "GET /client": VIEWER,
    "GET /clients": VIEWER,
    "GET /deliveries": VIEWER,
    "GET /delivery/{number}": VIEWER,
    "GET /docs": VIEWER,
    "GET /events": VIEWER,
    "GET /fleet": VIEWER,
    "GET /rule/{name}": VIEWER,
    "GET /rules": VIEWER,
    "GET /silences": VIEWER,
    "GET /sources": VIEWER,
    "GET /sweeps": VIEWER,
    "GET /try": VIEWER,
    # Forms: what is sent with one needs the role of its act besides.
    "GET /act/{name}": VIEWER,
    "POST /act/{name}": VIEWER,
    "POST /act/check-rules": VIEWER,
    "POST /act/download-rules": VIEWER,
    "POST /act/try-rules": OPERATOR,  # it may take a processor for a while
}
"""Method and path of each route -> the role that it needs."""

PUBLIC_PATHS: Final = frozenset(key.partition(" ")[2] for key, role in NEEDED.items() if role == PUBLIC)
PUBLIC_FOLDERS: Final = tuple(path.partition("{")[0] for path in PUBLIC_PATHS if "{" in path)

CALLER: Final = "rollcall.caller"
"""Where `auth.AccessCheck` puts the caller into the scope of a request; None: somebody who is not signed in, at a public path."""


def is_public(path: str) -> bool:
    """May anybody ask for this path?"""
    return path in PUBLIC_PATHS or path.startswith(PUBLIC_FOLDERS)


def all_needed(exposed: Iterable[ExposedAct]) -> dict[str, str]:
    """The table, with the addresses of the acts."""
    return NEEDED | {f"{one.route.method} {one.route.path}": one.needs for one in exposed}


def caller_of(request: Request) -> Caller:
    """Who asks. NotSignedIn when nobody has to be at this path, and nobody is."""
    found = request.scope.get(CALLER)
    if not isinstance(found, Caller):
        raise NotSignedIn("sign in first")
    return found


def role_check(needed: Mapping[str, str]) -> Callable[[Request], Awaitable[None]]:
    """A dependency of every route, before anything else looks at the request: Forbidden when the caller's role is not enough."""

    async def check_role(request: Request) -> None:
        _check(request, request.scope["route"].path, needed)

    return check_role


def guard(app: FastAPI, needed: Mapping[str, str]) -> None:
    """The same for the routes that take no dependencies: pages and their assets. To be called when all routes are there."""
    for route in app.routes:
        if isinstance(route, Route) and not isinstance(route, APIRoute):
            route.app = _guarded(route.app, route.path, needed)


def _guarded(app: ASGIApp, path: str, needed: Mapping[str, str]) -> ASGIApp:
    async def check_first(scope: Scope, receive: Receive, send: Send) -> None:
        _check(Request(scope, receive), path, needed)
        await app(scope, receive, send)

    return check_first


def _check(request: Request, path: str, needed: Mapping[str, str]) -> None:
    role = needed.get(f"{request.method} {path}")
    if role != PUBLIC:
        check_may(caller_of(request), role)
