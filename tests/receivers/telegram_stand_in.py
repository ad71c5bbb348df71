"""A stand-in of Telegram's Bot API, from core.telegram.org."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser

from tests.receivers.stand_in import Came, Refused, Reply, Shown, StandIn, json_reply

TOKEN, CHAT = "123:secret", "-100200300"

TAGS = {"b", "strong", "i", "em", "u", "s", "code", "pre", "a", "blockquote", "tg-spoiler", "span"}
_ENTITY = re.compile(r"&(?!(?:lt|gt|amp|quot|#\d+|#x[0-9a-fA-F]+);)")
_BY_ITSELF = re.compile(
    r"https?://\S+|@\w{3,}|#\w+|(?<!\S)/\w+|\$[A-Z]{3,}|\b[\w-]+\.(?:com|example|org|exe)\b|\+\d{7,}"
)


class _Html(HTMLParser):
    """Telegram's HTML: few tags, nothing within code, and everything else is a mistake."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.open: list[str] = []
        self.text: list[str] = []
        self.outside_code: list[str] = []
        self.links: list[str] = []
        self.problem: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in TAGS or "code" in self.open or "pre" in self.open:
            self.problem = f'Unsupported start tag "{tag}"'
        self.open.append(tag)
        if tag == "a":
            self.links.append(str(dict(attrs).get("href")))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.problem = f'Unexpected end tag "{tag}"'

    def handle_data(self, data: str) -> None:
        if "<" in data:
            self.problem = "Unsupported start tag"
        self.text.append(data)
        if not {"code", "pre"} & set(self.open):
            self.outside_code.append(data)
        else:
            self.outside_code.append(" ")

    def handle_entityref(self, name: str) -> None:
        self.handle_data_raw(unescape(f"&{name};"))

    def handle_charref(self, name: str) -> None:
        self.handle_data_raw(unescape(f"&#{name};"))

    def handle_data_raw(self, data: str) -> None:
        self.text.append(data)
        self.outside_code.append(" " if {"code", "pre"} & set(self.open) else data)


class TelegramStandIn(StandIn):
    """`sendMessage` to one chat."""

    def take(self, came: Came) -> Reply:
        if came.path != f"/bot{TOKEN}/sendMessage":
            raise Refused(self.error(404, "Not Found"))
        body = came.json()
        if str(body.get("chat_id")) != CHAT:
            raise Refused(self.error(400, "Bad Request: chat not found"))
        text = body.get("text", "")
        if not text:
            raise Refused(self.error(400, "Bad Request: message text is empty"))
        if body.get("parse_mode") != "HTML":
            raise Refused(self.error(400, "Bad Request: unsupported parse_mode"))
        parser = _Html()
        parser.feed(text)
        parser.close()
        if parser.problem or parser.open or _ENTITY.search(text):
            raise Refused(
                self.error(400, f"Bad Request: can't parse entities: {parser.problem or parser.open or 'an entity'}")
            )
        seen = "".join(parser.text)
        if len(seen.encode("utf-16-le")) // 2 > 4096:
            raise Refused(self.error(400, "Bad Request: message is too long"))
        assert body["link_preview_options"] == {"is_disabled": True}
        by_itself = tuple(_BY_ITSELF.findall("".join(parser.outside_code)))
        self.shown.append(Shown(text=seen, links=(*parser.links, *by_itself)))
        return json_reply(200, {"ok": True, "result": {"message_id": len(self.shown), "text": seen}})

    @staticmethod
    def error(code: int, description: str, **parameters: int) -> Reply:
        body: dict[str, object] = {"ok": False, "error_code": code, "description": description}
        return json_reply(code, {**body, "parameters": parameters} if parameters else body)
