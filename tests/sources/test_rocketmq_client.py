"""The engine's side of the native client, with children that misbehave: each costs its own requests, and another is started."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.sources.rocketmq import client as client_module
from engine.sources.rocketmq.addresses import NameServers
from engine.sources.rocketmq.client import ClientGone, ClientProcess
from engine.sources.rocketmq.pipe import ClientSetup, ClusterAccess, ListRequest
from engine.telemetry import Event
from tests.acceptance.service import eventually
from tests.hostile.bad_server import BadServer, bad_server, closes, says
from tests.written_log import WrittenLog

SETUP = ClientSetup(ClusterAccess(group="g", name_servers="127.0.0.1:1"))
READS = "import sys, time\nsys.stdin.buffer.read(4)\n"


@contextmanager
def child(monkeypatch: pytest.MonkeyPatch, program: str, **limits: float) -> Iterator[ClientProcess]:
    """A client whose process runs another program."""
    monkeypatch.setattr(client_module, "_command", lambda: [sys.executable, "-c", program])
    for name, value in limits.items():
        monkeypatch.setattr(client_module, name, value)
    made = ClientProcess(SETUP, "mq")
    made.begin()
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (READS + "sys.exit(3)", "ended by itself (exit code 3)"),
        (READS + "import os; os.abort()", "was ended by SIGABRT"),
        (READS + "print('the sky fell', file=sys.stderr, flush=True); import os; os._exit(1)", "(the sky fell)"),
        (READS + "sys.stdout.buffer.write(b'\\xff' * 100); sys.stdout.flush(); time.sleep(60)", "it sent invalid data"),
        (
            READS + "sys.stdout.buffer.write(b'\\0\\0\\0\\1\\xc1'); sys.stdout.flush(); time.sleep(60)",
            "it sent invalid data",
        ),
        ("import time; time.sleep(60)", "it said nothing for"),
    ],
)
def test_a_child_that_misbehaves_is_ended_told_and_started_again(
    program: str, words: str, monkeypatch: pytest.MonkeyPatch, log: WrittenLog
) -> None:
    silent_s = 0.3 if "said nothing" in words else 60.0  # a busy machine may take a while to start a child
    with child(monkeypatch, program, SILENT_S=silent_s, POLL_MS=50) as client:
        eventually(lambda: client.restarts, lambda restarts: restarts >= 2)
        assert words in client.trouble and client.trouble.isprintable()
        with pytest.raises(ClientGone):
            client.ask(ListRequest(0, "T"))
    assert any(words in line["reason"] for line in log.lines(Event.ROCKETMQ_PROCESS_ENDED))


def test_a_request_that_is_never_answered_ends_the_child(monkeypatch: pytest.MonkeyPatch, log: WrittenLog) -> None:
    with child(monkeypatch, "import time; time.sleep(60)") as client:
        eventually(lambda: client.pid)
        with pytest.raises(ClientGone, match="does not answer"):
            client.ask(ListRequest(0, "T"), 0.2)
        eventually(lambda: client.restarts)
        assert "did not answer" in client.trouble


def test_what_floods_the_log_of_a_child_is_cut(monkeypatch: pytest.MonkeyPatch, log: WrittenLog) -> None:
    program = (
        READS
        + "print('x' * 100_000, file=sys.stderr)\nfor n in range(9_999): print(n, file=sys.stderr)\nsys.stderr.flush(); sys.exit(1)"
    )
    with child(monkeypatch, program) as client:
        eventually(lambda: client.restarts)
    said = log.lines(Event.ROCKETMQ_PROCESS_OUTPUT)
    assert said and len(said) <= client_module.MAX_OUTPUT_LINES * (client.restarts + 1)
    assert max(len(line["message"]) for line in said) <= client_module.MAX_LINE_BYTES


def test_without_a_program_to_start_it_is_told_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: WrittenLog
) -> None:
    monkeypatch.setattr(client_module, "_command", lambda: [str(tmp_path / "missing")])
    client = ClientProcess(SETUP, "mq")
    client.begin()
    try:
        eventually(lambda: "cannot be started" in client.trouble)
        eventually(lambda: len(log.lines(Event.ROCKETMQ_PROCESS_UNSTARTABLE)), lambda lines: lines >= 2)
    finally:
        client.close()


def test_closing_ends_a_child_that_ignores_it_and_every_request(monkeypatch: pytest.MonkeyPatch) -> None:
    ignores = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    with child(monkeypatch, ignores) as client:
        pid = eventually(lambda: client.pid)
        answers: list[str] = []

        def ask() -> None:
            try:
                client.ask(ListRequest(0, "T"))
            except ClientGone as gone:
                answers.append(str(gone))

        asking = threading.Thread(target=ask)
        asking.start()
        client.close()
        asking.join(10)
        assert len(answers) == 1
    assert not Path(f"/proc/{pid}").exists()


# The names of name servers


def listing(text: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text) + text


def looked_up(server: BadServer) -> tuple[tuple[str, ...], str]:
    found = NameServers(ClusterAccess(group="g", name_server_domain=f"http://{server.address}/nsaddr")).look_up()
    return found.addresses, found.unresolved


def test_names_become_addresses_and_those_without_one_are_named() -> None:
    found = NameServers(
        ClusterAccess(group="g", name_servers="127.0.0.1:9876;no-such.invalid:1;localhost:9877;127.0.0.1:99999")
    ).look_up()
    assert found.addresses == ("127.0.0.1:9876", "127.0.0.1:9877")
    assert found.unresolved == "cannot resolve no-such.invalid, 127.0.0.1:99999"


@pytest.mark.parametrize(
    ("answer", "addresses", "words"),
    [
        (listing(b"127.0.0.1:9876; localhost:5\n"), ("127.0.0.1:9876", "127.0.0.1:5"), ""),
        (listing(b"\xff\xfe:9;a b:c"), (), "cannot resolve"),
        (listing(b" "), (), "lists no name server"),
        (listing(b"127.0.0.1:1;" * 5_000), (), "is longer than"),
        (b"HTTP/1.1 500 oh\x1b[2J\r\n\r\n", (), "HTTP Error 500"),
        (b"nonsense\r\n\r\n", (), "cannot read the list"),
    ],
)
def test_a_list_of_name_servers_is_read_within_bounds(answer: bytes, addresses: tuple[str, ...], words: str) -> None:
    with bad_server(says(answer)) as server:
        found, unresolved = looked_up(server)
        assert found == addresses and words in unresolved and unresolved.isprintable()


def test_a_server_of_the_list_that_closes_is_told() -> None:
    with bad_server(closes) as server:
        assert "cannot read the list of name servers" in looked_up(server)[1]
