"""From a planned e-mail to its finished parts: recipients, subject, text, HTML, and its place in a thread.

Everything is made when the delivery is written, so every attempt sends the same message with the same `Message-ID`. Recipients
depend on the rule and the inventory alone: each entry of `to` and `cc` is one address or is left out, and templates in them
cannot read what a device sends. A template that fails never loses the page: the shipped text takes its place and says so.
Read `MailRenderer.__call__` first.
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
from engine.templates.compiler import Compiler, Template
from engine.templates.defaults import default_text
from engine.templates.rendered import Rendered
from engine.templates.request_budget import RequestBudget
from engine.templates.sentences import headline
from engine.templates.text import error_text

MAX_SUBJECT_CHARACTERS = 200
"""Longest subject; a longer one is cut and ends in an ellipsis."""

MAX_LISTED = 1_000
"""Most clients in `alert.clients` of a mail; `alert.count` still counts all."""

SHIPPED = ("firing", "recovery", "clients")
"""Names of the templates in `engine/templates/shipped`: each a text and an HTML form."""

# Line breaks, control characters, and marks that change the direction of the text after them.
_UNFIT_IN_LINE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
_UNFIT_IN_TEXT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_BY_DEVICES = frozenset({"client", "group", "device", "source"})
"""Names in `alert.key` that are not columns of the inventory (an address prefix such as `ip/24` is not one either)."""


class MailRoute(NamedTuple):
    """How e-mails are sent: the sender as it stands in `From`, and the server (`smtp://host:port`)."""

    sender: str
    target: str


UNCONFIGURED = MailRoute("rollcall@localhost", "smtp://")
"""Used where no server is configured, so that replays can show what would be sent."""


@cache
def shipped(name: str, form: str) -> str:
    """The source of a shipped template; `form` is `txt` or `html`."""
    return (Path(__file__).parent / "shipped" / f"{name}.{form}.j2").read_text(encoding="utf-8")


def recipient_variables(variables: Mapping[str, Any]) -> dict[str, Any]:
    """What templates of recipients can read: the inventory and the rule, nothing that a device controls."""
    key = (variables.get("alert") or {}).get("key") or {}
    columns = {name: value for name, value in key.items() if name not in _BY_DEVICES and not name.startswith("ip/")}
    return {
        "client": {"attributes": (variables.get("client") or {}).get("attributes") or {}},
        "alert": {"key": columns},
        "rule": variables.get("rule") or {},
    }


class MailRenderer:
    """Renders e-mails, as one of the kinds of `Renderer`. `route`: None where no server is configured."""

    def __init__(self, route: MailRoute | None = None) -> None:
        self._route = route or UNCONFIGURED
        self._domain = domain_of(mailbox(self._route.sender)[1])
        self._compiler = Compiler()

    def __call__(self, planned: PlannedDelivery) -> Rendered:
        """The message of one planned delivery. Never raises for what a template or a value does."""
        spec, variables, problems = planned.action.spec, with_fewer_clients(planned.variables), list[str]()
        budget = RequestBudget()
        to = self._recipients("to", spec, variables, budget, problems, ())
        cc = self._recipients("cc", spec, variables, budget, problems, to)
        request: dict[str, Any] = {
            "from": self._route.sender,
            "to": to,
            "cc": cc,
            "subject": self._subject(planned, variables, budget, problems),
        }
        self._body(planned, variables, budget, request, problems)
        request["message_id"] = self._message_id(planned.key)
        request["date"] = format_datetime(EPOCH + timedelta(milliseconds=planned.at_ms))
        if planned.reply_to is not None:
            request["in_reply_to"] = self._message_id(planned.reply_to)
        dead = None if to or cc else "there is nobody to write to" + "".join(f"; {problem}" for problem in problems)
        problem = "; ".join(problems) or None
        if problem:
            request["template_error"] = problem
        return Rendered(request=request, target=self._route.target, problem=problem, dead=dead)

    def _message_id(self, key: str) -> str:
        return f"<{key}@{self._domain}>"

    def _recipients(
        self,
        part: str,
        spec: Mapping[str, Any],
        variables: Mapping[str, Any],
        budget: RequestBudget,
        problems: list[str],
        already: Sequence[str],
    ) -> list[str]:
        found: list[str] = []
        seen = {address.lower() for address in already}
        for source in spec.get(part, ()):
            try:
                address = budget.text(self._compiler.text(source), recipient_variables(variables)).strip()
            except Exception as error:  # noqa: BLE001  # the other recipients get it, and the request says so
                problems.append(f"{part}: {error_text(error)}")
                continue
            if not is_address(address):
                shown = _one_line(address)[:80]
                problems.append(f"{part}: `{shown}` is no e-mail address" if shown else f"{part}: `{source}` is empty")
            elif address.lower() not in seen:
                seen.add(address.lower())
                found.append(address)
        return found

    def _subject(
        self, planned: PlannedDelivery, variables: Mapping[str, Any], budget: RequestBudget, problems: list[str]
    ) -> str:
        source = planned.action.spec.get("subject")
        subject = ""
        if source is not None:
            try:
                subject = _one_line(budget.text(self._compiler.text(source), variables))
            except Exception as error:  # noqa: BLE001  # a default takes its place, and the request says so
                problems.append(f"subject: {error_text(error)}")
        subject = subject or _one_line(default_subject(planned.phase, variables))
        return subject if len(subject) <= MAX_SUBJECT_CHARACTERS else subject[: MAX_SUBJECT_CHARACTERS - 1] + "…"

    def _body(
        self,
        planned: PlannedDelivery,
        variables: Mapping[str, Any],
        budget: RequestBudget,
        request: dict[str, Any],
        problems: list[str],
    ) -> None:
        """Put `text` and, if there is one, `html` into the request. Without any in the rule, both are shipped ones."""
        spec = planned.action.spec
        name = spec.get("template") or shipped_name(planned.phase, planned.clients, variables)
        text, html = spec.get("text"), spec.get("html")
        failed, own = len(problems), {**variables, "headline": headline(variables, since=False)}
        if text is not None:
            request["text"] = self._made(budget, self._compiler.text, text, variables, problems)
        if html is None and text is None:
            request["html"] = self._made(budget, self._compiler.html, shipped(name, "html"), own, problems)
        elif html is not None:
            request["html"] = self._made(budget, self._compiler.html, html, variables, problems)
        if request.get("text") is None:
            request["text"] = self._made(budget, self._compiler.text, shipped(name, "txt"), own, problems)
        if len(problems) > failed:
            # The parts left may be incomplete: the text contains everything, and says why.
            request["text"] = f"{request['text'] or default_text(variables)}\n\n-- \n{'; '.join(problems[failed:])}\n"
        if request.get("html") is None:
            request.pop("html", None)

    def _made(
        self,
        budget: RequestBudget,
        compiled: Callable[[str], Template],
        source: str,
        variables: Mapping[str, Any],
        problems: list[str],
    ) -> str | None:
        try:
            return _UNFIT_IN_TEXT.sub("", budget.text(compiled(source), variables).replace("\r\n", "\n"))
        except Exception as error:  # noqa: BLE001  # a default is sent instead, and says so
            problems.append(f"{'html' if compiled == self._compiler.html else 'text'}: {error_text(error)}")
            return None


def with_fewer_clients(variables: Mapping[str, Any]) -> Mapping[str, Any]:
    """The variables with at most `MAX_LISTED` clients in `alert.clients`."""
    alert = variables.get("alert") or {}
    if len(alert.get("clients") or ()) <= MAX_LISTED:
        return variables
    return {**variables, "alert": {**alert, "clients": list(alert["clients"][:MAX_LISTED])}}


def shipped_name(phase: str, clients: Sequence[str] | None, variables: Mapping[str, Any]) -> str:
    """The shipped template for a delivery whose rule names none."""
    alert = variables.get("alert") or {}
    if not (alert.get("source") or alert.get("target")) and (clients is not None or alert.get("count", 1) != 1):
        return "clients"
    return "recovery" if phase == PHASE_RECOVERY else "firing"


def default_subject(phase: str, variables: Mapping[str, Any]) -> str:
    """The subject when the rule has none: severity, rule, what, how many, since when."""
    rule, alert = (variables.get(name) or {} for name in ("rule", "alert"))
    mark = "resolved" if phase == PHASE_RECOVERY else rule.get("severity", "")
    phase = alert.get("phase", phase) if phase == PHASE_FIRING else phase
    if phase not in (PHASE_FIRING, PHASE_RECOVERY):
        mark = f"{mark}, {phase}"
    return f"[{mark}] {rule.get('name', '')}: {headline(variables, short=True)}"


def _one_line(text: str) -> str:
    return " ".join(_UNFIT_IN_LINE.sub(" ", text).split())
