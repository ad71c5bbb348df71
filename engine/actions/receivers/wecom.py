"""WeCom (WeChat Work), by the robot of a group.

Written from developer.work.weixin.qq.com: "Group robot configuration" (Markdown, 4,096 bytes, 20 messages a minute) and "Global error codes".

- **Success:** `{"errcode": 0}`. Failures answer 200 as well; those of `_RETRIED` pass.
- **Size:** 4,096 bytes of `content`.
- **Hostile texts:** `<@user>` mentions, and the documentation knows no escape. So the characters that could begin markup in a text (`<`, `>`, `[`, `]`,
  `*` and the backtick) are shown as their full-width twins, and each line stands behind a `>` of ours, so that none is a heading. The client still makes
  a link of an address or a domain that is written out; nothing prevents that.
- **Identity:** none for what is only posted; each message ends with the incident's id.
"""

from __future__ import annotations

import json
from typing import Final

from engine.actions.receivers.answers import DELIVERED, by_status, json_of, later, not_the_service, number, shown
from engine.actions.receivers.base import HttpAnswer, HttpRequest, Message, Rate, Settings, host_of
from engine.actions.receivers.wording import fitted, footer, links, mark, title_of
from engine.core.delivery import Answer, Rejected

MAX_BYTES: Final = 4096
TITLE_CHARS: Final = 200

_RETRIED: Final = frozenset({-1, 45009, 45033, 45047, 50001, 60020})
"""Busy; too often; too many at once."""

_TWINS: Final = str.maketrans("<>[]*`", "＜＞［］＊｀")
_COLOURS: Final = {"critical": "warning", "warning": "warning", "info": "comment"}


class WeCom:
    """See the module."""

    rate = Rate(messages=20, per_s=60)

    def target(self, settings: Settings) -> str:
        """The host: the rest of the address is a secret."""
        return f"wecom://{host_of(settings['url'])}"

    def request(self, message: Message, settings: Settings, now_s: float) -> HttpRequest | None:
        """A Markdown message."""
        text = fitted(message, lambda lines: _text(message, lines), lambda made: len(made.encode()) <= MAX_BYTES)
        sent = {"msgtype": "markdown", "markdown": {"content": text}}
        body = json.dumps(sent, ensure_ascii=False).encode("utf-8", "replace")
        headers = {"Content-Type": "application/json; charset=utf-8"}
        return HttpRequest(method="POST", url=settings["url"], headers=headers, body=body)

    def judge(self, message: Message, answer: HttpAnswer) -> Answer:
        """By `errcode`."""
        found = json_of(answer)
        code = number(found.get("errcode")) if found is not None else None
        if found is None or code is None or not 200 <= answer.status < 300:
            return not_the_service(answer) if 200 <= answer.status < 300 else by_status(answer)
        if code == 0:
            return DELIVERED
        reason = f"WeCom {code:.0f}: {shown(str(found.get('errmsg', 'no reason')))}"
        return later(reason) if code in _RETRIED else Rejected(reason=reason)


def _text(message: Message, lines: list[str]) -> str:
    kind = "info" if message.phase == "recovery" else _COLOURS.get(message.severity, "warning")
    parts = [f'{mark(message)} <font color="{kind}">{escaped(title_of(message, TITLE_CHARS))}</font>']
    parts += [f">{escaped(line)}" for line in lines]
    parts += [f"[{name}]({link})" for name, link in links(message)]
    return "\n".join([*parts, f'<font color="comment">{escaped(footer(message))}</font>'])


def escaped(text: str) -> str:
    """The text without a character that could begin markup: their full-width twins stand for them."""
    return text.translate(_TWINS)


SERVICE: Final = WeCom()
