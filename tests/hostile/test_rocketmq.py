"""Name servers and brokers that misbehave: the native client may end, the source says so, stays small, and reads when they are well."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from engine.sources.base import Batch, SourceHealth
from engine.sources.rocketmq.pipe import ClusterAccess
from engine.sources.rocketmq.process import MAX_DATA_BYTES
from engine.sources.rocketmq.publisher import Publisher
from engine.sources.rocketmq.source import RocketmqSource
from tests.acceptance.service import now_ms
from tests.amqp.test_source import eventually
from tests.hostile.bad_server import Behaviour, bad_server, relay, says, says_nothing
from tests.hostile.rocketmq_server import ROCKETMQ, answers, route
from tests.hostile.test_amqp import MEMORY_BYTES, memory_bytes
from tests.mq.broker import Broker
from tests.mq.test_reading import connects

ENDS = {"body is another JSON", "nested body"}
"""What ends the native client for sure."""


class Reader:
    """A source, and the clients whose events it offered, each batch committed at once."""

    def __init__(self, address: str, topic: str, list_url: str = "") -> None:
        connection = ClusterAccess(
            group=f"GID_{topic}", name_servers=address, name_server_domain=list_url, log_folder=tempfile.mkdtemp()
        )
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

    async def reading(self, story: Callable[[], Awaitable[None]]) -> None:
        """Let a story happen while the source runs; afterwards, each of the twenty clients was read once."""
        serving = asyncio.create_task(self.source.run(self.offer, None))
        try:
            await story()
        except AssertionError as error:
            raise AssertionError(f"{error}; the source said: {self.said}") from error
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
        assert len(self.clients) == 20
        assert all(said.isprintable() for said in self.said), self.said

    def has_read_all(self) -> bool:
        return len(set(self.clients)) == 20 and self.health.connected

    def is_disconnected(self) -> bool:
        return not self.health.connected

    def saw_its_client_end(self) -> bool:
        return bool(self.health) and any("was ended by SIGABRT" in said for said in self.said)


async def bad_names(name: str, topic: str, broker: Broker) -> None:
    """A name server does what is named, and then it is well."""
    with bad_server(ROCKETMQ[name]) as server:
        reader = Reader(server.address, topic)

        async def story() -> None:
            await eventually(reader.is_disconnected)
            assert reader.child_bytes() < MAX_DATA_BYTES
            if name in ENDS:
                await eventually(reader.saw_its_client_end)
            server.change(relay(broker.port))
            await eventually(reader.has_read_all)

        await reader.reading(story)


async def bad_broker(name: str, topic: str, broker: Broker) -> None:
    """A broker does what is named, and then it is well."""
    good = int(broker.brokers["broker-a"].address.rpartition(":")[2])
    with bad_server(ROCKETMQ[name]) as bad, bad_server(answers(0, route(bad.address))) as names:
        reader = Reader(names.address, topic)

        async def story() -> None:
            await eventually(reader.is_disconnected)
            assert reader.child_bytes() < MAX_DATA_BYTES
            bad.change(relay(good))
            await eventually(reader.has_read_all)

        await reader.reading(story)


NAMES = list(ROCKETMQ)
AT_A_TIME = 6
"""Sources at a time: each has a process, and waits more than it works."""


async def all_of(
    walk: Callable[[str, str, Broker], Awaitable[None]], names: list[str], topic: str, broker: Broker
) -> None:
    """Walk several behaviours side by side; all of them, also when one fails."""
    found = await asyncio.gather(*(walk(name, topic, broker) for name in names), return_exceptions=True)
    faults = {name: fault for name, fault in zip(names, found, strict=True) if fault is not None}
    assert not faults, faults


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "names",
    [
        pytest.param(NAMES[at : at + AT_A_TIME], marks=[pytest.mark.long] if at else [])
        for at in range(0, len(NAMES), AT_A_TIME)
    ],
    ids="+".join,
)
def test_whatever_a_name_server_does_the_source_is_disconnected_and_reads_when_it_is_well(
    names: list[str], publisher: Publisher, broker: Broker, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.amqp.test_source.PATIENCE_S", 90.0)
    broker.topic(topic)
    publisher.send(connects(*range(20)))
    before = memory_bytes()
    asyncio.run(all_of(bad_names, names, topic, broker))
    assert memory_bytes() - before < MEMORY_BYTES


@pytest.mark.timeout(240)
def test_whatever_a_broker_does_the_source_is_disconnected_and_goes_on_when_it_is_well(
    publisher: Publisher, broker: Broker, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.amqp.test_source.PATIENCE_S", 90.0)
    broker.topic(topic)
    publisher.send(connects(*range(20)))
    ways = ["closes", "says nothing", "garbage", "claims 2 GB", "nested header", "body is no JSON"]
    asyncio.run(all_of(bad_broker, ways, topic, broker))


def lists(address: str) -> Behaviour:
    """A web server that lists one name server."""
    return says(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(address), address.encode()))


def test_name_servers_that_move_are_found_again(publisher: Publisher, broker: Broker, topic: str) -> None:
    broker.topic(topic)
    publisher.send(connects(*range(20)))
    with bad_server(says_nothing) as old, bad_server(lists(old.address)) as web:
        reader = Reader("", topic, f"http://{web.address}/nsaddr")

        async def story() -> None:
            await eventually(lambda: old.accepted and reader.is_disconnected())
            web.change(lists(broker.address))
            await eventually(reader.has_read_all)

        asyncio.run(reader.reading(story))
