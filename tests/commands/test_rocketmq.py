"""Commands through a real RocketMQ broker: what the MQTT service would find on the parent topic."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.actions.base import Delivered, RetryLater
from engine.actions.command.rocketmq import REQUEST_MS, RocketmqCommands
from engine.core.times import rfc3339
from engine.errors import RollcallError
from engine.sources.rocketmq.client import require_library
from engine.sources.rocketmq.pipe import NativeLibraryMissing
from engine.sources.rocketmq.producer import Producer
from engine.sources.rocketmq.publisher import Publisher
from tests.acceptance.service import event, eventually, missing, service
from tests.commands.mosquitto import PARENT
from tests.commands.orders import CLOCK, DEVICE, command
from tests.fetched import Absent
from tests.mq.broker import Broker, running
from tests.mq.jars import jars, java


@pytest.fixture(scope="module")
def rocketmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker for the tests of this file."""
    try:
        require_library()
        java()
        jars()
    except (NativeLibraryMissing, Absent) as reason:
        missing(str(reason))
    with running(tmp_path_factory.mktemp("rocketmq")) as found:
        found.topic(PARENT)
        yield found


class Reader:
    """What lies on a topic, read by the library's push consumer from its beginning."""

    def __init__(self, broker: Broker, topic: str, group: str) -> None:
        from rocketmq.client import PushConsumer

        self.found: list[dict[str, str]] = []
        self._consumer = PushConsumer(group)
        self._consumer.set_name_server_address(broker.address)
        self._consumer.subscribe(topic, self._take)
        self._consumer.start()

    def _take(self, message: Any) -> Any:
        from rocketmq.client import ConsumeStatus

        names = ("mqttSecondTopic", "qoslevel", "cleansessionflag", "expires-at")
        entry = {name: (message.get_property(name) or b"").decode() for name in names}
        entry |= {"tag": message.tags.decode(), "keys": message.keys.decode(), "body": message.body.decode()}
        self.found.append(entry)
        return ConsumeStatus.CONSUME_SUCCESS

    def close(self) -> None:
        self._consumer.shutdown()


def sending(open_producer: Callable[[], Any], work: Callable[[RocketmqCommands], Awaitable[None]]) -> None:
    """Do something with a sender, which is closed in the end."""

    async def go() -> None:
        sender = RocketmqCommands(open_producer, CLOCK.now_ms)
        try:
            await work(sender)
        finally:
            await sender.close()

    asyncio.run(go())


def producer(broker: Broker) -> Callable[[], Producer]:
    return lambda: Producer(broker.address, "GID_rollcall", timeout_ms=REQUEST_MS)


def test_a_command_lies_on_the_parent_topic_as_the_mqtt_service_wants_it(rocketmq: Broker) -> None:
    rocketmq.topic("own")
    item = command("k1", topic=f"own/p2p/{DEVICE}", payload={"do": "reboot"}, qos=2)

    async def work(sender: RocketmqCommands) -> None:
        assert await sender.send(item) == Delivered()
        assert await sender.send(command("k2", topic="own/p2p/GID_GW@@@gw-2", payload="plain")) == Delivered()

    sending(producer(rocketmq), work)
    reader = Reader(rocketmq, "own", "GID_reader")
    try:
        eventually(lambda: len(reader.found) >= 2)
    finally:
        reader.close()
    first, second = sorted(reader.found, key=lambda entry: entry["keys"])
    assert first == {
        "tag": "MQ2MQTT",
        "keys": "k1",
        "body": '{"do":"reboot"}',
        "mqttSecondTopic": f"/p2p/{DEVICE}",
        "qoslevel": "2",
        "cleansessionflag": "true",
        "expires-at": rfc3339(item.decided_at_ms + 30_000),
    }
    assert (second["mqttSecondTopic"], second["qoslevel"], second["body"]) == ("/p2p/GID_GW@@@gw-2", "1", "plain")


def test_what_has_too_little_life_left_is_not_begun(rocketmq: Broker) -> None:
    rocketmq.topic("late")

    async def work(sender: RocketmqCommands) -> None:
        answer = await sender.send(command(age_ms=27_000, topic="late/p2p/GID@@@d"))
        assert isinstance(answer, RetryLater) and not answer.may_have_arrived

    sending(producer(rocketmq), work)
    assert [rocketmq.max_offset("late", queue) for queue in range(4)] == [0, 0, 0, 0]


def test_a_broker_that_is_gone_is_told_and_used_again_when_it_is_back(tmp_path: Path, rocketmq: Broker) -> None:
    async def work(sender: RocketmqCommands) -> None:
        assert await sender.send(command("before")) == Delivered()
        rocketmq.brokers["broker-a"].end()
        answer = await sender.send(command("while"))
        assert isinstance(answer, RetryLater) and answer.our_fault
        rocketmq.brokers["broker-a"].start()
        while not isinstance(await sender.send(command("after")), Delivered):
            await asyncio.sleep(0.1)  # only how often it is tried

    sending(producer(rocketmq), work)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT])
def test_a_client_that_is_killed_is_started_again_and_sends(rocketmq: Broker, number: signal.Signals) -> None:
    made = producer(rocketmq)()

    async def work(sender: RocketmqCommands) -> None:
        assert await sender.send(command("before")) == Delivered()
        child = made._client.pid
        assert child is not None
        os.kill(child, number)
        while not isinstance(await sender.send(command("after")), Delivered):
            await asyncio.sleep(0.1)  # only how often it is tried
        assert made._client.pid != child

    sending(lambda: made, work)


def test_a_name_server_without_an_address_is_told(rocketmq: Broker) -> None:
    async def work(sender: RocketmqCommands) -> None:
        answer = await sender.send(command())
        assert isinstance(answer, RetryLater) and "cannot resolve no-such-host.invalid" in answer.reason

    sending(lambda: Producer("no-such-host.invalid:9876", "GID_rollcall", timeout_ms=REQUEST_MS), work)


def test_a_client_that_cannot_be_made_is_told_and_tried_again() -> None:
    def cannot() -> Producer:
        raise RollcallError("the native RocketMQ library does not load")

    async def work(sender: RocketmqCommands) -> None:
        answer = await sender.send(command())
        assert answer == RetryLater(reason="the native RocketMQ library does not load", our_fault=True)

    sending(cannot, work)


def test_a_fleet_read_from_rocketmq_is_commanded_through_the_same_cluster(tmp_path: Path, rocketmq: Broker) -> None:
    rocketmq.topic("GID_FLEET_MQTT")
    rocketmq.topic("fleet")
    source = {"name": "mq", "type": "rocketmq", "name_servers": [rocketmq.address], "consumer_group": "GID_rollcall"}
    source |= {"mqtt_groups": ["GID_FLEET"], "start": "earliest"}
    act = {"command": {"to": "GID_GW@@@gw", "payload": "cycle for {{ client.device }}"}}
    with service(tmp_path, sources=[source], mqtt={"parent_topic": "fleet"}) as engine:
        engine.rules({"name": "cycle", "trigger": "offline", "flapping": "fire", "actions": [act]})
        engine.start()
        publisher = Publisher(rocketmq.address, "GID_FLEET_MQTT", group="PID_fleet")
        told = [event("GID_FLEET@@@s1", kind, "c").encode() for kind in ("connect", "tcpclean")]
        publisher.send([("connect", told[0]), ("tcpclean", told[1])])
        publisher.close()
        (sent,) = eventually(
            lambda: engine.items("/v1/deliveries"), lambda found: found and found[0]["state"] == "delivered"
        )
        assert sent["target"] == f"rocketmq://{rocketmq.address}"
        reader = Reader(rocketmq, "fleet", "GID_fleet_reader")
        try:
            eventually(lambda: reader.found)
        finally:
            reader.close()
        (found,) = reader.found
        assert (found["keys"], found["body"]) == (sent["key"], "cycle for s1")
        assert found["mqttSecondTopic"] == "/p2p/GID_GW@@@gw"
        assert engine.terminate() == 0
