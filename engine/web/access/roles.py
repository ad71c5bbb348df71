"""Which role each address of the HTTP interface needs. What is not in the table is refused to everybody: to add a route, add its line.

The addresses of acts are not here: an act says itself which role it needs (`Act.needs`), see `all_needed`. An act that a page carries out needs
the role of the act besides that of the page: `service.do` sees to it. Read `NEEDED`, then `role_check`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final

from fastapi import Request
from fastapi.routing import APIRoute

from engine.core.access import ADMIN, PUBLIC, SOURCE, VIEWER, Caller, check_may
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
    "GET /v1/clients/{client:path}": VIEWER,
    "GET /v1/clients/{client:path}/explanation": VIEWER,
    "GET /v1/clients/{client:path}/status": VIEWER,
    "GET /v1/clients/{client:path}/timeline": VIEWER,
    "GET /v1/deliveries": VIEWER,
    "GET /v1/deliveries/{number}": VIEWER,
    "GET /v1/fleet/curve": VIEWER,
    "GET /v1/fleet/verdicts": VIEWER,
    "GET /v1/quality": VIEWER,
    "GET /v1/quarantine": VIEWER,
    "GET /v1/reconciliations": VIEWER,
    "GET /v1/reconciliations/{number}": VIEWER,
    "GET /v1/rules": VIEWER,
    "GET /v1/silences": VIEWER,
    "GET /v1/silences/{id_}": VIEWER,
    "GET /v1/sources": VIEWER,
    # Pages
    "GET /": VIEWER,
    "GET /acknowledge": VIEWER,
    "POST /acknowledge": VIEWER,  # and what the act needs
}
"""Method and path of each route -> the role that it needs."""

PUBLIC_PATHS: Final = frozenset(key.partition(" ")[2] for key, role in NEEDED.items() if role == PUBLIC)
PUBLIC_FOLDERS: Final = ("/assets/",)
"""What the page to sign in on loads."""

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
        route = request.scope.get("route")
        path = route.path if isinstance(route, APIRoute) else request.url.path
        role = needed.get(f"{request.method} {path}")
        if role != PUBLIC and not (request.method == "GET" and path.startswith(PUBLIC_FOLDERS)):
            check_may(caller_of(request), role)

    return check_role
