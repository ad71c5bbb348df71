"""Reads the `command` action of a rule, and checks what a schema cannot: above all, whether the configuration can send it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from engine.config.durations import parse_duration
from engine.config.mqtt import MqttConfig
from engine.config.yamlfile import KeyPath
from engine.core.delivery import LIFE
from engine.rulefiles.context import RuleContext
from engine.templates.command import MQTT, ROCKETMQ, client_id_problem

DEFAULT_EXPIRES: Final = "30s"
SHORTEST_MS: Final = {MQTT: 2_000, ROCKETMQ: 5_000}
"""Shortest life. Brokers count what is left of it in whole seconds; one attempt by RocketMQ may take more than three."""

LONGEST_MS: Final = 24 * 3_600_000
"""Longest life: a command must not arrive more than a day later."""

Report = Callable[[KeyPath, str], None]
"""Adds a problem at a path inside the command."""


def command_spec(context: RuleContext, written: Mapping[str, Any], at: KeyPath) -> dict[str, Any]:
    """The action as rendering takes it, defaults filled in and its life in ms. Mistakes are reported."""

    def report(path: KeyPath, message: str) -> None:
        context.report((*at, *path), message)

    spec = {"qos": 1, "expires": DEFAULT_EXPIRES, **written}
    via = written.get("via")
    if context.config is not None:
        via = _check_via(via, context.config.mqtt, report)
    spec[LIFE] = _life_ms(spec["expires"], via or MQTT, report)
    if "{" not in spec["to"] and (why := client_id_problem(spec["to"])):
        report(("to",), f"is not a client id: {why}")
    return spec


def _check_via(via: str | None, config: MqttConfig | None, report: Report) -> str | None:
    """How the command is sent, `mqtt` or `rocketmq`. What is not configured is reported."""
    if config is None:
        report((), "needs the section `mqtt` in the configuration, which says where commands are sent")
    elif via == MQTT and config.endpoint is None:
        report(("via",), "needs `mqtt.endpoint` in the configuration")
    elif via == ROCKETMQ and config.rocketmq is None:
        report(("via",), "needs a source of type `rocketmq`, or `mqtt.rocketmq`, in the configuration")
    elif via is None:
        return MQTT if config.endpoint is not None else ROCKETMQ
    return via


def _life_ms(text: str, via: str, report: Report) -> int:
    try:
        life_ms = parse_duration(text)
    except ValueError as error:
        report(("expires",), str(error))
        return LONGEST_MS
    if not SHORTEST_MS[via] <= life_ms <= LONGEST_MS:
        report(("expires",), f"must be at least {SHORTEST_MS[via] // 1000}s (by {via}) and at most 24h")
    return life_ms
