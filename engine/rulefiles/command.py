"""Checks a `command` of a rule: what the schema cannot know, such as whether the configuration has a way for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from engine.config.durations import parse_duration
from engine.config.mqtt import MqttConfig
from engine.core.delivery import LIFE
from engine.templates.command import MQTT, ROCKETMQ, why_no_client

DEFAULT_EXPIRES: Final = "30s"
SHORTEST_MS: Final = {MQTT: 2_000, ROCKETMQ: 5_000}
"""Brokers count the rest of a command's life in whole seconds; one attempt by RocketMQ may take more than three."""

LONGEST_MS: Final = 24 * 3_600_000
"""A command that may arrive a day later is none."""

Say = Callable[[tuple[str | int, ...], str], None]


def command_spec(written: Mapping[str, Any], say: Say, config: MqttConfig | None, *, is_known: bool) -> dict[str, Any]:
    """A command as `rendering` takes it. `config`: the section `mqtt`; `is_known`: whether None means that there is none."""
    spec = {"qos": 1, "expires": DEFAULT_EXPIRES, **written}
    via = written.get("via")
    if is_known:
        via = _check_via(via, config, say)
    spec[LIFE] = _life_ms(spec["expires"], via or MQTT, say)
    if "{" not in spec["to"] and (why := why_no_client(spec["to"])):
        say(("to",), f"is no client id: {why}")
    return spec


def _check_via(via: str | None, config: MqttConfig | None, say: Say) -> str | None:
    """The way that it goes; a way that is not configured is told."""
    if config is None:
        say((), "needs the section `mqtt` in the configuration: it says where commands go")
    elif via == MQTT and config.endpoint is None:
        say(("via",), "needs `mqtt.endpoint` in the configuration")
    elif via == ROCKETMQ and config.rocketmq is None:
        say(("via",), "needs a source of type `rocketmq`, or `mqtt.rocketmq`, in the configuration")
    elif via is None:
        return MQTT if config.endpoint is not None else ROCKETMQ
    return via


def _life_ms(text: str, via: str, say: Say) -> int:
    try:
        life_ms = parse_duration(text)
    except ValueError as error:
        say(("expires",), str(error))
        return LONGEST_MS
    if not SHORTEST_MS[via] <= life_ms <= LONGEST_MS:
        say(("expires",), f"must be at least {SHORTEST_MS[via] // 1000}s (by {via}) and at most 24h")
    return life_ms
