"""Routes of the HTTP interface: thin, over what the service knows. Read `create`."""

from __future__ import annotations

import hmac
import json
import sqlite3
from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from engine import views
from engine.errors import ClockSuspect, Overloaded, RollcallError, StoreError
from engine.stores import sqlite_outbox

T = TypeVar("T")
MAX_BODY_BYTES = 16 * 1024 * 1024
MAX_LIMIT = 1000
WRITE_TYPES = frozenset({"application/json", "application/x-ndjson"})


class Service(Protocol):
    """What the interface asks of the running service."""

    config: Any
    clock: Any
    fleet: Any
    inventory: Any
    sources: Mapping[str, Any]
    push: Any
    writer: Any
    dispatcher: Any
    rules: Any
    rules_problem: str | None

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T: ...
    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T: ...
    async def forget(self, clients: Any) -> int: ...
    async def retry_quarantine(self, limit: int = 1000) -> tuple[int, int]: ...
    def readiness(self, now_ms: int) -> list[str]: ...


def problem(status: int, title: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error as `application/problem+json`."""
    body = json.dumps({"type": "about:blank", "title": title, "status": status})
    return Response(body, status, headers, media_type="application/problem+json")


class Guard:
    """Who may speak to the engine: known hosts, no foreign pages, the token where one is set, JSON for writes."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str], token: str | None) -> None:
        self._app = app
        self._hosts = hosts
        self._token = token.encode() if token is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            refused = self._refuse(scope)
            if refused is not None:
                await refused(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refuse(self, scope: Scope) -> Response | None:
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if host not in self._hosts:
            return problem(403, f"the host {host!r} is not served here")
        origin = headers.get(b"origin")
        if origin is not None and urlsplit(origin.decode("latin-1")).netloc.lower() not in self._hosts:
            return problem(403, "pages of other origins may not speak to this engine")
        if self._token is not None and scope["path"] != "/healthz":
            given = headers.get(b"authorization", b"")
            if not hmac.compare_digest(given, b"Bearer " + self._token):
                return problem(401, "a bearer token is required", {"WWW-Authenticate": "Bearer"})
        if scope["method"] not in {"GET", "HEAD", "OPTIONS"}:
            kind = headers.get(b"content-type", b"").decode("latin-1").split(";")[0].strip().lower()
            if kind not in WRITE_TYPES:
                return problem(415, "writes need application/json or application/x-ndjson")
        return None


def _hosts(service: Service) -> frozenset[str]:
    http = service.config.http
    names = {"localhost", "127.0.0.1", "[::1]", http.host.lower()}
    return frozenset(names | {f"{name}:{http.port}" for name in names})


async def _body(request: Request) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise HTTPException(413, f"the body is larger than {MAX_BODY_BYTES} bytes; send it in parts")
        parts.append(part)
    return b"".join(parts)


class _Metrics:
    """Reads counters when asked; nothing is done per event."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Any:
        service = self._service
        for name in service.writer.stats.__slots__:
            value = getattr(service.writer.stats, name)
            yield CounterMetricFamily(f"rollcall_{name}", f"{name.replace('_', ' ')} since the start", value=value)
        yield GaugeMetricFamily("rollcall_clients", "clients known", value=len(service.fleet.states))
        flaps = service.fleet.counts
        yield CounterMetricFamily("rollcall_flaps_suppressed", "flaps suppressed", value=flaps.flaps_suppressed)
        sent = service.dispatcher.stats
        for name in ("sent", "delivered", "retried", "rejected"):
            value = getattr(sent, name)
            yield CounterMetricFamily(f"rollcall_delivery_{name}", f"deliveries {name}", value=value)
        now_ms = service.clock.now_ms()
        lag = GaugeMetricFamily("rollcall_source_behind_seconds", "seconds not caught up", labels=["source"])
        up = GaugeMetricFamily("rollcall_source_connected", "is the source connected", labels=["source"])
        for source in service.sources.values():
            health = source.health(now_ms)
            up.add_metric([health.name], float(health.connected))
            if health.caught_up_to_ms:
                lag.add_metric([health.name], max(0, now_ms - health.caught_up_to_ms) / 1000)
        yield up
        yield lag
        broken = float(service.rules_problem is not None)
        yield GaugeMetricFamily("rollcall_rules_broken", "edited rules do not load", value=broken)


def create(service: Service) -> ASGIApp:
    """The application for a service."""
    app = FastAPI(title="Rollcall", docs_url=None, redoc_url=None)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Metrics(service))
    skew_ms = service.config.resolver.clock_skew_ms

    @app.exception_handler(HTTPException)
    async def _http(_: Request, error: HTTPException) -> Response:
        return problem(error.status_code, str(error.detail), error.headers)

    @app.exception_handler(RollcallError)
    async def _ours(_: Request, error: RollcallError) -> Response:
        if isinstance(error, Overloaded):
            return problem(429, str(error), {"Retry-After": str(error.retry_after_s)})
        if isinstance(error, ClockSuspect | StoreError):
            return problem(503, str(error), {"Retry-After": "5"})
        return problem(413 if type(error).__name__ == "BodyTooLarge" else 422, str(error))

    @app.exception_handler(Exception)
    async def _fault(_: Request, error: Exception) -> Response:
        return problem(500, f"a fault of ours: {type(error).__name__}")

    @app.post("/v1/events", status_code=202)
    async def events(request: Request) -> Response:
        if service.push is None:
            raise HTTPException(404, "no source of type http is configured")
        kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
        taken = await service.push.accept(await _body(request), kind)
        rejected = [{"line": entry.line, "reason": entry.reason} for entry in taken.rejected]
        return JSONResponse({"accepted": taken.accepted, "rejected": rejected}, 202)

    def shown(client: str) -> dict[str, Any]:
        state = service.fleet.published(client)
        if state is None:
            raise HTTPException(404, f"no event ever named {client!r}")
        return views.client_object(client, state, service.inventory.attributes(client), skew_ms)

    @app.get("/v1/clients")
    def clients(status: str | None = None, group: str | None = None, limit: int = 100, cursor: str = "") -> Any:
        limit = max(1, min(limit, MAX_LIMIT))
        names = sorted(list(service.fleet.states))
        items: list[dict[str, Any]] = []
        for name in names[bisect_right(names, cursor) :]:
            if service.fleet.published(name) is None:
                continue
            found = shown(name)
            if (status is None or found["status"] == status) and (group is None or found["group"] == group):
                items.append(found)
                if len(items) > limit:
                    break
        more = items[limit - 1]["client"] if len(items) > limit else None
        return JSONResponse({"items": items[:limit], "next": more})

    @app.get("/v1/clients/{client:path}/status")
    def status_of(client: str, verify: bool = False) -> Any:
        if verify:
            raise HTTPException(501, "asking the broker needs a status provider, which this version does not have")
        found = shown(client)
        since = service.fleet.published(client)
        age_ms = service.clock.now_ms() - (since.settled_at_ms or since.since_ms) if since else 0
        online = {"online": True, "offline": False}.get(found["status"])
        return JSONResponse(
            {"client": client, "online": online, "connections": None, "source": "belief", "asked_at": None,
             "age": age_ms / 1000}
        )  # fmt: skip

    @app.get("/v1/clients/{client:path}")
    def client_of(client: str) -> Any:
        return JSONResponse(shown(client))

    @app.get("/v1/sources")
    def sources() -> Any:
        now_ms = service.clock.now_ms()
        items = [views.source_object(source.health(now_ms)) for source in service.sources.values()]
        return JSONResponse({"items": items, "next": None})

    @app.get("/v1/rules")
    def rules() -> Any:
        items = [
            {"name": rule.name, "triggers": rule.triggers, "severity": rule.severity, "shadow": rule.shadow,
             "file": rule.file, "line": rule.line}
            for rule in service.rules
        ]  # fmt: skip
        return JSONResponse({"items": items, "next": None, "problem": service.rules_problem})

    @app.get("/v1/alerts")
    async def alerts(state: str | None = None, limit: int = 100) -> Any:
        limit = max(1, min(limit, MAX_LIMIT))
        return JSONResponse({"items": await service.read(lambda c: views.alert_objects(c, limit, state)), "next": None})

    @app.get("/v1/deliveries")
    async def deliveries(state: str | None = None, rule: str | None = None, limit: int = 100, cursor: int = 0) -> Any:
        limit = max(1, min(limit, MAX_LIMIT))
        rows = await service.read(
            lambda c: sqlite_outbox.list_(c, state=state, rule=rule, limit=limit, cursor=cursor or None)
        )
        items = [views.delivery_object(row) for row in rows]
        return JSONResponse({"items": items, "next": str(items[-1]["id"]) if len(items) == limit else None})

    @app.post("/v1/deliveries/{number}/{act}")
    async def act_on(number: int, act: str) -> Any:
        if act not in {"retry", "discard"}:
            raise HTTPException(404, f"a delivery can be retried or discarded, not {act!r}")
        do = sqlite_outbox.retry if act == "retry" else sqlite_outbox.discard
        now_ms = service.clock.now_ms()
        await service.write(lambda connection: do(connection, [number], now_ms))
        service.dispatcher.wake()
        return JSONResponse({"id": number})

    @app.get("/v1/quarantine")
    async def quarantine(limit: int = 100) -> Any:
        limit = max(1, min(limit, MAX_LIMIT))
        return JSONResponse({"items": await service.read(lambda c: views.quarantine_objects(c, limit)), "next": None})

    @app.post("/v1/quarantine/retry")
    async def retry_quarantine() -> Any:
        accepted, left = await service.retry_quarantine()
        return JSONResponse({"accepted": accepted, "rejected": left})

    @app.delete("/v1/clients/{client:path}")
    async def forget(client: str) -> Any:
        if not await service.forget([client]):
            raise HTTPException(404, f"no event ever named {client!r}")
        return JSONResponse({"client": client})

    @app.get("/healthz")
    def healthz() -> Any:
        return JSONResponse({"status": "alive"})

    @app.get("/readyz")
    def readyz() -> Any:
        reasons = service.readiness(service.clock.now_ms())
        return JSONResponse({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(registry), media_type="text/plain; version=0.0.4")

    http = service.config.http
    token = http.token.reveal() if http.token is not None else None
    return Guard(app, _hosts(service), token)
