"""The parts of the rocketmq source that need no broker: positions, the hand-over, decoding by tag, reading the log."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import StoreError
from engine.sources.rocketmq import native_log
from engine.sources.rocketmq.decoding import decode_messages
from engine.sources.rocketmq.discovery import QueueDiscovery
from engine.sources.rocketmq.intake import MAX_WAITING_MESSAGES, Intake, QueueChunk
from engine.sources.rocketmq.pipe import FOUND, NO_NEW, OFFSET_ILLEGAL, ClusterAccess, Pulled, QueueName
from engine.sources.rocketmq.positions import Positions, QueuePlace
from engine.sources.rocketmq.reader import QueueReader, ReaderSettings
from engine.sources.rocketmq.source import RocketmqSource
from engine.telemetry import Event
from tests.written_log import WrittenLog

NOW = 1_767_225_600_000
QUEUE = QueueName("MQ_INST_1%GID_MQTT", "broker-a:x@y", 3)
numbers = st.integers(min_value=-1, max_value=2**62)


def body(kind: str | None = "connect", client: str = "G@@@d") -> bytes:
    told = {"clientId": client, "time": NOW, "channelId": "1", "clientIp": "10.0.0.1:5"}
    return json.dumps(told | ({"eventType": kind} if kind else {})).encode()


def chunk(*messages: tuple[bytes, bytes], offset: int = 1) -> QueueChunk:
    return QueueChunk(
        queue=QUEUE, place=QueuePlace(offset), bodies=[text for text, _ in messages], tags=[tag for _, tag in messages]
    )


# Positions


@given(st.dictionaries(st.builds(QueueName, st.sampled_from(["t", "N%t"]), st.sampled_from(["a", "b:c"]), st.integers(0, 9)),
                       st.builds(QueuePlace, numbers, numbers, numbers, numbers)), numbers)  # fmt: skip
def test_what_is_committed_is_read_back(places: dict[QueueName, QueuePlace], since_ms: int) -> None:
    found = Positions.parse(Positions(since_ms, places).text(), NOW)
    assert (found.since_ms, found.places) == (since_ms, places)


def test_a_source_that_never_ran_begins_now_and_a_strange_position_is_refused() -> None:
    assert Positions.parse(None, NOW).since_ms == NOW
    for text in ("", "{}", "[]", '{"version":2,"since":1,"queues":{}}', '{"version":1,"since":1,"queues":{"x":[1]}}'):
        with pytest.raises(StoreError):
            Positions.parse(text, NOW)


# Decoding


def test_flawless_messages_of_several_tags_and_queues_are_one_batch() -> None:
    kinds = ["connect", "disconnect", "tcpclean"]
    chunks = [chunk(*((body(kind), kind.encode()) for kind in kinds)) for _ in range(3)]
    decoded = decode_messages(chunks, NOW, 60_000)
    assert [event.type for event in decoded.events] == kinds * 3
    assert len(decoded.raw) == 9 and not decoded.rejected


@pytest.mark.parametrize(
    ("message", "verdict"),
    [
        ((body(), b"connect"), "connect"),
        ((body(None), b"tcpclean"), "tcpclean"),  # the tag says it
        ((body(), b""), "connect"),  # without a tag, the body says it
        ((body(None), b""), "eventType is missing"),
        ((body(), b"tcpclean"), "tagged 'tcpclean'"),
        ((b" \n ", b"connect"), "the message is empty"),
        ((b"", b"connect"), "the message is empty"),
        ((json.dumps(json.loads(body()), indent=1).encode(), b"connect"), "connect"),
        ((body() + b"\n" + body(), b"connect"), "not JSON"),
    ],
)
def test_each_message_is_judged_by_its_own_tag(message: tuple[bytes, bytes], verdict: str) -> None:
    good = (body(client="G@@@good"), b"connect")
    decoded = decode_messages([chunk(good, message, good)], NOW, 60_000)
    assert len(decoded.events) + len(decoded.rejected) == 3 == len(decoded.raw) + len(decoded.rejected)
    if decoded.rejected:
        (fault,) = decoded.rejected
        assert (
            verdict in fault.reason and fault.line == 2 and fault.raw == message[0].strip(b" \r\n\t")
        ) or not fault.raw.strip()
    else:
        assert decoded.events[1].type == verdict


# The hand-over


def test_chunks_come_out_in_order_in_batches_and_a_large_one_alone() -> None:
    intake = Intake(lambda: None)
    sizes = [300, 300, 500, 0, 1500, 10]
    for number, size in enumerate(sizes):
        assert intake.put(chunk(*([(b"x", b"")] * size), offset=number))
    taken = [[len(one.bodies) for one in intake.take(1000)] for _ in range(4)]
    assert taken == [[300, 300], [500, 0], [1500], [10]]
    assert len(intake) == 0 and not intake


def test_a_full_hand_over_makes_readers_wait_until_there_is_room_or_it_is_closed() -> None:
    intake = Intake(lambda: None)
    assert intake.put(chunk(*([(b"x", b"")] * MAX_WAITING_MESSAGES)))
    answers: list[bool] = []
    waiting = threading.Thread(target=lambda: answers.append(intake.put(chunk((b"y", b"")))))
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    intake.take()
    waiting.join(5)
    assert answers == [True]
    assert intake.put(chunk(*([(b"x", b"")] * MAX_WAITING_MESSAGES)))
    late = threading.Thread(target=lambda: answers.append(intake.put(chunk((b"z", b"")))))
    late.start()
    intake.close()
    late.join(5)
    assert answers == [True, False]


# One queue


class Log:
    """A queue in memory: what a broker would answer. `stored` holds the instant of each message from `oldest` on."""

    def __init__(self, oldest: int, *stored: int) -> None:
        self.oldest, self.stored = oldest, list(stored)
        self.asked: list[int] = []

    def pull(self, name: QueueName, tags: bytes, offset: int, at_most: int) -> Pulled:
        self.asked.append(offset)
        end = self.oldest + len(self.stored)
        if not self.oldest <= offset <= end:
            return Pulled(OFFSET_ILLEGAL, self.oldest, self.oldest, end, [], [], -1, -1)
        found = self.stored[offset - self.oldest :][:at_most]
        if not found:
            return Pulled(NO_NEW, offset, self.oldest, end, [], [], -1, -1)
        after = offset + len(found)
        return Pulled(
            FOUND, after, self.oldest, end, [body()] * len(found), [b"connect"] * len(found), after - 1, found[-1]
        )


def settings_of(log: Log, intake: Intake, start_ms: int | None = None) -> ReaderSettings:
    return ReaderSettings(
        source="mq",
        puller=log,
        intake=intake,
        tags=b"*",
        start_ms=start_ms,
        now_ms=lambda: NOW,
        stop=threading.Event(),
    )


def read(log: Log, place: QueuePlace | None, start_ms: int | None = None) -> tuple[QueueReader, list[QueueChunk]]:
    """Turns of a reader until it is at the end; what it handed over."""
    intake = Intake(lambda: None)
    reader = QueueReader(QUEUE, place, settings_of(log, intake, start_ms))
    while reader._turn() == 0.0:
        pass
    chunks = []
    while intake:
        chunks += intake.take()
    return reader, chunks


@given(st.integers(0, 50), st.lists(st.integers(1, 30), max_size=40).map(sorted), st.integers(0, 32))
def test_a_queue_never_read_begins_at_the_first_message_stored_at_the_time_or_later(
    oldest: int, stored: list[int], start_ms: int
) -> None:
    _, chunks = read(Log(oldest, *stored), None, start_ms)
    assert chunks[0].place.offset == oldest + sum(at < start_ms for at in stored)
    assert sum(len(one.bodies) for one in chunks) == sum(at >= start_ms for at in stored)


def test_a_queue_is_caught_up_once_what_was_found_before_its_end_is_committed() -> None:
    reader, chunks = read(Log(0, 5, 6, 7), None)
    assert reader.caught_up_ms is None
    for one in chunks[:-1]:
        reader.commit(one.place.offset)
    assert reader.caught_up_ms is None
    reader.commit(chunks[-1].place.offset)
    assert reader.caught_up_ms == NOW and reader.lag == 0


def test_a_reader_goes_on_where_it_stopped_and_asks_once_whether_it_is_the_same_log() -> None:
    log = Log(0, 5, 6, 7)
    _, chunks = read(log, QueuePlace(2, 1, 6))
    assert [one.place for one in chunks] == [QueuePlace(3, 2, 7)] and not chunks[0].gap
    assert log.asked[:2] == [1, 2]


@pytest.mark.parametrize(
    ("log", "place", "goes_on_at", "words"),
    [
        (Log(10, 50, 60), QueuePlace(4, 3, 40), 10, "6 messages expired"),
        (Log(10, 50, 60), QueuePlace(4), 10, "6 messages expired"),
        (Log(0, 10, 20, 30), QueuePlace(9, 8, 20), 1, "truncated or recreated"),  # from the last known instant on
        (Log(0, 90, 91), QueuePlace(9, 8, 20), 0, "truncated or recreated"),  # all of it came later
        (Log(0, 90, 91), QueuePlace(2, 1, 20), 0, "its topic was recreated"),  # the offset fits, the message is another
    ],
)
def test_what_is_gone_is_a_gap_with_bounds_and_reading_goes_on_at_the_oldest_that_may_be_unread(
    log: Log, place: QueuePlace, goes_on_at: int, words: str
) -> None:
    _, chunks = read(log, place)
    gap = chunks[0].gap
    assert gap is not None and words in gap.reason and chunks[0].place.offset == goes_on_at
    assert gap.from_ms == (place.stored_at_ms if place.stored_at_ms >= 0 else None)
    assert gap.to_ms == log.stored[goes_on_at - log.oldest]
    assert sum(len(one.bodies) for one in chunks) == len(log.stored) - (goes_on_at - log.oldest)
    assert all(one.gap is None for one in chunks[1:])


def test_a_queue_that_is_removed_with_unread_messages_is_a_gap() -> None:
    reader, _ = read(Log(0, 5, 6, 7), None)
    assert reader.let_go() is None  # all of it was read
    reader, _ = read(Log(0, 5, 6, 7), None)
    reader.max_offset = 9
    told = reader.let_go()
    assert told is not None and told.gap is not None and told.place.offset == 3
    assert "removed before 6 messages" in told.gap.reason and told.gap.from_ms == 7


# The library's log

LINES = """\
[2026-Nov-24 09:14:19.299317](warning):get error response:16 of heartbeat to addr:127.0.0.1:42203[invokeHeartBeat:178]
[2026-Nov-24 09:14:19.299684](error):msg: check signature failed.,error:16,in file </tmp/src/MQClientAPIImpl.cpp> line:553[pullMessageSync:496]
[2026-Nov-24 09:14:19.299735](error):msg: The pullResult NULL ofMessageQueue [topic=T, brokerName=b, queueId=0],error:-1,in file </tmp/a.cpp> line:54[pullSyncImpl:231]
"""


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (LINES, "wrong credentials or no permission: the server says “check signature failed” (code 16)"),
        ("[x](error):msg: User:zz is not found.,error:16,in file <a> line:1[b:2]", "“User:zz is not found” (code 16)"),
        ("[x](error):msg: org.apache.rocketmq.acl.common.AclException: no such key,error:1,in file <a> line:1[b:2]", "wrong credentials"),
        ("[x](error):msg: topic[T] not exist, apply first please!,error:17,in file <a> line:1[b:2]", "the server refuses: “topic[T] not exist"),
        ("[x](warning):can not connect to server:10.0.0.1:9876[CreateTransport:343]", "cannot connect to 10.0.0.1:9876"),
        ("[x](warning):wait response timeout or get NULL response of code:11, so closeTransport of addr:10.0.0.1:10911[invokeSync:206]", "10.0.0.1:10911 accepts the connection but does not answer"),
        ("[x](error):msg: Failed to resolve  host name(b.invalid): nodename nor servname,error:-1,in file <a> line:1[b:2]", "cannot resolve b.invalid, which a broker gave"),
        ("[x](error):msg: Can not find Message Queue,error:-1,in file <a> line:912[b:152]", "no name server knows the topic"),
    ],
)  # fmt: skip
def test_the_librarys_own_log_says_why(line: str, words: str) -> None:
    assert words in str(native_log.explain(line))


def test_only_what_fails_now_counts_and_logs_of_the_dead_are_removed(tmp_path: Path) -> None:
    home = os.environ["HOME"]
    place = tmp_path / "logs" / "rocketmq-cpp"
    place.mkdir(parents=True)
    (place / "1_rocketmq-cpp.log.0").write_text(LINES)
    with native_log.writing_to(str(tmp_path)):
        assert os.environ["HOME"] == str(tmp_path)
    assert os.environ["HOME"] == home and not list(place.iterdir())
    assert "does not say why" in native_log.reason(str(tmp_path))
    later = "[2026-Nov-24 09:20:00.000000](warning):can not connect to server:10.0.0.1:9876[CreateTransport:343]\n"
    (place / f"{os.getpid()}_rocketmq-cpp.log.0").write_text(LINES + later * 3 + later.replace("20:00", "20:01"))
    assert native_log.reason(str(tmp_path)) == "cannot connect to 10.0.0.1:9876: no server listens there"


# Queues that come and go


def test_a_removed_queue_and_the_messages_lost_with_it_are_reported(log: WrittenLog) -> None:
    removed, stays = QueueName("t", "broker", 0), QueueName("t", "broker", 1)
    intake, stored = Intake(lambda: None), Log(0, 10, 20)
    discovery = QueueDiscovery(
        source="mq",
        connection=ClusterAccess(group="g"),
        topics=["t"],
        tags="connect",
        start="earliest",
        now_ms=lambda: NOW,
        positions=Positions(NOW),
        intake=intake,
    )
    reader = QueueReader(removed, QueuePlace(1), settings_of(stored, intake))
    reader.max_offset, reader.trouble = 2, "the broker does not answer"
    discovery.readers = {removed: reader}
    discovery._let_go([stays])
    assert discovery.readers == {}
    (chunk_,) = intake.take()
    assert chunk_.gap is not None and "removed before 1 messages" in chunk_.gap.reason
    line = log.line(Event.QUEUE_GONE)
    assert (line["source"], line["queue"]) == ("mq", "t@broker:0")


def test_a_step_of_the_clock_does_not_make_a_source_look_disconnected(log: WrittenLog) -> None:
    source = RocketmqSource(name="mq", connection=ClusterAccess(group="g"), topics=["t"], now_ms=lambda: NOW)
    source._discovery = QueueDiscovery(
        source="mq",
        connection=source.connection,
        topics=["t"],
        tags="connect",
        start="earliest",
        now_ms=lambda: NOW,
        positions=Positions(NOW),
        intake=Intake(lambda: None),
    )
    queue = QueueName("t", "broker", 0)
    source._discovery.readers = {
        queue: QueueReader(queue, QueuePlace(1), settings_of(Log(0, 1, 2), Intake(lambda: None)))
    }
    assert source.health(NOW + 3_600_000).connected
