"""A broker failover: everyone drops, nearly everyone returns. It is one incident, also when the service dies in the middle."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.service import Service, Sink, event, eventually, service, sink

CLIENTS = [f"G{number % 5}@@@d{number}" for number in range(418)]
LOST = CLIENTS[:6]


def say(url: str, what: str, text: str) -> list[dict[str, Any]]:
    return [{"webhook": {"url": url, "json": {"what": what, "text": text}}}]


def rules_of(url: str) -> list[dict[str, Any]]:
    """An outage of a site, and what would be said of each client without it."""
    outage = {
        "by": ["site"],
        "at_least": 20,
        "percent": 10,
        "within": "4s",
        "inhibit": True,
    }
    down, back = (
        "{{ alert.count }} of {{ alert.total }} down",
        "{{ alert.back }} of {{ alert.total }} back",
    )
    return [
        {"name": "site", "trigger": "outage", "outage": outage, "actions": say(url, "outage", down),
         "on_recovery": say(url, "over", back)},
        {"name": "gone", "trigger": "offline", "flapping": "fire", "actions": say(url, "gone", "{{ alert.clients | sort | join(' ') }}"),
         "on_recovery": say(url, "returned", "{{ alert.count }}")},
        {"name": "back", "trigger": "online", "flapping": "fire", "actions": say(url, "online", "{{ alert.count }}")},
    ]  # fmt: skip


def told(target: Sink) -> Counter[str]:
    return Counter(arrival.body["what"] for arrival in target.first_seen())


def texts(target: Sink, what: str) -> list[str]:
    return [arrival.body["text"] for arrival in target.first_seen() if arrival.body["what"] == what]


def again(running: Service) -> None:
    running.kill()
    running.start()


@pytest.mark.parametrize(
    "killed",
    ["never", "while they drop", "when it was told", "while they return", "always"],
)
def test_a_failover_is_one_incident_and_a_handful_of_deliveries(killed: str, tmp_path: Path) -> None:
    (tmp_path / "inventory.csv").write_text("client,site\n*,north\n")
    config: dict[str, Any] = {
        "debounce": {"offline": "1s", "online": "0s"},
        "inventory": "inventory.csv",
    }
    with sink() as target, service(tmp_path, **config) as running:
        running.rules(*rules_of(target.url))
        running.start()
        running.tell(*(event(client, "connect", "a") for client in CLIENTS))
        half = len(CLIENTS) // 2
        running.tell(*(event(client, "tcpclean", "a") for client in CLIENTS[:half]))
        if killed in ("while they drop", "always"):
            again(running)
        running.tell(*(event(client, "tcpclean", "a") for client in CLIENTS[half:]))
        eventually(lambda: told(target)["outage"])
        if killed in ("when it was told", "always"):
            again(running)
        eventually(lambda: set(running.statuses().values()), lambda found: found == {"offline"})
        running.tell(*(event(client, "connect", "b") for client in CLIENTS[len(LOST) : half]))
        if killed in ("while they return", "always"):
            again(running)
        running.tell(*(event(client, "connect", "b") for client in CLIENTS[half:]))
        eventually(lambda: told(target)["gone"])
        eventually(
            lambda: running.items("/v1/deliveries", state="due"),
            lambda found: not found,
        )
        assert texts(target, "over") == ["412 of 418 back"]
        assert texts(target, "gone") == [" ".join(sorted(LOST))]
        assert told(target) == {"outage": 1, "over": 1, "gone": 1, "online": 1}
        assert {row["state"] for row in running.items("/v1/deliveries")} == {"delivered"}
        assert len(running.items("/v1/deliveries")) == 4
        incidents = running.items("/v1/alerts", rule="site")
        assert [alert["state"] for alert in incidents] == ["resolved"]
        running.tell(*(event(client, "connect", "c") for client in LOST))
        eventually(
            lambda: Counter(alert["state"] for alert in running.items("/v1/alerts", rule="gone")),
            lambda found: found["resolved"] == len(LOST) and not found["firing"],
        )
        # Who was told of together is told of together again, five minutes after the list: not one by one, and not now.
        assert told(target)["returned"] == 0
    assert "Traceback" not in running.log_text()
