"""Slack, by an incoming webhook (`url`) or by `chat.postMessage` (`token` and `channel`).

Written from docs.slack.dev: "Sending messages using incoming webhooks", "chat.postMessage", "Text object", "Formatting message text" and
"Rate limits" (one message a second and channel; 429 with `Retry-After`).

- **Success:** a webhook answers 200 with `ok`; the method answers 200 with `{"ok": true}`, and 200 with `{"ok": false, "error": ...}` when it
  fails. Of those errors, the ones of `_RETRIED` pass; the others need somebody who changes something.
- **Size:** 3,000 characters in one text object, so a long text becomes several; 50 blocks.
- **Hostile texts:** they stand in `plain_text` objects, where nothing is markup, a mention or a link, and `&`, `<`, `>` are written as entities
  everywhere, so `<!channel>` is a text. The title also stands in `text`, which notifications show: there `mrkdwn` and `parse` are off, so a bare
  domain does not become a link. Previews of links are off.
- **Identity:** Slack knows none for what is only posted. Each message ends with the incident's id, so a recovery is seen to belong to its firing.
"""

from __future__ import annotations

import json
from typing import Any, Final

from engine.actions.receivers.answers import (
    DELIVERED,
    by_status,
    header_pause_s,
    is_page,
    json_of,
    later,
    not_the_service,
    shown,
)
from engine.actions.receivers.base import HttpAnswer, HttpRequest, Message, Rate, Settings, host_of
from engine.actions.receivers.wording import colour, cut, fitted, footer, links, marked_title, units
from engine.core.delivery import Answer, Rejected

API_URL: Final = "https://slack.com/api"

TEXT_CHARS: Final = 3000
"""Of one text object, entities counted."""

TEXTS: Final = 4
"""Text objects of one message: about two screens. Slack allows 50 blocks."""

TITLE_CHARS: Final = 250
LINK_CHARS: Final = 1000
"""Of an address, entities counted."""

_RETRIED: Final = frozenset(
    {"ratelimited", "rate_limited", "message_limit_exceeded", "internal_error", "fatal_error", "service_unavailable", "request_timeout",
     "team_added_to_org", "accesslimited", "org_login_required"}
)  # fmt: skip
"""Errors that pass by themselves."""


class Slack:
    """See the module."""

    rate = Rate(messages=1, per_s=1)

    def target(self, settings: Settings) -> str:
        """The host, and the channel when it is known."""
        channel = settings.get("channel") if "token" in settings else None
        address = settings.get("api_url") or API_URL if "token" in settings else settings["url"]
        return f"slack://{host_of(address)}" + (f"/{channel}" if channel else "")

    def request(self, message: Message, settings: Settings, now_s: float) -> HttpRequest | None:
        """One message with an attachment in the colour of the severity."""
        body = fitted(message, lambda lines: _body(message, lines), _fits)
        headers = {"Content-Type": "application/json; charset=utf-8"}
        url = settings.get("url", "")
        if "token" in settings:
            body = {"channel": settings["channel"], **body, "link_names": False}
            headers["Authorization"] = f"Bearer {settings['token']}"
            url = f"{(settings.get('api_url') or API_URL).rstrip('/')}/chat.postMessage"
        return HttpRequest(method="POST", url=url, headers=headers, body=json.dumps(body).encode())

    def judge(self, message: Message, answer: HttpAnswer) -> Answer:
        """A webhook says `ok`, the method says it in JSON; both are known by what they answer."""
        if not 200 <= answer.status < 300:
            return by_status(answer)
        if is_page(answer):
            return not_the_service(answer)
        found = json_of(answer)
        if found is None and answer.body.lstrip().startswith(b"{"):
            return not_the_service(answer)  # a cut-off or broken object may have said `ok: false`
        if found is None or "ok" not in found or found["ok"] is True:
            return DELIVERED
        error = shown(str(found.get("error", "no reason")))
        if error in _RETRIED:
            return later(f"Slack: {error}", header_pause_s(answer))
        return Rejected(reason=f"Slack: {error}{_advice(error)}")


def _advice(error: str) -> str:
    hints = {
        "not_in_channel": "invite the app to the channel",
        "channel_not_found": "`channel` names none that the app can see; invite it, or use the channel's id",
        "invalid_auth": "the token is not valid",
        "missing_scope": "the app needs the scope chat:write",
    }
    return f" ({hints[error]})" if error in hints else ""


def _body(message: Message, lines: list[str]) -> dict[str, Any]:
    title = escaped(cut(marked_title(message), TITLE_CHARS))
    blocks: list[dict[str, Any]] = [
        {"type": "section", "text": {"type": "plain_text", "text": text, "emoji": False}} for text in _texts(lines)
    ]
    addresses = [(name, escaped(link)) for name, link in links(message)]
    if said := " · ".join(f"<{link}|{name}>" for name, link in addresses if len(link) <= LINK_CHARS):
        blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": said, "verbatim": True}]})
    small = {"type": "plain_text", "text": cut(escaped(footer(message)), TEXT_CHARS), "emoji": False}
    blocks.append({"type": "context", "elements": [small]})
    return {
        "text": title,
        "mrkdwn": False,
        "parse": "none",
        "unfurl_links": False,
        "unfurl_media": False,
        "attachments": [{"color": colour(message), "fallback": title, "blocks": blocks}],
    }


def _texts(lines: list[str]) -> list[str]:
    """The lines in as few text objects as hold them. A line that is alone too long stays one text: it is cut."""
    texts: list[str] = []
    for line in map(escaped, lines):
        if texts and units(texts[-1]) + 1 + units(line) <= TEXT_CHARS:
            texts[-1] += "\n" + line
        elif line or texts:
            texts.append(line)
    return [text for text in texts if text.strip()]


def _fits(body: dict[str, Any]) -> bool:
    blocks = body["attachments"][0]["blocks"]
    texts = [block["text"]["text"] for block in blocks if block["type"] == "section"]
    return len(texts) <= TEXTS and all(units(text) <= TEXT_CHARS for text in texts)


def escaped(text: str) -> str:
    """The three characters that Slack gives a meaning, as entities."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


SERVICE: Final = Slack()
