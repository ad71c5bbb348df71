"""Targets that are down, busy, slow or unwilling: what is sent, in which order, and what is given up."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

from tests.acceptance.service import Answer, Service, Sink, answers, event, eventually, offline_rule, service, sink

CLIENTS = [f"G@@@d{number}" for number in range(10)]


def go_and_return(running: Service, clients: list[str], turns: int = 1) -> None:
    """Each client connects, goes offline and is back again, `turns` times over."""
    for turn in range(turns):
        running.tell(*(event(client, "connect", f"c{turn}") for client in clients))
        settle(running, clients, "online")
        running.tell(*(event(client, "tcpclean", f"c{turn}") for client in clients))
        settle(running, clients, "offline")
    running.tell(*(event(client, "connect", "last") for client in clients))
    settle(running, clients, "online")


def settle(running: Service, clients: list[str], status: str) -> None:
    eventually(running.statuses, lambda found: all(found.get(client) == status for client in clients))


def wait_sent(running: Service) -> None:
    """Until nothing is due any more."""
    eventually(lambda: running.items("/v1/deliveries", state="due"), lambda found: not found)


def phases(target: Sink, client: str) -> list[str]:
    """What a target heard of a client, repetitions left out."""
    return [phase for about, phase in target.told("client", "phase") if about == client]


def delivery(running: Service, **wanted: Any) -> dict[str, Any]:
    """The one delivery of which this is true."""
    rows = [row for row in running.items("/v1/deliveries") if wanted.items() <= row.items()]
    assert len(rows) == 1, rows
    return rows[0]


def test_a_target_that_was_down_hears_all_in_order_when_it_is_back(tmp_path: Path) -> None:
    with sink() as target, service(tmp_path) as running:
        running.rules(offline_rule(target.url))
        running.start()
        target.stop()
        go_and_return(running, CLIENTS, turns=2)
        eventually(lambda: running.metric("rollcall_delivery_retried"))
        target.start()
        wait_sent(running)
        for client in CLIENTS:
            assert phases(target, client) == ["firing", "recovery"] * 2


def test_what_failed_is_sent_again_with_the_same_key_and_bytes(tmp_path: Path) -> None:
    with sink() as target, service(tmp_path) as running:
        target.answer = answers(500, 503, 204)
        running.rules(offline_rule(target.url))
        running.start()
        go_and_return(running, CLIENTS[:2])
        wait_sent(running)
        for key in {arrival.key for arrival in target.seen()}:
            attempts = [str(arrival.body) for arrival in target.seen() if arrival.key == key]
            assert len(attempts) == 3 and len(set(attempts)) == 1
        for client in CLIENTS[:2]:
            assert phases(target, client) == ["firing", "recovery"]
        assert {(row["state"], row["attempts"]) for row in running.items("/v1/deliveries")} == {("delivered", 3)}


def test_a_busy_target_is_left_alone_as_long_as_it_asks(tmp_path: Path) -> None:
    with sink() as target, service(tmp_path) as running:
        target.answer = answers(Answer(429, {"Retry-After": "3"}), 204)
        running.rules(offline_rule(target.url, recovery=False))
        running.start()
        go_and_return(running, CLIENTS[:1])
        wait_sent(running)
        first, second = target.seen()
        assert first.key == second.key and second.at_s - first.at_s >= 3


def test_a_target_that_hangs_is_asked_again_and_delays_no_other(tmp_path: Path) -> None:
    with sink() as slow, sink() as quick, service(tmp_path) as running:
        let_go = threading.Event()
        slow.answer = answers(Answer(204, after=let_go))
        running.rules(
            offline_rule(slow.url, name="slow", hook={"timeout": "500ms"}), offline_rule(quick.url, name="quick")
        )
        running.start()
        go_and_return(running, CLIENTS, turns=3)
        # The slow one has not answered anything, and does not before the quick one has heard everything.
        eventually(quick.first_seen, lambda found: len(found) == len(CLIENTS) * 6)
        wanted = {"rule": "slow", "state": "delivered"}
        assert not [row for row in running.items("/v1/deliveries") if wanted.items() <= row.items()]
        eventually(lambda: "no answer within 500 ms" in str(running.items("/v1/deliveries", rule="slow")))
        let_go.set()
        wait_sent(running)
        for client in CLIENTS:
            assert phases(slow, client) == phases(quick, client) == ["firing", "recovery"] * 3


def test_a_refused_firing_is_dead_and_takes_its_recovery_along(tmp_path: Path) -> None:
    with sink() as target, service(tmp_path) as running:
        target.answer = answers(400)
        running.rules(offline_rule(target.url))
        running.start()
        client = CLIENTS[0]
        running.tell(event(client, "connect", "1"))
        running.tell(event(client, "tcpclean", "1"))
        eventually(lambda: running.items("/v1/deliveries", state="dead"))
        running.tell(event(client, "connect", "2"))
        dead = eventually(lambda: running.items("/v1/deliveries", state="dead"), lambda found: len(found) == 2)
        assert [row["last_error"] for row in dead] == ["its firing was never delivered", "HTTP 400"]
        wait_sent(running)
        assert phases(target, client) == ["firing"]


def test_the_recovery_of_a_dead_firing_that_may_have_arrived_is_sent(tmp_path: Path) -> None:
    with sink() as target, service(tmp_path) as running:
        target.answer = lambda arrival: answer(arrival) if arrival.body["phase"] == "firing" else Answer(204)
        answer = answers(Answer(204, after=threading.Event()), 400)
        running.rules(offline_rule(target.url, hook={"timeout": "500ms"}))
        running.start()
        client = CLIENTS[0]
        running.tell(event(client, "connect", "1"))
        running.tell(event(client, "tcpclean", "1"))
        eventually(lambda: running.items("/v1/deliveries", state="dead"))
        running.tell(event(client, "connect", "2"))
        eventually(lambda: phases(target, client), lambda found: found == ["firing", "recovery"])
        eventually(lambda: running.items("/v1/deliveries", state="delivered"))


def test_a_redirect_is_never_followed(tmp_path: Path) -> None:
    with sink() as target, sink() as elsewhere, service(tmp_path) as running:
        target.answer = lambda arrival: Answer(307, {"Location": elsewhere.url})
        running.rules(offline_rule(target.url, recovery=False))
        running.start()
        go_and_return(running, CLIENTS[:1])
        dead = eventually(lambda: running.items("/v1/deliveries", state="dead"))
        assert [row["last_error"] for row in dead] == ["HTTP 307: redirects are not followed"]
        assert len(target.seen()) == 1 and elsewhere.seen() == []


def test_a_failing_target_is_probed_and_not_stormed(tmp_path: Path) -> None:
    """Hundreds are due; until the target is well it sees a burst and then single probes."""
    with sink() as target, service(tmp_path) as running:
        target.answer = answers(500)
        running.rules(offline_rule(target.url, recovery=False))
        running.start()
        clients = [f"G@@@d{number}" for number in range(300)]
        go_and_return(running, clients)
        eventually(target.seen, lambda found: found and found[-1].at_s - found[0].at_s > 2)  # some probes
        assert len(target.seen()) < len(clients) // 4
        target.answer = answers(204)
        wait_sent(running)
        assert {client for (client,) in target.told("client")} == set(clients)


def test_a_restart_while_a_target_is_down_loses_no_delivery(tmp_path: Path) -> None:
    with sink() as target, service(tmp_path) as running:
        running.rules(offline_rule(target.url))
        target.stop()
        running.start()
        go_and_return(running, CLIENTS)
        due = running.items("/v1/deliveries", state="due")
        assert len(due) == 2 * len(CLIENTS)
        running.kill()
        target.start()
        running.start()
        wait_sent(running)
        assert {arrival.key for arrival in target.seen()} == {row["key"] for row in due}
        for client in CLIENTS:
            assert phases(target, client) == ["firing", "recovery"]


def test_a_sending_process_that_dies_is_replaced_and_what_it_had_in_hand_is_sent_again(tmp_path: Path) -> None:
    with sink() as target, service(tmp_path) as running:
        let_go = threading.Event()
        target.answer = answers(Answer(204, after=let_go), 204)
        running.rules(offline_rule(target.url))
        process = running.start()
        go_and_return(running, CLIENTS)
        eventually(target.first_seen, lambda found: len(found) == len(CLIENTS))
        for _ in range(2):
            (child,) = eventually(lambda: children(running.pid), lambda found: len(found) == 1)
            os.kill(child, signal.SIGKILL)
            eventually(lambda: children(running.pid), lambda found: found and child not in found)  # noqa: B023
        let_go.set()
        wait_sent(running)
        assert process.poll() is None
        for client in CLIENTS:
            assert phases(target, client) == ["firing", "recovery"]
    assert "Traceback" not in running.log_text()


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
