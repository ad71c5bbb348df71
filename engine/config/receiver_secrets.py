"""Which keys of a receiver may be secrets. It stands alone because the process that sends needs no more of the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

SECRETS: Final[Mapping[str, tuple[str, ...]]] = {
    "slack": ("url", "token"),
    "teams": ("url",),
    "discord": ("url",),
    "telegram": ("token",),
    "dingtalk": ("url", "secret"),
    "feishu": ("url", "secret"),
    "wecom": ("url",),
    "pagerduty": ("routing_key",),
    "opsgenie": ("api_key",),
    "ntfy": ("topic", "token", "password"),
    "webhook": ("url", "sign"),
    "apprise": ("url",),
}
"""Of each service, the keys that may be secrets."""
