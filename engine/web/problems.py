"""Errors as `application/problem+json` (RFC 9457), in words for the person who reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response

MAX_SHOWN = 60
"""Characters of a wrong value that are said back."""


def problem(status: int, title: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error as the interface answers it."""
    body = json.dumps({"type": "about:blank", "title": title, "status": status})
    return Response(body, status, dict(headers or {}), media_type="application/problem+json")


def said(error: Mapping[str, Any]) -> str:
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


def unknown_parameter(name: str, known: Sequence[str]) -> str:
    """A parameter that the route does not have."""
    if not known:
        return f"there is no parameter `{name[:MAX_SHOWN]}` here; this takes none"
    return f"there is no parameter `{name[:MAX_SHOWN]}` here (there are: {', '.join(known)})"
