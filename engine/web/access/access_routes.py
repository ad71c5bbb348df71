"""What can be read about access: who one is, which users and tokens there are, and who did what. Read `add_access_routes`."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request, Response

from engine.core.access import ANYBODY, Caller
from engine.web.access import objects
from engine.web.access.forms import SESSION, csrf_token
from engine.web.access.roles import CALLER
from engine.web.openapi.operation import described
from engine.web.parameters import Cursor, Limit, json_response
from engine.web.service import Service
from engine.web.views import DEFAULT_LIMIT, number_of, page


def add_access_routes(app: FastAPI, service: Service) -> None:
    """Add the routes."""
    access = service.access

    @app.get("/v1/me", **described("Me", is_open=True))
    async def me(request: Request) -> Response:
        """Who asks, with which role; `login` says whether anybody has to sign in. `csrf`: what a browser sends with every change."""
        caller = request.scope.get(CALLER)
        known = caller if isinstance(caller, Caller) else None
        found: dict[str, Any] = {
            "name": known.name if known is not None and known.kind != ANYBODY else None,
            "kind": known.kind if known is not None else None,
            "role": known.role if known is not None else None,
            "login": not access.is_open,
        }
        if SESSION in request.scope:
            found["csrf"] = csrf_token(request)
        response = json_response(found)
        response.headers["Cache-Control"] = "no-store"
        return response

    @app.get("/v1/users", **described("UserPage"))
    async def users(limit: Limit = DEFAULT_LIMIT, cursor: Cursor = "") -> Response:
        """Local users with their roles, by name."""
        found = await access.ask(lambda tables: tables.users())
        return json_response(objects.part([objects.user_object(user) for user in found], limit, cursor))

    @app.get("/v1/tokens", **described("TokenPage"))
    async def tokens(limit: Limit = DEFAULT_LIMIT, cursor: Cursor = "") -> Response:
        """Tokens with their roles, by name; what a token is cannot be read."""
        found, now_ms = await access.ask(lambda tables: tables.tokens()), access.now_ms()
        items = [objects.token_object(token, now_ms) for token in found]
        return json_response(objects.part(items, limit, cursor))

    @app.get("/v1/audit", **described("AuditPage"))
    async def audit(
        who: str | None = None, act: str | None = None, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = ""
    ) -> Response:
        """The audit log, newest first: who did what, from where, with what before and after. `act`: the name of one, such as Acknowledge."""
        most, older = limit, number_of(cursor)
        rows = await access.ask(lambda tables: tables.audit(who=who, act=act, before=older, limit=most + 1))
        items = [objects.audit_object(row) for row in rows[:most]]
        return json_response(page(items, rows[most - 1].id if len(rows) > most else None))
