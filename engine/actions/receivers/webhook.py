"""A webhook of one's own: the message as JSON. How it is signed and sent is the business of the webhooks that rules have.

Every key of `base.Message` is there, so a recovery can be matched with its firing by `incident`. Texts are as they are: whoever shows them
escapes them for where they land.
"""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import urlsplit

from engine.actions.receivers.answers import by_status
from engine.actions.receivers.base import HttpAnswer, HttpRequest, Message, Rate, Settings, host_of
from engine.actions.receivers.wording import clean, lines_of, title_of
from engine.core.delivery import Answer
from engine.core.times import rfc3339


class Webhook:
    """See the module."""

    rate = Rate(messages=1000, per_s=1)

    def target(self, settings: Settings) -> str:
        """Scheme and host: the rest of the address may be a secret."""
        parts = urlsplit(settings["url"])
        return f"{parts.scheme}://{host_of(settings['url'])}"

    def request(self, message: Message, settings: Settings, now_s: float) -> HttpRequest | None:
        """A POST with the message as JSON."""
        headers = {"Content-Type": "application/json", **settings.get("headers", {})}
        return HttpRequest(
            method="POST", url=settings["url"], headers=headers, body=json.dumps(payload(message)).encode()
        )

    def judge(self, message: Message, answer: HttpAnswer) -> Answer:
        """2xx is delivered, whatever the body says."""
        return by_status(answer)


def payload(message: Message) -> dict[str, Any]:
    """The message as the receiver gets it: instants as people write them, nothing that cannot be seen."""
    return {
        "version": 1,
        "incident": message.incident,
        "phase": message.phase,
        "severity": message.severity,
        "rule": message.rule,
        "title": title_of(message, limit=1000),
        "text": "\n".join(lines_of(message)),
        "clients": [clean(client) for client in message.clients],
        "count": message.count,
        "key": {clean(name): clean(value) for name, value in message.key.items()},
        "labels": {clean(name): clean(value) for name, value in message.labels.items()},
        "link": message.link or None,
        "started_at": rfc3339(message.started_at_ms),
        "at": rfc3339(message.at_ms),
        "ended_at": rfc3339(message.ended_at_ms) if message.ended_at_ms is not None else None,
        "acknowledged_by": clean(message.acknowledged_by) or None,
        "receiver": message.receiver,
    }


SERVICE: Final = Webhook()
