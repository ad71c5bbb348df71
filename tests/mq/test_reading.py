"""What an engine reads from a real broker: from where, what not, what is new, what is gone."""

from __future__ import annotations

import json
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from engine.sources.rocketmq.publisher import Publisher
from tests.acceptance.load import journal_lines
from tests.acceptance.service import Service, event, eventually, now_ms, offline_rule, service, sink, without_tracebacks
from tests.mq.broker import Broker
from tests.mq.broker import running as broker_running

Made = Callable[..., dict[str, object]]


def told(*events: str) -> list[tuple[str, bytes]]:
    """Events as messages, tagged by their type."""
    return [(json.loads(text)["eventType"], text.encode()) for text in events]


def connects(*devices: object) -> list[tuple[str, bytes]]:
    """One connect of each device."""
    return told(*(event(f"G@@@{device}", "connect", "1") for device in devices))


def clients(running: Service) -> set[str]:
    return {client.removeprefix("G@@@") for client in running.statuses()}


def health(running: Service) -> dict[str, Any]:
    """The source, as `rollcall sources` shows it."""
    return next(dict(found) for found in running.get("/v1/sources")["items"] if found["name"] == "mq")


def is_caught_up(running: Service, since_ms: int) -> None:
    """Returns when everything that was there at an instant has been read."""

    def reached() -> bool:
        upto = health(running)["caught_up_to"]
        return upto is not None and datetime.fromisoformat(upto).timestamp() * 1000 > since_ms

    eventually(reached)


def position(folder: Path) -> dict[str, Any]:
    """What is committed about the source."""
    with sqlite3.connect(f"file:{folder / 'data' / 'rollcall.sqlite3'}?mode=ro", uri=True) as store:
        (text,) = store.execute("SELECT position FROM sources WHERE name = 'mq'").fetchone()
    return dict(json.loads(text))


def move(folder: Path, change: Callable[[list[int]], Sequence[int]]) -> None:
    """Change the committed place of every queue, as if another history lay behind it."""
    found = position(folder)
    found["queues"] = {name: list(change(place)) for name, place in found["queues"].items()}
    with sqlite3.connect(folder / "data" / "rollcall.sqlite3") as store:
        store.execute("UPDATE sources SET position = ?", (json.dumps(found),))


# Where reading begins


def test_a_source_that_starts_at_the_earliest_reads_what_was_there_before_it(
    tmp_path: Path, publisher: Publisher, source: Made, topic: str, broker: Broker
) -> None:
    broker.topic(topic)
    publisher.send(connects(*range(50)))
    with service(tmp_path, sources=[source(start="earliest")]) as running:
        running.start()
        eventually(lambda: clients(running), lambda found: found == {str(n) for n in range(50)})
        assert running.terminate() == 0
    assert without_tracebacks(running.log_text())


def test_a_source_that_starts_at_the_latest_reads_only_what_comes_after_its_first_start(
    tmp_path: Path, publisher: Publisher, source: Made, topic: str, broker: Broker
) -> None:
    broker.topic(topic)
    publisher.send(connects("before"))
    with service(tmp_path, sources=[source(start="latest")]) as running:
        running.start()
        is_caught_up(running, now_ms())
        publisher.send(connects("after"))
        eventually(lambda: clients(running), lambda found: found == {"after"})
        # What is published while it is down came after the first start too, whether or not a message was ever read.
        running.kill()
        publisher.send(connects("meanwhile", "too"))
        running.start()
        eventually(lambda: clients(running), lambda found: found == {"after", "meanwhile", "too"})


def test_a_source_killed_before_its_first_message_still_knows_when_it_started(
    tmp_path: Path, publisher: Publisher, source: Made, topic: str, broker: Broker
) -> None:
    broker.topic(topic)
    publisher.send(connects("before"))
    with service(tmp_path, sources=[source(start="latest")]) as running:
        running.start()
        is_caught_up(running, now_ms())
        running.kill()
        publisher.send(connects("meanwhile"))
        running.start()
        eventually(lambda: clients(running), lambda found: found == {"meanwhile"})


def test_a_source_that_starts_at_a_time_reads_what_was_stored_since(
    tmp_path: Path, publisher: Publisher, source: Made, topic: str, broker: Broker
) -> None:
    broker.topic(topic)
    publisher.send(connects(*(f"old{n}" for n in range(40))))
    threading.Event().wait(0.01)  # the broker stamps in milliseconds
    since = datetime.now(UTC)
    threading.Event().wait(0.01)
    new = [f"new{n}" for n in range(40)]
    publisher.send(connects(*new))
    with service(tmp_path, sources=[source(start=since.isoformat())]) as running:
        running.start()
        eventually(lambda: clients(running), lambda found: found == set(new))


def test_a_topic_that_is_made_later_is_read_from_its_beginning(
    tmp_path: Path, publisher: Publisher, source: Made, topic: str, broker: Broker
) -> None:
    with service(tmp_path, sources=[source(start="latest")]) as running:
        running.start()
        eventually(lambda: health(running), lambda found: f"no queue of the topic {topic}" in found["detail"])
        assert not health(running)["connected"] and health(running)["caught_up_to"] is None
        broker.topic(topic)
        publisher.send(connects(*range(20)))
        eventually(lambda: len(clients(running)), lambda found: found == 20)
        eventually(lambda: health(running)["connected"])


def test_the_topic_of_a_group_and_the_namespace_are_derived(
    tmp_path: Path, source: Made, topic: str, broker: Broker
) -> None:
    broker.topic(f"MQ_INST_1%{topic}")
    published = Publisher(broker.address, f"MQ_INST_1%{topic}", group=f"PID_{topic}")
    published.send(connects("a"))
    published.close()
    told = source(mqtt_groups=[topic.removesuffix("_MQTT")], namespace="MQ_INST_1")
    del told["topics"]
    with service(tmp_path, sources=[told]) as running:
        running.start()
        eventually(lambda: clients(running), lambda found: found == {"a"})


@pytest.mark.timeout(180)
@pytest.mark.long
def test_queues_that_are_added_later_are_read_from_their_beginning_and_those_taken_away_are_waited_for_no_longer(
    tmp_path: Path, publisher: Publisher, source: Made, topic: str, broker: Broker
) -> None:
    broker.topic(topic, queues=1)
    with service(tmp_path, sources=[source(start="latest")]) as running:
        running.start()
        is_caught_up(running, now_ms())
        broker.topic(topic, queues=3)
        # The library asks the name server every 30 seconds, and so does a publisher: messages to all queues by then.
        sent: set[str] = set()

        def all_queues_read() -> bool:
            more = [f"{len(sent)}-{n}" for n in range(6)]
            publisher.send(connects(*more))
            sent.update(more)
            return len(position(tmp_path)["queues"]) == 3

        eventually(all_queues_read, within_s=120)
        eventually(lambda: clients(running), lambda found: found == sent)
        assert all(place[0] > 0 for place in position(tmp_path)["queues"].values())
        broker.topic(topic, queues=1)
        eventually(lambda: len(health(running)["queues"]), lambda found: found == 1, within_s=90)
        is_caught_up(running, now_ms())
        assert health(running)["connected"]


# What is in the messages


def test_messages_with_other_tags_are_passed_and_the_position_moves_past_them(
    tmp_path: Path, publisher: Publisher, source: Made, topic: str, broker: Broker
) -> None:
    broker.topic(topic, queues=1)
    publisher.send([("telemetry", b"23.5"), *connects("a"), *[("telemetry", b"24")] * 20])
    with service(tmp_path, sources=[source()]) as running:
        running.start()
        eventually(lambda: clients(running), lambda found: found == {"a"})
        eventually(lambda: position(tmp_path)["queues"][f"{topic}@broker-a:0"][0], lambda found: found == 22)
        assert running.printed("quarantine", "list") == []


def test_poison_messages_are_quarantined_once_and_stop_nothing(
    tmp_path: Path, publisher: Publisher, source: Made, topic: str, broker: Broker
) -> None:
    broker.topic(topic, queues=2)
    poison = [
        ("connect", b"\xff not even text"),
        ("connect", b"{"),
        ("connect", b"   "),
        ("tcpclean", event("G@@@lie", "connect", "1").encode()),
        ("connect", event("G@@@future", "connect", "1", now_ms() + 3_600_000).encode()),
        ("connect", b'{"clientId":"G@@@long","x":"' + b"y" * 70_000 + b'"}'),
    ]
    untyped = json.loads(event("G@@@untyped", "connect", "1"))
    del untyped["eventType"]  # the tag says it
    publisher.send(
        [*connects(*range(30)), *poison, ("connect", json.dumps(untyped).encode()), *connects(*range(30, 60))]
    )
    with service(tmp_path, sources=[source()]) as running:
        running.start()
        eventually(lambda: clients(running), lambda found: found == {*map(str, range(60)), "untyped"})
        eventually(lambda: len(running.printed("quarantine", "list")), lambda found: found == len(poison))
        rows = running.printed("quarantine", "list")
        reasons = " | ".join(row["reason"] for row in rows)
        for part in ("not UTF-8", "not JSON", "empty", "tagged 'tcpclean'", "in the future", "65536 are allowed"):
            assert part in reasons, reasons
        running.kill()
        running.start()  # they are not read again
        is_caught_up(running, now_ms())
        assert len(running.printed("quarantine", "list")) == len(poison)


# What is gone


def gaps(running: Service) -> list[dict[str, Any]]:
    return list(health(running)["gaps"])


@pytest.mark.long
@pytest.mark.timeout(180)
def test_messages_that_expired_before_they_were_read_are_a_gap_with_bounds(
    tmp_path: Path, topic: str, forgetful_broker: Broker
) -> None:
    broker = forgetful_broker
    broker.topic(topic, queues=1)
    source: dict[str, object] = {"name": "mq", "type": "rocketmq", "name_servers": [broker.address]}
    source |= {"consumer_group": f"GID_{topic}"}
    source |= {"topics": [topic], "start": "earliest"}
    publisher = Publisher(broker.address, topic, group=f"PID_{topic}")
    publisher.send(connects("a"))
    feeds = {"name": "feeds", "trigger": "feed", "actions": [{"log": {"message": "{{ alert.detail }}"}}]}
    with closing(publisher), service(tmp_path, sources=[source]) as running:
        running.rules(feeds)
        running.start()
        eventually(lambda: clients(running), lambda found: found == {"a"})
        running.terminate()
        assert gaps_are_none(running)
        publisher.send(connects(*range(3_000)))  # more than two files of the broker's log
        # It begins to look for what has expired a minute after its start.
        eventually(lambda: broker.forget(topic), lambda oldest: oldest > 1, within_s=90)
        publisher.send(connects("last"))
        running.start()
        eventually(lambda: "last" in clients(running))
        (gap,) = eventually(lambda: gaps(running))
        assert "messages expired before they were read" in gap["reason"] and gap["from"] < gap["to"]
        assert "a" in clients(running) and "0" not in clients(running)
        eventually(lambda: any("expired" in line["message"] for line in running.log_lines("action.log")))
        running.kill()
        running.start()  # told once
        is_caught_up(running, now_ms())
        assert len(gaps(running)) == 1


def gaps_are_none(running: Service) -> bool:
    """Offline: the store says so too."""
    (found,) = running.printed("sources")
    return not found["gaps"]


@pytest.mark.long
def test_a_log_that_ends_before_the_position_is_a_gap_and_is_read_from_the_last_known_instant(
    tmp_path: Path, publisher: Publisher, source: Made, topic: str, broker: Broker
) -> None:
    broker.topic(topic, queues=1)
    publisher.send(connects(*range(10)))
    with service(tmp_path, sources=[source()]) as running:
        running.start()
        eventually(lambda: len(clients(running)), lambda found: found == 10)
        running.terminate()
        move(tmp_path, lambda place: [1_000_000, *place[1:]])
        publisher.send(connects("b"))
        running.start()
        eventually(lambda: "b" in clients(running))
        (gap,) = eventually(lambda: gaps(running))
        assert "was truncated or recreated" in gap["reason"]
        # Read again are those of the last known millisecond, not the whole log.
        assert len(journal_lines(tmp_path, "mq")) < 21


def test_a_topic_that_was_deleted_and_made_anew_is_a_gap_and_is_read_whole(
    tmp_path: Path, publisher: Publisher, source: Made, topic: str, broker: Broker
) -> None:
    broker.topic(topic, queues=1)
    publisher.send(connects("a", "b"))
    with service(tmp_path, sources=[source()]) as running:
        running.start()
        eventually(lambda: clients(running), lambda found: found == {"a", "b"})
        running.terminate()
        broker.delete_topic(topic)
        broker.topic(topic, queues=1)
        publisher.send(connects(*range(10)))  # past the old position: only their age tells
        running.start()
        eventually(lambda: clients(running), lambda found: found == {"a", "b", *map(str, range(10))})
        (gap,) = eventually(lambda: gaps(running))
        assert "recreated" in gap["reason"]


# Silence that means nothing


@pytest.mark.long
@pytest.mark.timeout(180)
def test_a_backlog_of_six_hours_pages_nobody_whose_reconnect_is_in_it(
    tmp_path: Path, publisher: Publisher, source: Made, topic: str, broker: Broker
) -> None:
    broker.topic(topic, queues=2)
    hours_ms = 6 * 3_600_000
    then_ms = now_ms() - hours_ms
    back = [f"G@@@back{n}" for n in range(20)]
    gone = [f"G@@@gone{n}" for n in range(5)]
    holds = {"offline": "200ms", "online": "0s"}
    with sink() as target, service(tmp_path, sources=[source()], debounce=holds) as running:
        running.rules(offline_rule(target.url))
        publisher.send(told(*(event(client, "connect", "1", then_ms - 1000) for client in back + gone)))
        running.start()
        eventually(lambda: len(running.statuses()), lambda found: found == 25)
        running.kill()
        # While the engine is down: everybody goes; the reconnects are the last that is published.
        publisher.send(told(*(event(client, "tcpclean", "1", then_ms + 1000) for client in back + gone)))
        filler = [event(f"G@@@other{n % 900}", "connect", f"{n}", then_ms + 2000 + n) for n in range(12_000)]
        publisher.send(told(*filler))
        publisher.send(told(*(event(client, "connect", "2", now_ms() - 60_000) for client in back)))
        running.start()
        eventually(lambda: target.told("client"), lambda found: len(found) >= len(gone))
        is_caught_up(running, now_ms())
        eventually(lambda: running.items("/v1/deliveries", state="due"), lambda found: not found)
        assert sorted(target.told("client", "phase")) == sorted((client, "firing") for client in gone)
        assert {running.statuses()[client] for client in back} == {"online"}


@pytest.mark.long
def test_a_dead_broker_pages_nobody_and_is_an_alert_of_the_feed(
    tmp_path: Path, rocketmq: None, topic: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    holds = {"offline": "500ms", "online": "0s"}
    with broker_running(tmp_path_factory.mktemp("dying")) as broker, sink() as target:
        broker.topic(topic)
        told_source = {"name": "mq", "type": "rocketmq", "name_servers": [broker.address], "consumer_group": "GID_x"}
        told_source |= {"topics": [topic], "start": "earliest"}
        with service(tmp_path, sources=[told_source, {"name": "push", "type": "http"}], debounce=holds) as running:
            running.rules(
                offline_rule(target.url),
                {"name": "feeds", "trigger": "feed", "actions": [{"log": {"message": "{{ alert.detail }}"}}]},
            )
            running.start()
            running.tell(event("G@@@a", "connect", "1"))
            eventually(lambda: health(running)["caught_up_to"])
            broker.brokers["broker-a"].end()
            running.tell(event("G@@@a", "tcpclean", "1"))
            said = eventually(lambda: [line["message"] for line in running.log_lines("action.log")])
            # While it is dying it may still take connections that it does not answer.
            assert "disconnected" in said[0] and ("cannot connect to" in said[0] or "does not answer" in said[0]), said
            assert running.statuses() == {"G@@@a": "online"} and target.seen() == []
            eventually(lambda: running.readiness()[1], lambda found: "cannot connect to" in found)
            broker.brokers["broker-a"].start()
            eventually(lambda: target.told("client", "phase"), lambda found: found == [("G@@@a", "firing")])
            eventually(lambda: running.readiness()[0] == 200)
            # One that accepts connections and never answers again holds nothing up when we stop.
            broker.brokers["broker-a"].process.send_signal(signal.SIGSTOP)  # type: ignore[union-attr]
            threading.Event().wait(1.0)  # so that pulls are under way
            asked_s = time.monotonic()
            assert running.terminate() == 0
            assert time.monotonic() - asked_s < 10.0  # it does not hang; how long it takes is no matter of this test
    assert without_tracebacks(running.log_text())
