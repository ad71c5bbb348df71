"""Microsoft Teams, by the webhook of a workflow ("Send webhook alerts to a channel"), with an Adaptive Card.

Written from learn.microsoft.com: "Create incoming webhooks with Workflows", "Create incoming webhooks" (28 KB a message, four requests a second,
429), "Text features" and "TextRun" of Adaptive Cards.

- **Success:** 202 from a workflow; 200 with `1` from the older connectors, which also answer 200 with a sentence that names the HTTP error of what
  lies behind them.
- **Size:** 28 KB in all; the card is kept below 24 KB, because the workflow adds its own part.
- **Hostile texts:** they stand in `RichTextBlock`, whose runs know no Markdown; a mention would need an entity that we never send. A bare domain
  stays text.
- **Identity:** none for what is only posted; each card ends with the incident's id.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any, Final

from engine.actions.receivers.answers import DELIVERED, by_status, excerpt, is_page, later, not_the_service, text_of
from engine.actions.receivers.base import HttpAnswer, HttpRequest, Message, Rate, Settings, host_of
from engine.actions.receivers.wording import fitted, footer, links, title_of
from engine.core.delivery import Answer, Rejected

MAX_BYTES: Final = 24_000

_STYLES: Final = {"critical": "attention", "warning": "warning", "info": "accent"}
_BEHIND: Final = re.compile(r"returned HTTP error (\d{3})")


class Teams:
    """See the module."""

    rate = Rate(messages=4, per_s=1)

    def target(self, settings: Settings) -> str:
        """The host: the rest of the address is a secret."""
        return f"teams://{host_of(settings['url'])}"

    def request(self, message: Message, settings: Settings, now_s: float) -> HttpRequest | None:
        """One message with one card."""
        body = fitted(message, lambda lines: _body(message, lines), lambda made: len(made) <= MAX_BYTES)
        return HttpRequest(method="POST", url=settings["url"], headers={"Content-Type": "application/json"}, body=body)

    def judge(self, message: Message, answer: HttpAnswer) -> Answer:
        """2xx, unless the body speaks of an error behind it."""
        if not 200 <= answer.status < 300:
            return by_status(answer)
        if is_page(answer):
            return not_the_service(answer)
        behind = _BEHIND.search(text_of(answer)[:2000])
        if behind is None:
            return DELIVERED
        reason = f"Teams: {excerpt(answer)}"
        passes = int(behind[1]) >= 500 or int(behind[1]) in (408, 425, 429)
        return later(reason) if passes else Rejected(reason=reason)


def _body(message: Message, lines: list[str]) -> bytes:
    is_over = message.phase == "recovery"
    style = "good" if is_over else _STYLES.get(message.severity, "warning")
    title = _block([{"type": "TextRun", "text": title_of(message), "weight": "Bolder", "size": "Medium"}])
    small = {"type": "TextRun", "text": footer(message), "size": "Small", "isSubtle": True}
    card: dict[str, Any] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "fallbackText": footer(replace(message, acknowledged_by="")),  # Markdown: nothing that others choose
        "msteams": {"width": "Full"},
        "body": [
            {"type": "Container", "style": style, "bleed": True, "items": [title]},
            *[_block([{"type": "TextRun", "text": line or " "}]) for line in lines],
            {**_block([small]), "separator": True},
        ],
    }
    if addresses := links(message):
        card["actions"] = [{"type": "Action.OpenUrl", "title": name, "url": address} for name, address in addresses]
    sent = {
        "type": "message",
        "attachments": [
            {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
        ],
    }
    return json.dumps(sent, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _block(runs: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "RichTextBlock", "spacing": "None", "inlines": runs}


SERVICE: Final = Teams()
