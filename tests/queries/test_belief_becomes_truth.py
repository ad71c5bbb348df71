"""The whole promise, through the real service: events are lost, queries fail, and one sweep later belief is the truth.

A seeded fleet lives for some seconds of real time. Of what the broker announces one message in a hundred is lost before it
reaches `POST /v1/events`; queries answer -1, late, with an error, in part or never. The stand-in follows the truth message by
message, so that whoever is asked while the fleet lives gets the answer of that instant.
"""

from __future__ import annotations

import os
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from engine.core.events import CONNECT, DISCONNECT
from engine.sources.simulator.synthetic import Arrival, SyntheticFleet, arrivals
from tests.acceptance.service import Service, eventually, now_ms, offline_rule, sink, webhook, without_tracebacks
from tests.queries.serving import querying, tally
from tests.status.standin import StandIn

CLIENTS, SILENT = 700, 20
LIFE_MS = 8_000
LOST = 0.01
FAULTS = {"unknown": 0.1, "late": 0.05, "error": 0.03, "cut": 0.02, "truncated": 0.01, "hang": 0.005}

SEEDS = int(os.environ.get("ROLLCALL_TRUTH_SEEDS", "1"))
"""Lives that are lived; each takes a quarter of a minute."""

Told = list[tuple[Any, ...]]


def story(seed: int, start_ms: int) -> tuple[list[Arrival], list[Arrival]]:
    """All that a fleet's broker announces in the order of arrival, and what of it is not lost."""
    plan = SyntheticFleet(
        clients=CLIENTS, seed=seed, start_ms=start_ms, spread_ms=3_000, session_ms=4_000, away_ms=2_500, flap_ms=800,
        max_late_ms=700,
    )  # fmt: skip
    lived = takewhile(lambda told: told.received_at_ms < start_ms + LIFE_MS, arrivals(plan))
    everything = [told for told in lived if told.event.occurred_at_ms < start_ms + LIFE_MS - 1_500]
    chance = random.Random(seed)
    lost = {told.event for told in everything if chance.random() < LOST}
    return everything, [told for told in everything if told.event not in lost]


class Truth:
    """Who is connected, as it comes about."""

    def __init__(self, broker: StandIn, everything: Sequence[Arrival]) -> None:
        events = sorted({told.event for told in everything}, key=lambda event: event.occurred_at_ms)
        self._broker = broker
        self._coming = iter([event for event in events if event.type != DISCONNECT])
        self._next = next(self._coming, None)
        self._open: dict[str, set[str]] = defaultdict(set)

    def follow(self, at_ms: int) -> None:
        """Everything has happened up to an instant."""
        while self._next is not None and self._next.occurred_at_ms <= at_ms:
            client, kind, channel = self._next.client, self._next.type, self._next.channel
            (self._open[client].add if kind == CONNECT else self._open[client].discard)(channel)
            self._broker.truth[client] = len(self._open[client])
            self._next = next(self._coming, None)


def batches(heard: Sequence[Arrival], truth: Truth) -> Iterator[list[str]]:
    """Lines that have arrived, as time passes; the truth goes along."""
    upcoming, waiting = iter(heard), None
    while True:
        truth.follow(now_ms())
        lines = []
        for told in [waiting] if waiting is not None else upcoming:
            if told.received_at_ms > now_ms():
                waiting = told
                break
            waiting = None
            lines.append(told.line.decode())
        else:
            if waiting is None and not lines:
                return
        if lines:
            yield lines
        elif waiting is not None:
            time.sleep(0.005)  # the fleet's own pace, nothing that the service is waited for


def wrong(running: Service, broker: StandIn, names: Sequence[str]) -> dict[str, str]:
    """Clients that are not believed to be what they are."""
    believed = running.statuses()
    return {
        name: believed.get(name, "unheard")
        for name in names
        if believed.get(name) != ("online" if broker.truth.get(name) else "offline")
    }


def pages(told: Told) -> dict[tuple[str, str], list[str]]:
    """For each rule and client what was told about it, in order."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for rule, client, phase in told:
        found[rule, client].append(phase)
    return found


@pytest.mark.parametrize("seed", range(1, 1 + SEEDS))
def test_after_the_traffic_has_stopped_and_one_sweep_has_run_belief_is_the_truth_for_every_client(
    tmp_path: Path, seed: int
) -> None:
    everything, heard = story(seed, now_ms() + 4_000)
    names = sorted({told.event.client for told in everything})
    silent = [f"GID_ROLL@@@never-{number}" for number in range(SILENT)]
    rows = "\n".join(["client,site", *(f"{name},north" for name in (*names, *silent))])
    (tmp_path / "inventory.csv").write_text(rows + "\n")
    with (
        StandIn(rates=FAULTS, seed=seed, late_s=0.3) as broker,
        sink() as target,
        querying(
            tmp_path, broker, {"timeout": "500ms", "confirm_after": "1s"}, inventory="inventory.csv",
            debounce={"offline": "500ms", "online": "0s"}, deliveries={"burst": 1_000_000},
        ) as running,
    ):  # fmt: skip
        running.rules(
            offline_rule(target.url),
            offline_rule(target.url, "sure", verify=True),
            {"name": "missing", "trigger": "never_seen", "actions": [webhook(target.url, "firing")]},
        )
        running.start()
        truth = Truth(broker, everything)
        for lines in batches(heard, truth):
            running.tell(*lines)
        truth.follow(now_ms())
        (found,) = running.printed("reconcile")
        eventually(lambda: wrong(running, broker, [*names, *silent]), lambda found: not found)
        assert (found["asked"], found["unknown"], found["failed"]) == (len(names) + SILENT, 0, 0)
        assert tally(found)["corrected"] > 0  # there was something to correct
        assert {one["client"] for one in found["corrections"]} <= {*names}

        # Rules saw it: who is offline has been told last to be so, and nobody was told twice in a row.
        down = {name for name in names if not broker.truth.get(name)}

        def untold() -> dict[tuple[str, str], list[str]]:
            """What was told of those of whom the last word is missing."""
            found = pages(target.told("rule", "client", "phase"))
            gone = {("gone", name): found["gone", name] for name in down if found["gone", name][-1:] != ["firing"]}
            never = {("missing", name): found["missing", name] for name in silent}
            return gone | {key: phases for key, phases in never.items() if phases != ["firing"]}

        eventually(untold, lambda found: not found)
        told = pages(target.told("rule", "client", "phase"))
        for (rule, client), phases in told.items():
            expected = ["firing", "recovery"] * len(phases)
            assert phases == expected[: len(phases)], (rule, client, phases)
        assert {name for (rule, name), phases in told.items() if rule == "gone" and phases[-1] == "firing"} == down
        assert {name for (rule, name), phases in told.items() if rule == "sure" and phases[-1] == "firing"} <= down
        assert len({arrival.key for arrival in target.seen()}) == sum(map(len, told.values()))
        assert broker.most_in_a_second() <= 300
        assert without_tracebacks(running.log_text())
