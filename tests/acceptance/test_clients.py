"""How many clients there may be, and that who was forgotten stays forgotten, through the running service."""

from __future__ import annotations

from pathlib import Path

from tests.acceptance.service import event, eventually, now_ms, service, sink, webhook
from tests.acceptance.test_feeds import feed_rule
from tests.acceptance.test_reload import configure, hang_up


def test_a_redelivered_close_pages_for_nobody_who_was_forgotten_also_after_a_restart(tmp_path: Path) -> None:
    with sink() as target, service(tmp_path) as running:
        running.rules({"name": "dark", "trigger": "offline", "actions": [webhook(target.url, "firing")]})
        running.start()
        at_ms = now_ms()
        running.tell(event("G@@@p1", "connect", "a", at_ms - 5_000))
        assert running.command("clients", "forget", "G@@@p1").returncode == 0
        old = event("G@@@p1", "tcpclean", "a", at_ms - 4_000)
        running.tell(old)
        running.kill()
        running.start()
        running.tell(old, event("G@@@p2", "connect", "a"), event("G@@@p2", "tcpclean", "a"))
        eventually(lambda: target.told("client"), lambda found: found == [("G@@@p2",)])
        assert set(running.statuses()) == {"G@@@p2"}
        running.tell(event("G@@@p1", "connect", "b"))
        eventually(running.statuses, lambda found: found.get("G@@@p1") == "online")


def test_invented_ids_beyond_the_limit_are_quarantined_with_an_alert_and_known_clients_go_on(tmp_path: Path) -> None:
    inventory = tmp_path / "inventory.csv"
    inventory.write_text("client,site\nG@@@listed,north\n")
    config = {"clients": {"limit": 5}, "inventory": "inventory.csv"}
    with sink() as target, service(tmp_path, **config) as running:
        running.rules(feed_rule(target.url))
        running.start()
        running.tell(*[event(f"G@@@d{number}", "connect", "a") for number in range(20)])
        running.tell(event("G@@@d0", "tcpclean", "a"), event("G@@@listed", "connect", "a"))
        eventually(running.statuses, lambda found: found.get("G@@@d0") == "offline")
        assert set(running.statuses()) == {*(f"G@@@d{number}" for number in range(5)), "G@@@listed"}
        eventually(lambda: target.told("source", "phase"), lambda found: found == [("client limit", "firing")])
        (line,) = running.log_lines("clients.refused")
        assert line["trouble"].startswith("`clients.limit` is reached: 15 events of new clients")
        ready = running.get("/readyz")
        assert ready["ready"] and ready["degraded"] == [line["trouble"]]
        assert len(running.printed("quarantine", "list")) == 15
        assert running.metric("rollcall_clients_refused") == 15
        configure(running, clients={"limit": 50})
        hang_up(running)
        eventually(lambda: running.get("/readyz")["degraded"], lambda found: found == [])
        (accepted,) = running.printed("quarantine", "retry")
        assert accepted == {"accepted": 15, "rejected": 0}
        assert len(running.statuses()) == 21
