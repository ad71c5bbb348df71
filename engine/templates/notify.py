"""From a planned `notify` to the message that a receiver is sent: what the outbox stores, in the words of `actions.receivers.base.Message`.

No secret is in it, and nothing of the service's protocol: that is added when it is sent. A text whose template fails is replaced by the
default one, and the delivery says so. Read `NotifyRenderer.__call__`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from engine.config.receivers import ROUTE, Receiver
from engine.config.time_zones import zone
from engine.core.alerting.planned_delivery import PHASE_FIRING, PHASE_RECOVERY, PHASE_SUMMARY, PlannedDelivery
from engine.templates.compiler import Compiler
from engine.templates.message_text import default_message, default_title, one_line, several_lines
from engine.templates.rendered import Rendered
from engine.templates.request_budget import RequestBudget
from engine.templates.text import error_text

MAX_TITLE_CHARACTERS: Final = 1_000
MAX_TEXT_CHARACTERS: Final = 65_536
"""Longest title and text that are kept; services cut them further."""

MAX_LISTED: Final = 1_000
"""Most clients of one message; its count includes all."""

TARGET: Final = "notify:"
"""How the target of a delivery to a receiver begins: concurrency and the circuit breaker are counted by receiver."""


def target_of_receiver(name: str) -> str:
    """The target of deliveries to a receiver."""
    return f"{TARGET}{name}"


class NotifyRenderer:
    """Renders messages, as one of the kinds of `Renderer`.

    `receivers`: those of the configuration; None where they are not known, as in a rule test that names none: then every name is good.
    """

    def __init__(self, receivers: Mapping[str, Receiver] | None = None) -> None:
        self._receivers = receivers
        self._compiler = Compiler()

    def __call__(self, planned: PlannedDelivery) -> Rendered:
        """The message of one planned delivery. Never raises for what a template or a value does."""
        name: str = planned.action.spec["receiver"]
        receiver = None if self._receivers is None else self._receivers.get(name)
        problems: list[str] = []
        request = _message(planned, name, receiver, self._texts(planned, receiver, problems))
        if "via" in planned.action.spec:
            request["via"] = planned.action.spec["via"]
        problem = "; ".join(problems) or None
        if problem:
            request["template_error"] = problem
        dead = self._dead(planned, name, receiver)
        return Rendered(
            request=request,
            target=target_of_receiver(name or planned.action.spec.get("via", "")),
            problem=problem,
            dead=dead,
        )

    def _dead(self, planned: PlannedDelivery, name: str, receiver: Receiver | None) -> str | None:
        via = planned.action.spec.get("via")
        if not name:
            return f"no route of the receiver {via} matches this alert"
        if self._receivers is None:
            return None
        if receiver is None:
            return f"the configuration has no receiver {name}" + (f", which the route {via} chose" if via else "")
        return f"the receiver {name} is a route that leads to no receiver" if receiver.type == ROUTE else None

    def _texts(self, planned: PlannedDelivery, receiver: Receiver | None, problems: list[str]) -> tuple[str, str]:
        """Title and text: the receiver's own, or the default ones."""
        variables, phase, budget = planned.variables, phase_of(planned), RequestBudget()
        title = text = ""
        if (
            receiver is not None and phase != PHASE_SUMMARY
        ):  # a summary is about no client, so no template of theirs fits
            title = one_line(self._made("title", receiver.title, variables, budget, problems))
            text = several_lines(self._made("text", receiver.text, variables, budget, problems))
        title = title or default_title(phase, variables)
        text = text or default_message(phase, variables, zone(receiver.timezone if receiver is not None else "UTC"))
        return title[:MAX_TITLE_CHARACTERS], text[:MAX_TEXT_CHARACTERS]

    def _made(
        self, part: str, source: str | None, variables: Mapping[str, Any], budget: RequestBudget, problems: list[str]
    ) -> str:
        if source is None:
            return ""
        try:
            return budget.text(self._compiler.text(source), variables)
        except Exception as error:  # noqa: BLE001  # the default is sent instead, and the request says so
            problems.append(f"{part}: {error_text(error)}")
            return ""


def phase_of(planned: PlannedDelivery) -> str:
    """The phase as receivers are told: a firing that follows another of its group is an update."""
    if planned.phase != PHASE_FIRING:
        return planned.phase
    return str((planned.variables.get("alert") or {}).get("phase") or planned.phase)


def _message(planned: PlannedDelivery, name: str, receiver: Receiver | None, texts: tuple[str, str]) -> dict[str, Any]:
    alert: Mapping[str, Any] = planned.variables.get("alert") or {}
    clients = planned.clients if planned.clients is not None else (planned.client,) if planned.client else ()
    key = alert.get("key") or planned.group_key or {}
    ended_ms = _instant_ms(alert.get("ended_at")) if planned.phase == PHASE_RECOVERY else None
    return {
        "receiver": name,
        "service": receiver.type if receiver is not None else "",
        "phase": phase_of(planned),
        "incident": planned.alert,
        "severity": planned.rule.severity,
        "rule": planned.rule.name,
        "title": texts[0],
        "text": texts[1],
        "clients": list(clients[:MAX_LISTED]),
        "count": int(alert.get("count", 1)),
        "key": {str(one): str(value) for one, value in key.items()},
        "labels": {str(one): str(value) for one, value in planned.rule.labels.items()},
        "link": str(alert.get("url") or ""),
        "started_at_ms": _instant_ms(alert.get("started_at")) or planned.at_ms,
        "at_ms": planned.at_ms,
        "ended_at_ms": planned.at_ms if planned.phase == PHASE_RECOVERY and ended_ms is None else ended_ms,
        "acknowledged_by": str(alert.get("acknowledged_by") or ""),
    }


def _instant_ms(text: Any) -> int | None:
    """Epoch milliseconds of an instant as templates have it; None for none."""
    if not text:
        return None
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return round((found - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000)
