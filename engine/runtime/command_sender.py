"""From the configuration to what sends commands, and to where renderers say that they go. Read `command_senders`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from engine.actions.base import ActionSender, MaySend, always
from engine.actions.command.mqtt import MqttCommands, signature_login
from engine.actions.command.mqtt_client import MqttLogin
from engine.actions.command.rocketmq import REQUEST_MS, CommandProducer, RocketmqCommands
from engine.actions.command.sender import CommandSender, Waits
from engine.config.loader import Config
from engine.config.mqtt import MqttConfig, RocketmqCluster
from engine.templates.command import MQTT, ROCKETMQ


def command_sender(
    config: Config,
    now_ms: Callable[[], int],
    may_send: MaySend = always,
    send_until_s: Callable[[], float] | None = None,
) -> CommandSender:
    """Sends commands each way that the configuration names; nothing is connected before the first one.

    `send_until_s`: until when something may be sent (seconds of `engine.clock.running_ms`); None: always.
    """
    ways: dict[str, ActionSender] = {}
    waits = Waits()
    mqtt = config.mqtt
    if mqtt is not None and mqtt.endpoint is not None:
        ways[MQTT] = MqttCommands(partial(login_of, mqtt), now_ms, waits, may_send)
    if mqtt is not None and mqtt.rocketmq is not None:
        ways[ROCKETMQ] = RocketmqCommands(
            partial(_producer, mqtt.rocketmq, str(config.data / "rocketmq" / "commands")),
            now_ms,
            mqtt.rocketmq.namespace,
            waits,
            send_until_s,
        )
    return CommandSender(ways, now_ms, waits)


def login_of(mqtt: MqttConfig) -> MqttLogin:
    """How to log in, secrets read now. RollcallError for one that is not there."""
    assert mqtt.endpoint is not None
    host, port = mqtt.endpoint
    username = password = ""
    if mqtt.access_key is not None and mqtt.secret is not None:
        key, secret = mqtt.access_key.reveal(), mqtt.secret.reveal()
        username, password = signature_login(mqtt.client_id, mqtt.instance, key, secret)
    return MqttLogin(host=host, port=port, client_id=mqtt.client_id, username=username, password=password, ca=mqtt.ca)


def _producer(cluster: RocketmqCluster, log_folder: str) -> CommandProducer:
    from engine.sources.rocketmq.producer import Producer  # its library is not always installed

    group = f"{cluster.namespace}%{cluster.producer_group}" if cluster.namespace else cluster.producer_group
    key, secret = cluster.access_key, cluster.secret
    return Producer(
        cluster.name_servers,
        group,
        key.reveal() if key is not None else "",
        secret.reveal() if secret is not None else "",
        is_domain=cluster.is_domain,
        timeout_ms=REQUEST_MS,
        log_folder=log_folder,
    )
