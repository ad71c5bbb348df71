"""The source against brokers that misbehave: it says what happened, goes on trying, stays small, and reads when the broker is well."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.amqp.broker import Broker
from tests.amqp.test_source import Engine, eventually, lines, running
from tests.hostile.bad_server import BadServer, Behaviour, bad_server, relay, says
from tests.hostile.broker import AMQP, consumed, content, delivery, frame, nested, short

MEMORY_BYTES = 64 * 2**20
"""What a bad broker may cost, far above what a good one does and far below what these try to take."""


def memory_bytes() -> int:
    """What this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def descriptors() -> int:
    """Open files of this process."""
    return len(os.listdir("/proc/self/fd"))


def told(server: BadServer, words: str, verdict: str | None = None) -> None:
    """Run a source on a server until it says the words, having tried three times. `verdict` is that on every batch."""
    engine = Engine(server.port, retry_s=(0.05,))
    engine.verdict = lambda batch: verdict
    before = memory_bytes()
    said: set[str] = set()

    async def story() -> None:
        def seen() -> bool:
            said.add(engine.detail)
            return any(words in detail for detail in said)

        await eventually(seen)
        tries = server.accepted
        await eventually(lambda: server.accepted >= tries + 2)
        assert memory_bytes() - before < MEMORY_BYTES

    running(engine, story)
    assert all(detail.isprintable() for detail in said), said


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who says nothing is given up sooner, so that the tests end."""
    monkeypatch.setattr("engine.sources.amqp.source.ANSWER_S", 1.5)
    monkeypatch.setattr("engine.sources.amqp.connection.ANSWER_S", 1.5)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", AMQP)
def test_whatever_a_broker_does_the_source_says_it_and_tries_again(name: str) -> None:
    behaviour, words = AMQP[name]
    with bad_server(behaviour) as server:
        told(server, words)


@pytest.mark.usefixtures("quick")
def test_a_source_reads_when_the_broker_is_well_again_and_leaves_no_connection_behind(shared_broker: Broker) -> None:
    before = descriptors()
    with bad_server(AMQP["closes"][0]) as server:
        engine = Engine(server.port, retry_s=(0.05,))

        async def story() -> None:
            for number, (behaviour, _) in enumerate(AMQP.values()):
                server.change(behaviour)
                wanted = server.accepted + 2
                await eventually(partial(_has_accepted, server, wanted))
                assert descriptors() - before < 60
                if number % 5 == 0:
                    server.change(relay(shared_broker.port))
                    await asyncio.to_thread(shared_broker.publish, lines(3, number * 3))
                    await eventually(partial(_has_read, engine, f"G@@@d{number * 3 + 2}"))

        running(engine, story)
    # What was read but not acknowledged when the bad server came back is in the queue again: at least once, and never lost.
    running(Engine(shared_broker.port), partial(_is_empty, shared_broker))


async def _is_empty(broker: Broker) -> None:
    while await asyncio.to_thread(broker.messages):
        await asyncio.sleep(0.05)  # only how often we look


def _has_accepted(server: BadServer, connections: int) -> bool:
    return server.accepted >= connections


def _has_read(engine: Engine, client: str) -> bool:
    return client in engine.clients


def read_beside(behaviour: Behaviour) -> list[str]:
    """The clients that are read from a broker that delivers these, and how many messages are in quarantine."""
    with bad_server(behaviour) as server:
        engine = Engine(server.port)

        async def story() -> None:
            await eventually(lambda: "G@@@d0" in engine.clients)

        running(engine, story)
        rejected = [fault.reason for batch in engine.offered for fault in batch.rejected]
        return [*engine.clients, *rejected]


def good(number: int) -> list[bytes]:
    """A delivery with the connect of a client."""
    (body,) = lines(1)
    return [delivery(good.tag, number=number), content(len(body)), frame(3, 1, body.encode())]  # type: ignore[attr-defined]


good.tag = b""  # type: ignore[attr-defined]


def to_consumer(*parts: Callable[[bytes], bytes]) -> Behaviour:
    """A broker that delivers to the consumer's own name: first these, then one good message."""

    def deliver(connection: object) -> None:
        tag: bytes = behaviour.tag  # type: ignore[attr-defined]
        good.tag = tag  # type: ignore[attr-defined]
        says(*(part(tag) for part in parts), *good(2))(connection)  # type: ignore[arg-type]

    behaviour = consumed(deliver)
    return behaviour


def test_a_message_of_64_mb_goes_to_the_quarantine_without_being_held_in_memory() -> None:
    before = memory_bytes()
    body = frame(3, 1, b"x" * 65_536)
    parts = [lambda tag: delivery(tag), lambda tag: content(64 * 2**20), lambda tag: body * 1024]
    before = memory_bytes()
    found = read_beside(to_consumer(*parts))
    assert found[0] == "G@@@d0" and "are allowed" in found[1]
    assert memory_bytes() - before < 2 * MEMORY_BYTES + 64 * 2**20  # the server's own copy is in this process


@pytest.mark.parametrize(
    "properties",
    [
        b"\x20\x00" + b"\xff\xff\xff\xff",
        b"\x80\x00" + short(b"\xff\xfe"),
        b"\x20\x00" + len(nested(2_000)).to_bytes(4, "big") + nested(2_000),
    ],
)
def test_a_message_whose_header_nobody_can_read_keeps_no_other_from_being_read(properties: bytes) -> None:
    parts = [
        lambda tag: delivery(tag, key=b"\xff\xfe"),
        lambda tag: content(1, properties),
        lambda tag: frame(3, 1, b"x"),
    ]
    found = read_beside(to_consumer(*parts))
    assert found[0] == "G@@@d0" and "not JSON" in found[1]


def test_a_broker_that_delivers_more_than_it_was_asked_for_is_given_up() -> None:
    def flood(tag: bytes) -> bytes:
        return (delivery(tag) + content(1) + frame(3, 1, b"x")) * 9_000

    with bad_server(to_consumer(flood)) as server:
        told(server, "more than the 4000 messages", verdict="not yet")
