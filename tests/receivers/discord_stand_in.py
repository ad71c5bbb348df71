"""A stand-in of a Discord webhook, from the developer documentation."""

from __future__ import annotations

import re
from typing import Any

from tests.receivers.stand_in import Came, Refused, Reply, Shown, StandIn, json_reply

_LINK = re.compile(r"(?<!\\)\[((?:\\.|[^\]\\])*)\]\((https?://[^\s)]+)\)")
_ADDRESS = re.compile(r"https?://[^\s<]+")
_MENTION = re.compile(r"(?<!\\)(?:<[@#][!&]?\d+>|@everyone|@here)")
_ESCAPE = re.compile(r"\\([^0-9A-Za-z\s])")


class DiscordStandIn(StandIn):
    """Takes what its limits allow."""

    def take(self, came: Came) -> Reply:
        if came.path != "/api/webhooks/123456/secret":
            raise Refused(json_reply(404, {"message": "Unknown Webhook", "code": 10015}))
        body = came.json()
        problem = self._problem(body)
        if problem:
            raise Refused(
                json_reply(400, {"message": "Invalid Form Body", "code": 50035, "errors": {"embeds": problem}})
            )
        may_mention = body.get("allowed_mentions", {"parse": ["users", "roles", "everyone"]})["parse"]
        found = []
        for embed in body["embeds"]:
            found += [self._read(embed.get(key, "")) for key in ("title", "description")]
            found.append(Shown(text=embed["footer"]["text"], links=(embed["url"],) if "url" in embed else ()))
        content = self._read(body.get("content", ""))
        mentions = tuple(_MENTION.findall(body.get("content", ""))) if may_mention else ()
        links = tuple(link for part in [content, *found] for link in part.links)
        # Mentions in an embed notify nobody, but are shown as such.
        mentions += tuple(mention for part in found for mention in part.mentions)
        self.shown.append(
            Shown(text="\n".join(part.text for part in [content, *found]), links=links, mentions=mentions)
        )
        return Reply(status=204)

    @staticmethod
    def _problem(body: dict[str, Any]) -> str | None:
        if not body.get("content") and not body.get("embeds"):
            return "Cannot send an empty message"
        if len(body.get("content", "")) > 2000 or len(body["embeds"]) > 10:
            return "too long"
        in_all = 0
        for embed in body["embeds"]:
            sizes = {"title": 256, "description": 4096}
            for key, most in sizes.items():
                if len(embed.get(key, "")) > most:
                    return f"{key} must be {most} or fewer in length"
                in_all += len(embed.get(key, ""))
            if len(embed["footer"]["text"]) > 2048 or not 0 <= embed["color"] <= 0xFFFFFF:
                return "footer or colour"
            in_all += len(embed["footer"]["text"])
        return "Embed size exceeds maximum size of 6000" if in_all > 6000 else None

    @staticmethod
    def _read(text: str) -> Shown:
        clicked = [link for _, link in _LINK.findall(text)]
        rest = _LINK.sub(lambda found: found[1], text)
        return Shown(
            text=_ESCAPE.sub(r"\1", rest),
            links=(*clicked, *_ADDRESS.findall(rest)),
            mentions=tuple(_MENTION.findall(rest)),
        )
