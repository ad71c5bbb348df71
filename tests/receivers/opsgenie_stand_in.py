"""A stand-in of Opsgenie's Alert API, from docs.opsgenie.com. It keeps alerts as Opsgenie does."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from tests.receivers.stand_in import Came, Refused, Reply, Shown, StandIn, json_reply

KEY = "genie-secret"


class OpsgenieStandIn(StandIn):
    """Alerts by alias: `open`, with their count; how many were `opened` and `closed`."""

    def __init__(self) -> None:
        super().__init__()
        self.open: dict[str, int] = {}
        self.acknowledged: dict[str, str] = {}
        self.opened = self.closed = 0

    def take(self, came: Came) -> Reply:
        if came.headers.get("authorization") != f"GenieKey {KEY}":
            raise Refused(json_reply(403, {"message": "You are not authorized for this operation", "took": 0.0}))
        body = came.json()
        if came.path == "/v2/alerts":
            return self._create(body)
        found = re.fullmatch(r"/v2/alerts/([^/]+)/(acknowledge|close)", came.path)
        if found is None or came.query != {"identifierType": "alias"}:
            raise Refused(json_reply(404, {"message": "No such resource", "took": 0.0}))
        if len(body.get("user", "")) > 100 or len(body.get("source", "")) > 100 or len(body.get("note", "")) > 25_000:
            raise Refused(self._invalid("user, source or note is too long"))
        alias = unquote(found[1])
        if alias not in self.open:
            return json_reply(404, {"message": f"Alert not found with identifier [{alias[:50]}]", "took": 0.0})
        if found[2] == "close":
            del self.open[alias]
            self.closed += 1
        else:
            self.acknowledged[alias] = body.get("user", "")
        return self._accepted()

    def _create(self, body: dict[str, Any]) -> Reply:
        limits = {"message": 130, "alias": 512, "description": 15_000, "entity": 512, "source": 100}
        for key, most in limits.items():
            if len(body.get(key, "")) > most:
                raise Refused(self._invalid(f"{key} can not be longer than {most} characters"))
        if not body.get("message"):
            raise Refused(self._invalid("message can not be empty"))
        if body.get("priority") not in ("P1", "P2", "P3", "P4", "P5"):
            raise Refused(self._invalid("priority is invalid"))
        if len(body.get("tags", [])) > 20 or any(len(tag) > 50 for tag in body.get("tags", [])):
            raise Refused(self._invalid("tags are invalid"))
        details = body.get("details", {})
        if sum(len(key) + len(value) for key, value in details.items()) > 8000:
            raise Refused(self._invalid("details are too long"))
        alias = body["alias"]
        self.opened += alias not in self.open
        self.open[alias] = self.open.get(alias, 0) + 1
        self.shown.append(Shown(text=f"{body['message']}\n{body['description']}"))
        return self._accepted()

    @staticmethod
    def _accepted() -> Reply:
        return json_reply(202, {"result": "Request will be processed", "took": 0.1, "requestId": "r-1"})

    @staticmethod
    def _invalid(why: str) -> Reply:
        return json_reply(
            422, {"message": "Request body is not processable. Please check the errors.", "errors": {"body": why}}
        )
