"""What is sent when a rule's own template fails: a plain text, and a plain JSON body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.templates.sentences import headline

_NOT_TOLD = frozenset(
    {"members", "shared", "phase", "trigger", "url", "ended_at", "duration", "acknowledged_by", "escalation"}
)


def default_text(variables: Mapping[str, Any]) -> str:
    """The text of a page whose template fails: the rule, what, how many, since when."""
    rule = variables.get("rule") or {}
    return f"{rule.get('name', '')}: {headline(variables)}"


def default_json(variables: Mapping[str, Any], problem: str) -> dict[str, Any]:
    """What takes the place of a `body` that fails; `problem` says why."""
    rule, client, alert = (variables.get(name) or {} for name in ("rule", "client", "alert"))
    return {
        "text": default_text(variables),
        "rule": rule.get("name"),
        "severity": rule.get("severity"),
        "client": client.get("id"),
        "status": variables.get("status"),
        "occurred_at": variables.get("occurred_at"),
        # Ids of the clients are enough: `members` has no limit and contains views that are not JSON.
        "alert": {name: value for name, value in alert.items() if name not in _NOT_TOLD},
        "template_error": problem,
    }
