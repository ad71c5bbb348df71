"""PagerDuty, by Events API v2.

Written from developer.pagerduty.com: "Events API v2 Overview" (202, 400, 429, 5xx; 512 KB) and "Send an Alert Event" (`dedup_key` of at most 255
characters, `summary` of at most 1,024, severities, links).

- **Identity:** `dedup_key` is the incident's id. Firing, update, reminder and escalation are `trigger`: PagerDuty adds them to the open alert,
  and an acknowledged one does not notify again. An acknowledgement is `acknowledge`, a recovery is `resolve`.
- **Success:** 202. 400 is refused for good; 429 and 5xx are worth a retry.
- **Size:** 512 KB; the list of clients stands in `custom_details`.
- **Hostile texts:** PagerDuty shows texts as they are. It makes links of written-out addresses in the details; nothing prevents that.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from engine.actions.receivers.answers import by_status, is_page, json_of, not_the_service, shown
from engine.actions.receivers.base import (
    ACKNOWLEDGED,
    RECOVERY,
    SUMMARY,
    HttpAnswer,
    HttpRequest,
    Message,
    Rate,
    Settings,
    host_of,
)
from engine.actions.receivers.wording import clean, cut, fitted, identity, links, subject_of, title_of
from engine.core.delivery import Answer, Rejected
from engine.core.times import rfc3339

URL: Final = "https://events.pagerduty.com/v2/enqueue"
DEDUP_KEY_CHARS: Final = 255
SUMMARY_CHARS: Final = 1024
MAX_BYTES: Final = 500_000
"""A little below 512 KB."""

SHORT_CHARS: Final = 500
"""Of the smaller fields, which have no limit in the documentation."""

_SEVERITIES: Final = {"critical": "critical", "warning": "warning", "info": "info"}
_ACTIONS: Final = {RECOVERY: "resolve", ACKNOWLEDGED: "acknowledge"}


class PagerDuty:
    """See the module."""

    rate = Rate(messages=120, per_s=60)

    def target(self, settings: Settings) -> str:
        """The host."""
        return f"pagerduty://{host_of(settings.get('url') or URL)}"

    def request(self, message: Message, settings: Settings, now_s: float) -> HttpRequest | None:
        """One event of the incident; none for a summary of held deliveries, because nothing would ever close it."""
        if message.phase == SUMMARY:
            return None
        event: dict[str, Any] = {
            "routing_key": settings["routing_key"],
            "event_action": _ACTIONS.get(message.phase, "trigger"),
            "dedup_key": identity(message.incident, DEDUP_KEY_CHARS),
        }
        body = json.dumps(event).encode()
        if event["event_action"] == "trigger":
            event["client"] = "Rollcall"
            addresses = links(message)
            if addresses:
                event["links"] = [{"href": link, "text": name} for name, link in addresses]
                event["client_url"] = addresses[0][1]
            body = fitted(message, lambda lines: _trigger(event, message, lines), lambda made: len(made) <= MAX_BYTES)
        headers = {"Content-Type": "application/json"}
        return HttpRequest(method="POST", url=settings.get("url") or URL, headers=headers, body=body)

    def judge(self, message: Message, answer: HttpAnswer) -> Answer:
        """By status; what a refusal says is kept."""
        if is_page(answer) and 200 <= answer.status < 300:
            return not_the_service(answer)
        found = json_of(answer) or {}
        errors = found.get("errors")
        said = [
            found.get("message"),
            *(errors if isinstance(errors, Sequence) and not isinstance(errors, str) else [errors]),
        ]
        words = shown("; ".join(str(part) for part in said if part))
        if 200 <= answer.status < 300 and str(found.get("status", "")).startswith("invalid"):
            return Rejected(reason=f"PagerDuty: {words or found['status']}")
        return by_status(answer, words or None)


def _trigger(event: dict[str, Any], message: Message, lines: list[str]) -> bytes:
    details: dict[str, Any] = {"text": "\n".join(lines), "rule": clean(message.rule), "phase": message.phase}
    if message.count > 1 or len(message.clients) > 1:
        details["count"] = max(message.count, len(message.clients))
        listed = [clean(client) for client in message.clients]
        details["clients"] = listed
        while len(listed) > 1 and sum(map(len, listed)) * 6 > MAX_BYTES // 2:
            listed = details["clients"] = listed[: len(listed) // 2]
        if len(listed) < details["count"]:
            details["not_listed"] = f"… and {details['count'] - len(listed)} more"
    elif message.clients:
        details["client"] = cut(clean(message.clients[0]), SUMMARY_CHARS)
    if message.key:
        details["key"] = {clean(name): clean(value) for name, value in message.key.items()}
    if message.labels:
        details["labels"] = {clean(name): clean(value) for name, value in message.labels.items()}
    payload: dict[str, Any] = {
        "summary": title_of(message, SUMMARY_CHARS),
        "source": cut(subject_of(message), SHORT_CHARS) or "rollcall",
        "severity": _SEVERITIES.get(message.severity, "warning"),
        "timestamp": rfc3339(message.started_at_ms),
        "class": cut(clean(message.rule), SHORT_CHARS),
        "custom_details": details,
    }
    if message.key:
        payload["group"] = cut(subject_of(message), SHORT_CHARS)
    return json.dumps({**event, "payload": payload}, ensure_ascii=False).encode("utf-8", "replace")


SERVICE: Final = PagerDuty()
