"""Bad MQTT brokers, each in every way it can be bad: what becomes of a command, and that the event loop of the engine goes on."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Iterator

import pytest

from engine.actions.base import Answer, Delivered, RetryLater
from engine.actions.command.mqtt_client import V5, MqttConnection, MqttLogin, NotConnected
from engine.actions.command.mqtt_socket import BoundedSocket
from engine.actions.command.sender import Command
from tests.hostile.mqtt_broker import BEHAVIOURS
from tests.hostile.serving import running

COMMAND = Command(key="k", to="G@@@d", topic="p/p2p/G@@@d", payload=b"{}", qos=1, expires_at_ms=0)

DELIVERED = {"good", "connack-1000-properties", "publishes-64-kb", "publishes-10000"}
NOT_CONNECTED = {
    "connack-100000-properties": "sends a packet of 700005 bytes, more than any that is for us",
    "connack-claims-250-mb": "sends a packet of 250000000 bytes, more than any that is for us",
    "connack-held": "accepts the connection but does not answer the login",
    "connack-dripping": "",
    "connack-malformed": "closed the connection instead of answering the login",
    "connack-empty": "",
    "http": "sends what is no MQTT",
    "length-malformed": "sends what is no MQTT",
    "kind-0": "sends what is no MQTT",
    "closes": "closed the connection instead of answering the login",
    "resets": "closed the connection instead of answering the login",
}
LOST = {
    "publishes-250-mb": "sends a packet of 250000000 bytes",
    "confirms-at-length": "sends a packet of 7005 bytes",
    "garbage-endless": "sends what is no MQTT",
    "disconnects-at-length": "sends a packet of 70000",
    "never-confirms": "did not confirm a command within 4 s",
    "confirms-another": "did not confirm a command within 4 s",
    "confirms-malformed": "",
    "closes-at-message": "closed the connection",
}
FLOODS = {"connack-endless", "publishes-endless", "pings-endless", "confirms-endless"}


def test_every_behaviour_is_tried() -> None:
    assert DELIVERED | NOT_CONNECTED.keys() | LOST.keys() | FLOODS == BEHAVIOURS.keys()


@pytest.fixture(scope="module")
def ports() -> Iterator[dict[str, int]]:
    with running("tests.hostile.mqtt_broker") as found:
        yield found


async def _longest_wait(ended: asyncio.Event) -> float:
    """How long the event loop was busy with one thing, in seconds."""
    longest_s = 0.0
    while not ended.is_set():
        before_s = time.monotonic()
        await asyncio.sleep(0)
        longest_s = max(longest_s, time.monotonic() - before_s)
    return longest_s


async def _commanded(port: int) -> Answer:
    connection = MqttConnection(MqttLogin(host="127.0.0.1", port=port, client_id="c"), V5)
    await connection.open()
    living = asyncio.create_task(connection.live())
    try:
        return await connection.publish(COMMAND, 4_000)
    finally:
        connection.close()
        await living


def commanded(port: int) -> Answer | NotConnected:
    """The answer to one command, or why there is no connection; the loop is never held up for long."""

    async def go() -> Answer | NotConnected:
        ended = asyncio.Event()
        watching = asyncio.create_task(_longest_wait(ended))
        found: Answer | NotConnected
        try:
            async with asyncio.timeout(30):
                found = await _commanded(port)
        except NotConnected as error:
            found = error
        ended.set()
        assert await watching < 2, "the event loop stood still"
        return found

    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer = asyncio.run(go())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 64 * 1024
    return answer


@pytest.mark.parametrize("name", sorted(DELIVERED))
def test_what_does_not_concern_us_disturbs_no_command(name: str, ports: dict[str, int]) -> None:
    assert commanded(ports[name]) == Delivered()


@pytest.mark.parametrize("name", NOT_CONNECTED)
def test_a_login_that_is_not_answered_as_it_should_be_says_why(name: str, ports: dict[str, int]) -> None:
    answer = commanded(ports[name])
    assert isinstance(answer, NotConnected) and NOT_CONNECTED[name] in str(answer)


@pytest.mark.parametrize("name", LOST)
def test_a_connection_that_goes_wrong_later_says_why_and_the_command_is_tried_again(
    name: str, ports: dict[str, int]
) -> None:
    answer = commanded(ports[name])
    assert isinstance(answer, RetryLater | NotConnected)
    assert LOST[name] in (answer.reason if isinstance(answer, RetryLater) else str(answer))


@pytest.mark.parametrize("name", sorted(FLOODS))
def test_a_flood_keeps_neither_the_event_loop_nor_the_service_busy(name: str, ports: dict[str, int]) -> None:
    """The broker's own confirmations stand behind the flood: the command is not confirmed, and others do not wait for it."""
    used_s = time.process_time()
    answer = commanded(ports[name])
    assert isinstance(answer, RetryLater | NotConnected)
    assert time.process_time() - used_s < 20


def test_connections_are_read_by_what_bounds_them(ports: dict[str, int]) -> None:
    """The library's hook has no public name: a new version must not lose it unnoticed."""

    async def go() -> object:
        connection = MqttConnection(MqttLogin(host="127.0.0.1", port=ports["good"], client_id="c"), V5)
        await connection.open()
        found = connection._client.socket()
        connection.close()
        return found

    assert isinstance(asyncio.run(go()), BoundedSocket)
