"""A stand-in of an ntfy server, from docs.ntfy.sh."""

from __future__ import annotations

from tests.receivers.stand_in import Came, Refused, Reply, Shown, StandIn, json_reply


class NtfyStandIn(StandIn):
    """Publishing as JSON to one protected topic."""

    def take(self, came: Came) -> Reply:
        if came.headers.get("authorization") != "Bearer tk_secret":
            raise Refused(self.error(403, 40301, "forbidden"))
        body = came.json()
        if body.get("topic") != "rollcall":
            raise Refused(self.error(403, 40301, "forbidden"))
        if body.get("priority") not in (1, 2, 3, 4, 5):
            raise Refused(self.error(400, 40007, "invalid priority parameter"))
        if len(body.get("message", "").encode()) > 4096:
            raise Refused(self.error(413, 41301, "it would become an attachment"))
        if len(body.get("actions", [])) > 3:
            raise Refused(self.error(400, 40018, "too many actions"))
        links = [action["url"] for action in body.get("actions", []) if action["action"] == "view"]
        if "click" in body:
            links.append(body["click"])
        mentions = ("markdown",) if body.get("markdown") else ()
        self.shown.append(Shown(text=f"{body['title']}\n{body['message']}", links=tuple(links), mentions=mentions))
        return json_reply(200, {"id": "sPs71M8A2T", "time": 1, "event": "message", "topic": "rollcall"})

    @staticmethod
    def error(status: int, code: int, error: str) -> Reply:
        return json_reply(status, {"code": code, "http": status, "error": error, "link": "https://ntfy.sh/docs"})
