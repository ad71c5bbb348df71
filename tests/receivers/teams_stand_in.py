"""A stand-in of the webhook of a Microsoft Teams workflow, from learn.microsoft.com."""

from __future__ import annotations

import re
from typing import Any

from tests.receivers.stand_in import Came, Refused, Reply, Shown, StandIn

_MARKUP = re.compile(r"\[[^\]]*\]\([^)]*\)|\*\*[^*]+\*\*|\{\{(?:DATE|TIME)\(")


class TeamsStandIn(StandIn):
    """Takes one adaptive card a message."""

    def take(self, came: Came) -> Reply:
        if came.path != "/workflows/w1/triggers/manual/paths/invoke" or came.query.get("sig") != "secret":
            raise Refused(Reply(status=401, body=b"DirectApiAuthorizationRequired"))
        if len(came.body) > 28 * 1024:
            raise Refused(Reply(status=413, body=b"Request entity too large"))
        body = came.json()
        if body.get("type") != "message" or len(body["attachments"]) != 1:
            raise Refused(Reply(status=400, body=b"not a message with one card"))
        attachment = body["attachments"][0]
        card = attachment["content"]
        if attachment["contentType"] != "application/vnd.microsoft.card.adaptive" or card["type"] != "AdaptiveCard":
            raise Refused(Reply(status=400, body=b"not an adaptive card"))
        texts: list[str] = []
        mentions = [str(one) for one in card.get("msteams", {}).get("entities", [])]
        mentions += _MARKUP.findall(card.get("fallbackText", ""))  # what older clients show instead, as Markdown
        for element in card["body"]:
            self._read(element, texts, mentions)
        links = tuple(action["url"] for action in card.get("actions", []) if action["type"] == "Action.OpenUrl")
        self.shown.append(Shown(text="\n".join(texts), links=links, mentions=tuple(mentions)))
        return Reply(status=202)

    def _read(self, element: dict[str, Any], texts: list[str], mentions: list[str]) -> None:
        match element["type"]:
            case "Container":
                assert element["style"] in ("default", "emphasis", "good", "attention", "warning", "accent")
                for inner in element["items"]:
                    self._read(inner, texts, mentions)
            case "RichTextBlock":  # its runs know no Markdown
                texts.append("".join(run["text"] for run in element["inlines"] if run["type"] == "TextRun"))
            case "TextBlock":
                texts.append(element["text"])
                mentions += _MARKUP.findall(element["text"])
            case other:
                raise Refused(Reply(status=400, body=f"an element {other}".encode()))
