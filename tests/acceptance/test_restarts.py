"""What is under way when the power goes: holds, `for`s, throttles, backlogs and the trouble of feeds."""

from __future__ import annotations

import threading
import time
from datetime import datetime
from pathlib import Path

from tests.acceptance.service import Service, event, eventually, now_ms, offline_rule, service, sink, webhook

CLIENT = "G@@@a"
FOLLOWED = {"name": "log", "type": "file", "path": "events.jsonl", "follow": True}


def ms(instant: str) -> int:
    """An RFC 3339 instant in epoch milliseconds."""
    return round(datetime.fromisoformat(instant).timestamp() * 1000)


def let_pass(until_ms: int) -> None:
    """Let the clock reach an instant while nothing runs."""
    threading.Event().wait(max(0, until_ms - now_ms()) / 1000)


def wait_status(running: Service, status: str) -> None:
    eventually(running.statuses, lambda found: found.get(CLIENT) == status)


def test_a_hold_that_came_due_while_we_were_down_settles_once_after_the_grace(tmp_path: Path) -> None:
    with sink() as target, service(tmp_path, debounce={"offline": "2s", "online": "0s"}) as running:
        running.rules(offline_rule(target.url))
        running.start()
        running.tell(event(CLIENT, "connect", "1"))
        running.tell(event(CLIENT, "tcpclean", "1"))
        running.kill()
        since_ms = now_ms()
        let_pass(since_ms + 2100)
        started_ms = now_ms()
        running.start()
        assert running.statuses() == {CLIENT: "online"}  # devices get the time to say that they are back
        wait_status(running, "offline")
        eventually(target.seen)
        (client,) = running.items("/v1/clients")
        assert ms(client["since"]) <= since_ms and ms(client["settled_at"]) >= started_ms + 2000
        running.kill()
        running.start()
        running.tell(event(CLIENT, "connect", "2"))
        eventually(lambda: target.told("phase"), lambda found: found == [("firing",), ("recovery",)])


def test_a_device_that_reconnects_during_the_grace_pages_nobody(tmp_path: Path) -> None:
    with sink() as target, service(tmp_path, debounce={"offline": "4s", "online": "0s"}) as running:
        running.rules(offline_rule(target.url))
        running.start()
        running.tell(event(CLIENT, "connect", "1"), event("G@@@b", "connect", "1"))
        running.tell(event(CLIENT, "tcpclean", "1"), event("G@@@b", "tcpclean", "1"))
        running.kill()
        let_pass(now_ms() + 4100)
        running.start()
        running.tell(event(CLIENT, "connect", "2"))
        eventually(running.statuses, lambda found: found == {CLIENT: "online", "G@@@b": "offline"})
        eventually(lambda: target.told("client"), lambda found: found == [("G@@@b",)])


def test_a_pending_for_outlives_a_restart_and_fires_once_or_not_at_all(tmp_path: Path) -> None:
    with sink() as target, service(tmp_path) as running:
        running.rules(offline_rule(target.url, for_="10s"))
        running.start()
        running.tell(event(CLIENT, "connect", "1"), event("G@@@b", "connect", "1"))
        running.tell(event(CLIENT, "tcpclean", "1"), event("G@@@b", "tcpclean", "1"))
        eventually(lambda: running.items("/v1/alerts", state="pending"), lambda found: len(found) == 2)
        running.kill()
        running.start()
        running.tell(event("G@@@b", "connect", "2"))
        eventually(lambda: running.items("/v1/alerts", state="firing"), lambda found: len(found) == 1)
        eventually(lambda: target.told("client", "phase"), lambda found: found == [(CLIENT, "firing")])
        (client,) = [entry for entry in running.items("/v1/clients") if entry["client"] == CLIENT]
        (alert,) = running.items("/v1/alerts")
        assert alert["client"] == CLIENT
        running.kill()
        running.start()
        running.tell(event(CLIENT, "connect", "2"))
        eventually(lambda: target.told("phase"), lambda found: found == [("firing",), ("recovery",)])
        assert client["status"] == "offline"


def test_a_throttle_counts_on_after_a_restart(tmp_path: Path) -> None:
    with sink() as target, service(tmp_path) as running:
        running.rules(offline_rule(target.url, throttle={"max": 2, "per": "1h"}))
        clients = [f"G@@@d{number}" for number in range(4)]
        running.start()
        running.tell(*(event(client, "connect", "1") for client in clients))
        running.tell(event(clients[0], "tcpclean", "1"))
        eventually(target.first_seen, lambda found: len(found) == 1)
        running.kill()
        running.start()
        running.tell(event(clients[1], "tcpclean", "1"))
        eventually(target.first_seen, lambda found: len(found) == 2)
        running.kill()
        running.start()
        running.tell(*(event(client, "tcpclean", "1") for client in clients[2:]))
        held = eventually(lambda: running.items("/v1/alerts", state="suppressed"), lambda found: len(found) == 2)
        assert {alert["reason"] for alert in held} == {"throttle"}
        running.kill()
        running.start()
        running.tell(event(clients[2], "connect", "2"))  # suppressed: nobody hears of its end
        running.tell(event(clients[0], "connect", "2"))
        eventually(lambda: target.told("client", "phase"), lambda found: found[2:] == [(clients[0], "recovery")])
        left = [alert for alert in running.items("/v1/alerts") if alert["resolved_at"] is None]
        assert {(alert["client"], alert["state"]) for alert in left} == {
            (clients[1], "firing"),
            (clients[3], "suppressed"),
        }


def test_a_backlog_in_which_devices_reconnect_pages_nobody(tmp_path: Path) -> None:
    """They went offline before we went down; that they came back lies at the end of what waits to be read."""
    file = tmp_path / "events.jsonl"
    clients = [f"G@@@d{number}" for number in range(50)]
    with sink() as target, service(tmp_path, sources=[FOLLOWED], debounce={"offline": "2s", "online": "0s"}) as running:
        running.rules(offline_rule(target.url))
        file.write_text("".join(event(client, "connect", "1") + "\n" for client in clients))
        running.start()
        eventually(running.statuses, lambda found: len(found) == len(clients))
        with file.open("a") as out:
            out.write("".join(event(client, "tcpclean", "1") + "\n" for client in clients))
        observed = lambda: {entry["observed"] for entry in running.items("/v1/clients")}  # noqa: E731
        eventually(observed, lambda found: found == {"offline"})
        running.kill()
        with file.open("a") as out:
            for number in range(40_000):
                out.write(event(f"B@@@d{number % 500}", "connect", str(number), now_ms() - 3_600_000 + number) + "\n")
            out.write("".join(event(client, "connect", "2") + "\n" for client in clients[1:]))
        let_pass(now_ms() + 2100)
        running.start()
        # The one that did not come back is paged for: all the others would have been before it.
        eventually(lambda: target.told("client"), lambda found: (clients[0],) in found)
        assert target.told("client") == [(clients[0],)]
        assert running.statuses() == {f"B@@@d{number}": "online" for number in range(500)} | {
            client: "online" if client != clients[0] else "offline" for client in clients
        }


def test_the_alert_of_a_feed_that_is_well_after_a_restart_ends(tmp_path: Path) -> None:
    with sink() as target, service(tmp_path, sources=[FOLLOWED]) as running:
        feed = {"name": "feed", "trigger": "feed", "actions": [webhook(target.url, "firing", "feed")]}
        running.rules(feed | {"on_recovery": [webhook(target.url, "recovery", "feed")]})
        running.start(ready=False)  # the file is not there: not ready, and an alert
        eventually(lambda: target.told("source", "phase"), lambda found: found == [("log", "firing")])
        running.kill()
        (tmp_path / "events.jsonl").touch()
        running.start()
        eventually(
            lambda: target.told("source", "phase"), lambda found: found == [("log", "firing"), ("log", "recovery")]
        )
        assert running.items("/v1/alerts", state="firing") == []


def test_a_hold_that_waits_for_a_dead_feed_costs_next_to_nothing(tmp_path: Path) -> None:
    """For hours, perhaps: it is looked at now and then, not as often as the machine can."""
    push = {"name": "push", "type": "http"}
    with service(tmp_path, sources=[push, FOLLOWED]) as running:
        running.start(ready=False)
        eventually(running.readiness, lambda found: "does not exist" in found[1])
        running.tell(event(CLIENT, "connect", "1"))
        running.tell(event(CLIENT, "tcpclean", "1"))
        before, began_s = running.metric("rollcall_commits"), time.monotonic()
        for _ in range(100):
            assert running.statuses() == {CLIENT: "online"}
        commits, took_s = running.metric("rollcall_commits") - before, time.monotonic() - began_s
        assert commits <= 10 + 60 * took_s
        (tmp_path / "events.jsonl").touch()
        wait_status(running, "offline")
