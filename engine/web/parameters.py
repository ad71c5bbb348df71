"""What the routes of the HTTP interface share: parameters of lists, client ids in paths, responses, the check for loaded states."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal
from urllib.parse import unquote_to_bytes

from fastapi import Path, Query, Response
from starlette.convertors import StringConvertor, register_url_convertor

from engine.errors import Unavailable
from engine.web import serializers
from engine.web.service import Service
from engine.web.views import MAX_CURSOR_DIGITS, MAX_LIMIT

STARTING_S = 1
"""Seconds after which to try again while the states are being loaded."""

OF_A_CLIENT = ("status", "timeline", "explanation")
"""What the path of a client may be followed by."""


class ClientConvertor(StringConvertor):
    """A client id in a path, whose slashes need not be encoded, but not the path of what belongs to a client.

    So `DELETE /v1/clients/x/status` does not forget a client with the id `x/status`; `x%2Fstatus` names that one.
    """

    regex = f"(?:(?!/(?:{'|'.join(OF_A_CLIENT)})$).)+"


register_url_convertor("client", ClientConvertor())

MAX_NUMBER = 10**18 - 1
"""Numbers of deliveries and the like are not larger."""

MAX_INSTANT_MS = (1 << 47) - 1
"""Instants of requests are not after this one, in the year 6429."""

NUMBER = f"[1-9][0-9]{{0,{MAX_CURSOR_DIGITS - 1}}}"
"""The pattern of a number in a cursor."""

Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="How many items to return at most.")]
Cursor = Annotated[
    str, Query(description="The `next` of the previous page.", json_schema_extra={"pattern": f"^({NUMBER})?$"})
]
NameCursor = Annotated[str, Query(description="The `next` of the previous page.")]
TimeCursor = Annotated[
    str, Query(description="The `next` of the previous page.", json_schema_extra={"pattern": f"^({NUMBER}(-.*)?)?$"})
]
MATCHER = {"type": "string", "format": "rollcall-matcher", "examples": ["device=pump-*"]}
Matchers = Annotated[
    list[str] | None,
    Query(
        description="key=pattern, as in a rule's match; may be repeated.",
        json_schema_extra={"anyOf": [{"type": "array", "items": MATCHER}]},
    ),
]
ClientId = Annotated[
    str,
    Path(description="The id of a client, percent-encoded.", json_schema_extra={"minLength": 1, "maxLength": 256}),
]
InstantMs = Annotated[int, Query(ge=1, le=MAX_INSTANT_MS, description="An instant in epoch milliseconds.")]
Name = Annotated[str, Query(json_schema_extra={"minLength": 1})]
WholeNumber = Annotated[int, Path(json_schema_extra={"minimum": 1, "maximum": MAX_NUMBER})]
Status = Literal["online", "offline", "unknown"]
STATUSES = ("online", "offline", "unknown")
AlertState = Literal["pending", "firing", "suppressed", "resolved"]
DeliveryState = Literal["due", "delivered", "dead", "held", "shadow", "discarded"]
SilenceState = Literal["planned", "active", "expired"]


def json_response(found: Any, status: int = 200) -> Response:
    """A JSON object as a response."""
    return Response(serializers.as_json(found), status, media_type="application/json")


def client_id(raw: str) -> str:
    """The client id in a path whose slashes are still encoded, see `auth`."""
    return unquote_to_bytes(raw.encode("latin-1", "replace")).decode("utf-8", "replace")


def loaded_check(service: Service) -> Callable[[], Awaitable[None]]:
    """A dependency of routes: Unavailable while the states are being loaded, because half of the clients would be missing."""

    async def check() -> None:
        if not service.is_loaded:
            raise Unavailable("starting: client states are being loaded", STARTING_S)

    return check
