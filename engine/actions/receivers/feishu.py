r"""Feishu and Lark, by the custom bot of a group, with a card.

Written from open.feishu.cn and open.larksuite.com: "Custom bot usage guide" (signature, 20 KB, 100 messages a minute and 5 a second, codes) and
"Message card content" (plain text, headers in colours, buttons with addresses).

- **Signature** (`secret`): `timestamp` in seconds and `sign` in the body: the Base64 of HMAC-SHA256 over nothing, keyed with `timestamp\nsecret`. It is
  made when the message is sent, because it is good for an hour.
- **Success:** `{"code": 0}`, or `{"StatusCode": 0}` of older bots. Failures answer 200 as well; those of `_RETRIED` pass. 9499 means both a malformed
  request and too many of them: what it says decides.
- **Size:** 20 KB of body.
- **Hostile texts:** they stand in `plain_text` elements, which know no markup and no mention.
- **Identity:** none for what is only posted; each card ends with the incident's id.
"""

from __future__ import annotations

import base64
import hmac
import json
from typing import Any, Final

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
from engine.actions.receivers.wording import fitted, footer, links, title_of
from engine.core.delivery import Answer, Rejected

MAX_BYTES: Final = 20_000

_COLOURS: Final = {"critical": "red", "warning": "orange", "info": "blue"}
_RETRIED: Final = frozenset({11232, 2200, 99991400, 230020, 1000005})
"""Too fast, and internal errors."""

_TOO_MANY: Final = ("too many", "frequen", "limited")


class Feishu:
    """See the module."""

    rate = Rate(messages=5, per_s=3)

    def target(self, settings: Settings) -> str:
        """The host: the rest of the address is a secret."""
        return f"feishu://{host_of(settings['url'])}"

    def request(self, message: Message, settings: Settings, now_s: float) -> HttpRequest | None:
        """One card, signed with `now_s`."""
        secret = settings.get("secret")
        signed = signature(secret, int(now_s)) if secret else {}
        body = fitted(message, lambda lines: _body(message, lines, signed), lambda made: len(made) <= MAX_BYTES)
        headers = {"Content-Type": "application/json; charset=utf-8"}
        return HttpRequest(method="POST", url=settings["url"], headers=headers, body=body)

    def judge(self, message: Message, answer: HttpAnswer) -> Answer:
        """By `code`, whatever the status."""
        found = json_of(answer)
        code = number(found.get("code", found.get("StatusCode"))) if found is not None else None
        if found is None or code is None or (code == 0 and not 200 <= answer.status < 300):
            return not_the_service(answer) if 200 <= answer.status < 300 else by_status(answer)
        if code == 0:
            return DELIVERED
        said = shown(str(found.get("msg", found.get("StatusMessage", "no reason"))))
        reason = f"Feishu {code:.0f}: {said}"
        passes = code in _RETRIED or (code == 9499 and any(word in said.lower() for word in _TOO_MANY))
        if passes or answer.status in (408, 425, 429) or answer.status >= 500:
            return later(reason, header_pause_s(answer))
        return Rejected(reason=reason)


def signature(secret: str, timestamp_s: int) -> dict[str, str]:
    """The keys of a body that sign a request sent at an instant (epoch seconds)."""
    made = hmac.digest(f"{timestamp_s}\n{secret}".encode(), b"", "sha256")
    return {"timestamp": str(timestamp_s), "sign": base64.b64encode(made).decode()}


def _body(message: Message, lines: list[str], signed: dict[str, str]) -> bytes:
    elements: list[dict[str, Any]] = []
    if lines:
        elements.append({"tag": "div", "text": _plain("\n".join(lines))})
    if addresses := links(message):
        buttons = [{"tag": "button", "text": _plain(name), "type": "default", "url": link} for name, link in addresses]
        elements.append({"tag": "action", "actions": buttons})
    elements.append({"tag": "note", "elements": [_plain(footer(message))]})
    template = "green" if message.phase == "recovery" else _COLOURS.get(message.severity, "orange")
    card = {
        "config": {"wide_screen_mode": True},
        "header": {"title": _plain(title_of(message)), "template": template},
        "elements": elements,
    }
    sent = {**signed, "msg_type": "interactive", "card": card}
    return json.dumps(sent, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _plain(text: str) -> dict[str, str]:
    return {"tag": "plain_text", "content": text}


SERVICE: Final = Feishu()
