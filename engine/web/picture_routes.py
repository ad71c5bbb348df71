"""Routes for what the drawings show: the fleet's curve, how long verdicts took, how an outage went. Thin, over `fleet_pictures`."""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, Query, Response

from engine.errors import BadQuestion
from engine.web import fleet_pictures
from engine.web.fleet_pictures import MAX_LATENCY_POINTS, MAX_POINTS, range_of
from engine.web.openapi.operation import described
from engine.web.parameters import MAX_INSTANT_MS, Name, json_response
from engine.web.service import Service

From = Annotated[
    int | None,
    Query(alias="from", ge=0, le=MAX_INSTANT_MS, description="Epoch milliseconds; by default a day before `to`."),
]
To = Annotated[int | None, Query(ge=1, le=MAX_INSTANT_MS, description="Epoch milliseconds; by default now.")]


def add_picture_routes(app: FastAPI, service: Service) -> None:
    """Add the routes."""

    @app.get("/v1/fleet/curve", **described("FleetCurve"))
    async def fleet_curve(from_: From = None, to: To = None, group: Name | None = None) -> Response:
        """How many clients were online, offline, unknown and on hold, oldest first, with the outages of that time.

        Counted once a minute; `step` says how many seconds apart the items are. `group`: one MQTT group instead of the whole fleet.
        """
        if group == "":
            raise BadQuestion("`group` must not be empty: leave it out for the whole fleet")
        wanted = range_of(from_, to, service.now_ms(), MAX_POINTS)
        return await service.ask(lambda reader: json_response(fleet_pictures.fleet_curve(reader, wanted, group)))

    @app.get("/v1/fleet/verdicts", **described("VerdictLatency"))
    async def verdict_latency(from_: From = None, to: To = None) -> Response:
        """How many seconds it took from the broker's time of an event until its change had settled: half of them, and 99 %."""
        wanted = range_of(from_, to, service.now_ms(), MAX_LATENCY_POINTS)
        return await service.ask(lambda reader: json_response(fleet_pictures.verdict_latency(reader, wanted)))

    @app.get("/v1/alerts/{id_}/progress", **described("OutageProgress", 404))
    async def outage_progress(id_: str) -> Response:
        """How the outage of an alert went: how many clients had joined it, and how many were back, oldest first."""
        now_ms = service.now_ms()
        return await service.ask(lambda reader: json_response(fleet_pictures.outage_progress(reader, id_, now_ms)))
