"""Every service that is spoken to over HTTP, by its name in the configuration. E-mail and Apprise are not: see `email` and `apprise`."""

from __future__ import annotations

from typing import Final

from engine.actions.receivers import (
    dingtalk,
    discord,
    feishu,
    ntfy,
    opsgenie,
    pagerduty,
    slack,
    teams,
    telegram,
    webhook,
    wecom,
)
from engine.actions.receivers.base import ReceiverService

SERVICES: Final[dict[str, ReceiverService]] = {
    "slack": slack.SERVICE,
    "teams": teams.SERVICE,
    "discord": discord.SERVICE,
    "telegram": telegram.SERVICE,
    "dingtalk": dingtalk.SERVICE,
    "feishu": feishu.SERVICE,
    "wecom": wecom.SERVICE,
    "pagerduty": pagerduty.SERVICE,
    "opsgenie": opsgenie.SERVICE,
    "ntfy": ntfy.SERVICE,
    "webhook": webhook.SERVICE,
}
