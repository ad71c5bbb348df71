"""The HTTP interface: the application for a service, the route for events, and those about the service itself. Read `create`."""

from __future__ import annotations

import asyncio
import os

from fastapi import Depends, FastAPI, Request, Response
from starlette.types import ASGIApp

from engine import __version__
from engine.errors import NotThere
from engine.web import metrics, serializers, status_page
from engine.web.act_routes import add_act_routes
from engine.web.auth import AccessCheck
from engine.web.bodies import EventBodies
from engine.web.parameters import json_response, loaded_check
from engine.web.problems import answer_errors, only_known_parameters
from engine.web.read_routes import add_read_routes
from engine.web.service import Service
from engine.web.views import Views


def create(service: Service) -> ASGIApp:
    """The application for a service."""
    app = FastAPI(
        title="Rollcall",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[Depends(only_known_parameters)],
    )
    views = service.views
    loaded = [Depends(loaded_check(service))]
    answer_errors(app)
    _events(app, service)
    add_read_routes(app, service, views, loaded)
    add_act_routes(app, service, loaded)
    _health(app, service)
    _status_page(app, service, views)
    http = service.config.http
    token = http.token.reveal() if http.token is not None else None
    return AccessCheck(app, http.host, token)


def _events(app: FastAPI, service: Service) -> None:
    bodies = EventBodies()

    @app.post("/v1/events", status_code=202)
    async def events(request: Request) -> Response:
        """Accept one event, or one per line; the response is sent when the accepted events are stored on disk."""
        if service.push is None:
            raise NotThere("no source of type http is configured")
        kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
        taken = await service.push.accept(await bodies.read(request), kind)
        rejected = [{"line": entry.line, "reason": entry.reason} for entry in taken.rejected]
        return json_response({"accepted": taken.accepted, "rejected": rejected}, 202)


def _health(app: FastAPI, service: Service) -> None:
    @app.get("/healthz")
    def healthz() -> Response:
        """Is the process alive? `process` is its id, as in the lock file of its data folder."""
        return json_response({"status": "alive", "process": os.getpid()})

    @app.get("/readyz")
    def readyz() -> Response:
        """Is it ready for events? `degraded` says what does not work all the same; `sources` has the health of every source and `parts` every part."""
        now_ms = service.now_ms()
        reasons = service.readiness(now_ms)
        found = {
            "ready": not reasons,
            "reasons": reasons,
            "degraded": service.degraded(now_ms),
            "sources": [serializers.health_object(health, now_ms) for health in service.healths()],
            "parts": [serializers.part_object(part) for part in service.parts()],
        }
        return json_response(found, 503 if reasons else 200)

    @app.get("/metrics")
    def numbers() -> Response:
        """Metrics in the Prometheus format."""
        return Response(metrics.exposition(service), media_type="text/plain; version=0.0.4")


def _status_page(app: FastAPI, service: Service, views: Views) -> None:
    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        """The console."""
        shown = await service.ask(lambda reader: status_page.collect(service, views, reader))
        return await asyncio.to_thread(status_page.response, shown)
