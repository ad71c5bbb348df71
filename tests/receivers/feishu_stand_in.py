"""A stand-in of the custom bot of Feishu and Lark, from open.feishu.cn."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from typing import Any

from tests.receivers.stand_in import Came, Refused, Reply, Shown, StandIn, json_reply

SECRET = "feishu-secret"


class FeishuStandIn(StandIn):
    """Signed cards. `now_s` is its clock."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        super().__init__()
        self._now_s = now_s

    def take(self, came: Came) -> Reply:
        if came.path != "/open-apis/bot/v2/hook/secret":
            raise Refused(self.error(19001, "param invalid: incoming webhook access token invalid"))
        if len(came.body) > 20 * 1024:
            raise Refused(self.error(9499, "Bad Request"))
        body = came.json()
        timestamp = body.get("timestamp", "")
        made = hmac.new(f"{timestamp}\n{SECRET}".encode(), b"", hashlib.sha256).digest()
        if body.get("sign") != base64.b64encode(made).decode() or abs(self._now_s() - int(timestamp)) > 3600:
            raise Refused(self.error(19021, "sign match fail or timestamp is not within one hour from current time"))
        if body.get("msg_type") != "interactive":
            raise Refused(self.error(9499, "Bad Request"))
        card = body["card"]
        assert card["header"]["template"] in ("red", "orange", "blue", "green")
        texts = [self._plain(card["header"]["title"])]
        links: list[str] = []
        for element in card["elements"]:
            if element["tag"] == "div":
                texts.append(self._plain(element["text"]))
            elif element["tag"] == "note":
                texts += [self._plain(one) for one in element["elements"]]
            elif element["tag"] == "action":
                links += [button["url"] for button in element["actions"]]
            else:
                raise Refused(self.error(9499, "Bad Request"))
        self.shown.append(Shown(text="\n".join(texts), links=tuple(links)))
        return json_reply(200, {"StatusCode": 0, "StatusMessage": "success", "code": 0, "data": {}, "msg": "success"})

    def _plain(self, text: dict[str, Any]) -> str:
        if text["tag"] != "plain_text" or not text["content"]:
            raise Refused(self.error(9499, "Bad Request"))
        return str(text["content"])

    @staticmethod
    def error(code: int, message: str) -> Reply:
        return json_reply(200, {"code": code, "data": {}, "msg": message})
