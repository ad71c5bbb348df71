"""Errors as `application/problem+json` (RFC 9457), in words for the person who reads them. Read `say_what_is_wrong`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from engine.errors import BadQuestion, ClockSuspect, NotThere, Overloaded, RollcallError, StoreError
from engine.telemetry import Event, logger

log = logger(__name__)

MAX_SHOWN = 60
"""Characters of a wrong value that are said back."""


def problem(status: int, title: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error as the interface answers it."""
    body = json.dumps({"type": "about:blank", "title": title, "status": status})
    return Response(body, status, dict(headers or {}), media_type="application/problem+json")


def _said(error: Mapping[str, Any]) -> str:
    """One finding of the parameter check as a sentence."""
    name = error["loc"][-1] if error["loc"] else "request"
    context = error.get("ctx", {})
    given = repr(error.get("input"))
    given = given if len(given) <= MAX_SHOWN else given[:MAX_SHOWN] + "…"
    kind = error["type"]
    if kind.startswith("int"):
        wanted = "must be a whole number"
    elif kind.startswith("bool"):
        wanted = "must be true or false"
    elif kind in {"literal_error", "enum"}:
        wanted = "must be " + str(context.get("expected", "one of the known values")).replace("'", "")
    elif kind == "greater_than_equal":
        wanted = f"must be at least {context['ge']}"
    elif kind == "missing":
        return f"`{name}` is missing"
    else:
        wanted = str(error["msg"])
    return f"`{name}` {wanted}, not {given}"


def _unknown_parameter(name: str, known: Sequence[str]) -> str:
    """A parameter that the route does not have."""
    if not known:
        return f"there is no parameter `{name[:MAX_SHOWN]}` here; this takes none"
    return f"there is no parameter `{name[:MAX_SHOWN]}` here (there are: {', '.join(known)})"


async def only_known_parameters(request: Request) -> None:
    """A filter that is misspelt must not answer everything."""
    dependant = getattr(request.scope.get("route"), "dependant", None)
    if dependant is None:
        return
    parameters = {field.alias: "list" in str(field.field_info.annotation) for field in dependant.query_params}
    for name in request.query_params:
        if name not in parameters:
            raise BadQuestion(_unknown_parameter(name, sorted(parameters)))
        if not parameters[name] and len(request.query_params.getlist(name)) > 1:
            raise BadQuestion(f"`{name}` is given more than once")


def say_what_is_wrong(app: FastAPI) -> None:
    """Every error as `application/problem+json`."""

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        title = str(error.detail)
        if title == "Not Found":
            title = f"there is nothing at {request.url.path[:200]}"
        elif title == "Method Not Allowed":
            title = f"{request.method} is not possible here"
        return problem(error.status_code, title, error.headers)

    @app.exception_handler(RequestValidationError)
    async def _parameters(_: Request, error: RequestValidationError) -> Response:
        return problem(400, "; ".join(_said(finding) for finding in error.errors()))

    @app.exception_handler(RollcallError)
    async def _ours(_: Request, error: RollcallError) -> Response:
        if isinstance(error, BadQuestion):
            return problem(400, str(error))
        if isinstance(error, NotThere):
            return problem(404, str(error))
        if isinstance(error, Overloaded):
            return problem(429, str(error), {"Retry-After": str(error.retry_after_s)})
        if isinstance(error, ClockSuspect | StoreError):
            return problem(503, str(error), {"Retry-After": "5"})
        return problem(413 if type(error).__name__ == "BodyTooLarge" else 422, str(error))

    @app.exception_handler(Exception)
    async def _fault(request: Request, error: Exception) -> Response:
        log.error(Event.REQUEST_FAILED, path=request.url.path, exc_info=error)
        return problem(500, f"a fault of ours: {type(error).__name__}")
