"""What the console's forms have in common: their token, the name of the person, where they lead back to. Read `Forms`.

A page of another site must not be able to send a form: the browser says where a form comes from (see `auth`), and the form carries a
secret that only a page of this process has. The name of the person is kept in a cookie, so that it is typed once.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, quote, unquote

from fastapi import Request, Response

from engine.errors import BadQuestion
from engine.web.bodies import read_body

NAME_COOKIE: Final = "rollcall_name"
LONGEST_NAME: Final = 100
KEPT_S: Final = 365 * 86_400
"""Seconds for which a browser keeps the name."""

MAX_FORM_BYTES: Final = 256 * 1024
"""A rule file that is tried fits in."""

MAX_FIELDS: Final = 40

STALE: Final = (
    "this page is from before a restart of the service, or the form was sent by another page. Please try again."
)

_BACK: Final = re.compile(r"[a-z]*(/[^/?#\\:]*)?(\?[^#\\]*)?")
"""A page of the console, relative to its root: never another site."""


class Visitor(NamedTuple):
    """Who looks at a page."""

    name: str  # signs what is done; empty: not known yet
    is_signed_in: bool  # the name is not theirs to choose
    token: str  # for forms
    may: frozenset[str] | None = None  # the forms that may be sent; None: all

    def can(self, form: str) -> bool:
        """May they send this form?"""
        return self.may is None or form in self.may


class Forms:
    """The forms of this process."""

    def __init__(self) -> None:
        self._token = secrets.token_urlsafe(24)

    def visitor(self, request: Request) -> Visitor:
        """Who sent a request."""
        return Visitor(kept_name(request.cookies), False, self._token)

    def is_ours(self, form: Mapping[str, str]) -> bool:
        """Was the form sent by a page of this process?"""
        return hmac.compare_digest(form.get("token", "").encode(), self._token.encode())


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form. BadQuestion when it is malformed, TooLarge."""
    raw = await read_body(request, MAX_FORM_BYTES)
    try:
        return dict(parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS))
    except ValueError as error:
        raise BadQuestion("the form is malformed") from error


def kept_name(cookies: Mapping[str, Any]) -> str:
    """The name that this browser gave before; empty when there is none that can be used."""
    name = unquote(cookies.get(NAME_COOKIE, ""), errors="replace").strip()
    return name if len(name) <= LONGEST_NAME and name.isprintable() else ""


def keep_name(response: Response, name: str) -> None:
    """Have the browser keep the name."""
    if name.strip():
        kept = quote(name.strip(), safe="")
        response.set_cookie(NAME_COOKIE, kept, KEPT_S, path="/", httponly=True, samesite="lax")


def way_back(form: Mapping[str, str]) -> str:
    """The page that a form leads back to, relative to the root of the console; the overview if it names no page of ours."""
    wanted = form.get("back", "")
    return wanted if len(wanted) <= 2_000 and _BACK.fullmatch(wanted) else ""
