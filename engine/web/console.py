"""The console: pages, what changes of them, their assets, and the forms that carry out acts. Read `add_console`.

Each page is a file of `pages/` and a template; here they get their routes. A page is readable without scripts: acts are forms, lists
have links to their next page, and a page is read again when it is loaded again.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, quote, unquote

from fastapi import FastAPI, Request, Response
from starlette.responses import RedirectResponse, StreamingResponse

from engine import __version__
from engine.core.times import rfc3339
from engine.errors import NotThere, RollcallError, Unavailable
from engine.telemetry import Event, logger
from engine.web import asset_files, console_acts
from engine.web.console_acts import Acts, NameNeeded, Refused
from engine.web.forms import LONGEST_NAME, Forms, Visitor
from engine.web.html_page import html_response, live_part
from engine.web.live import Live, message
from engine.web.pages import PAGES, docs
from engine.web.pages.base import MAX_VALUE, Page, Shown, Wanted
from engine.web.parameters import STARTING_S
from engine.web.problems import status_of
from engine.web.service import Service
from engine.web.trial_forms import add_trial_forms

log = logger(__name__)

MAX_ADDRESS: Final = 8_000
"""Characters of the address of a page that is followed."""

LONGEST_STREAM_S: Final = 300.0
"""Seconds for which changes are sent to one request: then the browser asks again, as whoever it is by then."""

_PART = re.compile(r"{(\w+)(?::\w+)?}")


class Address(NamedTuple):
    """A page with what is asked of it, and how far it lies below the root."""

    page: Page
    wanted: Wanted
    forms: frozenset[str] | None  # that its visitor may send; None: all

    @property
    def root(self) -> str:
        """The way from the page to the root of the console: links are relative, so a proxy may serve it below any path."""
        return "../" * (self.page.path.count("/") - 1) or "./"


class Console:
    """The pages of a running service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.forms = Forms(console_acts.needs_of_forms(service.act_routes))
        self.acts = Acts(service, self.forms)
        self.live = Live[Address](self._live_part, is_over=lambda: service.is_stopping)

    async def respond(self, page: Page, request: Request) -> Response:
        """A page, or a page that says why there is none."""
        visitor = self.forms.visitor(request)
        address = Address(page, _wanted(page, request.path_params, request.query_params.multi_items()), visitor.may)
        try:
            shown = await self._collected(address)
        except RollcallError as error:
            return await self.refuse(error, visitor, address.root)
        said = self.acts.said(request.query_params.get("said", ""))
        shown |= self.frame(visitor, address.root) | {"section": page.section, "said": said}
        shown["live"] = (
            f"{address.root}events?page={quote(_text_of(address, request), safe='')}" if page.is_live else ""
        )
        return await asyncio.to_thread(html_response, page.template, shown)

    async def refuse(
        self, error: RollcallError, visitor: Visitor, root: str, back: str = "", again: Shown | None = None
    ) -> Response:
        """A page that says what went wrong; `again`: the form that may be sent once more."""
        status = 200 if isinstance(error, NameNeeded) else 403 if isinstance(error, Refused) else status_of(error)
        shown = self.frame(visitor, root) | {"problem": str(error), "status": status, "back": back}
        shown |= {"section": "", "said": None, "live": "", "form": "", "fields": {}, "asks_name": False} | (again or {})
        return await asyncio.to_thread(html_response, "problem.html", shown, status)

    async def _collected(self, address: Address) -> Shown:
        if address.page.needs_states and not self._service.is_loaded:
            raise Unavailable("starting: client states are being loaded", STARTING_S)
        return await address.page.collect(self._service, address.wanted)

    async def _live_part(self, address: Address) -> str:
        """What changes of a page, the same for all who may do the same: their own tokens are put in by the script."""
        shown = await self._collected(address)
        nobody = Visitor("", False, "", address.forms)
        return await asyncio.to_thread(live_part, address.page.template, shown | self.frame(nobody, address.root))

    def frame(self, visitor: Visitor, root: str) -> Shown:
        """What every page shows."""
        now_ms = self._service.now_ms()
        return {
            "root": root,
            "visitor": visitor,
            "longest_name": LONGEST_NAME,
            "navigation": [(page.path[1:], page.words, page.section) for page in PAGES if page.words],
            "version": __version__,
            "now": rfc3339(now_ms),
            "not_ready": self._service.readiness(now_ms),
        }

    async def follow(self, request: Request) -> Response:
        """What changes of the page that the parameter `page` names, as server-sent events."""
        visitor = self.forms.visitor(request)
        try:
            address = _address(request.query_params.get("page", ""), visitor)
            self.live.check_room(address)
        except RollcallError as error:
            return Response(str(error), status_of(error), media_type="text/plain")
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(self._stream(address, visitor), headers=headers, media_type="text/event-stream")

    async def _stream(self, address: Address, visitor: Visitor) -> AsyncIterator[bytes]:
        until_s = time.monotonic() + LONGEST_STREAM_S
        yield b"retry: 2000\n\n" + message("token", visitor.token)  # a page may be older than this process
        try:
            async for part in self.live.follow(address):
                yield part
                if time.monotonic() > until_s:
                    return
        except Exception as error:
            log.error(Event.REQUEST_FAILED, path=address.page.path, exc_info=error)


def add_console(app: FastAPI, service: Service) -> None:
    """Add the pages, their changes, their assets and the forms."""
    console = Console(service)
    for page in (*PAGES, docs.page_of(lambda: app.openapi())):
        _add_page(app, console, page)
    app.add_route("/events", console.follow, include_in_schema=False)
    app.add_route("/assets/{name}", _asset, include_in_schema=False)
    add_trial_forms(app, service, console.forms, console.acts, console.refuse, console.frame)
    console_acts.add_acts(app, console.acts, console.refuse, console.frame)


def _add_page(app: FastAPI, console: Console, page: Page) -> None:
    async def show(request: Request) -> Response:
        if page.path == "/" and (
            alert := request.query_params.get("alert")
        ):  # links of notifications that were sent before
            return RedirectResponse(f"./alert/{quote(alert, safe='')}", 303)
        return await console.respond(page, request)

    app.add_route(page.path, show, include_in_schema=False)


async def _asset(request: Request) -> Response:
    return asset_files.asset_response(request.path_params["name"])


def _wanted(page: Page, parts: Mapping[str, Any], query: list[tuple[str, str]]) -> Wanted:
    """The question that an address asks. Of a parameter that is given twice the last counts."""
    given = {name: value[:MAX_VALUE] for name, value in query if name in page.parameters and value}
    return Wanted(tuple(sorted(parts.items())), tuple(sorted(given.items())))


def _text_of(address: Address, request: Request) -> str:
    """The address of a page, as `_address` reads it."""
    query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in address.wanted.query)
    path = _PART.sub(lambda found: quote(request.path_params[found[1]], safe=""), address.page.path)
    return f"{path}?{query}" if query else path


def _address(text: str, visitor: Visitor) -> Address:
    """The page that an address leads to. NotThere when none does, or when it does not change."""
    path, _, query = text[:MAX_ADDRESS].partition("?")
    for page in PAGES:
        found = re.fullmatch(_PART.sub(r"(?P<\1>[^/]+)", page.path), path)
        if found is not None and page.is_live:
            parts = {name: unquote(value, errors="replace") for name, value in found.groupdict().items()}
            return Address(page, _wanted(page, parts, parse_qsl(query)), visitor.may)
    raise NotThere("there is no such page")
