"""The console: the status page, the page of one alert, and the form that acknowledges it. It works without scripts.

A page of another site must not be able to send the form: the browser says where a form comes from (see `auth`), and the form carries a
secret that only a page of this process has. The name of the person is kept in a cookie, so that it is typed once. Read `add_console`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import quote, unquote

from fastapi import FastAPI, Request, Response
from starlette.responses import RedirectResponse

from engine.core.access import PERSONS, Caller
from engine.errors import BadQuestion, RollcallError
from engine.web import alert_page, status_page
from engine.web.access.forms import read_form, shown_to
from engine.web.access.roles import caller_of
from engine.web.html_page import html_response
from engine.web.parameters import loaded_check
from engine.web.problems import status_of
from engine.web.service import ExposedAct, Service
from engine.web.views import Views

ACT = "/v1/alerts/{id_}/ack"
"""The address of the act that the form carries out."""

NAME_COOKIE = "rollcall_name"
LONGEST_NAME = 100
KEPT_S = 365 * 86_400
"""Seconds for which a browser keeps the name."""

FORM = "/acknowledge"
"""Where the form is sent to."""


def add_console(app: FastAPI, service: Service, views: Views) -> None:
    """Add the pages and the form."""
    exposed = next(one for one in service.act_routes if one.route.path == ACT)
    check_loaded = loaded_check(service)

    async def show_alert(request: Request, id_: str, by: str, refused: str = "", status: int = 200) -> Response:
        found = await service.ask(lambda reader: alert_page.collect(service, reader, id_))
        shown = {**found, **shown_to(request), "by": by, "refused": refused, "longest_name": LONGEST_NAME}
        return await asyncio.to_thread(html_response, "alert.html", shown, status)

    @app.get("/", include_in_schema=False)
    async def page(
        request: Request, alert: str = "", acknowledged: str = "", refresh: Literal["on", "off"] = "on"
    ) -> Response:
        """The console; with `alert` the page of one alert. `acknowledged`: which alert has just been acknowledged."""
        by = _name_of(request)
        if alert:
            return await show_alert(request, alert, by)
        shown = await service.ask(lambda reader: status_page.collect(service, views, reader))
        done = None
        if acknowledged:
            found = await service.ask(lambda reader: alert_page.collect(service, reader, acknowledged))
            # Only what the store says: anybody can make a link.
            done = found["alert"] if found["alert"] and found["alert"]["acknowledged_by"] is not None else None
        shown |= {**shown_to(request), "by": by, "done": done, "refreshes": refresh == "on"}
        return await asyncio.to_thread(html_response, "status.html", shown)

    # Links and forms are relative, so that a reverse proxy may serve the console below any path.

    @app.get(FORM, include_in_schema=False)
    async def back() -> Response:
        """The address of the form, opened in a browser, leads back to the console."""
        return RedirectResponse("./", 303)

    @app.post(FORM, include_in_schema=False)
    async def acknowledge(request: Request) -> Response:
        """Acknowledge what the form names, and lead back to the console; without a name, ask for it."""
        id_, by = "", _name_of(request)
        try:
            form = await read_form(request)
            id_, by = form.get("alert", ""), form.get("by", by)
            await check_loaded()
            if not by and "by" not in form:
                return await show_alert(request, id_, by)
            await _acknowledge(service, exposed, id_, by, caller_of(request))
        except RollcallError as error:
            return await show_alert(request, id_, by, str(error), status_of(error))
        answer = RedirectResponse(f"./?acknowledged={quote(id_, safe='')}", 303)
        answer.set_cookie(NAME_COOKIE, quote(by.strip(), safe=""), KEPT_S, path=None, httponly=True, samesite="lax")
        return answer


async def _acknowledge(service: Service, exposed: ExposedAct, id_: str, by: str, caller: Caller) -> None:
    if not id_:
        raise BadQuestion("the form does not say which alert")
    if not by.strip():
        raise BadQuestion("your name is missing")
    await service.do(exposed.read({"id_": id_}, {"by": by}), caller)


def _name_of(request: Request) -> str:
    """The name of whoever is signed in; else the one that this browser acknowledged with before."""
    caller = caller_of(request)
    return caller.name if caller.kind in PERSONS else _kept_name(request.cookies)


def _kept_name(cookies: Mapping[str, Any]) -> str:
    """The name that this browser acknowledged with before; empty when there is none that can be used."""
    name = unquote(cookies.get(NAME_COOKIE, ""), errors="replace").strip()
    return name if len(name) <= LONGEST_NAME and name.isprintable() else ""
