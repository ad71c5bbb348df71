"""The one delivery that says that a rule's deliveries are held: by the rule's first action, in plain words.

The action's own templates speak of a client, and a summary is about none. What is kept of the action is where it goes.
"""

from __future__ import annotations

from typing import Any

from engine.core.alerting.planned_delivery import PHASE_SUMMARY, PlannedDelivery
from engine.core.rules import Action

_DETAIL = "{{ alert.detail }}"
_JSON = {
    "text": _DETAIL,
    "rule": "{{ rule.name }}",
    "severity": "{{ rule.severity }}",
    "alert": {"id": "{{ alert.id }}", "state": "{{ alert.state }}", "reason": "{{ alert.reason }}"},
}


def plain(planned: PlannedDelivery) -> PlannedDelivery:
    """The delivery as it is to be rendered: itself, unless it is a summary."""
    if planned.phase != PHASE_SUMMARY:
        return planned
    alert = planned.variables["alert"]
    detail = (
        f"{planned.rule.name} decided more than {alert['limit']} deliveries in a minute: the rest is held, {alert['count']} so far. "
        f"`rollcall deliveries release` sends what is held, `rollcall deliveries discard` drops it."
    )
    shown = {name: value for name, value in alert.items() if name != "limit"} | {"detail": detail}
    return planned.evolve(action=_action(planned.action), variables={**planned.variables, "alert": shown})


def _action(action: Action) -> Action:
    spec: dict[str, Any] = dict(action.spec)
    if action.kind == "webhook":
        spec.pop("body", None)
        url = spec["url"]
        if (
            "{{ client" in url or "{{client" in url or "{%" in url
        ):  # it would have no value: up to the last whole segment
            spec["url"] = url.split("{", 1)[0].rpartition("/")[0] + "/"
        headers = spec.get("headers", {})
        kept = {name: value for name, value in headers.items() if "{" not in value or "secrets." in value}
        return Action(kind="webhook", spec=spec | {"json": _JSON, "headers": kept})
    if action.kind == "email":
        for key in ("template", "html"):
            spec.pop(key, None)
        return Action(kind="email", spec=spec | {"subject": "{{ rule.name }}: deliveries are held", "text": _DETAIL})
    return Action(kind="log", spec={"message": _DETAIL})  # a device is no one to tell
