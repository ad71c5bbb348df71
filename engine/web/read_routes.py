"""Routes that read: clients, alerts, deliveries, silences, the quarantine, sources, rules, sweeps. Thin, over `views`.

Routes that look only into memory are plain functions and run in threads; those that ask the store wait for a thread that asks it. So
none of them delays the event loop, which also takes events. Read `add_read_routes`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fastapi import FastAPI, Response
from fastapi.params import Depends

from engine.core.client_ids import impossible_id
from engine.core.times import rfc3339
from engine.errors import BadQuestion, NotConfigured, NotThere
from engine.stores.base import Reader
from engine.web import serializers
from engine.web.parameters import (
    AlertState,
    Cursor,
    DeliveryState,
    Limit,
    Matchers,
    SilenceState,
    Status,
    client_id,
    json_response,
)
from engine.web.service import NO_PROVIDER, Service
from engine.web.views import DEFAULT_LIMIT, MAX_LIMIT, Object, Views

AS_OF = "rollcall-as-of"
"""A header: up to when this replica has read what the owner of the cell has decided."""

MAX_INSTANT_MS = 1 << 47
"""Instants of requests are before this one, in the year 6429."""


def add_read_routes(app: FastAPI, service: Service, views: Views, loaded: Sequence[Depends]) -> None:
    """Add the routes. `loaded`: the check that refuses while the states are being loaded."""
    _clients(app, service, views, loaded)
    _one_client(app, service, views, loaded)
    _alerts(app, service, views)
    _deliveries(app, service, views)
    _sources_and_rules(app, service, views)
    _sweeps(app, service, views)


def _stamped(service: Service, response: Response, client: str | None = None) -> Response:
    """A response about a client (None: several), with the instant of which it is shown when other replicas may know more."""
    as_of_ms = service.as_of_ms(client)
    if as_of_ms is not None:
        response.headers[AS_OF] = rfc3339(as_of_ms)
    return response


async def _from_store(service: Service, question: Callable[[Reader], Object], client: str | None = None) -> Response:
    """Ask the store; the answer becomes JSON in the same thread. `client`: whose history is asked for."""
    return await service.ask(lambda reader: json_response(question(reader)), client)


def _number(text: str, what: str) -> int:
    """A number in a path. NotThere for a text that is none."""
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise NotThere(f"there is no {what} {text[:60]!r}")
    return int(text)


def _clients(app: FastAPI, service: Service, views: Views, loaded: Sequence[Depends]) -> None:
    @app.get("/v1/clients", dependencies=loaded)
    def clients(
        status: Status | None = None,
        group: str | None = None,
        device: str | None = None,
        match: Matchers = None,
        limit: Limit = DEFAULT_LIMIT,
        cursor: Cursor = "",
    ) -> Response:
        """Clients with their status, by name."""
        most = min(limit, MAX_LIMIT)
        found = views.clients(status=status, group=group, device=device, match=match or (), limit=most, cursor=cursor)
        return _stamped(service, json_response(found))


def _one_client(app: FastAPI, service: Service, views: Views, loaded: Sequence[Depends]) -> None:
    @app.get("/v1/clients/{client:path}/status", dependencies=loaded)
    async def status_of(client: str, verify: bool = False) -> Response:
        """Is the client online? With `verify` the broker is queried; without an answer in time, the status from events is returned."""
        id_ = client_id(client)
        return _stamped(service, json_response(await _verified(service, id_) if verify else views.status(id_)), id_)

    @app.get("/v1/clients/{client:path}/timeline", dependencies=loaded)
    async def timeline(client: str, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = "") -> Response:
        """The history of a client, newest first."""
        id_, most = client_id(client), min(limit, MAX_LIMIT)
        return await _from_store(service, lambda reader: views.timeline(reader, id_, limit=most, cursor=cursor), id_)

    @app.get("/v1/clients/{client:path}/explanation", dependencies=loaded)
    async def explanation(client: str, at: int | None = None) -> Response:
        """The status of a client and the evidence for it, now or at an instant (epoch milliseconds)."""
        id_ = client_id(client)
        if at is not None and not 0 < at < MAX_INSTANT_MS:
            raise BadQuestion("`at` must be an instant in epoch milliseconds")
        found = await _from_store(service, lambda reader: views.explanation(reader, id_, at), id_)
        return _stamped(service, found, id_)

    @app.get("/v1/clients/{client:path}", dependencies=loaded)
    def client_of(client: str) -> Response:
        """One client."""
        id_ = client_id(client)
        return _stamped(service, json_response(views.client(id_)), id_)


async def _verified(service: Service, client: str) -> Object:
    """The answer of a query about one client; what the engine believes when there is none in time."""
    if service.queries is None:
        raise NotConfigured(NO_PROVIDER)
    if problem := impossible_id(client):
        raise NotThere(problem)
    answer = await service.queries.verify(client)
    now_ms = service.now_ms()
    if answer is not None:
        return serializers.answer_object(answer, now_ms)
    problem = service.queries.trouble or "the broker gave no answer in time"
    return serializers.belief_object(client, service.fleet_of(client).published(client), now_ms) | {"problem": problem}


def _alerts(app: FastAPI, service: Service, views: Views) -> None:
    @app.get("/v1/alerts")
    async def alerts(
        state: AlertState | None = None,
        rule: str | None = None,
        client: str | None = None,
        limit: Limit = DEFAULT_LIMIT,
        cursor: Cursor = "",
    ) -> Response:
        """Alerts, newest first."""
        wanted: dict[str, Any] = {"state": state, "rule": rule, "client": client, "limit": min(limit, MAX_LIMIT)}
        return await _from_store(service, lambda reader: views.alerts(reader, cursor=cursor, **wanted))

    @app.get("/v1/silences")
    async def silences(
        state: SilenceState | None = None,
        author: str | None = None,
        limit: Limit = DEFAULT_LIMIT,
        cursor: Cursor = "",
    ) -> Response:
        """Silences, newest first: what they match, until when, by which author, and why."""
        wanted: dict[str, Any] = {"state": state, "author": author, "limit": min(limit, MAX_LIMIT)}
        return await _from_store(service, lambda reader: views.silences(reader, cursor=cursor, **wanted))

    @app.get("/v1/silences/{id_}")
    async def silence(id_: str) -> Response:
        """One silence."""
        return await _from_store(service, lambda reader: views.silence(reader, id_))


def _deliveries(app: FastAPI, service: Service, views: Views) -> None:
    @app.get("/v1/deliveries")
    async def deliveries(
        state: DeliveryState | None = None,
        rule: str | None = None,
        client: str | None = None,
        alert: str | None = None,
        limit: Limit = DEFAULT_LIMIT,
        cursor: Cursor = "",
    ) -> Response:
        """Deliveries, newest first."""
        wanted: dict[str, Any] = {"state": state, "rule": rule, "client": client, "alert": alert}
        most = min(limit, MAX_LIMIT)
        return await _from_store(service, lambda reader: views.deliveries(reader, limit=most, cursor=cursor, **wanted))

    @app.get("/v1/deliveries/{number}")
    async def delivery(number: str) -> Response:
        """One delivery with its request; secrets are masked."""
        wanted = _number(number, "delivery")
        return await _from_store(service, lambda reader: views.delivery(reader, wanted))

    @app.get("/v1/quarantine")
    async def quarantine(limit: Limit = DEFAULT_LIMIT, cursor: Cursor = "") -> Response:
        """Quarantined events, newest first."""
        most = min(limit, MAX_LIMIT)
        return await _from_store(service, lambda reader: views.quarantine(reader, limit=most, cursor=cursor))


def _sources_and_rules(app: FastAPI, service: Service, views: Views) -> None:
    @app.get("/v1/sources")
    async def sources(limit: Limit = DEFAULT_LIMIT, cursor: Cursor = "") -> Response:
        """Every source: whether it is connected, how far it has been read, and its gaps."""
        most = min(limit, MAX_LIMIT)
        return await _from_store(service, lambda reader: views.sources(reader, limit=most, cursor=cursor))

    @app.get("/v1/rules")
    def rules(limit: Limit = DEFAULT_LIMIT, cursor: Cursor = "") -> Response:
        """The rules in force."""
        return json_response(views.rules(limit=min(limit, MAX_LIMIT), cursor=cursor))


def _sweeps(app: FastAPI, service: Service, views: Views) -> None:
    @app.get("/v1/reconciliations")
    async def reconciliations(limit: Limit = DEFAULT_LIMIT, cursor: Cursor = "") -> Response:
        """Sweeps, newest first."""
        most = min(limit, MAX_LIMIT)
        return await _from_store(service, lambda reader: views.reconciliations(reader, limit=most, cursor=cursor))

    @app.get("/v1/reconciliations/{number}")
    async def reconciliation(number: str) -> Response:
        """One sweep: its progress and its drift report."""
        wanted = _number(number, "reconciliation")
        return await _from_store(service, lambda reader: views.reconciliation(reader, wanted))
