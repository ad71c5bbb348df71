"""Every service with its stand-in and its settings, and one message on its way."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from engine.actions.receivers.base import HttpAnswer, HttpRequest, Message, ReceiverService
from engine.actions.receivers.table import SERVICES
from engine.core.delivery import Answer
from tests.receivers import (
    dingtalk_stand_in,
    feishu_stand_in,
    opsgenie_stand_in,
    pagerduty_stand_in,
    slack_stand_in,
    telegram_stand_in,
)
from tests.receivers.discord_stand_in import DiscordStandIn
from tests.receivers.ntfy_stand_in import NtfyStandIn
from tests.receivers.stand_in import Came, Reply, StandIn
from tests.receivers.teams_stand_in import TeamsStandIn
from tests.receivers.wecom_stand_in import WeComStandIn

NOW_S = 1_780_000_000.0
"""The clock of all stand-ins, and of our requests."""

LINK = "https://rollcall.example/alerts/01JD7Q?tab=history&x=1"
RUNBOOK = "https://wiki.example/runbooks/pump (offline)"
RUNBOOK_SENT = "https://wiki.example/runbooks/pump%20%28offline%29"


@dataclass(frozen=True)
class Neighbour:
    """One service as it is configured in these tests; `{base}` is where its stand-in is."""

    service: str
    settings: Mapping[str, Any]
    make: Callable[[], StandIn]

    def at(self, base: str) -> dict[str, Any]:
        """The settings with the stand-in's address."""
        return {key: value.replace("{base}", base) if isinstance(value, str) else value for key, value in self.settings.items()}  # fmt: skip


def _now_s() -> float:
    return NOW_S


NEIGHBOURS: dict[str, Neighbour] = {
    "slack": Neighbour("slack", {"url": "{base}/services/T0/B0/secret"}, slack_stand_in.SlackStandIn),
    "slack-api": Neighbour(
        "slack",
        {"token": slack_stand_in.TOKEN, "channel": slack_stand_in.CHANNEL, "api_url": "{base}/api"},
        slack_stand_in.SlackStandIn,
    ),
    "teams": Neighbour("teams", {"url": "{base}/workflows/w1/triggers/manual/paths/invoke?sig=secret"}, TeamsStandIn),
    "discord": Neighbour("discord", {"url": "{base}/api/webhooks/123456/secret"}, DiscordStandIn),
    "telegram": Neighbour(
        "telegram",
        {"token": telegram_stand_in.TOKEN, "chat": telegram_stand_in.CHAT, "api_url": "{base}"},
        telegram_stand_in.TelegramStandIn,
    ),
    "dingtalk": Neighbour(
        "dingtalk",
        {"url": "{base}/robot/send?access_token=secret", "secret": dingtalk_stand_in.SECRET},
        lambda: dingtalk_stand_in.DingTalkStandIn(_now_s),
    ),
    "feishu": Neighbour(
        "feishu",
        {"url": "{base}/open-apis/bot/v2/hook/secret", "secret": feishu_stand_in.SECRET},
        lambda: feishu_stand_in.FeishuStandIn(_now_s),
    ),
    "wecom": Neighbour("wecom", {"url": "{base}/cgi-bin/webhook/send?key=secret"}, WeComStandIn),
    "pagerduty": Neighbour(
        "pagerduty",
        {"routing_key": pagerduty_stand_in.KEY, "url": "{base}/v2/enqueue"},
        pagerduty_stand_in.PagerDutyStandIn,
    ),
    "opsgenie": Neighbour(
        "opsgenie", {"api_key": opsgenie_stand_in.KEY, "url": "{base}"}, opsgenie_stand_in.OpsgenieStandIn
    ),
    "ntfy": Neighbour("ntfy", {"url": "{base}", "topic": "rollcall", "token": "tk_secret"}, NtfyStandIn),
}

CHATS = [name for name in NEIGHBOURS if name not in ("pagerduty", "opsgenie")]


def service_of(name: str) -> ReceiverService:
    return SERVICES[NEIGHBOURS[name].service]


def message(**changed: Any) -> Message:
    """A message of one incident; what is not named is ordinary."""
    written: dict[str, Any] = {
        "receiver": "chat", "service": "slack", "phase": "firing", "incident": "pump-offline:01JD7Q", "severity": "critical",
        "rule": "pump-offline", "title": "pump-offline: GID_X@@@pump-7 is offline", "text": "GID_X@@@pump-7 is offline.",
        "clients": ("GID_X@@@pump-7",), "count": 1, "key": {}, "labels": {"runbook": RUNBOOK, "team": "water"}, "link": LINK,
        "started_at_ms": 1_780_000_000_000, "at_ms": 1_780_000_030_000,
    }  # fmt: skip
    return Message(**{**written, **changed})


def asked(name: str, told: Message, base: str, now_s: float = NOW_S) -> HttpRequest:
    """The request that carries a message."""
    found = service_of(name).request(told, NEIGHBOURS[name].at(base), now_s)
    assert found is not None
    return found


def over_http(name: str, told: Message, base: str) -> Answer:
    """A message on its way over loopback, and what its answer means."""
    request = asked(name, told, base)
    parts = urlsplit(request.url)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    try:
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(request.method, path, request.body, dict(request.headers))
        response = connection.getresponse()
        headers = {key.lower(): value for key, value in response.getheaders()}
        answer = HttpAnswer(status=response.status, headers=headers, body=response.read(65536), now_s=NOW_S)
    finally:
        connection.close()
    return service_of(name).judge(told, answer)


def in_process(name: str, told: Message, stand_in: StandIn) -> Reply:
    """The same without a network, for many examples."""
    request = asked(name, told, "http://stand-in.test")
    parts = urlsplit(request.url)
    headers = {key.lower(): value for key, value in request.headers.items()}
    return stand_in.answer(
        Came(
            method=request.method,
            path=parts.path,
            query=dict(parse_qsl(parts.query)),
            headers=headers,
            body=request.body,
        )
    )
