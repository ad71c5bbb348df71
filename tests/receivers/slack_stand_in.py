"""A stand-in of Slack: an incoming webhook and `chat.postMessage`, from docs.slack.dev."""

from __future__ import annotations

import re
from typing import Any

from tests.receivers.stand_in import Came, Refused, Reply, Shown, StandIn, json_reply

TOKEN, CHANNEL = "xoxb-token", "C0123"

_CONTROL = re.compile(r"<([^<>]*)>")
_ADDRESS = re.compile(r"https?://[^\s<>|]+|\b[\w-]+\.(?:com|example|org)\b")


class SlackStandIn(StandIn):
    """Both ways in; `unhappy` answers for both."""

    def take(self, came: Came) -> Reply:
        is_api = came.path == "/api/chat.postMessage"
        body = came.json()
        if not came.headers["content-type"].startswith("application/json"):
            raise Refused(self._error(is_api, 400, "invalid_payload"))
        if is_api:
            if came.headers.get("authorization") != f"Bearer {TOKEN}":
                raise Refused(self._error(True, 200, "invalid_auth"))
            if body.get("channel") != CHANNEL:
                raise Refused(self._error(True, 200, "channel_not_found"))
        elif came.path != "/services/T0/B0/secret":
            raise Refused(self._error(False, 404, "no_service"))
        if not body.get("text") and not body.get("blocks") and not body.get("attachments"):
            raise Refused(self._error(is_api, 400, "no_text"))
        if len(body.get("text", "")) > 40_000:
            raise Refused(self._error(is_api, 400, "msg_too_long"))
        parts = [
            self._read(body.get("text", ""), is_markup=body.get("mrkdwn", True), links=body.get("parse") != "none")
        ]
        for blocks in [body.get("blocks", []), *[one.get("blocks", []) for one in body.get("attachments", [])]]:
            if len(blocks) > 50:
                raise Refused(self._error(is_api, 400, "invalid_blocks"))
            parts += [self._block(block, is_api) for block in blocks]
        for attachment in body.get("attachments", []):
            assert re.fullmatch(r"#[0-9a-f]{6}", attachment["color"])
        links = tuple(link for part in parts for link in part.links)
        mentions = tuple(mention for part in parts for mention in part.mentions)
        self.shown.append(Shown(text="\n".join(part.text for part in parts), links=links, mentions=mentions))
        return json_reply(200, {"ok": True, "ts": "1503435956.000247"}) if is_api else Reply(status=200, body=b"ok")

    def _block(self, block: dict[str, Any], is_api: bool) -> Shown:
        if block["type"] == "section":
            texts = [block["text"]]
        elif block["type"] == "context":
            texts = block["elements"]
            if not 1 <= len(texts) <= 10:
                raise Refused(self._error(is_api, 400, "invalid_blocks"))
        else:
            raise Refused(self._error(is_api, 400, "invalid_blocks"))
        found = []
        for text in texts:
            if text["type"] not in ("plain_text", "mrkdwn") or not 1 <= len(text["text"]) <= 3000:
                raise Refused(self._error(is_api, 400, "invalid_blocks"))
            is_markup = text["type"] == "mrkdwn"
            found.append(
                self._read(text["text"], is_markup=is_markup, links=is_markup and not text.get("verbatim", False))
            )
        return Shown(
            text="\n".join(part.text for part in found),
            links=tuple(link for part in found for link in part.links),
            mentions=tuple(mention for part in found for mention in part.mentions),
        )

    @staticmethod
    def _read(text: str, *, is_markup: bool, links: bool) -> Shown:
        """Control sequences work wherever text is no plain text; addresses are found where nobody switched that off."""
        controls = _CONTROL.findall(text)
        mentions = tuple(one for one in controls if one[:1] in ("!", "@", "#"))
        clicked = [one.partition("|")[0] for one in controls if one[:1] not in ("!", "@", "#")]
        seen = _CONTROL.sub(lambda found: found[1].partition("|")[2] or found[1], text)
        if links:
            clicked += _ADDRESS.findall(seen)
        if is_markup and re.search(r"[*_~`]\w[^*_~`]*[*_~`]", seen):
            mentions += ("markup: " + seen,)
        return Shown(text=_decoded(seen), links=tuple(_decoded(one) for one in clicked), mentions=mentions)

    @staticmethod
    def _error(is_api: bool, status: int, error: str) -> Reply:
        return json_reply(200, {"ok": False, "error": error}) if is_api else Reply(status=status, body=error.encode())


def _decoded(text: str) -> str:
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
