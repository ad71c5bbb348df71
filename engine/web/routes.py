"""The HTTP interface: the application for a service, the route for events, and those about the service itself. Read `create`."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from starlette.routing import Match
from starlette.types import ASGIApp, Scope

from engine import __version__
from engine.errors import BadQuestion, NotThere
from engine.web import metrics, serializers
from engine.web.access.access_routes import add_access_routes
from engine.web.access.login import add_login
from engine.web.access.oidc_login import add_oidc_login
from engine.web.access.roles import all_needed, guard, role_check
from engine.web.act_routes import add_act_routes
from engine.web.auth import AccessCheck
from engine.web.bodies import EventBodies
from engine.web.console import add_console
from engine.web.openapi.operation import JSON, described, named
from engine.web.parameters import json_response, loaded_check
from engine.web.picture_routes import add_picture_routes
from engine.web.problems import answer_errors, only_known_parameters, problem
from engine.web.read_routes import add_read_routes
from engine.web.refusals import BAD_BODY, Refusals
from engine.web.service import Service

REASONS_SHOWN = 3
"""Rejected lines that the title of a problem names; the problem lists more of them."""


def create(service: Service, refusals: Refusals | None = None) -> ASGIApp:
    """The application for a service. `refusals` counts what is refused; None: nobody wants to know."""
    refusals = refusals or Refusals()
    needed = all_needed(service.act_routes)
    app = FastAPI(
        title="Rollcall",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        openapi_url=None,  # a route as any other, so that it needs a role
        dependencies=[Depends(role_check(needed)), Depends(only_known_parameters)],
        generate_unique_id_function=lambda route: route.name,
    )
    views = service.views
    loaded = [Depends(loaded_check(service))]
    answer_errors(app, refusals)
    _events(app, service, refusals)
    add_read_routes(app, service, views, loaded)
    add_picture_routes(app, service)
    add_act_routes(app, service, loaded)
    _health(app, service, refusals)
    add_access_routes(app, service)
    add_login(app, service)
    add_oidc_login(app, service)
    add_console(app, service)
    _describe(app, service)
    guard(app, needed)
    return AccessCheck(app, service.config.http, service.access, refusals, partial(_has_route, app))


def _describe(app: FastAPI, service: Service) -> None:
    made: dict[bool, dict[str, Any]] = {}

    def document() -> dict[str, Any]:
        """The OpenAPI document, made when it is asked for first."""
        needs_token = not service.access.is_open
        if needs_token not in made:
            from engine.web.openapi.document import build

            made[needs_token] = build(app, needs_token=needs_token)
        return made[needs_token]

    app.openapi = document  # type: ignore[method-assign]

    @app.get("/openapi.json", include_in_schema=False)
    def openapi() -> Response:
        """The description of this interface."""
        return json_response(document())


CHALLENGE = "Rollcall-Challenge"
"""A command puts a random text here; see `stores.sqlite.folder_lock`."""

MAX_CHALLENGE = 128
"""Characters of it."""


def _has_route(app: FastAPI, scope: Scope) -> bool:
    """Is there a route for the method and the path of a request?"""
    return any(route.matches(scope)[0] is Match.FULL for route in app.routes)


EVENTS = described(
    "EventsTaken",
    404,
    status=202,
    also={400: "EventsRefused"},
    is_write=True,
    body={
        "required": True,
        "description": "One event, one per line, or an array of them; at most 16 MiB and 300,000 events. See docs/http.md.",
        "content": {
            JSON: {"schema": {"anyOf": [named("Event"), {"type": "array", "items": named("Event")}]}},
            "application/x-ndjson": {"schema": {"type": "string"}},
        },
    },
)
"""What the OpenAPI document says of posting events."""


def _events(app: FastAPI, service: Service, refusals: Refusals) -> None:
    bodies = EventBodies()

    @app.post("/v1/events", status_code=202, **EVENTS)
    async def events(request: Request) -> Response:
        """Accept one event, one per line, or a JSON array of them; the response is sent when the accepted events are stored on disk.

        When nothing in the body is an event, the response is 400 with the first reasons.
        """
        if service.push is None:
            raise NotThere("no source of type http is configured")
        kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
        taken = await service.push.accept(await bodies.read(request), kind)
        return _answer_to_events(taken, refusals)


def _answer_to_events(taken: Any, refusals: Refusals) -> Response:
    """202 when something in the body was an event, or nothing was in it; otherwise 400. Rejected lines are listed in both."""
    told: dict[str, Any] = {
        "accepted": taken.accepted,
        "rejected": [{"line": entry.line, "reason": entry.reason} for entry in taken.rejected],
    }
    if taken.rejected_more:
        told["rejected_more"] = taken.rejected_more
    if taken.accepted or taken.future or not taken.rejected:
        return json_response(told, 202)
    first = "; ".join(f"line {entry.line}: {entry.reason}" for entry in taken.rejected[:REASONS_SHOWN])
    refusals.count(BAD_BODY, first)
    left = len(taken.rejected) + taken.rejected_more - REASONS_SHOWN
    title = f"nothing in the body is an event: {first}" + (f"; and {left} more" if left > 0 else "")
    return problem(400, title, BadQuestion.code, more=told)


def _health(app: FastAPI, service: Service, refusals: Refusals) -> None:
    # These two only look into memory. They need no thread: all threads may be busy with what others ask.

    @app.get("/healthz", **described("Alive", is_open=True))
    async def healthz(request: Request) -> Response:
        """Is the process alive? `process` is its id; with the header Rollcall-Challenge, `proof` shows whose service it is."""
        found = {"status": "alive", "process": os.getpid()}
        challenge = request.headers.get(CHALLENGE, "")
        if challenge and len(challenge) <= MAX_CHALLENGE:
            # The port belongs to it: the proof of a service elsewhere is worth nothing here.
            found["proof"] = service.proof(f"{challenge} {service.config.http.port}")
        return json_response(found)

    @app.get("/readyz", **described("Readiness", also={503: "Readiness"}))
    async def readyz() -> Response:
        """Is it ready for events? `sources` has the health of every source, also when it does not affect readiness.

        `refused_edits` names the edited files that are not in force: the service goes on with what it had, so it is ready.
        `degraded`: what else does not work, such as a paused target, a status provider that does not answer, a clock that was set,
        or events that are refused. `parts`: every part. `cells`: whether this replica is `owner`, `standby` or `behind`; empty with SQLite.
        """
        now_ms = service.now_ms()
        reasons = service.readiness(now_ms)
        found = {
            "ready": not reasons,
            "reasons": reasons,
            "degraded": service.degraded(),
            "refused_edits": list(service.refused_edits),
            "sources": [serializers.health_object(health, now_ms) for health in service.healths()],
            "parts": [serializers.part_object(part) for part in service.parts()],
            "cells": [serializers.cell_object(cell) for cell in service.cell_states()],
        }
        return json_response(found, 503 if reasons else 200)

    @app.get("/metrics", response_class=PlainTextResponse, **described(None))
    def numbers() -> Response:
        """Metrics in the Prometheus format."""
        return Response(metrics.exposition(service, refusals.totals), media_type=metrics.CONTENT_TYPE)
