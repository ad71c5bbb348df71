"""The source against a real broker: acknowledged after the commit, bounded, stopped at once, and honest about refusals."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from engine.errors import RollcallError
from engine.sources.amqp.connection import PREFETCH
from engine.sources.amqp.source import AmqpSource
from engine.sources.base import Batch
from tests.acceptance.service import event, free_port, now_ms
from tests.amqp.broker import ACCESS_KEY, GROUP, INSTANCE, SECRET, Broker

PATIENCE_S = 30.0
STOPS_S = 10.0
"""A stop that waits for the broker takes longer, or for ever; how busy the machine is makes no difference of that size."""


class Engine:
    """A clock to set, a source, and the place where it puts its batches. It commits what it is offered, unless told not to."""

    def __init__(self, port: int, **more: Any) -> None:
        self.behind_ms: list[int] = []  # how far the clock is wrong, one reading after the other; the last one stays
        told: dict[str, Any] = {"host": "127.0.0.1", "access_key": lambda: ACCESS_KEY, "secret": lambda: SECRET}
        self.source = AmqpSource(
            name="cloud",
            port=port,
            instance=INSTANCE,
            consumer_group=GROUP,
            now_ms=self.read_clock,
            **(told | {"grace_ms": 0} | more),
        )
        self.offered: list[Batch] = []
        self.verdict: Callable[[Batch], Exception | str | None] = lambda batch: None

    def read_clock(self) -> int:
        behind_ms = self.behind_ms.pop(0) if len(self.behind_ms) > 1 else sum(self.behind_ms)
        return now_ms() - behind_ms

    async def offer(self, batch: Batch) -> None:
        self.offered.append(batch)
        verdict = self.verdict(batch)
        if not isinstance(verdict, str):
            commit(batch, verdict)

    @property
    def clients(self) -> list[str]:
        """Whom the offered events are about, in order."""
        return [found.client for batch in self.offered for found in batch.events]

    @property
    def detail(self) -> str:
        return self.source.health(now_ms()).detail


def commit(batch: Batch, failure: Exception | None = None) -> None:
    assert batch.acknowledge is not None
    batch.acknowledge(failure)


async def eventually(ask: Callable[[], Any]) -> None:
    """Returns when it holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not ask():
        assert time.monotonic() < deadline, "it never came to hold"
        await asyncio.sleep(0.005)


def running(engine: Engine, story: Callable[[], Awaitable[None]]) -> float:
    """Let a story happen while the source runs; the seconds that stopping took."""

    async def go() -> float:
        serving = asyncio.create_task(engine.source.run(engine.offer, None))
        try:
            await story()
        except AssertionError as error:
            raise AssertionError(f"{error}; the source says: {engine.detail}") from error
        finally:
            began_s = time.monotonic()
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
        return time.monotonic() - began_s

    return asyncio.run(go())


def lines(count: int, start: int = 0) -> list[str]:
    """Connects of as many clients."""
    return [event(f"G@@@d{number}", "connect", f"c{number}") for number in range(start, start + count)]


def names(count: int, start: int = 0) -> list[str]:
    return [f"G@@@d{number}" for number in range(start, start + count)]


def ask(work: Callable[[], Any]) -> Coroutine[Any, Any, Any]:
    """Ask the broker, beside the source."""
    return asyncio.to_thread(work)


def test_messages_stay_with_the_broker_until_they_are_committed(shared_broker: Broker) -> None:
    shared_broker.publish(lines(3))
    engine = Engine(shared_broker.port)
    engine.verdict = lambda batch: "not yet"

    async def without_a_commit() -> None:
        await eventually(lambda: len(engine.clients) == 3)

    running(engine, without_a_commit)
    assert shared_broker.messages() == 3
    engine = Engine(shared_broker.port)

    async def with_commits() -> None:
        await eventually(lambda: len(engine.clients) == 3)

    running(engine, with_commits)
    assert sorted(engine.clients) == names(3)
    assert shared_broker.messages() == 0


def test_what_a_failed_commit_held_is_offered_again_and_later_commits_do_not_cover_it(shared_broker: Broker) -> None:
    engine = Engine(shared_broker.port, retry_s=(0.05,))
    engine.verdict = lambda batch: OSError("disk full") if len(engine.offered) == 1 else None
    shared_broker.publish(lines(1_500))

    async def story() -> None:
        await eventually(
            lambda: {found.client for batch in engine.offered[1:] for found in batch.events} == set(names(1_500))
        )
        await eventually(lambda: "not stored" not in engine.detail)

    running(engine, story)
    assert shared_broker.messages() == 0


def test_a_failed_commit_is_shown_until_one_succeeds(shared_broker: Broker) -> None:
    engine = Engine(shared_broker.port, retry_s=(0.05,))
    well = threading.Event()
    engine.verdict = lambda batch: None if well.is_set() else OSError("disk full")
    shared_broker.publish(lines(2))

    async def story() -> None:
        await eventually(lambda: engine.detail == "not stored: disk full" and len(engine.offered) > 1)
        assert not engine.source.health(now_ms()).connected
        well.set()
        await eventually(lambda: engine.source.health(now_ms()).connected)

    running(engine, story)
    assert shared_broker.messages() == 0


def test_what_is_no_event_is_handed_over_as_rejected_and_not_delivered_again(shared_broker: Broker) -> None:
    engine = Engine(shared_broker.port)
    too_long = event("G@@@long", "connect", "c", pad="x" * 200_000)
    shared_broker.publish([lines(1)[0], "nonsense", "", b"\xff\xfe", too_long, lines(1, 1)[0]])

    async def story() -> None:
        await eventually(lambda: sum(len(batch.events) + len(batch.rejected) for batch in engine.offered) == 6)

    running(engine, story)
    assert engine.clients == names(2)
    reasons = [found.reason for batch in engine.offered for found in batch.rejected]
    assert len(reasons) == 4 and any("bytes long" in reason for reason in reasons)
    assert all(len(found.raw) <= 65_536 for batch in engine.offered for found in batch.rejected)
    assert shared_broker.messages() == 0


def test_the_type_may_come_beside_the_body(shared_broker: Broker) -> None:
    engine = Engine(shared_broker.port)
    body = f'{{"clientId":"G@@@d","time":{now_ms()},"channelId":"c"}}'
    shared_broker.publish([body], message_type="tcpclean")
    shared_broker.publish([body], headers={"tag": "connect"})

    async def story() -> None:
        await eventually(lambda: len(engine.clients) == 2)

    running(engine, story)
    assert [found.type for batch in engine.offered for found in batch.events] == ["tcpclean", "connect"]


def test_an_engine_that_is_busy_holds_no_more_than_the_window_and_the_broker_keeps_the_rest(
    shared_broker: Broker,
) -> None:
    total = PREFETCH + 2_500
    shared_broker.publish(lines(total))
    engine = Engine(shared_broker.port)
    engine.verdict = lambda batch: "not yet"

    async def story() -> None:
        await eventually(lambda: len(engine.clients) == PREFETCH)
        assert await ask(shared_broker.messages) == total - PREFETCH
        await eventually(lambda: engine.source.health(now_ms()).lag == total)
        assert all(len(batch.events) <= 1_000 for batch in engine.offered)
        waiting = list(engine.offered)
        engine.verdict = lambda batch: None
        for batch in waiting:
            commit(batch)
        await eventually(lambda: len(engine.clients) == total)
        await eventually(lambda: engine.source.health(now_ms()).lag == 0)

    running(engine, story)
    assert sorted(engine.clients) == sorted(names(total))
    assert shared_broker.messages() == 0


def test_commits_under_way_when_it_stops_are_still_acknowledged(shared_broker: Broker) -> None:
    shared_broker.publish(lines(5))
    engine = Engine(shared_broker.port)

    def later(batch: Batch) -> str:
        asyncio.get_running_loop().call_later(0.1, commit, batch)
        return "in a moment"

    engine.verdict = later

    async def story() -> None:
        await eventually(lambda: len(engine.clients) == 5)

    assert running(engine, story) < STOPS_S
    assert shared_broker.messages() == 0


def test_it_stops_in_a_moment_while_the_engine_takes_nothing(shared_broker: Broker) -> None:
    shared_broker.publish(lines(1))
    engine = Engine(shared_broker.port)
    called = threading.Event()

    async def never(batch: Batch) -> None:
        called.set()
        await asyncio.Event().wait()

    engine.offer = never  # type: ignore[method-assign]

    async def story() -> None:
        await eventually(called.is_set)

    assert running(engine, story) < STOPS_S
    assert shared_broker.messages() == 1


def test_every_login_is_signed_afresh_and_names_its_instant(shared_broker: Broker) -> None:
    before = len(shared_broker.logins.signed)
    for _ in range(2):
        engine = Engine(shared_broker.port)

        async def story(engine: Engine = engine) -> None:
            await eventually(lambda: engine.source.health(now_ms()).connected)
            listed = await ask(lambda: shared_broker.listed("list_connections", "client_properties"))
            told = [found["client_properties"] for found in listed]
            assert any(str(shared_broker.logins.signed[-1]) in str(properties) for properties in told), told

        running(engine, story)
    first, second = shared_broker.logins.signed[before:]
    assert first < second


def test_the_consumer_names_its_group(shared_broker: Broker) -> None:
    engine = Engine(shared_broker.port)

    async def story() -> None:
        await eventually(lambda: engine.source.health(now_ms()).connected)
        (found,) = await ask(lambda: shared_broker.listed("list_consumers", "-p", "MQTT", "queue_name", "arguments"))
        assert found["queue_name"] == "STATUS"
        assert GROUP in str(found["arguments"])

    running(engine, story)


def test_wrong_credentials_are_told_as_such_and_right_ones_are_taken_without_a_restart(shared_broker: Broker) -> None:
    secrets = ["wrong"]
    engine = Engine(shared_broker.port, secret=lambda: secrets[0], retry_s=(0.1,))

    async def story() -> None:
        await eventually(lambda: "refuses the login: wrong access key, secret or instance" in engine.detail)
        assert not engine.source.health(now_ms()).connected
        secrets[0] = SECRET
        await eventually(lambda: engine.source.health(now_ms()).connected)

    running(engine, story)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"vhost": "NOPE"}, "refuses the virtual host NOPE"),
        ({"queue": "NOPE"}, "has no such queue: NOT_FOUND"),
    ],
)
def test_what_the_broker_does_not_have_is_told_by_name(shared_broker: Broker, more: dict[str, str], words: str) -> None:
    engine = Engine(shared_broker.port, **more)

    async def story() -> None:
        await eventually(lambda: words in engine.detail)

    running(engine, story)


def test_a_broker_that_is_not_there_is_not_taken_for_wrong_credentials() -> None:
    engine = Engine(free_port())
    assert engine.source.health(0).is_connecting

    async def story() -> None:
        await eventually(lambda: "cannot be reached" in engine.detail)
        assert "wrong" not in engine.detail and not engine.source.health(0).is_connecting

    assert running(engine, story) < STOPS_S


@pytest.mark.parametrize(
    ("host", "words"), [("a..b", "cannot be"), ("x" * 70, "cannot be"), ("host name", "not a valid address")]
)
def test_a_name_that_can_be_none_is_trouble_and_no_fault(host: str, words: str) -> None:
    engine = Engine(5672, host=host, retry_s=(0.01,))

    async def story() -> None:
        await eventually(lambda: words in engine.detail)

    running(engine, story)


def test_a_broker_that_hangs_up_during_the_login_may_mean_wrong_credentials() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def hang_up() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                connection.recv(8)
                connection.close()

        threading.Thread(target=hang_up, daemon=True).start()
        engine = Engine(listening.getsockname()[1])

        async def story() -> None:
            await eventually(lambda: "closed the connection during the login: wrong access key" in engine.detail)

        running(engine, story)
        listening.shutdown(socket.SHUT_RDWR)


def test_it_stops_in_a_moment_while_a_broker_says_nothing_at_all() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        engine = Engine(listening.getsockname()[1])

        async def story() -> None:
            connection, _ = await ask(listening.accept)
            with connection:
                assert await ask(lambda: connection.recv(8)) == b"AMQP\x00\x00\x09\x01"

        assert running(engine, story) < STOPS_S


def test_it_stops_even_when_what_it_waits_for_swallows_the_stop(shared_broker: Broker) -> None:
    # `asyncio.wait_for` of Python 3.11 does that when an answer of the broker comes in the same moment.
    shared_broker.publish(lines(1))
    engine, offered = Engine(shared_broker.port), asyncio.Event()

    async def swallow(batch: Batch) -> None:
        offered.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    async def story() -> None:
        serving = asyncio.create_task(engine.source.run(swallow, None))
        await asyncio.wait_for(offered.wait(), PATIENCE_S)
        serving.cancel()
        await asyncio.wait([serving], timeout=PATIENCE_S)
        assert serving.cancelled()

    asyncio.run(story())


def test_a_secret_that_is_not_there_is_named_and_taken_when_it_comes(shared_broker: Broker) -> None:
    there = threading.Event()

    def secret() -> str:
        if there.is_set():
            return SECRET
        raise RollcallError("the environment variable NOPE is not set")

    engine = Engine(shared_broker.port, secret=secret, retry_s=(0.05,))

    async def story() -> None:
        await eventually(lambda: "NOPE is not set" in engine.detail)
        there.set()
        await eventually(lambda: engine.source.health(now_ms()).connected)

    running(engine, story)


def test_over_tls_with_an_authority_of_its_own(shared_broker: Broker) -> None:
    engine = Engine(shared_broker.tls_port, host="localhost", tls=str(shared_broker.folder / "cert.pem"))
    shared_broker.publish(lines(1))

    async def story() -> None:
        await eventually(lambda: len(engine.clients) == 1)

    running(engine, story)


def test_a_certificate_nobody_vouches_for_is_refused_in_words(shared_broker: Broker, tmp_path: Path) -> None:
    strangers = Engine(shared_broker.tls_port, host="localhost", tls="")
    missing = Engine(shared_broker.tls_port, host="localhost", tls=str(tmp_path / "nope.pem"))

    (tmp_path / "no.pem").write_text("nothing")
    unreadable = Engine(shared_broker.tls_port, host="localhost", tls=str(tmp_path / "no.pem"))

    async def refused() -> None:
        await eventually(lambda: "certificate verify failed" in strangers.detail)

    async def not_there() -> None:
        await eventually(lambda: "nope.pem does not exist" in missing.detail)

    async def not_readable() -> None:
        await eventually(lambda: "no.pem cannot be read" in unreadable.detail)

    running(unreadable, not_readable)
    running(strangers, refused)
    running(missing, not_there)


def test_mostly_future_events_make_our_clock_the_suspect_and_none_is_acknowledged(shared_broker: Broker) -> None:
    engine = Engine(shared_broker.port, retry_s=(0.05,))
    engine.behind_ms = [0, 600_000]  # right for the login, or there would be none
    shared_broker.publish(lines(40))

    async def story() -> None:
        await eventually(lambda: "degraded: clock" in engine.detail)
        assert not engine.offered
        assert not engine.source.health(now_ms()).connected
        engine.behind_ms = []
        await eventually(lambda: engine.source.health(now_ms()).connected)

    running(engine, story)
    assert shared_broker.messages() == 0
    assert sorted(engine.clients) == sorted(names(40))


def test_silence_counts_once_the_grace_after_the_connection_is_over_and_waiting_messages_hold_it_back(
    shared_broker: Broker,
) -> None:
    engine = Engine(shared_broker.port, grace_ms=60_000)
    engine.verdict = lambda batch: "not yet"

    async def story() -> None:
        await eventually(lambda: engine.source.health(now_ms()).connected)
        assert engine.source.caught_up_to(now_ms()) is None
        later_ms = now_ms() + 60_000
        assert engine.source.caught_up_to(later_ms) == later_ms
        await ask(lambda: shared_broker.publish(lines(1)))
        await eventually(lambda: engine.offered)
        upto_ms = engine.source.caught_up_to(later_ms)
        assert upto_ms is not None and upto_ms <= now_ms()
        commit(engine.offered[0])
        await eventually(lambda: engine.source.caught_up_to(later_ms) == later_ms)

    running(engine, story)


def test_a_backlog_of_old_news_proves_nothing_about_silence(shared_broker: Broker) -> None:
    engine = Engine(shared_broker.port)
    shared_broker.publish([event("G@@@d", "connect", "c", now_ms() - 3_600_000)])

    async def story() -> None:
        await eventually(lambda: engine.offered)
        upto_ms = engine.source.caught_up_to(now_ms() + 59_000)
        assert upto_ms is None or upto_ms <= now_ms()
        assert "was late" in engine.detail
        later_ms = now_ms() + 60_000
        await eventually(lambda: engine.source.caught_up_to(later_ms) == later_ms)

    running(engine, story)
