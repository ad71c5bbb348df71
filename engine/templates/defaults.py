"""What is sent when a rule's own template fails: a plain text, and a plain JSON body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def default_text(variables: Mapping[str, Any]) -> str:
    """The text of a page whose template fails."""
    rule, client = variables.get("rule") or {}, variables.get("client") or {}
    alert = variables.get("alert") or {}
    subject = client.get("id") or alert.get("source") or ""
    what = alert.get("detail") or variables.get("status") or ""
    mark = ", unverified" if alert.get("unverified") else ""
    return f"{rule.get('name', '')}: {subject} {'is ' if not alert.get('detail') else ''}{what}{mark}"


def default_json(variables: Mapping[str, Any], problem: str) -> dict[str, Any]:
    """The body of a webhook whose template fails; `problem` says why."""
    rule, client, alert = (variables.get(name) or {} for name in ("rule", "client", "alert"))
    return {
        "text": default_text(variables),
        "rule": rule.get("name"),
        "severity": rule.get("severity"),
        "client": client.get("id"),
        "status": variables.get("status"),
        "occurred_at": variables.get("occurred_at"),
        # Ids of the clients are enough: `members` has no limit and contains views that are not JSON.
        "alert": {name: value for name, value in alert.items() if name not in ("members", "shared")},
        "template_error": problem,
    }
