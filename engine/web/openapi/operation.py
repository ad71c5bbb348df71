"""What a route says of itself in the OpenAPI document: its answer, its body, and what it refuses. Read `described`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

JSON = "application/json"

REFUSALS: dict[int, str] = {
    400: "A parameter or the body is invalid; the title says which, and why.",
    401: "A login or a token is needed.",
    403: "The role of the caller is not enough; or the `Host`, the `Origin`, or what a browser says of the page, does not allow the request.",
    404: "What the path names does not exist.",
    408: "The request arrived too slowly.",
    409: "The state of what the path names does not allow the change; the title says which state it is in.",
    413: "The body is too large.",
    414: "The path is too long.",
    415: "The content type, its charset or the content encoding cannot be read here.",
    422: "The files of the configuration do not load.",
    429: "A queue is full, or the work is already going on; try again after `Retry-After` seconds.",
    431: "The head of the request is too large.",
    500: "An internal error; the log has the details.",
    501: "The configuration lacks a section that this needs; the title names it.",
    503: "The service is starting, has no room for another connection, or its store does not work; try again after `Retry-After` seconds.",
}
"""Every status that stands for a refusal, and what it means. All come as a `Problem`."""

ANY = (400, 401, 403, 408, 414, 431, 500, 503)
"""What any request may be refused with: most of it is decided before a route is found."""

ANY_WRITE = (413, 415, 429)
"""What any request with a body may be refused with as well."""


class Described(NamedTuple):
    """What an act says of its routes."""

    answer: str  # the name of the schema of its answer, see `document`
    body: str = ""  # that of its body; empty: there is none
    refuses: tuple[int, ...] = ()  # statuses beside those of any request


def named(schema: str) -> dict[str, str]:
    """A reference to a schema."""
    return {"$ref": f"#/components/schemas/{schema}"}


def content(schema: str, media_type: str = JSON) -> dict[str, Any]:
    """The content of a body or an answer."""
    return {media_type: {"schema": named(schema)}}


def described(
    answer: str | None,
    *refuses: int,
    status: int = 200,
    also: dict[int, str] | None = None,
    body: dict[str, Any] | None = None,
    headers: Sequence[str] = (),
    is_open: bool = False,
    is_write: bool = False,
) -> dict[str, Any]:
    """Arguments for a route, so that the document has what it answers with.

    `answer`: the name of the schema of its answer with `status`, None: what FastAPI knows is enough. `refuses`: statuses besides those of
    any request. `also`: further answers, as status -> name of the schema. `body`: an OpenAPI request body. `headers`: of the answer, see
    `document.HEADERS`. `is_open`: it needs no token.
    """
    found: dict[str, Any] = {"description": "OK."}
    if answer is not None:
        found["content"] = content(answer)
    if headers:
        found["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in headers}
    responses: dict[str, Any] = {str(status): found}
    for other, schema in (also or {}).items():
        media_type = JSON if other < 400 or schema == "Readiness" else "application/problem+json"
        responses[str(other)] = {"description": OTHERS[other], "content": content(schema, media_type)}
        if other == 202:
            responses["202"]["headers"] = {"location": {"$ref": "#/components/headers/location"}}
    for refusal in sorted({*ANY, *refuses, *(ANY_WRITE if is_write else ())}):
        if refusal not in (also or {}) and not (is_open and refusal == 401):
            responses[str(refusal)] = {"$ref": f"#/components/responses/{refusal}"}
    extra: dict[str, Any] = {"responses": responses}
    if body is not None:
        extra["requestBody"] = body
    if is_open:
        extra["security"] = []
    return {"openapi_extra": extra}


OTHERS = {
    202: "Another replica carries it out; `/v1/acts/{number}` has the answer as soon as there is one.",
    400: "Nothing in the body is an event, or the request is invalid.",
    503: "Not ready; `reasons` says why. Or there is no room for another connection.",
}
"""What the further answers of routes mean."""


def json_body(schema: str) -> dict[str, Any]:
    """A request body of JSON."""
    return {"required": True, "content": content(schema)}


UNREAD_BODY: dict[str, Any] = {
    "required": True,
    "description": "Ignored, and may be empty; but the content type must be JSON, which a form of another site cannot send.",
    "content": {JSON: {"schema": {}}},
}
"""The body of writes that take none."""
