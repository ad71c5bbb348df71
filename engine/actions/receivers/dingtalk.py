r"""DingTalk, by the custom robot of a group.

Written from open.dingtalk.com: "Custom robot access", "Custom robot security settings" (signature) and "Message types" (Markdown), and from the error
codes listed there.

- **Signature** (`secret`): `timestamp` in milliseconds and `sign`, the Base64 of HMAC-SHA256 over `timestamp\nsecret`, keyed with the secret, in the
  query. It is made when the message is sent, because it is good for an hour.
- **Success:** `{"errcode": 0}`. Failures answer 200 as well. Those of `_RETRIED` pass; one that was too fast says in `wait` for how long.
- **Rate:** 20 messages a minute; whoever sends more is refused for ten minutes.
- **Size:** 20,000 bytes of body.
- **Hostile texts:** what Markdown may use has a backslash, `&`, `<` and `>` are entities; nobody is mentioned, since `at` names nobody. `https:` has one
  before its colon, but some clients make a link of a written-out address all the same; nothing prevents that.
- **Identity:** none for what is only posted; each message ends with the incident's id.
"""

from __future__ import annotations

import base64
import hmac
import json
import re
from typing import Any, Final
from urllib.parse import quote_plus

from engine.actions.receivers.answers import DELIVERED, by_status, json_of, later, not_the_service, number, shown
from engine.actions.receivers.base import HttpAnswer, HttpRequest, Message, Rate, Settings, host_of
from engine.actions.receivers.wording import colour, cut, fitted, footer, links, mark, marked_title, title_of
from engine.core.delivery import Answer, Rejected

MAX_BYTES: Final = 20_000
TITLE_CHARS: Final = 100
"""Of the title in a notification; the message has the whole."""

_RETRIED: Final = frozenset({-1, 88, 130101, 410100, 90002, 90018, 90030})
"""Busy; too fast, in the codes of several years."""

_REFUSED: Final = {
    310000: "a security setting of the robot refuses it: signature, keyword or address",
    300001: "the token in `url` is not known",
    400101: "the token in `url` is not known",
    400102: "the robot is switched off",
    400106: "the robot does not exist any more",
    400013: "the group does not exist any more",
}

_SPECIAL: Final = re.compile(r"([\\`*_\[\]~|]|^#|(?<=\])\(|:(?=//))")


class DingTalk:
    """See the module."""

    rate = Rate(messages=20, per_s=60)

    def target(self, settings: Settings) -> str:
        """The host: the rest of the address is a secret."""
        return f"dingtalk://{host_of(settings['url'])}"

    def request(self, message: Message, settings: Settings, now_s: float) -> HttpRequest | None:
        """A Markdown message, signed with `now_s`."""
        body = fitted(message, lambda lines: _body(message, lines), lambda made: len(made) <= MAX_BYTES)
        url = settings["url"]
        if secret := settings.get("secret"):
            url += f"{'&' if '?' in url else '?'}{signature(secret, round(now_s * 1000))}"
        headers = {"Content-Type": "application/json; charset=utf-8"}
        return HttpRequest(method="POST", url=url, headers=headers, body=body)

    def judge(self, message: Message, answer: HttpAnswer) -> Answer:
        """By `errcode`."""
        found = json_of(answer)
        code = number(found.get("errcode")) if found is not None else None
        if found is None or code is None or not 200 <= answer.status < 300:
            return not_the_service(answer) if 200 <= answer.status < 300 else by_status(answer)
        if code == 0:
            return DELIVERED
        reason = f"DingTalk {code:.0f}: {shown(str(found.get('errmsg', 'no reason')))}"
        if code in _RETRIED:
            return later(reason, number(found.get("wait")))
        advice = _REFUSED.get(int(code))
        return Rejected(reason=f"{reason} ({advice})" if advice else reason)


def signature(secret: str, timestamp_ms: int) -> str:
    """The part of a query that signs a request sent at an instant (epoch milliseconds)."""
    made = hmac.digest(secret.encode(), f"{timestamp_ms}\n{secret}".encode(), "sha256")
    return f"timestamp={timestamp_ms}&sign={quote_plus(base64.b64encode(made))}"


def _body(message: Message, lines: list[str]) -> bytes:
    title = f'### {mark(message)} <font color="{colour(message)}">{escaped(title_of(message))}</font>'
    # Two spaces end a line; an empty line ends a paragraph.
    text = f"{title}\n\n" + "  \n".join(map(escaped, lines))
    addresses = [f"[{name}]({link})" for name, link in links(message)]
    text += "".join(
        f"\n\n{part}" for part in [*[" · ".join(addresses)][: bool(addresses)], f"> {escaped(footer(message))}"]
    )
    sent: dict[str, Any] = {
        "msgtype": "markdown",
        "markdown": {"title": cut(marked_title(message), TITLE_CHARS), "text": text},
        "at": {"isAtAll": False, "atMobiles": [], "atUserIds": []},
    }
    return json.dumps(sent, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def escaped(text: str) -> str:
    """The text as Markdown in which nothing has a meaning."""
    text = _SPECIAL.sub(r"\\\1", text)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


SERVICE: Final = DingTalk()
