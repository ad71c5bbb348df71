"""Routes of the HTTP interface: thin, over what `answers` says and the service does. Read `create`.

Routes that only look into memory are plain functions and run in threads; those that ask the store wait for it in one. So
nothing here holds up the event loop, which also takes events.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import unquote_to_bytes

from fastapi import Depends, FastAPI, Query, Request, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from engine import __version__
from engine.errors import BadQuestion, NotThere, Overloaded
from engine.stores.base import Reader
from engine.telemetry import logger
from engine.web import alertacts, metrics, reconciling, serializers, status_page
from engine.web.answers import DEFAULT_LIMIT, MAX_LIMIT, Answers, Object, refusal
from engine.web.auth import Guard
from engine.web.paging import Cursor, Limit
from engine.web.problems import only_known_parameters, say_what_is_wrong
from engine.web.service import Service

MAX_BODY_BYTES = 16 * 1024 * 1024
MAX_READING_BYTES = 4 * MAX_BODY_BYTES
"""Bytes of all bodies that may be on their way in at one time."""

STARTING_S = 1
"""Seconds after which to ask again while the states are being loaded."""

Status = Literal["online", "offline", "unknown"]
AlertState = Literal["pending", "firing", "suppressed", "resolved"]
DeliveryState = Literal["due", "delivered", "dead", "held", "shadow", "discarded"]
Match = Annotated[list[str] | None, Query(description="key=pattern, as in a rule's match; may be repeated.")]
T = TypeVar("T")

log = logger(__name__)


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
    answers = Answers(service)
    say_what_is_wrong(app)
    _events(app, service)
    _clients(app, service, answers)
    _records(app, service, answers)
    _acts(app, service)
    reconciling.routes(app, service, answers, _loaded(service))
    alertacts.add(app, service, answers, [Depends(_loaded(service))])
    _condition(app, service, answers)
    http = service.config.http
    token = http.token.reveal() if http.token is not None else None
    return Guard(app, http.host, token)


def _json(found: Any, status: int = 200) -> Response:
    return Response(serializers.as_json(found), status, media_type="application/json")


def _events(app: FastAPI, service: Service) -> None:
    bodies = Bodies()

    @app.post("/v1/events", status_code=202)
    async def events(request: Request) -> Response:
        """Take one event, or one a line; answered when what was accepted is durable."""
        if service.push is None:
            raise HTTPException(404, "no source of type http is configured")
        kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
        taken = await service.push.accept(await bodies.read(request), kind)
        rejected = [{"line": entry.line, "reason": entry.reason} for entry in taken.rejected]
        return _json({"accepted": taken.accepted, "rejected": rejected}, 202)


class Bodies:
    """Request bodies being read, bounded together: many slow senders of large bodies must not take the memory."""

    def __init__(self, most_bytes: int = MAX_READING_BYTES) -> None:
        self._most_bytes = most_bytes
        self.bytes = 0  # of all bodies that are being read now

    async def read(self, request: Request) -> bytes:
        """One body. Raises HTTPException (413) for one that is too large, Overloaded while too many are being read."""
        parts, size = [], 0
        try:
            async for part in request.stream():
                size += len(part)
                self.bytes += len(part)
                if size > MAX_BODY_BYTES:
                    raise HTTPException(413, f"the body is larger than {MAX_BODY_BYTES} bytes; send it in parts")
                if self.bytes > self._most_bytes:
                    raise Overloaded("too many events are being sent at once")
                parts.append(part)
            return b"".join(parts)
        finally:
            self.bytes -= size


def _loaded(service: Service) -> Callable[[], Awaitable[None]]:
    """A route that speaks of clients must not speak of half of them."""

    async def check() -> None:
        if service.ready_at_ms is None:
            raise HTTPException(503, "starting: the states are being loaded", {"Retry-After": str(STARTING_S)})

    return check


def _client_id(raw: str) -> str:
    """The id that a path names: its slashes are still encoded, see `guard`."""
    return unquote_to_bytes(raw.encode("latin-1", "replace")).decode("utf-8", "replace")


def _clients(app: FastAPI, service: Service, answers: Answers) -> None:
    loaded = [Depends(_loaded(service))]

    @app.get("/v1/clients", dependencies=loaded)
    def clients(
        status: Status | None = None,
        group: str | None = None,
        device: str | None = None,
        match: Match = None,
        limit: Limit = DEFAULT_LIMIT,
        cursor: Cursor = "",
    ) -> Response:
        """What is believed about each client, by name."""
        found = answers.clients(
            status=status, group=group, device=device, match=match or (), limit=min(limit, MAX_LIMIT), cursor=cursor
        )
        return _json(found)

    @app.get("/v1/clients/{client:path}/status", dependencies=loaded)
    async def status_of(client: str, verify: bool = False) -> Response:
        """Is it online? With `verify` the broker's service is asked; what is believed is the answer when it says nothing."""
        id_ = _client_id(client)
        return _json(await reconciling.verified(service, id_) if verify else answers.status(id_))

    @app.get("/v1/clients/{client:path}/timeline", dependencies=loaded)
    async def timeline(client: str, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = "") -> Response:
        """What happened to it, newest first."""
        id_, most = _client_id(client), min(limit, MAX_LIMIT)
        return await _told(service, lambda reader: answers.timeline(reader, id_, limit=most, cursor=cursor))

    @app.get("/v1/clients/{client:path}/explanation", dependencies=loaded)
    async def explanation(client: str, at: int | None = None) -> Response:
        """The verdict and its grounds, now or at an instant (epoch milliseconds)."""
        id_ = _client_id(client)
        if at is not None and not 0 < at < 1 << 47:
            raise BadQuestion("`at` must be an instant in epoch milliseconds")
        return await _told(service, lambda reader: answers.explanation(reader, id_, at))

    @app.get("/v1/clients/{client:path}", dependencies=loaded)
    def client_of(client: str) -> Response:
        """One client."""
        return _json(answers.client(_client_id(client)))

    @app.delete("/v1/clients/{client:path}", dependencies=loaded)
    async def forget(client: str) -> Response:
        """Keep a client no longer; its alerts are closed."""
        id_ = _client_id(client)
        if not await service.forget([id_]):
            raise NotThere(f"no event ever named {id_!r}")
        return _json({"client": id_})


async def _told(service: Service, question: Callable[[Reader], Object]) -> Response:
    """Ask the store; the answer is written as JSON in the same thread."""
    return await service.ask(lambda reader: _json(question(reader)))


def _records(app: FastAPI, service: Service, answers: Answers) -> None:
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
        return await _told(service, lambda reader: answers.alerts(reader, cursor=cursor, **wanted))

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
        return await _told(service, lambda reader: answers.deliveries(reader, limit=most, cursor=cursor, **wanted))

    @app.get("/v1/deliveries/{number}")
    async def delivery(number: str) -> Response:
        """One delivery with its request, secrets concealed."""
        wanted = _number(number)
        return await _told(service, lambda reader: answers.delivery(reader, wanted))

    @app.get("/v1/quarantine")
    async def quarantine(limit: Limit = DEFAULT_LIMIT, cursor: Cursor = "") -> Response:
        """Events that could not be accepted, newest first."""
        most = min(limit, MAX_LIMIT)
        return await _told(service, lambda reader: answers.quarantine(reader, limit=most, cursor=cursor))

    @app.get("/v1/sources")
    async def sources(limit: Limit = DEFAULT_LIMIT, cursor: Cursor = "") -> Response:
        """How far each source has been read, and what is known to be missing."""
        most = min(limit, MAX_LIMIT)
        return await _told(service, lambda reader: answers.sources(reader, limit=most, cursor=cursor))

    @app.get("/v1/rules")
    def rules(limit: Limit = DEFAULT_LIMIT, cursor: Cursor = "") -> Response:
        """The rules in force."""
        return _json(answers.rules(limit=min(limit, MAX_LIMIT), cursor=cursor))


def _number(text: str) -> int:
    """A delivery's number in a path."""
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise NotThere(f"there is no delivery {text[:60]!r}")
    return int(text)


def _acts(app: FastAPI, service: Service) -> None:
    loaded = [Depends(_loaded(service))]

    async def act(number: str, what: str) -> Response:
        row, changed = await service.act_on_delivery(_number(number), what)
        if row is None:
            raise NotThere(f"there is no delivery {number}")
        if not changed:
            raise HTTPException(409, refusal(row.id, row.state, what))
        return _json(serializers.delivery_object(row))

    @app.post("/v1/deliveries/{number}/retry", dependencies=loaded)
    async def retry(number: str) -> Response:
        """Send a dead delivery once more."""
        return await act(number, "retry")

    @app.post("/v1/deliveries/{number}/discard", dependencies=loaded)
    async def discard(number: str) -> Response:
        """Never send a delivery."""
        return await act(number, "discard")

    @app.post("/v1/deliveries/{number}/release", dependencies=loaded)
    async def release(number: str) -> Response:
        """Send a held delivery."""
        return await act(number, "release")

    @app.post("/v1/quarantine/retry", dependencies=loaded)
    async def retry_quarantine() -> Response:
        """Offer everything in the quarantine again; what is accepted leaves it."""
        accepted, left = await service.retry_quarantine()
        return _json({"accepted": accepted, "rejected": left})


def _condition(app: FastAPI, service: Service, answers: Answers) -> None:
    @app.get("/healthz")
    def healthz() -> Response:
        """Is the process alive? `process` is its number, as in the lock of its data folder."""
        return _json({"status": "alive", "process": os.getpid()})

    @app.get("/readyz")
    def readyz() -> Response:
        """Is it ready for events? `sources` says how each of them is doing, also of what is no reason against it."""
        now_ms = service.now_ms()
        reasons = service.readiness(now_ms)
        sources = [serializers.health_object(health, now_ms) for health in service.healths()]
        return _json({"ready": not reasons, "reasons": reasons, "sources": sources}, 503 if reasons else 200)

    @app.get("/metrics")
    def numbers() -> Response:
        """Metrics, as Prometheus reads them."""
        return Response(metrics.exposition(service), media_type="text/plain; version=0.0.4")

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        """The status page."""
        told = await service.ask(lambda reader: status_page.collect(service, answers, reader))
        return await asyncio.to_thread(status_page.response, told)
