"""The one delivery that says that a rule's deliveries are held: by the rule's first action, in plain words.

The action's own templates speak of a client, and a summary is about none. What is kept of the action is where it goes.
"""

from __future__ import annotations

from typing import Any

from engine.core.alerting.planning import SUMMARY, PlannedDelivery
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
    if planned.phase != SUMMARY:
        return planned
    return PlannedDelivery(
        planned.key,
        planned.rule,
        _action(planned.action),
        planned.phase,
        planned.client,
        planned.group_key,
        planned.clients,
        planned.alert,
        planned.lane,
        planned.at_ms,
        planned.variables,
        held=planned.held,
    )


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
