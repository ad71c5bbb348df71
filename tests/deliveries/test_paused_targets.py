"""A circuit breaker for each URL: one that fails delays no other, also on the same host, probes take turns, and everybody can see it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from engine.actions.base import OutboxItem, RetryLater
from engine.core.delivery import Answer, Delivered, DeliveryPolicy
from engine.delivery.limits import Limits
from engine.templates.webhook import target_of
from tests.acceptance.service import Answer as Said
from tests.acceptance.service import Arrival, event, eventually, offline_rule, service, sink
from tests.benchmarks.sink import Sink
from tests.deliveries.test_dispatching import new, open_house

HOST = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://hook.test", "https://hook.test:443"),
        ("https://hook.test/?a={{ client.id }}", "https://hook.test:443"),
        ("http://hook.test:8080/sms?to=1", "http://hook.test:8080/sms"),
        ("http://hook.test/{{ client.device }}/sms", "http://hook.test:80"),
        ("http://hook.test/v1/{% if x %}a{% endif %}", "http://hook.test:80/v1/"),
    ],
)
def test_a_target_is_scheme_host_port_and_the_path_up_to_the_first_template(url: str, target: str) -> None:
    assert target_of(url) == target


def test_long_paths_are_cut_and_still_told_apart() -> None:
    one, other = (target_of(f"http://hook.test/{'x' * 1_000}{end}") for end in "ab")
    assert one != other and len(one) < 300


class ByDevice:
    """Answers 503 to everything but deliveries whose key begins with `good`; remembers the order of its attempts."""

    def __init__(self) -> None:
        self.tried: list[str] = []

    async def send(self, item: OutboxItem) -> Answer:
        self.tried.append(item.key)
        return Delivered() if item.key.startswith("good") else RetryLater(reason="HTTP 503")

    async def close(self) -> None:
        pass


def test_one_path_that_fails_delays_no_other_path_of_its_host(tmp_path: Path) -> None:
    async def go() -> None:
        limits = Limits(failures_to_open=2, open_first_ms=3_600_000, open_longest_ms=3_600_000)
        async with Sink() as sink_, open_house(tmp_path, limits=limits) as house:
            bad, good = f"{sink_.url}/500", f"{sink_.url}/ok"
            await house.decide(*(new(f"b{n}", sink_.url, "500", target=bad) for n in range(8)))
            await house.until(lambda rows: any(row.attempts for row in rows.values()))
            async with asyncio.timeout(20):
                while bad not in house.dispatcher.health().pauses:
                    await asyncio.sleep(0.005)
            await house.decide(*(new(f"g{n}", sink_.url, target=good) for n in range(50)))
            await house.until(lambda rows: sum(row.state == "delivered" for row in rows.values()) == 50)
            (pause,) = house.dispatcher.health().pauses.values()
            assert pause.target == bad and "500" in pause.reason
            assert house.dispatcher.health().trouble is None

    asyncio.run(go())


def test_probes_of_a_paused_target_take_turns_among_what_waits(tmp_path: Path) -> None:
    """The first ones fail for ever; the next ones must not wait for them."""

    async def go() -> None:
        # Every retry is due again at once, so the oldest could be the probe each time.
        policy = DeliveryPolicy(first_ms=1, longest_ms=1)
        limits = Limits(
            per_target=1, failures_to_open=2, open_first_ms=1, open_longest_ms=2, drain_s=0.3, policy=policy
        )
        sender = ByDevice()
        async with open_house(tmp_path, {"webhook": sender}, limits) as house:
            await house.decide(*(new(f"bad{n}", HOST) for n in range(3)))
            async with asyncio.timeout(20):
                while not house.dispatcher.health().pauses:
                    await asyncio.sleep(0.005)
            await house.decide(new("good", HOST))
            rows = await house.until(lambda rows: rows["good"].state == "delivered")
            assert rows["good"].attempts == 1

    asyncio.run(go())


def test_deliveries_of_a_paused_target_say_so_wherever_they_are_shown(tmp_path: Path) -> None:
    def answer(arrival: Arrival) -> Said:
        return Said(500 if arrival.path == "/sms" else 204)

    with sink() as target, service(tmp_path, deliveries={"per_target": 1}) as running:
        target.answer = answer
        running.rules(
            offline_rule(f"{target.url}/sms", "sms", recovery=False),
            offline_rule(f"{target.url}/chat", "chat", recovery=False),
        )
        running.start()
        for client in range(6):
            running.tell(event(f"G@@@d{client}", "connect", "1"), event(f"G@@@d{client}", "tcpclean", "1"))
        sms = f"{target.url}/sms"
        found = eventually(lambda: json.loads(running.readiness()[1]), lambda found: found["degraded"])
        assert found["ready"] and sms in found["degraded"][0] and "500" in found["degraded"][0]
        running.tell(event("G@@@late", "connect", "1"), event("G@@@late", "tcpclean", "1"))
        eventually(lambda: [one for one in target.seen() if one.path == "/chat"], lambda found: len(found) == 7)

        rows = eventually(
            lambda: running.items("/v1/deliveries", rule="sms"), lambda rows: all(row["paused"] for row in rows)
        )
        assert {row["target"] for row in rows} == {sms}
        assert all("500" in row["paused"]["reason"] and row["paused"]["next_try_at"] for row in rows)
        assert running.metric("rollcall_targets_paused") == 1
        assert running.metric(f'rollcall_target_next_try_seconds{{target="{sms}"}}') >= 0
        number = rows[0]["id"]
        shown = eventually(
            lambda: running.command("deliveries", "show", str(number)).stdout, lambda text: "paused since" in text
        )
        assert "HTTP 500" in shown and "attempts" in shown
        assert "target paused" in running.command("deliveries", "list", "--rule", "sms").stdout
        import requests

        assert "are paused since" in requests.get(running.url, timeout=10).text
        assert "Paused:" in requests.get(f"{running.url}/deliveries", timeout=10).text
        assert running.terminate() == 0
