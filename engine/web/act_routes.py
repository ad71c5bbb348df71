"""A route for every address of every act of operators. The acts come from outside, see `ExposedAct`; nothing here names one.

Read `add_act_routes`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from inspect import Parameter, Signature
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.params import Depends

from engine.errors import BadQuestion
from engine.web.access.roles import caller_of
from engine.web.bodies import MAX_ACT_BYTES, read_body
from engine.web.openapi.operation import UNREAD_BODY, described, json_body
from engine.web.parameters import ClientId, Name, WholeNumber, client_id, json_response
from engine.web.service import ExposedAct, PendingAct, Service

_IN_PATH = re.compile(r"{(\w+)(?::(\w+))?}")
"""A parameter in the path of a route, and its converter: `{client:client}`."""

_KINDS: Mapping[str, Any] = {"int": WholeNumber, "client": ClientId}
"""The parameter that a converter stands for; any other one is a text."""

_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])")


def add_act_routes(app: FastAPI, service: Service, loaded: Sequence[Depends]) -> None:
    """Add the routes. `loaded`: the check that refuses while the states are being loaded."""
    for exposed in service.act_routes:
        _add(app, service, exposed, loaded)

    @app.get("/v1/acts/{number}", **described("ActAnswer", 404, 409, 413, 422, 429, 501, also={202: "Waiting"}))
    async def answer(number: WholeNumber) -> Response:
        """The answer to an act of operators that another replica carries out; 202 while there is none."""
        return answer_to_act(await service.answer(number), 200)


def _add(app: FastAPI, service: Service, exposed: ExposedAct, loaded: Sequence[Depends]) -> None:
    route = exposed.route
    encoded = {name for name, kind in _IN_PATH.findall(route.path) if kind == "client"}  # slashes and all, see `auth`

    async def carry_out(request: Request, **given: Any) -> Response:
        body = await _json_body(request) if exposed.body_keys else None
        parameters = {name: client_id(value) if name in encoded else value for name, value in given.items()}
        return answer_to_act(await service.do(exposed.read(parameters, body), caller_of(request)), route.status)

    carry_out.__signature__ = _signature(route.path, route.query)  # type: ignore[attr-defined]
    app.add_api_route(
        route.path,
        carry_out,
        methods=[route.method],
        status_code=route.status,
        name=_WORD.sub("_", exposed.act.__name__).lower(),
        description=exposed.act.__doc__ or "",
        dependencies=loaded,
        operation_id=_operation_id(exposed),
        **_description(exposed),
    )


def _operation_id(exposed: ExposedAct) -> str:
    """The name of the act; its further addresses have their method as well."""
    name = _WORD.sub("_", exposed.act.__name__).lower()
    is_first = exposed.route.path == exposed.act.routes[0].path  # type: ignore[attr-defined]
    return name if is_first else f"{name}_{exposed.route.method.lower()}"


def _description(exposed: ExposedAct) -> dict[str, Any]:
    """What the OpenAPI document says of the route."""
    route, said = exposed.route, exposed.described
    body = json_body(said.body) if said.body else UNREAD_BODY
    is_write = route.method != "GET"
    return described(
        said.answer,
        *said.refuses,
        status=route.status,
        also={202: "Waiting"} if route.status != 202 else None,
        body=body if is_write else None,
        is_write=is_write,
    )


def answer_to_act(found: Any, status: int) -> Response:
    """The response to an act: what it returned, or 202 with where its answer will be."""
    if not isinstance(found, PendingAct):
        return json_response(found, status)
    where = f"/v1/acts/{found.number}"
    detail = "written down; the replica that owns the cell carries it out as soon as there is one"
    response = json_response({"act": found.number, "state": "waiting", "detail": detail, "answer": where}, 202)
    response.headers["location"] = where
    return response


def _signature(path: str, query: Sequence[str]) -> Signature:
    """The parameters, so that FastAPI checks and documents them."""
    request = Parameter("request", Parameter.KEYWORD_ONLY, annotation=Request)
    in_path = [
        Parameter(name, Parameter.KEYWORD_ONLY, annotation=_KINDS.get(kind, str))
        for name, kind in _IN_PATH.findall(path)
    ]
    in_query = [Parameter(name, Parameter.KEYWORD_ONLY, annotation=Name) for name in query]
    return Signature([request, *in_path, *in_query])


async def _json_body(request: Request) -> Any:
    """The JSON of a body; an empty body is an empty object. BadQuestion when it is not JSON, TooLarge."""
    raw = await read_body(request, MAX_ACT_BYTES)
    if not raw.strip():
        return {}
    try:
        return msgspec.json.decode(raw)
    except RecursionError as error:
        raise BadQuestion("the body is nested too deep") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadQuestion(f"the body is not JSON: {error}") from error
