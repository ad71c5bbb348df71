"""A stand-in of WeCom's group robot, from developer.work.weixin.qq.com."""

from __future__ import annotations

import re

from tests.receivers.stand_in import Came, Refused, Reply, Shown, StandIn, json_reply

_LINK = re.compile(r"\[([^\]]*)\]\(([^\s)]+)\)")
_MENTION = re.compile(r"<@[^>]*>")
_FONT = re.compile(r'</?font(?: color="(?:info|comment|warning)")?>')


class WeComStandIn(StandIn):
    """Markdown messages."""

    def take(self, came: Came) -> Reply:
        if came.path != "/cgi-bin/webhook/send" or came.query.get("key") != "secret":
            raise Refused(self.error(93000, "invalid webhook url"))
        body = came.json()
        if body.get("msgtype") != "markdown" or not body["markdown"].get("content"):
            raise Refused(self.error(40008, "invalid message type"))
        content = body["markdown"]["content"]
        if len(content.encode()) > 4096:
            raise Refused(self.error(40058, "markdown.content exceed max length 4096"))
        mentions = _MENTION.findall(content)
        links = tuple(link for _, link in _LINK.findall(content))
        seen = _FONT.sub("", _LINK.sub(lambda found: found[1], content))
        if re.search(r"[<*`]|^#", seen, re.MULTILINE):
            mentions.append(f"markup: {seen[:200]}")
        self.shown.append(Shown(text=seen, links=links, mentions=tuple(mentions)))
        return self.error(0, "ok")

    @staticmethod
    def error(code: int, message: str) -> Reply:
        return json_reply(200, {"errcode": code, "errmsg": message})
