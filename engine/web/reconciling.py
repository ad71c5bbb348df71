"""Routes of the synchronous query and of sweeps. Read `routes`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from starlette.exceptions import HTTPException

from engine.core.presence.client_state import NEW_CLIENT
from engine.errors import BadQuestion, NotThere
from engine.web import serializers
from engine.web.answers import DEFAULT_LIMIT, MAX_LIMIT, Answers, Object
from engine.web.paging import Cursor, Limit
from engine.web.service import Inquiry, Service

NOBODY = "asking needs a status provider, and this service has none: write `status` into its configuration"

MAX_BODY_BYTES = 1_000


async def verified(service: Service, client: str) -> Object:
    """The answer of a query about one client; what is believed when there is none in time."""
    answer = await _inquiry(service).verify(client)
    now_ms = service.now_ms()
    if answer is not None:
        return serializers.answer_object(answer, now_ms)
    state = service.fleet.published(client)
    if state is None:
        return serializers.status_object(client, NEW_CLIENT, now_ms) | {"age": None}
    return serializers.status_object(client, state, now_ms)


def _inquiry(service: Service) -> Inquiry:
    if service.asking is None:
        raise HTTPException(501, NOBODY)
    return service.asking


def routes(app: FastAPI, service: Service, answers: Answers, loaded: Callable[[], Any]) -> None:
    """`/v1/reconciliations`. `loaded` refuses while the states are being loaded."""

    @app.get("/v1/reconciliations")
    async def reconciliations(limit: Limit = DEFAULT_LIMIT, cursor: Cursor = "") -> Response:
        """Sweeps, newest first."""
        most = min(limit, MAX_LIMIT)
        return await service.ask(lambda reader: _json(answers.reconciliations(reader, limit=most, cursor=cursor)))

    @app.get("/v1/reconciliations/{number}")
    async def reconciliation(number: str) -> Response:
        """One sweep: how far it is, and its drift report."""
        if not (number.isascii() and number.isdigit() and len(number) <= 18):
            raise NotThere(f"there is no reconciliation {number[:60]!r}")
        return await service.ask(lambda reader: _json(answers.reconciliation(reader, int(number))))

    @app.post("/v1/reconciliations", status_code=202, dependencies=[Depends(loaded)])
    async def begin(request: Request) -> Response:
        """Sweep through all clients now. `{"dry_run": true}`: tell what would be corrected, and change nothing."""
        number = await _inquiry(service).reconcile(dry=await _is_dry(request))
        return await service.ask(lambda reader: _json(answers.reconciliation(reader, number), 202))


async def _is_dry(request: Request) -> bool:
    """What the body wishes for: nothing, `{}` or `{"dry_run": BOOL}`."""
    raw = b""
    async for part in request.stream():
        raw += part
        if len(raw) > MAX_BODY_BYTES:
            raise HTTPException(413, "the body is too large: nothing but `dry_run` is looked for in it")
    if not raw.strip():
        return False
    try:
        told = serializers.from_json(raw)
    except ValueError:
        raise BadQuestion("the body is no JSON") from None
    if not isinstance(told, dict) or told.keys() - {"dry_run"} or not isinstance(told.get("dry_run", False), bool):
        raise BadQuestion('the body may be {"dry_run": true} or {"dry_run": false}, and nothing else')
    return bool(told.get("dry_run", False))


def _json(found: Any, status: int = 200) -> Response:
    return Response(serializers.as_json(found), status, media_type="application/json")
