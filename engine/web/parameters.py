"""What the routes of the HTTP interface share: parameters of lists, client ids in paths, responses, the check for loaded states."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal
from urllib.parse import unquote_to_bytes

from fastapi import Query, Response

from engine.errors import Unavailable
from engine.web import serializers
from engine.web.service import Service
from engine.web.views import MAX_LIMIT

STARTING_S = 1
"""Seconds after which to try again while the states are being loaded."""

Limit = Annotated[int, Query(ge=1, description=f"How many items to return; at most {MAX_LIMIT} are returned at once.")]
Cursor = Annotated[str, Query(description="The `next` of the previous page.")]
Matchers = Annotated[list[str] | None, Query(description="key=pattern, as in a rule's match; may be repeated.")]
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
