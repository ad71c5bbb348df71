"""The service with bad neighbours on every side: what is for a good one arrives, and what is for a bad one waits or is dead with a reason."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.service import event, eventually, offline_rule, service, sink, without_tracebacks
from tests.hostile.serving import running
from tests.mail.post_office import certificate_for

CLIENTS = [f"G@@@d{number}" for number in range(8)]
BAD = ["103-endless", "100-endless", "200-dripping", "500-bomb", "header-giant", "101-flooding", "head-dripping"]
HOSTILE_ID = "G@@@=?utf-8?q?=0D=0ABcc:_x=40y.z=0D=0A=0D=0A<h1>?="


@pytest.fixture
def receiver() -> Iterator[str]:
    with running("tests.hostile.receiver") as ports:
        yield f"http://127.0.0.1:{ports['receiver']}"


@pytest.fixture
def mail_server(tmp_path: Path) -> Iterator[dict[str, int]]:
    both, _ = certificate_for(tmp_path)
    with running("tests.hostile.mail_server", str(both)) as ports:
        yield ports


def go_offline(running_service: Any, clients: list[str]) -> None:
    running_service.tell(*(event(client, "connect", "c1") for client in clients))
    eventually(running_service.statuses, lambda found: all(found.get(client) == "online" for client in clients))
    running_service.tell(*(event(client, "tcpclean", "c1") for client in clients))


def test_a_good_receiver_hears_everything_while_others_answer_without_end(receiver: str, tmp_path: Path) -> None:
    with sink() as good, service(tmp_path) as made:
        bad = [
            offline_rule(f"{receiver}/{name}", name=f"bad-{number}", hook={"timeout": "2s"}, recovery=False)
            for number, name in enumerate(BAD)
        ]
        made.rules(offline_rule(good.url, recovery=False), *bad)
        made.start()
        go_offline(made, CLIENTS)
        eventually(lambda: {client for (client,) in good.told("client")}, lambda found: found == set(CLIENTS))

        def failed() -> dict[str, str]:
            rows = made.items("/v1/deliveries")
            return {
                row["rule"]: row["last_error"] or ""
                for row in rows
                if row["state"] != "delivered" and row["last_error"]
            }

        found = eventually(failed, lambda found: len(found) >= len(BAD) - 1)
        assert all(text.isprintable() and len(text) < 400 for text in found.values())
        rows = made.items("/v1/deliveries")
        assert {row["state"] for row in rows if row["rule"] == "gone"} == {"delivered"}
        # 2xx is delivered whatever its body does.
        eventually(
            lambda: [
                row["state"]
                for row in made.items("/v1/deliveries")
                if row["rule"] == f"bad-{BAD.index('200-dripping')}"
            ],
            lambda states: "delivered" in states,
        )
        assert made.readiness()[0] == 200 and without_tracebacks(made.log_text())


@pytest.mark.parametrize(
    ("name", "state", "words"),
    [
        ("550-bytes", "dead", r"no such user \x9b"),
        ("greets-in-gbk", "due", r"554 \xb7\xfe"),
        ("ehlo-endless", "due", ""),
        ("http", "due", "it is no mail server"),
    ],
)
def test_a_mail_server_that_says_anything_at_all_ends_nothing(
    mail_server: dict[str, int], name: str, state: str, words: str, tmp_path: Path
) -> None:
    smtp = {
        "host": "127.0.0.1",
        "port": mail_server[name],
        "from": "Rollcall <rollcall@example.com>",
        "starttls": False,
    }
    with sink() as good, service(tmp_path, smtp=smtp | {"timeout": "2s"}) as made:
        mail = {"name": "mail", "trigger": "offline", "actions": [{"email": {"to": "ops@example.com"}}]}
        made.rules(offline_rule(good.url, recovery=False), mail)
        made.start()
        go_offline(made, [*CLIENTS, HOSTILE_ID])
        eventually(lambda: {client for (client,) in good.told("client")}, lambda found: found == {*CLIENTS, HOSTILE_ID})

        def told() -> list[tuple[str, str]]:
            rows = [row for row in made.items("/v1/deliveries") if row["rule"] == "mail" and row["last_error"]]
            return [(row["state"], row["last_error"]) for row in rows]

        found = eventually(told)
        assert all(each == state and words in text for each, text in found)
        made.terminate()
        made.start()  # what is stored can be read again
        assert made.readiness()[0] == 200 and without_tracebacks(made.log_text())
