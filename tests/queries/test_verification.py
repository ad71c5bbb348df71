"""Rules that verify before they page, and rules about queries, through the real service."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import requests

from engine.config.durations import parse_rfc3339
from tests.acceptance.service import Service, event, eventually, now_ms, offline_rule, sink, webhook
from tests.queries.serving import connect, querying
from tests.status.standin import StandIn

MANY = 10_000
WITHIN_MS = 5_000


def go(running: Service, *names: str) -> None:
    """The connections of these clients end, as far as events say."""
    for start in range(0, len(names), 1000):
        running.tell(*(event(name, "tcpclean", f"c-{name}") for name in names[start : start + 1000]))


def alerts(running: Service, **wanted: str) -> dict[str, tuple[str, str | None]]:
    """State and reason of each client's alert."""
    return {one["client"]: (one["state"], one["reason"]) for one in running.items("/v1/alerts", **wanted)}


def test_an_answer_that_agrees_pages_and_one_that_contradicts_is_a_false_alarm_avoided(tmp_path: Path) -> None:
    with StandIn() as broker, sink() as target, querying(tmp_path, broker) as running:
        running.rules(offline_rule(target.url, "sure", verify=True))
        running.start()
        connect(running, broker, "G@@@dark", "G@@@alive")
        broker.truth["G@@@dark"] = 0
        go(running, "G@@@dark", "G@@@alive")  # the reconnect of the second one was lost
        eventually(lambda: running.metric("rollcall_false_alarms_avoided"), lambda count: count == 1)
        assert eventually(lambda: target.told("client", "phase")) == [("G@@@dark", "firing")]
        eventually(lambda: running.statuses(), lambda found: found["G@@@alive"] == "online")
        assert target.told("client", "phase") == [("G@@@dark", "firing")]
        assert running.items("/v1/alerts", client="G@@@alive")[0]["state"] != "firing"


def test_when_the_query_is_down_send_pages_marked_and_hold_waits_for_an_answer(tmp_path: Path) -> None:
    with StandIn() as broker, sink() as target, querying(tmp_path, broker, {"unknown_retries": 0}) as running:
        hook: dict[str, Any] = {"json": {"rule": "{{ rule.name }}", "unverified": "{{ alert.unverified }}"}}
        running.rules(
            offline_rule(target.url, "sends", recovery=False, hook=hook, verify=True, verify_within="2s"),
            offline_rule(
                target.url, "holds", recovery=False, hook=hook, verify=True, verify_within="2s", verify_failure="hold"
            ),
        )
        running.start()
        connect(running, broker, "G@@@a", truth=0)
        broker.rates = {"error": 1.0}
        go(running, "G@@@a")
        eventually(lambda: alerts(running, rule="holds"), lambda found: found == {"G@@@a": ("suppressed", "verify")})
        assert eventually(lambda: target.told("rule", "unverified")) == [("sends", "True")]
        broker.rates = {}
        told = eventually(lambda: target.told("rule", "unverified"), lambda told: len(told) == 2)
        assert told[1] == ("holds", "False")


def test_an_alert_that_waits_for_its_answer_waits_on_after_a_kill(tmp_path: Path) -> None:
    with StandIn(rates={"hang": 1.0}) as broker, sink() as target, querying(tmp_path, broker) as running:
        running.rules(offline_rule(target.url, "sure", recovery=False, verify=True, verify_within="2m"))
        running.start()
        connect(running, broker, "G@@@dark", "G@@@alive")
        broker.truth["G@@@dark"] = 0
        go(running, "G@@@dark", "G@@@alive")
        eventually(lambda: set(broker.asked()), lambda asked: asked == {"G@@@dark", "G@@@alive"})
        running.kill()
        broker.rates = {}
        running.start()
        assert eventually(lambda: target.told("client")) == [("G@@@dark",)]
        eventually(lambda: running.statuses(), lambda found: found["G@@@alive"] == "online")
        assert target.told("client") == [("G@@@dark",)]


def test_an_answer_older_than_the_newest_event_is_stale_and_queried_again_before_paging(tmp_path: Path) -> None:
    with StandIn(latency_s=0.5) as broker, sink() as target, querying(tmp_path, broker) as running:
        running.rules(offline_rule(target.url, "sure", recovery=False, verify=True))
        running.start()
        connect(running, broker, "G@@@a", truth=0)
        go(running, "G@@@a")
        eventually(lambda: broker.asked())
        running.tell(event("G@@@a", "disconnect", "c-G@@@a"))  # news, while the question is on its way
        assert eventually(lambda: target.told("client", "phase")) == [("G@@@a", "firing")]
        assert len(broker.asked()) >= 2
        assert running.metric("rollcall_stale_answers") >= 1


def test_ten_thousand_verifications_at_once_share_the_budget_and_no_page_waits_longer_than_verify_within(
    tmp_path: Path,
) -> None:
    names = [f"G@@@d{n:05}" for n in range(MANY)]
    log = {"log": {"message": "{{ client.id }} {{ alert.unverified }}"}}
    with (
        StandIn() as broker,
        querying(tmp_path, broker, deliveries={"burst": 100_000}, debounce={"offline": "1s"}) as running,
    ):
        running.rules(
            {"name": "sure", "trigger": "offline", "verify": True, "verify_within": f"{WITHIN_MS}ms", "actions": [log]}
        )
        running.start()
        connect(running, broker, *names, truth=0)
        go(running, *names)
        eventually(lambda: running.metric("rollcall_delivery_delivered"), lambda count: count == MANY)
        with closing(sqlite3.connect(running.folder / "data" / "rollcall.sqlite3")) as store:
            rows = store.execute("SELECT request, decided_at FROM deliveries").fetchall()
        decided = {}
        told: dict[str, bool] = {}
        for request, decided_at in rows:
            client, unverified = json.loads(request)["message"].split()
            decided[client], told[client] = decided_at, unverified == "True"
        settled = {one["client"]: parse_rfc3339(one["settled_at"]) for one in running.items("/v1/clients")}
        assert max(decided[name] - settled[name] for name in names) <= WITHIN_MS + 1_000
        assert 0 < sum(told.values()) < MANY  # some were asked in time, and no more than the budget allows
        assert MANY - sum(told.values()) <= 300 * (WITHIN_MS / 1000 + 2)
        assert broker.most_in_a_second() <= 300


def test_unverified_clients_and_clients_never_seen_are_alerts_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "inventory.csv").write_text("client,site\nG@@@never,north\n")
    with (
        StandIn() as broker,
        sink() as target,
        querying(tmp_path, broker, {"unknown_retries": 0}, inventory="inventory.csv") as running,
    ):
        running.rules(
            {
                "name": "unsure",
                "trigger": "unverified",
                "actions": [webhook(target.url, "firing")],
                "on_recovery": [webhook(target.url, "recovery")],
            },
            {
                "name": "missing",
                "trigger": "never_seen",
                "actions": [webhook(target.url, "firing")],
                "on_recovery": [webhook(target.url, "recovery")],
            },
            offline_rule(target.url, "gone"),
        )
        running.start()
        connect(running, broker, "G@@@a")

        def verify(client: str) -> None:
            requests.get(f"{running.url}/v1/clients/{client}/status", {"verify": "true"}, timeout=10)

        broker.script.append("unknown")
        verify("G@@@a")
        expected = [("unsure", "G@@@a", "firing")]
        eventually(lambda: target.told("rule", "client", "phase"), lambda told: told == expected)
        verify("G@@@a")
        expected.append(("unsure", "G@@@a", "recovery"))
        eventually(lambda: target.told("rule", "client", "phase"), lambda told: told == expected)
        verify("G@@@never")
        expected.append(("missing", "G@@@never", "firing"))
        eventually(lambda: target.told("rule", "client", "phase"), lambda told: told == expected)
        running.tell(event("G@@@never", "connect", "first", now_ms()))
        expected.append(("missing", "G@@@never", "recovery"))
        eventually(lambda: target.told("rule", "client", "phase"), lambda told: told == expected)
