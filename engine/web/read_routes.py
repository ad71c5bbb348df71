"""Routes that read: clients, alerts, deliveries, silences, the quarantine, sources, rules, sweeps. Thin, over `views`.

Routes that look only into memory are plain functions and run in threads; those that ask the store wait for a thread that asks it. So
none of them delays the event loop, which also takes events. Read `add_read_routes`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.params import Depends

from engine.core.access import OPERATOR, check_may
from engine.core.times import rfc3339
from engine.errors import NotThere
from engine.stores.base import Reader
from engine.web import serializers
from engine.web.access.roles import caller_of
from engine.web.openapi.operation import described
from engine.web.parameters import (
    MAX_NUMBER,
    AlertState,
    ClientId,
    Cursor,
    DeliveryState,
    InstantMs,
    Limit,
    Matchers,
    NameCursor,
    SilenceState,
    Status,
    TimeCursor,
    WholeNumber,
    client_id,
    json_response,
)
from engine.web.query_now import asked
from engine.web.service import Service
from engine.web.views import DEFAULT_LIMIT, Object, Views

AS_OF = "rollcall-as-of"
"""A header: up to when this replica has read what the owner of the cell has decided."""


def add_read_routes(app: FastAPI, service: Service, views: Views, loaded: Sequence[Depends]) -> None:
    """Add the routes. `loaded`: the check that refuses while the states are being loaded."""
    _clients(app, service, views, loaded)
    _one_client(app, service, views, loaded)
    _alerts(app, service, views)
    _deliveries(app, service, views)
    _sources_and_rules(app, service, views, loaded)
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


def _number(number: int, what: str) -> int:
    """A number in a path. NotThere for one that no store gives."""
    if number > MAX_NUMBER:
        raise NotThere(f"there is no {what} {number}")
    return number


def _clients(app: FastAPI, service: Service, views: Views, loaded: Sequence[Depends]) -> None:
    @app.get("/v1/clients", dependencies=loaded, **described("ClientPage", headers=[AS_OF]))
    def clients(
        status: Status | None = None,
        group: str | None = None,
        device: str | None = None,
        match: Matchers = None,
        limit: Limit = DEFAULT_LIMIT,
        cursor: NameCursor = "",
    ) -> Response:
        """Clients with their status, by name."""
        found = views.clients(status=status, group=group, device=device, match=match or (), limit=limit, cursor=cursor)
        return _stamped(service, json_response(found))


def _one_client(app: FastAPI, service: Service, views: Views, loaded: Sequence[Depends]) -> None:
    @app.get(
        "/v1/clients/{client:client}/status",
        dependencies=loaded,
        **described("ClientStatus", 404, 501, headers=[AS_OF]),
    )
    async def status_of(request: Request, client: ClientId, verify: bool = False) -> Response:
        """Is the client online? With `verify` the broker is queried, which needs the role operator; without an answer in time, the status from events is returned."""
        id_ = client_id(client)
        if verify:
            check_may(caller_of(request), OPERATOR)
        return _stamped(service, json_response(await _verified(service, id_) if verify else views.status(id_)), id_)

    @app.get("/v1/clients/{client:client}/timeline", dependencies=loaded, **described("Timeline", 404))
    async def timeline(client: ClientId, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = "") -> Response:
        """The history of a client, newest first."""
        id_ = client_id(client)
        return await _from_store(service, lambda reader: views.timeline(reader, id_, limit=limit, cursor=cursor), id_)

    @app.get(
        "/v1/clients/{client:client}/explanation", dependencies=loaded, **described("Explanation", 404, headers=[AS_OF])
    )
    async def explanation(client: ClientId, at: InstantMs | None = None) -> Response:
        """The status of a client and the evidence for it, now or at an instant (epoch milliseconds)."""
        id_ = client_id(client)
        found = await _from_store(service, lambda reader: views.explanation(reader, id_, at), id_)
        return _stamped(service, found, id_)

    @app.get("/v1/clients/{client:client}", dependencies=loaded, **described("Client", 404, headers=[AS_OF]))
    def client_of(client: ClientId) -> Response:
        """One client."""
        id_ = client_id(client)
        return _stamped(service, json_response(views.client(id_)), id_)


async def _verified(service: Service, client: str) -> Object:
    """The answer of a query about one client; what the engine believes when there is none in time."""
    answer, problem = await asked(service, client)
    now_ms = service.now_ms()
    if answer is not None:
        return serializers.answer_object(answer, now_ms)
    return serializers.belief_object(client, service.fleet_of(client).published(client), now_ms) | {"problem": problem}


def _alerts(app: FastAPI, service: Service, views: Views) -> None:
    @app.get("/v1/alerts", **described("AlertPage"))
    async def alerts(
        state: AlertState | None = None,
        rule: str | None = None,
        client: str | None = None,
        limit: Limit = DEFAULT_LIMIT,
        cursor: TimeCursor = "",
    ) -> Response:
        """Alerts, newest first."""
        wanted: dict[str, Any] = {"state": state, "rule": rule, "client": client, "limit": limit}
        return await _from_store(service, lambda reader: views.alerts(reader, cursor=cursor, **wanted))

    @app.get("/v1/alerts/{id_}", **described("AlertDetail", 404))
    async def alert(id_: str) -> Response:
        """One alert: its life, and the deliveries that were made for it, each with its attempts."""
        return await _from_store(service, lambda reader: views.alert(reader, id_))

    @app.get("/v1/silences", **described("SilencePage"))
    async def silences(
        state: SilenceState | None = None,
        author: str | None = None,
        limit: Limit = DEFAULT_LIMIT,
        cursor: TimeCursor = "",
    ) -> Response:
        """Silences, newest first: what they match, until when, by which author, and why."""
        wanted: dict[str, Any] = {"state": state, "author": author, "limit": limit}
        return await _from_store(service, lambda reader: views.silences(reader, cursor=cursor, **wanted))

    @app.get("/v1/silences/{id_}", **described("Silence", 404))
    async def silence(id_: str) -> Response:
        """One silence."""
        return await _from_store(service, lambda reader: views.silence(reader, id_))


def _deliveries(app: FastAPI, service: Service, views: Views) -> None:
    @app.get("/v1/deliveries", **described("DeliveryPage"))
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
        return await _from_store(service, lambda reader: views.deliveries(reader, limit=limit, cursor=cursor, **wanted))

    @app.get("/v1/deliveries/{number:int}", **described("DeliveryDetail", 404))
    async def delivery(number: WholeNumber) -> Response:
        """One delivery with its request; secrets are masked."""
        wanted = _number(number, "delivery")
        return await _from_store(service, lambda reader: views.delivery(reader, wanted))

    @app.get("/v1/quarantine", **described("QuarantinePage"))
    async def quarantine(limit: Limit = DEFAULT_LIMIT, cursor: Cursor = "") -> Response:
        """Quarantined events, newest first."""
        return await _from_store(service, lambda reader: views.quarantine(reader, limit=limit, cursor=cursor))


def _sources_and_rules(app: FastAPI, service: Service, views: Views, loaded: Sequence[Depends]) -> None:
    @app.get("/v1/sources", **described("SourcePage"))
    async def sources(limit: Limit = DEFAULT_LIMIT, cursor: Cursor = "") -> Response:
        """Every source: whether it is connected, how far it has been read, and its gaps."""
        return await _from_store(service, lambda reader: views.sources(reader, limit=limit, cursor=cursor))

    @app.get("/v1/quality", dependencies=loaded, **described("Quality", headers=[AS_OF]))
    async def quality() -> Response:
        """What the feeds are like: lag, gaps, events that came late or twice; and how many clients are doubtful."""
        return _stamped(service, await _from_store(service, views.quality))

    @app.get("/v1/rules", **described("RulePage"))
    def rules(limit: Limit = DEFAULT_LIMIT, cursor: Cursor = "") -> Response:
        """The rules in force."""
        return json_response(views.rules(limit=limit, cursor=cursor))


def _sweeps(app: FastAPI, service: Service, views: Views) -> None:
    @app.get("/v1/reconciliations", **described("SweepPage"))
    async def reconciliations(limit: Limit = DEFAULT_LIMIT, cursor: Cursor = "") -> Response:
        """Sweeps, newest first."""
        return await _from_store(service, lambda reader: views.reconciliations(reader, limit=limit, cursor=cursor))

    @app.get("/v1/reconciliations/{number:int}", **described("SweepReport", 404))
    async def reconciliation(number: WholeNumber) -> Response:
        """One sweep: its progress and its drift report."""
        wanted = _number(number, "reconciliation")
        return await _from_store(service, lambda reader: views.reconciliation(reader, wanted))
