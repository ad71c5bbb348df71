"""A stand-in of DingTalk's custom robot, from open.dingtalk.com."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable

from tests.receivers.stand_in import Came, Refused, Reply, Shown, StandIn, json_reply

SECRET = "SEC0123456789"

_LINK = re.compile(r"(?<!\\)\[((?:\\.|[^\]\\])*)\]\(([^\s)]+)\)")
_TAG = re.compile(r"<(/?)(\w+)([^>]*)>")
_ESCAPE = re.compile(r"\\([^0-9A-Za-z\s])")
_EMPHASIS = re.compile(r"(?<!\\)[*`](?!\s)[^*`\n]+(?<!\\)[*`]")


class DingTalkStandIn(StandIn):
    """Signed Markdown messages. `now_s` is its clock."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        super().__init__()
        self._now_s = now_s

    def take(self, came: Came) -> Reply:
        if came.path != "/robot/send" or came.query.get("access_token") != "secret":
            raise Refused(self.error(300001, "token is not exist"))
        timestamp = came.query.get("timestamp", "")
        made = hmac.new(SECRET.encode(), f"{timestamp}\n{SECRET}".encode(), hashlib.sha256).digest()
        if came.query.get("sign") != base64.b64encode(made).decode():
            raise Refused(self.error(310000, "sign not match"))
        if abs(self._now_s() * 1000 - int(timestamp)) > 3_600_000:
            raise Refused(self.error(310000, "invalid timestamp"))
        if len(came.body) > 20_000:
            raise Refused(self.error(40035, "the message is longer than 20000 bytes"))
        body = came.json()
        if body.get("msgtype") != "markdown" or not body["markdown"].get("title") or not body["markdown"].get("text"):
            raise Refused(self.error(40035, "missing parameter markdown"))
        at = body.get("at", {})
        mentions = [*at.get("atMobiles", []), *at.get("atUserIds", []), *(["all"] if at.get("isAtAll") else [])]
        text = body["markdown"]["text"]
        links = [link for _, link in _LINK.findall(text)]
        seen = _LINK.sub(lambda found: found[1], text)
        tags = [found[2] for found in _TAG.finditer(seen)]
        seen = _TAG.sub("", seen)
        if [tag for tag in tags if tag != "font"] or _EMPHASIS.search(seen):
            mentions.append(f"markup: {tags} {seen[:200]}")
        seen = _ESCAPE.sub(r"\1", seen).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
        self.shown.append(Shown(text=seen, links=tuple(links), mentions=tuple(mentions)))
        return self.error(0, "ok")

    @staticmethod
    def error(code: int, message: str) -> Reply:
        return json_reply(200, {"errcode": code, "errmsg": message})
