"""Opsgenie, by its Alert API; `url` may be the European address.

Written from docs.opsgenie.com: "Alert API" (`alias` of at most 512 characters, `message` 130, `description` 15,000, at most 20 tags of 50,
`details` 8,000, `entity` 512, `source` and `user` 100, `note` 25,000) and "API rate limiting" (429).

- **Identity:** `alias` is the incident's id. Firing, update, reminder and escalation create: Opsgenie counts them into the open alert. An
  acknowledgement and a recovery go to the alert of that alias.
- **Success:** 202: the request is carried out a little later. 422 is refused for good; 429 and 5xx are worth a retry. An alert that is not there any
  more cannot be closed, and need not be.
- **Hostile texts:** Opsgenie shows texts as they are.
"""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import quote

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
from engine.actions.receivers.wording import clean, cut, fitted, footer, identity, links, subject_of, title_of, units
from engine.core.delivery import Answer, Delivered

API_URL: Final = "https://api.opsgenie.com"
ALIAS_CHARS: Final = 512
MESSAGE_CHARS: Final = 130
DESCRIPTION_CHARS: Final = 15_000
ENTITY_CHARS: Final = 512
TAG_CHARS: Final = 50
DETAILS_CHARS: Final = 8_000
DETAIL_CHARS: Final = 500
USER_CHARS: Final = 100
NOTE_CHARS: Final = 2_000

_PRIORITIES: Final = {"critical": "P1", "warning": "P3", "info": "P5"}
_ACTS: Final = {RECOVERY: "close", ACKNOWLEDGED: "acknowledge"}


class Opsgenie:
    """See the module."""

    rate = Rate(messages=10, per_s=1)

    def target(self, settings: Settings) -> str:
        """The host."""
        return f"opsgenie://{host_of(settings.get('url') or API_URL)}"

    def request(self, message: Message, settings: Settings, now_s: float) -> HttpRequest | None:
        """Create, acknowledge or close the alert of the incident. Nothing for a summary of held deliveries: no one would close it."""
        if message.phase == SUMMARY:
            return None
        address = f"{(settings.get('url') or API_URL).rstrip('/').removesuffix('/v2/alerts')}/v2/alerts"
        alias = identity(message.incident, ALIAS_CHARS)
        act = _ACTS.get(message.phase)
        if act is None:
            body = fitted(message, lambda lines: _created(message, alias, lines), _fits)
        else:
            address += f"/{quote(alias, safe='')}/{act}?identifierType=alias"
            body = {"source": "Rollcall", "note": cut(title_of(message), NOTE_CHARS)}
            if message.acknowledged_by:
                body["user"] = cut(clean(message.acknowledged_by), USER_CHARS)
        headers = {"Content-Type": "application/json", "Authorization": f"GenieKey {settings['api_key']}"}
        return HttpRequest(method="POST", url=address, headers=headers, body=json.dumps(body).encode())

    def judge(self, message: Message, answer: HttpAnswer) -> Answer:
        """By status."""
        if 200 <= answer.status < 300:
            return not_the_service(answer) if is_page(answer) else by_status(answer)
        found = json_of(answer) or {}
        said = shown(str(found.get("message", "")))
        if answer.status == 404 and message.phase in _ACTS and "alert" in said.lower():
            return Delivered(detail=f"Opsgenie has no such alert any more: {said}")
        errors = found.get("errors")
        return by_status(answer, f"{said} {shown(str(errors))}" if errors else said or None)


def _created(message: Message, alias: str, lines: list[str]) -> dict[str, Any]:
    addresses = [f"{name}: {link}" for name, link in links(message)]
    found: dict[str, Any] = {
        "message": title_of(message, MESSAGE_CHARS),
        "alias": alias,
        "description": "\n".join([*lines, "", *addresses, footer(message)]),
        "priority": _PRIORITIES.get(message.severity, "P3"),
        "source": "Rollcall",
        "entity": cut(subject_of(message), ENTITY_CHARS),
        "tags": [cut(clean(tag), TAG_CHARS) for tag in (message.rule, message.severity) if tag],
        "details": _details(message),
    }
    return found


def _details(message: Message) -> dict[str, str]:
    found: dict[str, str] = {}
    told = {
        "rule": message.rule,
        "incident": message.incident,
        "count": str(message.count),
        **message.key,
        **message.labels,
    }
    room = DETAILS_CHARS
    for name, value in told.items():
        name, value = cut(clean(name), DETAIL_CHARS), cut(clean(value), DETAIL_CHARS)
        room -= units(name) + units(value)
        if room < 0:
            break
        found[name] = value
    return found


def _fits(alert: dict[str, Any]) -> bool:
    return units(alert["description"]) <= DESCRIPTION_CHARS


SERVICE: Final = Opsgenie()
