"""What one delivery holds, or one answer says, costs that delivery alone, also after a restart."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.service import Service, answers, event, eventually, offline_rule, service, sink


def gone(running: Service, client: str) -> None:
    running.tell(event(client, "connect", "1"))
    running.tell(event(client, "tcpclean", "1"))


def by_client(running: Service) -> dict[str, dict[str, Any]]:
    return {row["client"]: row for row in running.items("/v1/deliveries")}


@pytest.mark.parametrize("number", ["18446744073709551616", "-9223372036854775809", ".inf", "-.inf", ".nan"])
def test_a_number_that_json_cannot_hold_is_a_problem_of_its_file_and_line(number: str, tmp_path: Path) -> None:
    with service(tmp_path) as running:
        (tmp_path / "rules" / "rules.yaml").write_text(
            "version: 1\nrules:\n  - name: gone\n    trigger: offline\n    actions:\n      - webhook:\n"
            f"          url: http://127.0.0.1:9/\n          json:\n            deep: [1, {{n: {number}}}]\n"
        )
        done = running.command("check")
        assert done.returncode == 1 and "rules.yaml:9:" in done.stdout


DAMAGES = {
    "a number of more than 64 bits": '{"url": "URL", "json": {"n": 18446744073709551616}}',
    "no number of JSON": '{"url": "URL", "json": {"n": 1e999}}',
    "no JSON": '{"url": "URL", "json"',
    "no mapping": "[1, 2]",
    "half a character": b'{"url": "URL", "json": "\xff\xfe"}',
    "a blob": sqlite3.Binary(b'{"url": "URL"}'),
    "headers that are no mapping": '{"url": "URL", "headers": [1]}',
}


def test_stored_deliveries_that_cannot_be_read_or_sent_stop_no_other(tmp_path: Path) -> None:
    damaged = {f"G@@@old-{number}": request for number, request in enumerate(DAMAGES.values())}
    with sink() as target, service(tmp_path) as running:
        target.answer = answers(503)
        running.rules(offline_rule(target.url, recovery=False))
        running.start()
        for client in damaged:
            gone(running, client)
        eventually(
            lambda: by_client(running), lambda rows: all(rows.get(client, {}).get("attempts") for client in damaged)
        )
        assert running.terminate() == 0
        with closing(sqlite3.connect(tmp_path / "data" / "rollcall.sqlite3")) as database, database:
            for client, request in damaged.items():
                value = "CAST(? AS TEXT)" if isinstance(request, bytes) else "?"
                database.execute(
                    f"UPDATE deliveries SET request = {value}, due_at = 0 WHERE client = ?",
                    (request, client),
                )
        target.answer = answers(204)
        running.start()
        gone(running, "G@@@new")
        rows = eventually(
            lambda: by_client(running),
            lambda rows: (
                rows.get("G@@@new", {}).get("state") == "delivered"
                and all(rows[client]["attempts"] > 1 for client in damaged)
            ),
        )
        for client in damaged:
            assert rows[client]["state"] in ("dead", "due") and rows[client]["last_error"], client
            assert running.get(f"/v1/deliveries/{rows[client]['id']}")["kept_attempts"]
        assert running.readiness()[0] == 200
        assert running.terminate() == 0


@contextmanager
def mail_server(greeting: bytes, refusal: bytes) -> Iterator[int]:
    """An SMTP server that says these bytes: as its greeting, and to every recipient."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve(line: socket.socket) -> None:
        with line, suppress(OSError), line.makefile("rb") as commands:
            line.sendall(greeting + b"\r\n")
            for command in commands:
                word = command[:4].upper()
                line.sendall((refusal if word == b"RCPT" else b"250 ok") + b"\r\n")

    def accept() -> None:
        with suppress(OSError):
            while True:
                line, _ = listening.accept()
                threading.Thread(target=serve, args=(line,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listening.getsockname()[1]
    listening.close()


@pytest.mark.parametrize(
    ("greeting", "refusal"),
    [
        (b"220 hello", b"550 no such user \x9b"),
        (b"554 \xd3\xca\xbc\xfe\xb7\xfe\xce\xf1\xc6\xf7", b"250 ok"),
        (b"220 hi", b"550 " + b"\xed\xa0\x80"),
    ],
)
def test_what_a_mail_server_says_in_any_bytes_is_kept_as_text(greeting: bytes, refusal: bytes, tmp_path: Path) -> None:
    with mail_server(greeting, refusal) as port, sink() as target:
        smtp = {"host": "127.0.0.1", "port": port, "starttls": False, "from": "rollcall@example.com"}
        with service(tmp_path, smtp=smtp) as running:
            email = {"email": {"to": ["ops@example.com"]}}
            running.rules(
                {"name": "mail", "trigger": "offline", "actions": [email]}, offline_rule(target.url, recovery=False)
            )
            process = running.start()
            for client in ("G@@@a", "G@@@b"):
                gone(running, client)
            eventually(lambda: target.told("client"), lambda found: sorted(found) == [("G@@@a",), ("G@@@b",)])
            mails = eventually(
                lambda: running.items("/v1/deliveries", rule="mail"),
                lambda rows: len(rows) == 2 and all(row["last_error"] for row in rows),
            )
            assert all(row["last_error"].isprintable() for row in mails)
            assert process.poll() is None and running.readiness()[0] == 200
            assert running.terminate() == 0
            running.start()
            assert running.terminate() == 0


def test_the_heartbeat_stops_while_webhooks_cannot_be_sent_and_the_part_is_named(tmp_path: Path) -> None:
    with (
        sink() as target,
        sink() as outside,
        service(tmp_path, heartbeat={"url": outside.url, "every": "1s"}) as running,
    ):
        running.rules(offline_rule(target.url, recovery=False))
        running.start()
        eventually(outside.seen)

        def kill_child() -> str:
            children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
            for child in map(int, children):
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            return running.readiness()[1]

        eventually(kill_child, lambda text: "webhook process: " in text)
        eventually(
            lambda: (kill_child(), running.metric('rollcall_part_working{part="webhook process"}'))[1],
            lambda works: works == 0,
        )
        gone(running, "G@@@a")
        eventually(lambda: target.told("client"), lambda found: found == [("G@@@a",)])
        assert running.terminate() == 0
