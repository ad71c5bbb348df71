"""What the console's forms have in common: their token, the name of the person, where they lead back to. Read `Forms`.

A page of another site must not be able to send a form: the browser says where a form comes from (see `auth`), and the form carries a
secret that belongs to the session (see `access.forms`). Where no login is needed, the name of the person is kept in a cookie, so that it is
typed once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import quote, unquote

from fastapi import Request, Response

from engine.core.access import PERSONS, may, shown_caller
from engine.web.access.forms import FIELD, SESSION, csrf_token, fields_of, is_own
from engine.web.access.roles import caller_of

NAME_COOKIE: Final = "rollcall_name"
LONGEST_NAME: Final = 100
KEPT_S: Final = 365 * 86_400
"""Seconds for which a browser keeps the name."""

MAX_FORM_BYTES: Final = 256 * 1024
"""A rule file that is tried fits in."""

MAX_FIELDS: Final = 40

_BACK: Final = re.compile(r"[a-z]*(/[^/?#\\:]*)?(\?[^#\\]*)?")
"""A page of the console, relative to its root: never another site."""


class Visitor(NamedTuple):
    """Who looks at a page."""

    name: str  # signs what is done; empty: not known yet
    is_signed_in: bool  # the name is not theirs to choose
    token: str  # for forms
    may: frozenset[str] | None = None  # the forms that may be sent; None: all
    shown: str = ""  # who is signed in, for the person; empty: there is no session that could be ended

    def can(self, form: str) -> bool:
        """May they send this form?"""
        return self.may is None or form in self.may


class Forms:
    """The forms of this service."""

    def __init__(self, needs: Mapping[str, str]) -> None:
        """`needs`: the role that each form needs, by its name."""
        self._needs = needs

    def visitor(self, request: Request) -> Visitor:
        """Who sent a request."""
        caller = caller_of(request)
        is_person = caller.kind in PERSONS
        forms = frozenset(name for name, needed in self._needs.items() if may(caller.role, needed))
        return Visitor(
            name=caller.name if is_person else kept_name(request.cookies),
            is_signed_in=is_person,
            token=csrf_token(request),
            may=forms if len(forms) < len(self._needs) else None,
            shown=shown_caller(caller) if SESSION in request.scope else "",
        )

    def is_ours(self, request: Request, form: Mapping[str, str]) -> bool:
        """Was the form sent by a page of this session?"""
        return is_own(request.scope, form.get(FIELD, ""))


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form. BadQuestion when it is malformed, TooLarge."""
    return dict(await fields_of(request, MAX_FORM_BYTES, MAX_FIELDS))


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
