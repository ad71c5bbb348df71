"""From a planned e-mail to its finished parts: who gets it, its subject, text and HTML, and where it stands in its thread.

Everything is made when the delivery is written, so every attempt sends the same message with the same `Message-ID`. Whom it
goes to is the rule's and the inventory's business alone: each entry of `to` and `cc` is one address or it is left out, and the
templates in them see nothing that a device says. A template that fails never loses the page: the shipped text takes its
place and says so. Read `MailRenderer.__call__` first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from email.utils import format_datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from engine.config.addresses import domain_of, is_address, mailbox
from engine.core.alerting.planned_delivery import PHASE_FIRING, PHASE_RECOVERY, PlannedDelivery
from engine.core.times import EPOCH
from engine.templates.renderer import Rendered, Renderer, default_text, said

MAX_SUBJECT_CHARACTERS = 200
"""Longest subject; what is beyond ends in an ellipsis."""

MAX_LISTED = 1_000
"""Clients that templates of a mail see in `alert.clients`; `alert.count` still counts all."""

SHIPPED = ("firing", "recovery", "clients")
"""Names of the templates in `engine/templates/shipped`: each a text and an HTML form."""

# Line breaks and control characters, and the marks that turn the direction of what follows.
_UNFIT_IN_LINE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
_UNFIT_IN_TEXT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_BY_DEVICES = frozenset({"client", "group", "device", "source"})
"""Names of `alert.key` that are no columns of the inventory (an address prefix, `ip/24`, is none either)."""


class Mailing(NamedTuple):
    """Who writes, as it stands in `From`, and the server that takes it (`smtp://host:port`)."""

    sender: str
    target: str


NOBODY = Mailing("rollcall@localhost", "smtp://")
"""Where no server is configured: what would be sent is shown all the same."""


@cache
def shipped(name: str, form: str) -> str:
    """The source of a shipped template; `form` is `txt` or `html`."""
    return (Path(__file__).parent / "shipped" / f"{name}.{form}.j2").read_text(encoding="utf-8")


def recipient_variables(variables: Mapping[str, Any]) -> dict[str, Any]:
    """What templates in recipients see: the inventory and the rule, nothing that a device could choose."""
    key = (variables.get("alert") or {}).get("key") or {}
    columns = {name: value for name, value in key.items() if name not in _BY_DEVICES and not name.startswith("ip/")}
    return {
        "client": {"attributes": (variables.get("client") or {}).get("attributes") or {}},
        "alert": {"key": columns},
        "rule": variables.get("rule") or {},
    }


class MailRenderer:
    """Renders e-mails: `Renderer`'s part for actions of this kind. `mailing`: None where no server is configured."""

    def __init__(self, mailing: Mailing | None = None) -> None:
        self._mailing = mailing or NOBODY
        self._domain = domain_of(mailbox(self._mailing.sender)[1])
        self._compiled = Renderer()

    def __call__(self, planned: PlannedDelivery) -> Rendered:
        """The message of one planned delivery. Never raises for what a template or a value does."""
        spec, variables, problems = planned.action.spec, bounded(planned.variables), list[str]()
        to = self._recipients("to", spec, variables, problems, ())
        cc = self._recipients("cc", spec, variables, problems, to)
        request: dict[str, Any] = {
            "from": self._mailing.sender,
            "to": to,
            "cc": cc,
            "subject": self._subject(planned, variables, problems),
        }
        self._body(planned, variables, request, problems)
        request["message_id"] = self._message_id(planned.key)
        request["date"] = format_datetime(EPOCH + timedelta(milliseconds=planned.at_ms))
        if planned.reply_to is not None:
            request["in_reply_to"] = self._message_id(planned.reply_to)
        dead = None if to or cc else "there is nobody to write to" + "".join(f"; {problem}" for problem in problems)
        problem = "; ".join(problems) or None
        if problem:
            request["template_error"] = problem
        return Rendered(request=request, target=self._mailing.target, problem=problem, dead=dead)

    def _message_id(self, key: str) -> str:
        return f"<{key}@{self._domain}>"

    def _recipients(
        self,
        part: str,
        spec: Mapping[str, Any],
        variables: Mapping[str, Any],
        problems: list[str],
        already: Sequence[str],
    ) -> list[str]:
        found: list[str] = []
        seen = {address.lower() for address in already}
        for source in spec.get(part, ()):
            try:
                address = self._compiled.text(source)(recipient_variables(variables)).strip()
            except Exception as error:  # noqa: BLE001  # the others are written to, and the delivery says so
                problems.append(f"{part}: {said(error)}")
                continue
            if not is_address(address):
                shown = _one_line(address)[:80]
                problems.append(f"{part}: `{shown}` is no e-mail address" if shown else f"{part}: `{source}` is empty")
            elif address.lower() not in seen:
                seen.add(address.lower())
                found.append(address)
        return found

    def _subject(self, planned: PlannedDelivery, variables: Mapping[str, Any], problems: list[str]) -> str:
        source = planned.action.spec.get("subject")
        subject = ""
        if source is not None:
            try:
                subject = _one_line(self._compiled.text(source)(variables))
            except Exception as error:  # noqa: BLE001  # a default takes its place, and the delivery says so
                problems.append(f"subject: {said(error)}")
        subject = subject or _one_line(default_subject(planned.phase, variables))
        return subject if len(subject) <= MAX_SUBJECT_CHARACTERS else subject[: MAX_SUBJECT_CHARACTERS - 1] + "…"

    def _body(
        self, planned: PlannedDelivery, variables: Mapping[str, Any], request: dict[str, Any], problems: list[str]
    ) -> None:
        """`text` and, where there is one, `html`. Where the rule says nothing, both are shipped ones."""
        spec = planned.action.spec
        name = spec.get("template") or chosen(planned.phase, planned.clients, variables)
        text, html = spec.get("text"), spec.get("html")
        failed = len(problems)
        if text is not None:
            request["text"] = self._made(self._compiled.text, text, variables, "text", problems)
        if html is None and text is None:
            html = shipped(name, "html")
        if html is not None:
            request["html"] = self._made(self._compiled.html, html, variables, "html", problems)
        if request.get("text") is None:
            request["text"] = self._made(self._compiled.text, shipped(name, "txt"), variables, "text", problems)
        if len(problems) > failed:
            # What is left may be half of what was meant: the whole goes out as text, and says why.
            request["text"] = f"{request['text'] or default_text(variables)}\n\n-- \n{'; '.join(problems[failed:])}\n"
        if request.get("html") is None:
            request.pop("html", None)

    def _made(
        self,
        compiled: Callable[[str], Callable[[Mapping[str, Any]], str]],
        source: str,
        variables: Mapping[str, Any],
        part: str,
        problems: list[str],
    ) -> str | None:
        try:
            return _UNFIT_IN_TEXT.sub("", compiled(source)(variables).replace("\r\n", "\n"))
        except Exception as error:  # noqa: BLE001  # a default goes out instead, and says so
            problems.append(f"{part}: {said(error)}")
            return None


def bounded(variables: Mapping[str, Any]) -> Mapping[str, Any]:
    """The variables with at most `MAX_LISTED` clients in the list: nobody reads more in a mail."""
    alert = variables.get("alert") or {}
    if len(alert.get("clients") or ()) <= MAX_LISTED:
        return variables
    return {**variables, "alert": {**alert, "clients": list(alert["clients"][:MAX_LISTED])}}


def chosen(phase: str, clients: Sequence[str] | None, variables: Mapping[str, Any]) -> str:
    """The shipped template for a delivery whose rule names none."""
    alert = variables.get("alert") or {}
    if not alert.get("source") and (clients is not None or alert.get("count", 1) != 1):
        return "clients"
    return "recovery" if phase == PHASE_RECOVERY else "firing"


def default_subject(phase: str, variables: Mapping[str, Any]) -> str:
    """What stands in the inbox when the rule does not say: how bad, which rule, who, what."""
    rule, alert, client = (variables.get(name) or {} for name in ("rule", "alert", "client"))
    mark = "resolved" if phase == PHASE_RECOVERY else rule.get("severity", "")
    if phase not in (PHASE_FIRING, PHASE_RECOVERY):
        mark = f"{mark}, {phase}"
    status = variables.get("status") or ""
    if alert.get("source"):
        what = f"{alert['source']}: {'is well again' if phase == PHASE_RECOVERY else alert.get('detail')}"
    elif alert.get("count", 1) != 1:
        of = ", ".join(str(value) for value in (alert.get("key") or {}).values())
        what = f"{alert['count']} clients{f' of {of}' if of else ''} {status}"
    else:
        what = f"{client.get('device') or client.get('id') or ', '.join(alert.get('clients') or ())} {f'is {status}' if status else ''}"
    return f"[{mark}] {rule.get('name', '')}: {what}"


def _one_line(text: str) -> str:
    return " ".join(_UNFIT_IN_LINE.sub(" ", text).split())
