"""The budget at its highest rate, as the queried service sees it: never more than 300 calls in any sliding second."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from tests.acceptance.service import event, eventually, offline_rule, sink, without_tracebacks
from tests.queries.serving import connect, ended, querying, tally
from tests.status.standin import StandIn

RATE = 300


@contextmanager
def again_and_again(*works: Callable[[], object]) -> Iterator[None]:
    """Each of these in a thread of its own, until the block is left; a service that is gone meanwhile does not matter."""
    over = threading.Event()

    def work_on(work: Callable[[], object]) -> None:
        while not over.is_set():
            try:
                work()
            except requests.RequestException:
                over.wait(0.05)

    threads = [threading.Thread(target=work_on, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


@pytest.mark.long
def test_sweeps_rules_operators_and_kills_together_never_exceed_the_rate(tmp_path: Path) -> None:
    names, dark = [f"G@@@d{n:04}" for n in range(900)], [f"G@@@dark{n:03}" for n in range(200)]
    with StandIn(latency_s=0.01) as broker, sink() as target, querying(tmp_path, broker, {"rate": RATE}) as running:
        running.rules(offline_rule(target.url, "sure", verify=True, verify_within="60s"))
        running.start()
        connect(running, broker, *names, *dark)

        def ask() -> None:
            requests.get(f"{running.url}/v1/clients/{names[0]}/status", {"verify": "true"}, timeout=10)

        with again_and_again(ask, ask, lambda: running.process_of("query", names[1], names[2])):
            number = running.send("POST", "/v1/reconciliations").json()["id"]
            for round_ in range(2):
                some = dark[round_ * 100 : round_ * 100 + 100]
                broker.truth.update(dict.fromkeys(some, 0))
                running.tell(*(event(name, "tcpclean", f"c-{name}") for name in some))
                calls = len(broker.calls)
                eventually(lambda calls=calls: len(broker.calls) > calls + 250)  # type: ignore[misc]
                running.kill()
                running.process_of("query", names[3])  # within the same budget, without a service
                running.start()
            found = ended(running, number)
        assert (found["asked"], found["failed"]) == (len(names) + len(dark), 0)
        eventually(lambda: {client for (client,) in target.told("client")}, lambda told: told == set(dark))
        assert len(target.first_seen()) == len(dark)
        assert broker.most_in_a_second() <= RATE
        assert len(running.log_lines("sweep.resumed")) == 2
        assert tally(found)["unknown"] == 0
        assert without_tracebacks(running.log_text())
