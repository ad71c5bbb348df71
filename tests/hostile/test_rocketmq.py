"""Name servers and brokers that misbehave: the native client may end, the source says so, stays small, and reads when they are well."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.sources.base import Batch, SourceHealth
from engine.sources.rocketmq.pipe import Connection
from engine.sources.rocketmq.process import MAX_DATA_BYTES
from engine.sources.rocketmq.publisher import Publisher
from engine.sources.rocketmq.source import RocketmqSource
from tests.acceptance.service import now_ms
from tests.amqp.test_source import eventually
from tests.hostile.broker import ROCKETMQ, answers, bad_server, relay, route
from tests.hostile.test_amqp import MEMORY_BYTES, memory_bytes
from tests.mq.broker import Broker
from tests.mq.test_reading import connects

ENDS = {"body is another JSON", "nested body"}
"""What ends the native client for sure."""


class Reader:
    """A source, and the clients whose events it offered, each batch committed at once."""

    def __init__(self, address: str, topic: str) -> None:
        connection = Connection(group=f"GID_{topic}", name_servers=address, log_folder=tempfile.mkdtemp())
        self.source = RocketmqSource(name="mq", connection=connection, topics=[topic], now_ms=now_ms, start="earliest")
        self.clients: list[str] = []
        self.said: set[str] = set()

    async def offer(self, batch: Batch) -> None:
        self.clients += [event.client for event in batch.events]
        assert batch.acknowledge is not None
        batch.acknowledge(None)

    @property
    def health(self) -> SourceHealth:
        found = self.source.health(now_ms())
        self.said.add(found.detail)
        return found

    def child_bytes(self) -> int:
        """What the process of the native client holds."""
        client = self.source._discovery.client if self.source._discovery is not None else None
        try:
            return int(Path(f"/proc/{client.pid}/statm").read_text().split()[1]) * 4096 if client and client.pid else 0
        except (FileNotFoundError, ProcessLookupError):
            return 0

    def reading(self, story: Callable[[], Any]) -> None:
        """Let a story happen while the source runs."""

        async def go() -> None:
            serving = asyncio.create_task(self.source.run(self.offer, None))
            try:
                await story()
            except AssertionError as error:
                raise AssertionError(f"{error}; the source said: {self.said}") from error
            finally:
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)

        asyncio.run(go())


@pytest.mark.parametrize("name", ROCKETMQ)
def test_whatever_a_name_server_does_the_source_is_disconnected_and_reads_when_it_is_well(
    name: str, publisher: Publisher, broker: Broker, topic: str
) -> None:
    broker.topic(topic)
    publisher.send(connects(*range(20)))
    before = memory_bytes()
    with bad_server(ROCKETMQ[name]) as server:
        reader = Reader(server.address, topic)

        async def story() -> None:
            await eventually(lambda: not reader.health.connected)
            assert memory_bytes() - before < MEMORY_BYTES and reader.child_bytes() < MAX_DATA_BYTES
            if name in ENDS:
                await eventually(lambda: reader.health and any("was ended by SIGABRT" in said for said in reader.said))
            server.change(relay(broker.port))
            await eventually(lambda: len(set(reader.clients)) == 20 and reader.health.connected)

        reader.reading(story)
        assert len(reader.clients) == 20, "nothing was read twice"
        assert all(said.isprintable() for said in reader.said), reader.said


@pytest.mark.parametrize(
    "name", ["closes", "says nothing", "garbage", "claims 2 GB", "nested header", "body is no JSON"]
)
def test_whatever_a_broker_does_the_source_is_disconnected_and_goes_on_when_it_is_well(
    name: str, publisher: Publisher, broker: Broker, topic: str
) -> None:
    broker.topic(topic)
    publisher.send(connects(*range(20)))
    good = int(broker.brokers["broker-a"].address.rpartition(":")[2])
    with bad_server(ROCKETMQ[name]) as bad, bad_server(answers(0, route(bad.address))) as names:
        reader = Reader(names.address, topic)

        async def story() -> None:
            await eventually(lambda: not reader.health.connected)
            assert reader.child_bytes() < MAX_DATA_BYTES
            bad.change(relay(good))
            await eventually(lambda: len(set(reader.clients)) == 20 and reader.health.connected)

        reader.reading(story)
        assert len(reader.clients) == 20
