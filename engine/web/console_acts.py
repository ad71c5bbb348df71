"""The forms of the console, each of which carries out one act of the operator API. Read `FORMS`, then `Acts.send`.

A form is sent with POST; the answer leads back to the page it came from, which says what was done. Forms whose effect is large or cannot be
undone have a page of their own (GET of the same address) that says beforehand what it will be.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from starlette.responses import RedirectResponse

from engine.core.access import OPERATOR, Caller, check_may
from engine.errors import BadQuestion, NotThere, RollcallError
from engine.web.access.forms import STALE
from engine.web.access.roles import caller_of
from engine.web.effects import EFFECTS, Effect
from engine.web.forms import Forms, Visitor, keep_name, read_form, way_back
from engine.web.html_page import counted, html_response, plain
from engine.web.parameters import loaded_check
from engine.web.query_now import query_now
from engine.web.service import ExposedAct, PendingAct, Service, exposed_act
from engine.web.silence_form import silence_body

Fields = Mapping[str, str]
Refuse = Callable[..., Awaitable[Response]]
Question = tuple[dict[str, Any], dict[str, Any]]
"""The parameters and the body of an act."""

ACT_PATH: Final = "/act/{name}"

MAX_SAID: Final = 1_000
"""Sentences about acts that are kept for the page that follows."""

PENDING: Final = "Written down. The replica that owns the cell carries it out as soon as there is one."


class Said(NamedTuple):
    """What was done, and how it is undone."""

    text: str
    undo: str = ""  # the form that undoes it
    fields: tuple[tuple[str, str], ...] = ()  # of that form


class Form(NamedTuple):
    """One form: the act that it carries out, and what is said afterwards."""

    act: str  # the name of its class
    read: Callable[[Fields, Visitor, int], Question]  # the parameters and the body of the act
    said: Callable[[Any, Fields], Said]
    is_named: bool = False  # the act is signed with a name


def _number(fields: Fields) -> int:
    text = fields.get("number", "")
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise BadQuestion("the form does not say which delivery")
    return int(text)


def _named(fields: Fields, visitor: Visitor) -> str:
    by = visitor.name if visitor.is_signed_in else fields.get("by", visitor.name)
    if not by.strip():
        raise BadQuestion("your name is missing")
    return by


def _needed(fields: Fields, name: str, what: str) -> str:
    if not fields.get(name):
        raise BadQuestion(f"the form does not say which {what}")
    return fields[name]


def _acknowledged(found: Any, fields: Fields) -> Said:
    return Said(
        f"Acknowledged: {counted(found['acknowledged'], 'alert')}. No more reminders and no further step of the escalation are sent; the recovery still is."
    )


def _silenced(found: Any, fields: Fields) -> Said:
    covers = found["covers"] or {"clients": 0, "alerts": 0}
    what = f"It covers {counted(covers['clients'], 'client')} and {counted(covers['alerts'], 'open alert')}."
    warned = "".join(f" Note: {plain(one)}." for one in found["warnings"])
    return Said(
        f"Silenced until {found['until'][:16].replace('T', ' ')} UTC. {what}{warned}",
        "expire",
        (("silence", found["id"]),),
    )


def _delivery(what: str) -> Callable[[Any, Fields], Said]:
    return lambda found, fields: Said(f"Delivery {found['id']} {what}. It is {found['state']} now.")


def _held(what: str) -> Callable[[Any, Fields], Said]:
    return lambda found, fields: Said(
        f"{counted(found['changed'], 'held delivery', 'held deliveries')} of {found['rule']} {what}."
    )


def _of_rule(fields: Fields, _: Visitor, now_ms: int) -> Question:
    return {"rule": _needed(fields, "rule", "rule")}, {}


def _of_delivery(fields: Fields, _: Visitor, now_ms: int) -> Question:
    return {"number": _number(fields)}, {}


FORMS: Final[Mapping[str, Form]] = {
    "acknowledge": Form(
        "Acknowledge",
        lambda fields, visitor, now_ms: ({"id_": _needed(fields, "alert", "alert")}, {"by": _named(fields, visitor)}),
        _acknowledged, is_named=True,
    ),
    "silence": Form(
        "AddSilence",
        lambda fields, visitor, now_ms: ({}, silence_body(fields, now_ms) | {"author": _named(fields, visitor)}),
        _silenced, is_named=True,
    ),
    "expire": Form(
        "ExpireSilence",
        lambda fields, _, now_ms: ({"id_": _needed(fields, "silence", "silence")}, {}),
        lambda found, fields: Said("The silence has ended. Alerts that it suppressed and that still hold fire now."),
    ),
    "retry": Form("RetryDelivery", _of_delivery, _delivery("is sent again")),
    "discard": Form("DiscardDelivery", _of_delivery, _delivery("was given up")),
    "release": Form("ReleaseDelivery", _of_delivery, _delivery("was released")),
    "release-held": Form("ReleaseHeld", _of_rule, _held("were released and are sent now")),
    "discard-held": Form("DiscardHeld", _of_rule, _held("were given up and are never sent")),
    "forget": Form(
        "Forget",
        lambda fields, _, now_ms: ({"client": _needed(fields, "client", "client")}, {}),
        lambda found, fields: Said(f"{plain(found['client'])} was forgotten."),
    ),
    "sweep": Form(
        "BeginSweep",
        lambda fields, _, now_ms: ({}, {"dry_run": fields.get("dry_run") == "yes"}),
        lambda found, fields: Said(f"Sweep {found['id']} has begun: it queries {counted(found['total'], 'client')}."),
    ),
    "retry-quarantine": Form(
        "RetryQuarantine",
        lambda fields, _, now_ms: ({}, {}),
        lambda found, fields: Said(f"{counted(found['accepted'], 'event')} accepted, {found['rejected']:,} still invalid."),
    ),
}  # fmt: skip
"""Every form that carries out an act, by its name."""

QUERY: Final = "query"
"""The form that queries the broker about one client: what `GET /v1/clients/{client}/status?verify=true` does."""


def needs_of_forms(routes: Iterable[ExposedAct]) -> dict[str, str]:
    """The role that each form needs: that of its act."""
    of_acts = {one.act.__name__: one.needs for one in routes}
    return {name: of_acts[form.act] for name, form in FORMS.items()} | {QUERY: OPERATOR}


class Acts:
    """Carries out forms, and remembers for the next page what was done."""

    def __init__(self, service: Service, forms: Forms) -> None:
        self._service, self._forms = service, forms
        self._exposed = {name: exposed_act(service, form.act) for name, form in FORMS.items()}
        self._said: OrderedDict[str, Said] = OrderedDict()
        self._check_loaded = loaded_check(service)

    def said(self, key: str) -> Said | None:
        """What was done; only what this process said: anybody can make a link."""
        return self._said.get(key)

    def visitor(self, request: Request) -> Visitor:
        """Who sent a request."""
        return self._forms.visitor(request)

    async def send(self, name: str, request: Request) -> Response:
        """Carry out a form, and lead back to its page. RollcallError when it is refused."""
        fields, visitor = await read_form(request), self.visitor(request)
        if not self._forms.is_ours(request, fields):
            raise Refused(STALE, fields)
        if name in FORMS and FORMS[name].is_named and "by" not in fields and not visitor.name:
            raise NameNeeded("Your name is kept in this browser and signs what you do.", fields)
        try:
            await self._check_loaded()
            said = await self._carry_out(name, fields, visitor, caller_of(request))
        except RollcallError as error:
            raise Refused(str(error), fields, error) from error
        key = secrets.token_urlsafe(12)
        self._said[key] = said
        while len(self._said) > MAX_SAID:
            self._said.popitem(last=False)
        back = way_back(fields)
        answer = RedirectResponse(f"../{back}{'&' if '?' in back else '?'}said={key}", 303)
        if name in FORMS and FORMS[name].is_named and not visitor.is_signed_in:
            keep_name(answer, fields.get("by", visitor.name))
        return answer

    async def _carry_out(self, name: str, fields: Fields, visitor: Visitor, caller: Caller) -> Said:
        if name == QUERY:
            check_may(caller, OPERATOR)
            return Said(await query_now(self._service, _needed(fields, "client", "client")))
        if name not in FORMS:
            raise NotThere("there is no such form")
        form = FORMS[name]
        parameters, body = form.read(fields, visitor, self._service.now_ms())
        found = await self._service.do(self._exposed[name].read(parameters, body), caller)
        return Said(PENDING) if isinstance(found, PendingAct) else form.said(found, fields)

    async def before(self, name: str, fields: Fields) -> Effect:
        """What a form will do. NotThere for one that has no page of its own."""
        if name not in EFFECTS:
            raise NotThere("there is no such form")
        return await EFFECTS[name](self._service, fields)


class Refused(RollcallError):
    """A form was refused: what it held, so that it need not be filled in again, and why."""

    def __init__(self, message: str, fields: Fields, cause: RollcallError | None = None) -> None:
        super().__init__(message)
        self.fields, self.cause = fields, cause


class NameNeeded(Refused):
    """The form is complete but for the name of the person."""


def add_acts(app: FastAPI, acts: Acts, refuse: Refuse, frame: Callable[[Visitor, str], dict[str, Any]]) -> None:
    """Add the addresses of the forms."""

    async def send(request: Request) -> Response:
        name = request.path_params["name"]
        visitor = acts.visitor(request)
        try:
            return await acts.send(name, request)
        except Refused as refused:
            named = name in FORMS and FORMS[name].is_named and not visitor.is_signed_in
            fields = {key: value for key, value in refused.fields.items() if key not in {"token", "by"}}
            again = {"form": name, "fields": fields, "by": refused.fields.get("by", visitor.name), "asks_name": named}
            return await refuse(refused.cause or refused, visitor, "../", way_back(refused.fields), again)
        except RollcallError as error:
            return await refuse(error, visitor, "../")

    async def ask(request: Request) -> Response:
        name = request.path_params["name"]
        fields = {key: value[:2_000] for key, value in request.query_params.items() if key != "token"}
        visitor = acts.visitor(request)
        if name not in EFFECTS:  # the address of a form, opened in a browser
            return RedirectResponse(f"../{quote(way_back(fields), safe='/?=&%')}", 303)
        try:
            effect = await acts.before(name, fields)
        except RollcallError as error:
            return await refuse(error, visitor, "../", way_back(fields))
        shown = frame(visitor, "../") | {"section": "", "said": None, "live": "", "form": name, "fields": fields}
        return html_response("confirm.html", shown | {"effect": effect, "back": way_back(fields)})

    app.add_route(ACT_PATH, send, methods=["POST"], include_in_schema=False)
    app.add_route(ACT_PATH, ask, methods=["GET"], include_in_schema=False)
