"""Errors as `application/problem+json` (RFC 9457), with a sentence for the person who reads them.

`title` is the sentence, `code` the kind of error for programs (see `engine.errors`). Read `STATUS`, then `answer_errors`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Match, Route

from engine.errors import (
    BadQuestion,
    Conflict,
    Forbidden,
    NotConfigured,
    NotSignedIn,
    NotThere,
    Overloaded,
    RollcallError,
    StoreError,
    TooLarge,
    Unavailable,
)
from engine.telemetry import Event, logger
from engine.web.refusals import HUNG_UP, Refusals

log = logger(__name__)

MAX_SHOWN = 60
"""Characters of an invalid value that are repeated in the sentence."""


STATUS: Mapping[type[RollcallError], int] = {
    BadQuestion: 400,
    NotSignedIn: 401,
    Forbidden: 403,
    NotThere: 404,
    Conflict: 409,
    TooLarge: 413,
    RollcallError: 422,
    Overloaded: 429,
    NotConfigured: 501,
    StoreError: 503,
    Unavailable: 503,
}
"""The HTTP status of each kind of error; a class that is not listed has the status of the class that it derives from."""


def status_of(error: RollcallError) -> int:
    """The HTTP status that an error is answered with."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def problem(
    status: int,
    title: str,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
    more: Mapping[str, Any] | None = None,
) -> Response:
    """The response for an error; `code` is None for errors that have no class of ours, such as a method that is not allowed.

    `more`: further members of the problem.
    """
    body: dict[str, Any] = {"type": "about:blank", "title": title, "status": status}
    if code is not None:
        body["code"] = code
    body |= more or {}
    return Response(json.dumps(body), status, dict(headers or {}), media_type="application/problem+json")


def _sentence(error: Mapping[str, Any]) -> str:
    """What is wrong with one parameter, as a sentence."""
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
        wanted = "must be " + str(context.get("expected", "one of the allowed values")).replace("'", "")
    elif kind == "greater_than_equal":
        wanted = f"must be at least {context['ge']}"
    elif kind == "less_than_equal":
        wanted = f"must be at most {context['le']}"
    elif kind == "missing":
        return f"`{name}` is missing"
    else:
        wanted = str(error["msg"])
    return f"`{name}` {wanted}, not {given}"


def _unknown_parameter(name: str, known: Sequence[str]) -> str:
    """What to say about a parameter that the route does not have."""
    if not known:
        return f"there is no parameter `{name[:MAX_SHOWN]}` here: this path takes no parameters"
    return f"there is no parameter `{name[:MAX_SHOWN]}` here; the parameters are {', '.join(known)}"


async def only_known_parameters(request: Request) -> None:
    """BadQuestion for an unknown parameter: a misspelt filter must not return the whole list."""
    dependant = getattr(request.scope.get("route"), "dependant", None)
    if dependant is None:
        return
    parameters = {field.alias: "list" in str(field.field_info.annotation) for field in dependant.query_params}
    for name in request.query_params:
        if name not in parameters:
            raise BadQuestion(_unknown_parameter(name, sorted(parameters)))
        if not parameters[name] and len(request.query_params.getlist(name)) > 1:
            raise BadQuestion(f"`{name}` is given more than once")


def _methods_at(request: Request) -> list[str]:
    """The methods that are allowed at the path of a request: of the first route there, and of those with the same path."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    first = next(route for route in routes if route.matches(request.scope)[0] is not Match.NONE)
    allowed = {method for route in routes if route.path_format == first.path_format for method in route.methods or ()}
    return sorted(allowed - {"HEAD"})


def answer_errors(app: FastAPI, refusals: Refusals) -> None:
    """Answer every error as `application/problem+json`."""

    @app.exception_handler(ClientDisconnect)
    async def _gone(_: Request, error: ClientDisconnect) -> Response:
        refusals.count(HUNG_UP, "a sender ended its connection in the middle of a body")
        return Response(status_code=400)  # nobody is there to read it

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        title = str(error.detail)
        if title == "Not Found":
            title = f"there is nothing at {request.url.path[:200]}"
        headers = error.headers
        if title == "Method Not Allowed":
            title = f"{request.method} is not allowed here"
            headers = {"Allow": ", ".join(_methods_at(request))}
        code = NotThere.code if error.status_code == STATUS[NotThere] else None
        return problem(error.status_code, title, code, headers)

    @app.exception_handler(RequestValidationError)
    async def _parameters(_: Request, error: RequestValidationError) -> Response:
        title = "; ".join(_sentence(finding) for finding in error.errors())
        return problem(400, title, BadQuestion.code)

    @app.exception_handler(RollcallError)
    async def _ours(_: Request, error: RollcallError) -> Response:
        headers = {"Retry-After": str(error.retry_after_s)} if isinstance(error, Unavailable | StoreError) else {}
        return problem(status_of(error), str(error), error.code, headers)

    @app.exception_handler(Exception)
    async def _unexpected(request: Request, error: Exception) -> Response:
        log.error(Event.REQUEST_FAILED, path=request.url.path, exc_info=error)
        return problem(500, f"internal error: {type(error).__name__}; the log has the details")
