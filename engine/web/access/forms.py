"""Forms of our pages, and the token that each of them carries so that a page of another site cannot send one.

The token belongs to the session: whoever reads one of another session can do nothing with it. A page gets it by `csrf_token`; `read_form` checks it
before anything else of a form is read.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from fastapi import Request

from engine.errors import BadQuestion, Forbidden
from engine.web.bodies import read_body

FIELD: Final = "token"
"""The field of a form that holds it."""

HEADER: Final = "x-csrf-token"
"""The header of a request that is no form, or that a script sends."""

SESSION: Final = "rollcall.session"
"""Where `auth.AccessCheck` puts the secret of the session into the scope of a request; absent without one."""

BASE: Final = "rollcall.base"
"""Where it puts the path below which a proxy serves us; empty for none."""

MAX_FORM_BYTES: Final = 16 * 1024
MAX_FIELDS: Final = 20

STALE: Final = "this page is from before a restart of the service or from another login, or the form was sent by another page. Please try again."

_OF_THIS_PROCESS: Final = secrets.token_bytes(32)
"""For whoever has no session: nobody is signed in, or a program comes with a token."""


def csrf_token(request: Request) -> str:
    """What each form of a page has to carry in the field `token`, and a script in the header `X-CSRF-Token`."""
    return csrf_of(request.scope)


def csrf_of(scope: Mapping[str, Any]) -> str:
    """The same of a request's scope."""
    session = scope.get(SESSION)
    key = session.encode() if session else _OF_THIS_PROCESS
    return hmac.new(key, b"forms of Rollcall", hashlib.sha256).hexdigest()


def is_own(scope: Mapping[str, Any], given: str) -> bool:
    """Is it the token of this session?"""
    return hmac.compare_digest(given.encode("utf-8", "replace"), csrf_of(scope).encode())


def base_of(request: Request) -> str:
    """What every link and form of a page begins with: the path below which a proxy serves us, without a slash at its end."""
    return str(request.scope.get(BASE, ""))


async def read_form(request: Request) -> Mapping[str, str]:
    """The fields of a form of ours. BadQuestion when it is malformed, TooLarge, Forbidden when another page may have sent it."""
    found = await fields_of(request)
    if not is_own(request.scope, request.headers.get(HEADER) or found.get(FIELD, "")):
        raise Forbidden(STALE)
    return found


async def fields_of(
    request: Request, most_bytes: int = MAX_FORM_BYTES, most_fields: int = MAX_FIELDS
) -> Mapping[str, str]:
    """The fields of a form that anybody may have sent. BadQuestion when it is malformed, TooLarge."""
    raw = await read_body(request, most_bytes)
    try:
        return dict(parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=most_fields))
    except ValueError as error:
        raise BadQuestion("the form is malformed") from error
