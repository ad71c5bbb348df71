"""Kills of the engine at any moment and a restart of the broker, under load: every message is in the state once.

`ROLLCALL_ROCKETMQ_EVENTS=200000 pytest tests/mq/test_crashes.py` for the long form.
"""

from __future__ import annotations

import json
import os
import random
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest

from engine.sources.rocketmq.publisher import CannotPublish, Publisher
from engine.sources.simulator.synthetic import Storm, SyntheticFleet, arrivals
from tests.acceptance.load import decision, journal_lines
from tests.acceptance.service import Service, Sink, eventually, now_ms, offline_rule, service, sink, webhook
from tests.mq.broker import Broker
from tests.oracle import presence
from tests.oracle.reading import Told

EVENTS = int(os.environ.get("ROLLCALL_ROCKETMQ_EVENTS", "10000"))
SEED = int(os.environ.get("ROLLCALL_SEED", "20260101"))
EVENTS_PER_S = max(700.0, EVENTS / 60)
"""At most; so that there are some lives and deaths while events arrive."""

SLICE = 200
PATIENCE_S = 60 + EVENTS / 500
SKEW_MS = 1000


class Stream(threading.Thread):
    """Publishes a synthetic fleet; what the broker did not take for sure is published again, so perhaps twice."""

    def __init__(self, publisher: Publisher, events: int) -> None:
        super().__init__(daemon=True)
        self.published: list[tuple[str, bytes]] = []
        self.fault: BaseException | None = None
        self._publisher, self._events = publisher, events
        self._pace = threading.Event()  # never set: it only paces

    def run(self) -> None:
        try:
            story = islice(_story(self._events), self._events)
            while some := list(islice(story, SLICE)):
                self._publish(some)
                self.published += some
                self._pace.wait(SLICE / EVENTS_PER_S)
        except BaseException as fault:  # noqa: BLE001  # the test says so
            self.fault = fault

    def _publish(self, some: list[tuple[str, bytes]]) -> None:
        while True:
            try:
                self._publisher.send(some)
                return
            except CannotPublish:
                continue  # the broker restarts


def _story(events: int) -> Iterator[tuple[str, bytes]]:
    """Messages of a fleet in the past, so that none lies in the future: sessions, takeovers, storms, late, twice."""
    plan = SyntheticFleet(
        clients=max(50, events // 50),
        seed=SEED,
        start_ms=now_ms() - 3_600_000,
        session_ms=20_000,
        away_ms=3_000,
        late=0.05,
        duplicates=0.05,
        storm=Storm(at_ms=30_000),
    )
    for arrival in arrivals(plan):
        yield arrival.event.type, arrival.line


def expected(published: list[tuple[str, bytes]]) -> dict[str, str]:
    """Each client's final status, by the oracle: from the whole set of its events."""
    found: dict[str, list[Told]] = defaultdict(list)
    for _, line in published:
        body = json.loads(line)
        told = Told(body["clientId"], body["eventType"], body["time"], body["channelId"], body["clientIp"], 0)
        found[told.client].append(told)
    return {client: presence.observed(events, SKEW_MS) for client, events in found.items()}


def stored(broker: Broker, topic: str) -> int:
    """How many messages the broker holds of a topic."""
    return sum(broker.max_offset(topic, queue) for queue in range(4))


@pytest.mark.timeout(240 + EVENTS // 50)
@pytest.mark.long
def test_kills_and_a_restarted_broker_lose_nothing_and_apply_nothing_twice(
    tmp_path: Path, publisher: Publisher, source: Callable[..., dict[str, object]], topic: str, broker: Broker
) -> None:
    dice = random.Random(SEED)
    broker.topic(topic)
    with sink() as target, service(tmp_path, sources=[source()]) as running:
        welcome = {
            "name": "hello",
            "trigger": "first_seen",
            "flapping": "fire",
            "actions": [webhook(target.url, "firing")],
        }
        running.rules(offline_rule(target.url, throttle={"max": 20, "per": "10m", "by": ["client"]}), welcome)
        stream = Stream(publisher, EVENTS)
        stream.start()
        kills = 0
        while stream.is_alive() or kills < 8:
            often = {"ROLLCALL_CHECKPOINT": f"{dice.randint(50, 900)}:{dice.randint(20, 200)}"} if kills % 2 else {}
            running.start(ready=dice.random() < 0.8, **often)
            threading.Event().wait(dice.uniform(0.0, 1.5))  # the moment of the kill, which nothing depends on
            assert running.process is not None and running.process.poll() is None, running.log_text()[-2000:]
            running.kill()
            kills += 1
            if kills == 4:
                broker.restart()
        stream.join()
        assert stream.fault is None, stream.fault
        running.start()
        wanted = expected(stream.published)
        eventually(running.statuses, lambda found: found == wanted, within_s=PATIENCE_S)
        eventually(
            lambda: len(journal_lines(tmp_path, "mq")), lambda n: n >= stored(broker, topic), within_s=PATIENCE_S
        )
        eventually(lambda: running.items("/v1/deliveries", state="due"), lambda due: not due, within_s=PATIENCE_S)
        check_journal(tmp_path, stream, stored(broker, topic))
        check_deliveries(running, target, wanted)
        assert running.items("/v1/sources")[0]["gaps"] == []
        assert running.terminate() == 0
    assert "Traceback" not in running.log_text()


def check_journal(folder: Path, stream: Stream, messages: int) -> None:
    """As many events as the broker holds messages, and each that was published among them."""
    lines = Counter(journal_lines(folder, "mq"))
    assert lines.total() == messages
    published = Counter(body.decode() for _, body in stream.published)
    assert set(lines) == set(published)
    assert not published - lines


def check_deliveries(running: Service, target: Sink, wanted: dict[str, str]) -> None:
    """Nothing lost, nothing decided twice; every client welcomed once."""
    rows = running.printed("deliveries", "list", "--limit", "1000000")
    assert Counter(row["state"] for row in rows) == {"delivered": len(rows)}
    assert {row["key"] for row in rows} == {arrival.key for arrival in target.seen()}
    decided = Counter(decision(arrival) for arrival in target.first_seen())
    assert {found: times for found, times in decided.items() if times > 1} == {}
    welcomed = Counter(arrival.body["client"] for arrival in target.first_seen() if arrival.body["rule"] == "hello")
    assert welcomed == Counter(list(wanted))
