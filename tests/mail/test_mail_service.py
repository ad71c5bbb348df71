"""E-mails as their readers meet them: the service as a process, a real SMTP server, and what happens when either dies."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.service import Answer, Service, event, eventually, offline_rule, service, sink
from tests.mail.post_office import DROP, PostOffice, certificate_for, post_office

PASSWORD = "correct horse"
INSTANT = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"
CLIENTS = [f"G@@@d{number}" for number in range(8)]


def smtp(office: PostOffice, **more: Any) -> dict[str, Any]:
    told = {"host": "127.0.0.1", "port": office.port, "from": "Rollcall <rollcall@example.com>", "starttls": False}
    return told | more


def mail_rule(name: str = "gone", recovery: bool = True, **email: Any) -> dict[str, Any]:
    told = {"to": "ops@example.com", **email}
    rule: dict[str, Any] = {"name": name, "trigger": "offline", "flapping": "fire", "actions": [{"email": told}]}
    return rule | ({"on_recovery": [{"email": told}]} if recovery else {})


def settle(running: Service, clients: list[str], status: str) -> None:
    eventually(running.statuses, lambda found: all(found.get(client) == status for client in clients))


def go(running: Service, clients: list[str], turn: int = 1) -> None:
    """Connect, and be gone."""
    running.tell(*(event(client, "connect", f"c{turn}") for client in clients))
    settle(running, clients, "online")
    running.tell(*(event(client, "tcpclean", f"c{turn}") for client in clients))
    settle(running, clients, "offline")


def come_back(running: Service, clients: list[str], turn: int = 2) -> None:
    running.tell(*(event(client, "connect", f"c{turn}") for client in clients))
    settle(running, clients, "online")


def wait_sent(running: Service) -> None:
    eventually(lambda: running.items("/v1/deliveries", state="due"), lambda found: not found)


def rows(running: Service, **wanted: Any) -> list[dict[str, Any]]:
    return [row for row in running.items("/v1/deliveries") if wanted.items() <= row.items()]


def test_a_firing_and_its_recovery_are_one_thread(tmp_path: Path) -> None:
    both, ca = certificate_for(tmp_path)
    with post_office("starttls", both, rollcall=PASSWORD) as office:
        config = smtp(office, starttls=True, ca=str(ca), username="rollcall", password={"env": "MAIL_PASSWORD"})
        with service(tmp_path, smtp=config) as running:
            running.rules(mail_rule(cc=["boss@example.com"]))
            running.start(MAIL_PASSWORD=PASSWORD)
            go(running, CLIENTS[:1])
            come_back(running, CLIENTS[:1])
            firing, recovery = eventually(office.taken, lambda found: len(found) == 2)
            wait_sent(running)
            stored = [running.get(f"/v1/deliveries/{row['id']}") for row in reversed(rows(running))]
            assert PASSWORD not in json.dumps(stored) + running.log_text()
    assert (firing.encrypted, firing.login) == (True, "rollcall")
    assert firing.recipients == ("ops@example.com", "boss@example.com")
    assert re.fullmatch(rf"\[warning\] gone: d0 is offline since {INSTANT}", firing.header("Subject"))
    lasted = rf"\[resolved\] gone: d0 is online again; the alert lasted .+, from {INSTANT}"
    assert re.fullmatch(lasted, recovery.header("Subject"))
    assert recovery.header("In-Reply-To") == recovery.header("References") == firing.header("Message-ID")
    assert firing.message["In-Reply-To"] is None
    assert firing.header("Message-ID") == f"<{stored[0]['key']}@example.com>"
    assert firing.header("Auto-Submitted") == "auto-generated" and firing.header("X-Rollcall-Rule") == "gone"
    assert "G@@@d0 is offline." in firing.text() and "G@@@d0" in firing.text("html")
    assert [(row["action"], row["target"], row["state"]) for row in stored] == [
        ("email", f"smtp://127.0.0.1:{office.port}", "delivered")
    ] * 2
    assert stored[1]["request"]["in_reply_to"] == stored[0]["request"]["message_id"]


def test_killed_in_the_middle_of_a_message_it_is_the_same_message_again(tmp_path: Path) -> None:
    with post_office() as office, service(tmp_path, smtp=smtp(office)) as running:
        running.rules(mail_rule())
        running.start()
        office.manners.stall = threading.Event()
        go(running, CLIENTS)
        eventually(lambda: office.offered)  # the whole of one has come, and is not answered
        running.kill()
        office.manners.stall.set()
        office.manners.stall = None
        running.start()
        come_back(running, CLIENTS)
        wait_sent(running)
        keys = {row["key"] for row in rows(running, state="delivered")}
        assert len(keys) == 2 * len(CLIENTS)
        assert {letter.header("Message-ID").strip("<>").partition("@")[0] for letter in office.taken()} == keys
        bodies: dict[str, set[bytes]] = {}
        for letter in office.taken():
            bodies.setdefault(letter.header("Message-ID"), set()).add(letter.raw)
        assert {len(found) for found in bodies.values()} == {1}
        for client in CLIENTS:
            assert [
                phase_of(letter.header("Subject"))
                for letter in office.once()
                if told_of(letter.header("Subject")) == client
            ] == [
                "warning",
                "resolved",
            ]


def phase_of(subject: str) -> str:
    return subject[1 : subject.index("]")]


def told_of(subject: str) -> str:
    return f"G@@@{subject.split()[2]}"


def test_a_server_that_was_down_or_unwilling_hears_all_in_order(tmp_path: Path) -> None:
    with post_office() as office, service(tmp_path, smtp=smtp(office)) as running:
        running.rules(mail_rule())
        running.start()
        office.stop()
        go(running, CLIENTS)
        come_back(running, CLIENTS)
        eventually(lambda: running.metric("rollcall_delivery_retried"))
        refused: set[str] = set()

        def once_later_then_lost(letter: Any) -> str | None:
            number = letter.header("Message-ID")
            if number in refused or len(refused) == 3:  # more in a row, and it is left alone for ever longer
                return None
            refused.add(number)
            return DROP if len(refused) % 2 else "451 later"

        office.manners.to_message = once_later_then_lost
        office.start()
        wait_sent(running)
        for client in CLIENTS:
            heard = [
                phase_of(letter.header("Subject"))
                for letter in office.once()
                if told_of(letter.header("Subject")) == client
            ]
            assert heard == ["warning", "resolved"]


def test_a_refused_firing_is_dead_with_what_the_server_said_and_takes_its_recovery_along(tmp_path: Path) -> None:
    with post_office() as office, service(tmp_path, smtp=smtp(office)) as running:
        office.manners.to_recipient = lambda one: "550 5.1.1 no such user"
        running.rules(mail_rule())
        running.start()
        go(running, CLIENTS[:1])
        eventually(lambda: rows(running, state="dead"))
        office.manners.to_recipient = lambda one: None
        come_back(running, CLIENTS[:1])
        dead = eventually(lambda: rows(running, state="dead"), lambda found: len(found) == 2)
        assert [row["last_error"] for row in dead] == [
            "its firing was never delivered",
            "ops@example.com: 550 5.1.1 no such user",
        ]
        wait_sent(running)
        assert office.taken() == []


def test_one_refused_recipient_is_told_with_the_delivery(tmp_path: Path) -> None:
    with post_office() as office, service(tmp_path, smtp=smtp(office)) as running:
        office.manners.to_recipient = lambda one: "550 no such user" if one == "old@example.com" else None
        running.rules(mail_rule(to=["old@example.com", "ops@example.com"]))
        running.start()
        go(running, CLIENTS[:1])
        (row,) = eventually(lambda: rows(running, state="delivered"))
        assert row["last_error"] == "not to old@example.com: 550 no such user"
        assert [letter.recipients for letter in office.taken()] == [("ops@example.com",)]


def test_a_slow_mail_server_delays_no_webhook(tmp_path: Path) -> None:
    with post_office() as office, sink() as target, service(tmp_path, smtp=smtp(office)) as running:
        office.manners.stall = threading.Event()
        running.rules(mail_rule(name="mail"), offline_rule(target.url, name="hook"))
        running.start()
        go(running, CLIENTS)
        come_back(running, CLIENTS)
        # Not one e-mail is taken before every webhook is.
        eventually(target.first_seen, lambda found: len(found) == 2 * len(CLIENTS))
        assert office.taken() == [] and not rows(running, rule="mail", state="delivered")
        office.manners.stall.set()
        office.manners.stall = None
        wait_sent(running)
        assert len(office.once()) == 2 * len(CLIENTS)


def test_hostile_ids_reach_nobody_else_and_add_no_header(tmp_path: Path) -> None:
    hostile = [
        "G@@@x,evil@example.com",
        "G@@@<evil@example.com>",
        "G@@@x Bcc: evil@example.com",
        "evil@example.com@@@é水",
    ]
    with post_office() as office, service(tmp_path, smtp=smtp(office)) as running:
        running.rules(
            mail_rule(recovery=False, subject="{{ client.device }} {{ client.group }}", text="{{ client.id }}")
        )
        running.start()
        go(running, hostile)
        wait_sent(running)
        letters = office.taken()
        assert {letter.text() for letter in letters} == {f"{client}\n" for client in hostile}
        assert {letter.recipients for letter in letters} == {("ops@example.com",)}
        assert all(set(letter.message.keys()) == HEADERS for letter in letters)


HEADERS = {"From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "X-Rollcall-Rule", "MIME-Version",
           "Content-Type", "Content-Transfer-Encoding"}  # fmt: skip


@pytest.mark.parametrize("configured", [True, False])
def test_replay_and_check_show_what_would_be_sent(configured: bool, tmp_path: Path) -> None:
    more: Mapping[str, Any] = {"smtp": {"host": "mail.example.com", "from": "r@example.com"}} if configured else {}
    running = Service(tmp_path, **more)
    running.rules(mail_rule(html="<b>{{ client.id }}</b>"))
    lines = [
        event("G@@@d", "connect", "1", 1_000),
        event("G@@@d", "tcpclean", "1", 2_000),
        event("G@@@d", "connect", "2", 9_000),
    ]
    (tmp_path / "events.jsonl").write_text("\n".join(lines))
    firing, recovery = [line for line in running.printed("replay", "events.jsonl") if line["type"] == "delivery"]
    request = firing["request"]
    assert (firing["action"], request["to"], request["cc"]) == ("email", ["ops@example.com"], [])
    assert (
        request["subject"].startswith("[warning] gone: d is offline since 1970") and request["html"] == "<b>G@@@d</b>"
    )
    domain = "example.com" if configured else "localhost"
    assert request["message_id"] == f"<{firing['key']}@{domain}>" == recovery["request"]["in_reply_to"]
    assert "email: to ops@example.com: [warning] gone: d is offline" in running.command("replay", "events.jsonl").stdout
    checked = running.command("check")
    assert (checked.returncode == 0) is configured
    assert configured or "needs a mail server" in checked.stdout


def test_the_recovery_of_what_was_told_together_answers_its_last_list(tmp_path: Path) -> None:
    running = Service(tmp_path, smtp={"host": "mail.example.com", "from": "r@example.com"})
    running.rules(mail_rule() | {"throttle": {"max": 1, "per": "1m"}})
    clients = ["G@@@a", "G@@@b", "G@@@c"]
    told = [("connect", "1", 1_000), ("tcpclean", "1", 2_000), ("connect", "2", 2_100)]
    lines = [event(client, kind, channel, at_ms) for kind, channel, at_ms in told for client in clients]
    (tmp_path / "events.jsonl").write_text("\n".join(lines))
    sent = [line for line in running.printed("replay", "events.jsonl") if line["type"] == "delivery"]
    first, together = [line for line in sent if line["phase"] == "firing"]
    assert (
        together["clients"] == ["G@@@b", "G@@@c"]
        and together["request"]["subject"] == "[warning] gone: 2 clients are offline since 1970-01-01 00:33:20 UTC"
    )
    recoveries = [line for line in sent if line["phase"] == "recovery"]
    assert [(line["client"], line["request"]["in_reply_to"]) for line in recoveries] == [
        ("G@@@a", first["request"]["message_id"]),
        (None, together["request"]["message_id"]),
    ]


def test_who_was_refused_hears_of_no_end_though_others_at_the_same_server_were_told(tmp_path: Path) -> None:
    with post_office() as office, service(tmp_path, smtp=smtp(office)) as running:
        refused = "550 5.1.1 no such user"
        office.manners.to_recipient = lambda one: refused if one == "ann@example.com" else None
        both = [{"email": {"to": "ann@example.com"}}, {"email": {"to": "bob@example.com"}}]
        running.rules({"name": "gone", "trigger": "offline", "flapping": "fire", "actions": both, "on_recovery": both})
        running.start()
        go(running, CLIENTS[:1])
        eventually(lambda: rows(running, state="dead") and rows(running, state="delivered"))
        office.manners.to_recipient = lambda one: None
        come_back(running, CLIENTS[:1])
        eventually(lambda: rows(running), lambda found: len(found) == 4)
        wait_sent(running)
        assert [letter.recipients for letter in office.taken()] == [("bob@example.com",)] * 2
        assert {row["last_error"] for row in rows(running, state="dead")} == {
            f"ann@example.com: {refused}",
            "its firing was never delivered",
        }


def test_an_outage_is_told_and_ended_once_though_every_target_dies_in_the_middle(tmp_path: Path) -> None:
    """Mail server and webhook target are cut off with a message in hand, then the service is killed; all of them come back."""
    outage = {"by": ["group"], "at_least": 3, "within": "2s", "inhibit": True}
    with post_office() as office, sink() as target, service(tmp_path, smtp=smtp(office)) as running:
        hook = {"webhook": {"url": target.url, "json": {"down": "{{ alert.count }}", "state": "{{ alert.state }}"}}}
        actions = [{"email": {"to": "ops@example.com"}}, hook]
        running.rules(
            {"name": "site", "trigger": "outage", "outage": outage, "actions": actions, "on_recovery": actions},
            mail_rule(),
        )
        running.start()
        office.manners.stall = threading.Event()
        let_go = threading.Event()
        target.answer = lambda arrival: Answer(204, after=let_go)
        go(running, CLIENTS)
        eventually(lambda: office.offered and target.seen())  # both have all of it, and have not answered
        office.stop()
        target.stop()
        running.kill()
        office.manners.stall.set()
        let_go.set()
        office.manners.stall, target.answer = None, lambda arrival: Answer(204)
        running.start()
        come_back(running, CLIENTS)
        office.start()
        target.start()
        eventually(lambda: running.items("/v1/deliveries"), lambda found: len(found) >= 4)
        wait_sent(running)
        sent = {row["key"]: row for row in rows(running, rule="site")}
        assert {row["state"] for row in sent.values()} == {"delivered"}
        assert [arrival.body["state"] for arrival in target.first_seen()] == ["firing", "resolved"]
        assert {arrival.key for arrival in target.seen()} <= sent.keys()
        letters = [letter for letter in office.once() if letter.header("X-Rollcall-Rule") == "site"]
        assert [phase_of(letter.header("Subject")) for letter in letters] == ["warning", "resolved"]
        bodies: dict[str, set[str]] = {}
        for arrival in target.seen():
            bodies.setdefault(arrival.key, set()).add(json.dumps(arrival.body))
        assert {len(found) for found in bodies.values()} == {1}
