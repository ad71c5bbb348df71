r"""Discord, by the webhook of a channel, with one embed.

Written from the developer documentation: "Execute Webhook", "Embed Limits" (title 256, description 4,096, footer 2,048, 6,000 characters in all),
"Allowed Mentions" and "Rate Limits" (429 with `retry_after` in the body).

- **Success:** 204, or 200.
- **Rate:** five messages in two seconds for a webhook; a 429 says in `retry_after` how many seconds to wait. Old versions of the API count it in
  milliseconds: the header, which is whole seconds, tells.
- **Hostile texts:** every character that Markdown, a mention or an address needs has a backslash (`https\://` is a text); nothing may be mentioned
  (`allowed_mentions`), and an embed mentions nobody anyway. Discord links no bare domains.
- **Identity:** none for what is only posted; the footer has the incident's id.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final
from urllib.parse import urlsplit

from engine.actions.receivers.answers import by_status, header_pause_s, is_page, json_of, not_the_service, number
from engine.actions.receivers.base import HttpAnswer, HttpRequest, Message, Rate, Settings, host_of
from engine.actions.receivers.wording import colour, cut, fitted, footer, links, title_of, units
from engine.core.delivery import Answer
from engine.core.times import rfc3339

TITLE_CHARS: Final = 256
DESCRIPTION_CHARS: Final = 4096
FOOTER_CHARS: Final = 2048
EMBED_CHARS: Final = 6000

_SPECIAL: Final = re.compile(r"([\\*_~`|<>\[\]:@#]|(?<=\])\()")


class Discord:
    """See the module."""

    rate = Rate(messages=5, per_s=2)

    def target(self, settings: Settings) -> str:
        """The host and the id of the webhook; its token is a secret."""
        parts = urlsplit(settings["url"])
        webhook_id = re.search(r"/webhooks/(\d+)/", parts.path)
        return f"discord://{host_of(settings['url'])}" + (f"/{webhook_id[1]}" if webhook_id else "")

    def request(self, message: Message, settings: Settings, now_s: float) -> HttpRequest | None:
        """One embed in the colour of the severity."""
        embed = fitted(message, lambda lines: _embed(message, lines), _fits)
        body = json.dumps({"embeds": [embed], "allowed_mentions": {"parse": []}}).encode()
        return HttpRequest(method="POST", url=settings["url"], headers={"Content-Type": "application/json"}, body=body)

    def judge(self, message: Message, answer: HttpAnswer) -> Answer:
        """By status; a pause from the body of a 429."""
        if 200 <= answer.status < 300:
            return not_the_service(answer) if is_page(answer) else by_status(answer)
        found = json_of(answer) or {}
        said = found.get("message")
        return by_status(answer, said if isinstance(said, str) else None, _pause_s(found.get("retry_after"), answer))


def _pause_s(asked: object, answer: HttpAnswer) -> float | None:
    asked_s, header_s = number(asked), header_pause_s(answer)
    if asked_s is None or header_s is None:
        return header_s if asked_s is None else asked_s
    return asked_s if asked_s <= header_s + 1 else header_s


def _embed(message: Message, lines: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "title": _cut_escaped(title_of(message), TITLE_CHARS),
        "description": "\n".join([*map(escaped, lines), *[f"[{name}]({link})" for name, link in links(message)]]),
        "color": int(colour(message)[1:], 16),
        "footer": {"text": cut(footer(message), FOOTER_CHARS)},
        "timestamp": rfc3339(message.at_ms),
    }
    if not found["description"]:
        del found["description"]
    if addresses := links(message):
        found["url"] = addresses[0][1]
    return found


def _fits(embed: dict[str, Any]) -> bool:
    description = units(embed.get("description", ""))
    in_all = description + units(embed["title"]) + units(embed["footer"]["text"])
    return description <= DESCRIPTION_CHARS and in_all <= EMBED_CHARS


def _cut_escaped(text: str, limit: int) -> str:
    """An escaped text of at most `limit` characters; no escape is cut in two."""
    room = limit
    while units(written := escaped(cut(text, room))) > limit:
        room -= 1
    return written


def escaped(text: str) -> str:
    """The text as Markdown in which nothing has a meaning."""
    return _SPECIAL.sub(r"\\\1", text)


SERVICE: Final = Discord()
