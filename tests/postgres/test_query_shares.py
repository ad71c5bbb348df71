"""Replicas that query one status provider: all of them together keep to the rate, and each of them answers."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.acceptance.service import Service, event, eventually, now_ms, offline_rule
from tests.postgres.replicas import replicas, standing
from tests.queries.serving import ONLINE, status_section, sweep
from tests.status.standin import StandIn, most_within

pytestmark = pytest.mark.long

RATE = 60


def test_an_owner_that_sweeps_and_standbys_that_are_asked_keep_to_one_rate(dsn: str, tmp_path: Path) -> None:
    with StandIn() as provider:
        status = status_section(tmp_path, provider, rate=RATE)
        for name in ("access_key", "secret"):
            status[name] = {"file": str(tmp_path / name)}
        with replicas(tmp_path, dsn, 3, status=status, sources=[{"name": "push", "type": "http"}]) as made:
            first = made.start(offline_rule("http://127.0.0.1:9", recovery=False))
            names = [f"G@@@{number}" for number in range(150)]
            provider.truth.update(dict.fromkeys(names, ONLINE))
            first.tell(*(event(name, "connect", f"c-{name}", now_ms() - 10_000) for name in names))
            eventually(lambda: len(first.statuses()) == 150)
            done = threading.Event()
            answered: list[str] = []

            def ask(one: Service) -> None:
                """A standby is asked again and again: it queries by itself. An owner's sweep would come after what operators ask."""
                while not done.is_set() and standing(one) != "owner":
                    found = one.send("GET", f"/v1/clients/{names[0].replace('@', '%40')}/status?verify=true").json()
                    answered.append(found["source"])

            others = [threading.Thread(target=ask, args=(one,)) for one in made.made if one is not first]
            for other in others:
                other.start()
            found = sweep(first)
            assert found["agreed"] == 150
            eventually(lambda: answered.count("query") >= 5)
            count = answered.count("query")
            first.kill()
            second = made.owner(but=first)
            assert sweep(second)["agreed"] == 150  # what the owner before had of the rate is free again soon
            assert answered.count("query") > count
            done.set()
            for other in others:
                other.join()
        assert most_within([call.at_s for call in provider.calls], 1.0) <= RATE
