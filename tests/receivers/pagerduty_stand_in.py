"""A stand-in of PagerDuty's Events API v2, from developer.pagerduty.com. It keeps incidents as PagerDuty does."""

from __future__ import annotations

import re
from typing import Any

from tests.receivers.stand_in import Came, Refused, Reply, Shown, StandIn, json_reply

KEY = "R" + "0" * 31


class PagerDutyStandIn(StandIn):
    """Incidents by `dedup_key`: `open` (triggered or acknowledged), how many were `opened` and `closed`, and resolves of nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.open: dict[str, str] = {}
        self.opened = self.closed = self.of_nothing = 0
        self.notified = 0
        self.events: list[dict[str, Any]] = []

    def take(self, came: Came) -> Reply:
        if came.path != "/v2/enqueue":
            raise Refused(Reply(status=404))
        if len(came.body) > 512 * 1024:
            raise Refused(Reply(status=413))
        event = came.json()
        if problems := self._problems(event):
            raise Refused(
                json_reply(400, {"status": "invalid event", "message": "Event object is invalid", "errors": problems})
            )
        key, action = event["dedup_key"], event["event_action"]
        self.events.append(event)
        if action == "trigger":
            if key not in self.open:
                self.open[key] = "triggered"
                self.opened += 1
            if self.open[key] == "triggered":
                self.notified += 1
            payload = event["payload"]
            details = payload["custom_details"]
            text = "\n".join(
                [payload["summary"], details["text"], *details.get("clients", []), details.get("client", "")]
            )
            self.shown.append(Shown(text=text, links=tuple(link["href"] for link in event.get("links", []))))
        elif key not in self.open:
            self.of_nothing += 1  # dropped, says the documentation
        elif action == "acknowledge":
            self.open[key] = "acknowledged"
        else:
            del self.open[key]
            self.closed += 1
        return json_reply(202, {"status": "success", "message": "Event processed", "dedup_key": key})

    @staticmethod
    def _problems(event: dict[str, Any]) -> list[str]:
        found = []
        if event.get("routing_key") != KEY:
            found.append("'routing_key' is invalid")
        if event.get("event_action") not in ("trigger", "acknowledge", "resolve"):
            found.append("'event_action' is invalid")
        if not 1 <= len(event.get("dedup_key", "")) <= 255:
            found.append("'dedup_key' is too long")
        if event.get("event_action") != "trigger":
            return found
        payload = event.get("payload", {})
        if not 1 <= len(payload.get("summary", "")) <= 1024:
            found.append("'payload.summary' is missing, blank or too long")
        if not payload.get("source"):
            found.append("'payload.source' is missing or blank")
        if payload.get("severity") not in ("critical", "error", "warning", "info"):
            found.append("'payload.severity' is invalid")
        if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)", payload.get("timestamp", "")):
            found.append("'payload.timestamp' is no ISO 8601")
        found += [
            f"'links' has {link}" for link in event.get("links", []) if not link.get("href", "").startswith("http")
        ]
        return found
