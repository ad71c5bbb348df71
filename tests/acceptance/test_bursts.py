"""The burst guard as operators meet it: a thousand leave, the rest is held until somebody says what is to become of it."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from tests.acceptance.service import (
    Service,
    Sink,
    event,
    eventually,
    offline_rule,
    service,
    sink,
)

CLIENTS = [f"G{number % 7}@@@d{number}" for number in range(5_000)]
PAGE = 1_000


def tell(running: Service, kind: str, channel: str) -> None:
    for start in range(0, len(CLIENTS), PAGE):
        running.tell(*(event(client, kind, channel) for client in CLIENTS[start : start + PAGE]))


def storm(running: Service) -> None:
    """5,000 clients are gone, all at once."""
    tell(running, "connect", "a")
    tell(running, "tcpclean", "a")
    eventually(lambda: running.items("/v1/deliveries", state="due"), lambda found: not found)


def phases(target: Sink) -> dict[str, list[str]]:
    """What was told of each client, in order."""
    found: dict[str, list[str]] = defaultdict(list)
    for arrival in target.first_seen():
        found[arrival.body.get("client", "")].append(arrival.body.get("text", arrival.body["phase"]))
    return found


def held(running: Service) -> int:
    return len(running.items("/v1/deliveries", state="held"))


def test_what_is_beyond_a_burst_is_held_with_one_summary_until_it_is_released(
    tmp_path: Path,
) -> None:
    with sink() as target, service(tmp_path) as running:
        running.rules(offline_rule(target.url))
        running.start()
        storm(running)
        assert len(target.first_seen()) == 1_001 and held(running) == 4_000
        (summary,) = phases(target).pop("gone")  # in the shape of the action, the rule's name for a client's
        assert summary.startswith("gone decided more than 1000 deliveries in a minute: the rest is held")
        tell(running, "connect", "b")
        running.kill()
        running.start()
        # Of those that nobody was told of, nobody hears that they are back before it is decided what becomes of that.
        assert held(running) == 9_000
        told = phases(target)
        assert {tuple(told[client]) for client in told if client != "gone"} == {("firing",)}
        assert running.command("deliveries", "release", "--rule", "gone").returncode == 0
        eventually(lambda: len(target.first_seen()), lambda found: found >= 10_001)
        eventually(
            lambda: running.items("/v1/deliveries", state="due"),
            lambda found: not found,
        )
        told = phases(target)
        assert {tuple(told[client]) for client in CLIENTS} == {("firing", "recovery")}
        assert len(target.first_seen()) == 10_001 and held(running) == 0


def test_what_is_discarded_is_never_told_nor_is_its_end(tmp_path: Path) -> None:
    with sink() as target, service(tmp_path, deliveries={"burst": 100}) as running:
        running.rules(
            offline_rule(target.url),
            offline_rule(target.url, name="other", recovery=False),
        )
        running.start()
        few = CLIENTS[:300]
        running.tell(*(event(client, "connect", "a") for client in few))
        running.tell(*(event(client, "tcpclean", "a") for client in few))
        eventually(
            lambda: running.items("/v1/deliveries", state="due"),
            lambda found: not found,
        )
        assert held(running) == 400
        running.kill()
        running.start()
        assert running.command("deliveries", "discard", "--rule", "gone").returncode == 0
        assert {row["rule"] for row in running.items("/v1/deliveries", state="held")} == {"other"}
        running.tell(*(event(client, "connect", "b") for client in few))
        assert running.command("deliveries", "release", "--rule", "gone").returncode == 0
        eventually(
            lambda: running.items("/v1/deliveries", state="due"),
            lambda found: not found,
        )
        told = [
            arrival.body
            for arrival in target.first_seen()
            if arrival.body.get("rule") == "gone" and "text" not in arrival.body
        ]
        firings = [body["client"] for body in told if body.get("phase") == "firing"]
        recoveries = [body["client"] for body in told if body.get("phase") == "recovery"]
        assert len(firings) == 100 and sorted(recoveries) == sorted(firings)
