"""The process of the native client ends in every way there is: the engine goes on, nothing is lost, nothing is applied twice."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from engine.sources.rocketmq.publisher import CannotPublish, Publisher
from engine.telemetry import Event
from tests.acceptance.service import Service, event, eventually, free_port, service
from tests.mq.broker import Broker
from tests.mq.test_crashes import Stream, check_journal, expected, stored
from tests.mq.test_reading import clients, connects, health

CHILD = b"engine.sources.rocketmq.process"


def children(pid: int) -> list[int]:
    """The processes of native clients that a process has started."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread or a child that has just ended
            ids = (task / "children").read_text().split()
            found += [int(child) for child in ids if CHILD in Path(f"/proc/{child}/cmdline").read_bytes()]
    return found


def kill_child(running: Service, number: signal.Signals) -> int:
    """End the one child, and return its id when another has taken its place."""
    (child,) = eventually(lambda: children(running.pid), lambda found: len(found) == 1)
    os.kill(child, number)
    eventually(lambda: children(running.pid), lambda found: len(found) == 1 and found != [child])
    return child


@pytest.mark.long
@pytest.mark.timeout(240)
def test_a_client_that_is_killed_while_it_reads_loses_nothing_and_applies_nothing_twice(
    tmp_path: Path, publisher: Publisher, source: Callable[..., dict[str, object]], topic: str, broker: Broker
) -> None:
    broker.topic(topic)
    with service(tmp_path, sources=[source(), {"name": "push", "type": "http"}]) as running:
        running.start()
        stream = Stream(publisher, 6_000)
        stream.start()
        for number in (signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV, signal.SIGKILL):
            before = len(stream.published)
            eventually(partial(_has_published_more, stream, before))
            kill_child(running, number)
            running.tell(event("H@@@other", "connect", f"c{number}"))  # the other sources go on
        stream.join()
        assert stream.fault is None, stream.fault
        wanted = expected(stream.published) | {"H@@@other": "online"}
        eventually(running.statuses, lambda found: found == wanted)
        check_journal(tmp_path, stream, stored(broker, topic))
        eventually(lambda: health(running)["connected"])
        assert running.items("/v1/sources")[0]["gaps"] == []
        ends = running.log_lines(Event.ROCKETMQ_PROCESS_ENDED)
        assert [line["exit_code"] for line in ends] == [-9, -6, -11, -9]
        assert "SIGABRT" in ends[1]["reason"] and ends[1]["owner"] == "mq"
        assert running.terminate() == 0
    assert "Traceback" not in running.log_text()


@pytest.mark.long
def test_a_client_that_cannot_live_is_started_again_ever_more_slowly_and_the_source_says_so(
    tmp_path: Path, publisher: Publisher, source: Callable[..., dict[str, object]], topic: str, broker: Broker
) -> None:
    broker.topic(topic)
    with service(tmp_path, sources=[source()]) as running:
        running.start()
        for _ in range(3):
            kill_child(running, signal.SIGABRT)
        said = eventually(lambda: health(running), lambda found: "SIGABRT" in found["detail"])
        assert not said["connected"] and "it is started again" in said["detail"]
        assert running.readiness()[0] == 503
        publisher.send(connects("after"))
        eventually(lambda: "after" in clients(running))
        eventually(lambda: health(running)["connected"])


def test_a_client_that_hangs_does_not_keep_the_engine_from_stopping_and_dies_with_it(
    tmp_path: Path, source: Callable[..., dict[str, object]], topic: str, broker: Broker
) -> None:
    broker.topic(topic)
    with service(tmp_path, sources=[source()]) as running:
        for end in (running.terminate, running.kill):
            running.start()
            eventually(lambda: health(running)["caught_up_to"])
            (child,) = children(running.pid)
            os.kill(child, signal.SIGSTOP)
            end()
            eventually(partial(_has_ended, child))


def _has_published_more(stream: Stream, than: int) -> bool:
    return len(stream.published) > than or not stream.is_alive()


def _has_ended(pid: int) -> bool:
    """Whether a process is gone, or only its exit code is left."""
    try:
        return " Z " in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


# Names that do not resolve


def test_a_name_server_without_an_address_is_told_and_the_others_are_used(
    tmp_path: Path, publisher: Publisher, source: Callable[..., dict[str, object]], topic: str, broker: Broker
) -> None:
    broker.topic(topic)
    publisher.send(connects("a"))
    servers = ["no-such-host.invalid:9876", broker.address]
    with service(tmp_path, sources=[source(name_servers=servers)]) as running:
        running.start()
        eventually(lambda: "a" in clients(running))
        said = health(running)
        assert said["connected"] and "cannot resolve no-such-host.invalid" in said["detail"]
        assert running.log_lines(Event.ROCKETMQ_NAME_UNRESOLVED)


@pytest.mark.parametrize("more", [
    {"name_servers": ["no-such-host.invalid:9876"]},
    {"name_servers": ["no-such-host.invalid:9876", "nor-this-one.invalid:9876"]},
    {"name_servers": None, "name_server_domain": "http://no-such-host.invalid/rocketmq/nsaddr"},
])  # fmt: skip
def test_without_any_address_the_source_is_disconnected_and_the_others_go_on(
    tmp_path: Path, rocketmq: None, more: dict[str, Any]
) -> None:
    told: dict[str, Any] = {"name": "mq", "type": "rocketmq", "consumer_group": "GID_x", "topics": ["T"]} | more
    told = {key: value for key, value in told.items() if value is not None}
    with service(tmp_path, sources=[told, {"name": "push", "type": "http"}]) as running:
        running.start()
        said = eventually(lambda: health(running), lambda found: not found["connected"])
        eventually(lambda: health(running)["detail"], lambda detail: "no-such-host.invalid" in detail)
        running.tell(event("G@@@a", "connect", "1"))
        eventually(lambda: running.statuses() == {"G@@@a": "online"})
        assert said["name"] == "mq" and running.terminate() == 0


def test_publishing_to_a_name_without_an_address_fails_in_words(rocketmq: None) -> None:
    publisher = Publisher("no-such-host.invalid:9876", "T")
    try:
        with pytest.raises(CannotPublish, match=r"cannot resolve no-such-host\.invalid"):
            publisher.send([("connect", b"{}")])
    finally:
        publisher.close()


def test_what_the_client_prints_is_in_the_log_of_the_engine(tmp_path: Path, rocketmq: None) -> None:
    shadow = tmp_path / "shadow" / "rocketmq"
    shadow.mkdir(parents=True)
    (shadow / "__init__.py").touch()
    # It loads where it is asked whether it does, and ends the process that uses it.
    (shadow / "ffi.py").write_text(
        "import os, sys\nclass dll: CreatePullConsumer = _name = None\n"
        "print('terminate called', file=sys.stderr)\nprint('  what():  the sky fell', file=sys.stderr, flush=True)\n"
        "if '--probe' in sys.argv: os._exit(0)\nos.abort()\n"
    )
    told = {"name": "mq", "type": "rocketmq", "consumer_group": "GID_x", "topics": ["T"]}
    told |= {"name_servers": [f"127.0.0.1:{free_port()}"]}
    with service(tmp_path, sources=[told, {"name": "push", "type": "http"}]) as running:
        running.start(PYTHONPATH=str(shadow.parent))
        said = eventually(lambda: health(running)["detail"], lambda detail: "SIGABRT" in detail)
        assert "was ended by SIGABRT (the sky fell)" in said
        assert "terminate called" in [line["message"] for line in running.log_lines(Event.ROCKETMQ_PROCESS_OUTPUT)]
        running.tell(event("G@@@a", "connect", "1"))
        eventually(lambda: running.statuses() == {"G@@@a": "online"})
