"""Telegram, by a bot (`token`) that writes to a `chat`.

Written from core.telegram.org: "Bot API: Making requests, sendMessage, HTML style, ResponseParameters" (4,096 characters), and the bots FAQ
(one message a second to a chat; groups take twenty a minute, and a 429 says how long to wait).

- **Success:** `{"ok": true}`. A failure has `ok: false`, `error_code`, `description`, and for 429 `parameters.retry_after` in seconds. A group that
  became a supergroup has a new id, which the answer names.
- **Size:** 4,096 characters; the tags are counted too, so that no way of counting exceeds it.
- **Hostile texts:** `&`, `<`, `>` and `"` are entities. Telegram links domains, `@names`, `#tags`, `/commands` and telephone numbers by itself, but not
  within `<code>`: each word that could be one of them stands there, which also makes it easy to copy. Previews of links are off.
- **Identity:** none for what is only posted; each message ends with the incident's id.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from html import escape
from typing import Final

from engine.actions.receivers.answers import (
    DELIVERED,
    by_status,
    header_pause_s,
    json_of,
    later,
    not_the_service,
    number,
    shown,
)
from engine.actions.receivers.base import HttpAnswer, HttpRequest, Message, Rate, Settings, host_of
from engine.actions.receivers.wording import fitted, footer, links, mark, title_of, units
from engine.core.delivery import Answer, Rejected

API_URL: Final = "https://api.telegram.org"
MAX_CHARS: Final = 4096
TITLE_CHARS: Final = 150
LINK_CHARS: Final = 600
"""Of an address, entities counted."""

_WORD: Final = re.compile(r"\S+")
_COULD_BE_A_LINK: Final = re.compile(r"[@#$/\\]|\w[.\u3002\uff0e\uff61]\w|\+\d|\d{7}")


class Telegram:
    """See the module."""

    rate = Rate(messages=1, per_s=1)

    def target(self, settings: Settings) -> str:
        """The host and the chat; the token stands in the address."""
        return f"telegram://{host_of(settings.get('api_url') or API_URL)}/{settings['chat']}"

    def request(self, message: Message, settings: Settings, now_s: float) -> HttpRequest | None:
        """`sendMessage` with HTML."""
        text = fitted(message, lambda lines: _text(message, lines), lambda made: units(made) <= MAX_CHARS)
        body = {
            "chat_id": settings["chat"],
            "text": text,
            "parse_mode": "HTML",
            "link_preview_options": {"is_disabled": True},
        }
        return HttpRequest(
            method="POST",
            url=f"{(settings.get('api_url') or API_URL).rstrip('/')}/bot{settings['token']}/sendMessage",
            headers={"Content-Type": "application/json"},
            body=json.dumps(body).encode(),
        )

    def judge(self, message: Message, answer: HttpAnswer) -> Answer:
        """By `ok`; a failure by its `error_code`."""
        found = json_of(answer)
        if found is None or not isinstance(found.get("ok"), bool):
            return not_the_service(answer) if 200 <= answer.status < 300 else by_status(answer)
        if found["ok"]:
            return DELIVERED
        code = number(found.get("error_code"))
        if code is None:
            code = answer.status
        parameters = found.get("parameters")
        asked = parameters if isinstance(parameters, Mapping) else {}
        reason = f"Telegram {code:.0f}: {shown(str(found.get('description', 'no reason')))}"
        if code in (408, 425, 429) or code >= 500:
            pause_s = number(asked.get("retry_after"))
            return later(reason, pause_s if pause_s is not None else header_pause_s(answer))
        if (moved := number(asked.get("migrate_to_chat_id"))) is not None:
            reason += f" (the group has a new id: set `chat` to {moved:.0f})"
        return Rejected(reason=reason)


def _text(message: Message, lines: list[str]) -> str:
    parts: list[str] = [f"{mark(message)} {_title(message)}", *map(escaped, lines), ""]
    addresses = [(name, escape(link)) for name, link in links(message)]
    parts += [f'<a href="{link}">{name}</a>' for name, link in addresses if len(link) <= LINK_CHARS]
    return "\n".join([*parts, escaped(footer(message))])


def _title(message: Message) -> str:
    title = title_of(message, TITLE_CHARS)
    return escaped(title) if _COULD_BE_A_LINK.search(title) else f"<b>{escape(title)}</b>"


def escaped(text: str) -> str:
    """The text as HTML, in which nothing becomes a link by itself."""
    return _WORD.sub(_word, text)


def _word(found: re.Match[str]) -> str:
    word = escape(found[0])
    return f"<code>{word}</code>" if _COULD_BE_A_LINK.search(found[0]) else word


SERVICE: Final = Telegram()
