"""The summary that is sent when `deliveries.burst` stops a rule: by the rule's first action, with a text of its own.

The templates of that action are about a client, and a summary is not. Only the destination of the action is used.
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


def for_rendering(planned: PlannedDelivery) -> PlannedDelivery:
    """The delivery as it is rendered: with an action and words of its own when it is a summary, otherwise unchanged."""
    if planned.phase != PHASE_SUMMARY:
        return planned
    alert = planned.variables["alert"]
    detail = (
        f"{planned.rule.name} decided more than {alert['limit']} deliveries in a minute: the rest is held, {alert['count']} so far. "
        f"`rollcall deliveries release` sends what is held, `rollcall deliveries discard` drops it."
    )
    shown = {name: value for name, value in alert.items() if name != "limit"} | {"detail": detail}
    return planned.evolve(action=_summary_action(planned.action), variables={**planned.variables, "alert": shown})


def _summary_action(action: Action) -> Action:
    spec: dict[str, Any] = dict(action.spec)
    if action.kind == "webhook":
        spec.pop("body", None)
        url = spec["url"]
        if "{{ client" in url or "{{client" in url or "{%" in url:  # there is no client: cut at the last whole segment
            spec["url"] = url.split("{", 1)[0].rpartition("/")[0] + "/"
        headers = spec.get("headers", {})
        kept = {name: value for name, value in headers.items() if "{" not in value or "secrets." in value}
        return Action(kind="webhook", spec=spec | {"json": _JSON, "headers": kept})
    if action.kind == "email":
        for key in ("template", "html"):
            spec.pop(key, None)
        return Action(kind="email", spec=spec | {"subject": "{{ rule.name }}: deliveries are held", "text": _DETAIL})
    return Action(kind="log", spec={"message": _DETAIL})  # a command is for a device, not for people
