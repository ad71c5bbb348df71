"""A fleet that keeps changing while the service lives and dies, and what must be true once all is quiet.

Each client's history is a chain of connects and closes of one channel after another, so its last event says how it must
end. Pushed events are repeated until they are answered 202, as any gateway does; lines are appended to a file once.
"""

from __future__ import annotations

import random
import sqlite3
import threading
from collections import Counter, defaultdict
from itertools import product
from pathlib import Path
from typing import Any

import requests

from tests.acceptance.service import Arrival, Service, Sink, event, eventually, now_ms, offline_rule, webhook

UNGUARDED = {"burst": 1_000_000}
"""Deliveries of a load that no blast-radius guard holds back."""

SOURCES = [{"name": "push", "type": "http"}, {"name": "log", "type": "file", "path": "events.jsonl", "follow": True}]
"""The sources that a load feeds."""

PAGING = ("gone", "late")
"""The rules that page and say when it is over."""


def rules_of(url: str) -> tuple[dict[str, Any], ...]:
    """Pages for every client that goes, at once and after a while, word when it is back, and a welcome."""
    welcome = {"name": "hello", "trigger": "first_seen", "flapping": "fire", "actions": [webhook(url, "firing")]}
    return offline_rule(url), offline_rule(url, name="late", for_="300ms"), welcome


class Chain:
    """One client's history so far. `next` makes its next event."""

    def __init__(self, client: str) -> None:
        self.client = client
        self.count = 0
        self.last_ms = 0

    def next(self) -> str:
        """Connects and closes in turn, each later than the one before."""
        self.last_ms = max(now_ms(), self.last_ms + 1)
        kind = "connect" if self.count % 2 == 0 else "tcpclean"
        text = event(self.client, kind, f"c{self.count // 2}", self.last_ms, n=self.count)
        self.count += 1
        return text

    @property
    def status(self) -> str:
        """How it must end."""
        return "online" if self.count % 2 else "offline"


class Load:
    """Feeds a service from three threads until `stop`; `check` says whether anything was lost, doubled or reordered."""

    def __init__(
        self, service: Service, seed: int, clients: int = 30, pause_s: float = 0.01, rotates: bool = False
    ) -> None:
        self._service = service
        self._pause_s = pause_s
        self._file = service.folder / "events.jsonl"
        self._file.touch()
        self._stopped = threading.Event()
        self.pushed = [[Chain(f"P{side}@@@d{number}") for number in range(clients)] for side in range(2)]
        self.written = [Chain(f"F@@@d{number}") for number in range(clients)]
        self.lines: list[str] = []
        self.accepted = 0
        self.rotations = 0
        self._rotates = rotates
        self.unanswered = 0
        work = [(self._push, side, random.Random(seed * 10 + side)) for side in range(2)]
        self._threads = [threading.Thread(target=do, args=(side, dice), daemon=True) for do, side, dice in work]
        self._threads.append(threading.Thread(target=self._write, args=(random.Random(seed * 10 + 9),), daemon=True))

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End; returns when everything pushed has been answered 202, so the service has to run."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(120)
            assert not thread.is_alive()

    def _push(self, side: int, dice: random.Random) -> None:
        session = requests.Session()
        headers = {"Content-Type": "application/x-ndjson"}
        while not self._stopped.is_set():
            some = [chain.next() for chain in dice.sample(self.pushed[side], dice.randint(1, 5))]
            while True:
                try:
                    answer = session.post(
                        f"{self._service.url}/v1/events", "\n".join(some), headers=headers, timeout=20
                    )
                    if answer.status_code == 202:
                        assert answer.json() == {"accepted": len(some), "rejected": []}
                        break
                except requests.RequestException:
                    pass  # the service is down, or went down with our events in hand: nobody knows what became of them
                self.unanswered += 1
                threading.Event().wait(0.02)
            self.accepted += len(some)
            self._stopped.wait(self._pause_s)

    def _write(self, dice: random.Random) -> None:
        while not self._stopped.is_set():
            with self._file.open("a") as out:
                for _ in range(dice.randint(50, 400)):
                    text = "".join(chain.next() + "\n" for chain in dice.sample(self.written, dice.randint(1, 8)))
                    self.lines += text.splitlines()
                    cut = dice.randrange(len(text))  # a reader may see half a line
                    for part in (text[:cut], text[cut:]):
                        out.write(part)
                        out.flush()
                    if self._stopped.wait(self._pause_s):
                        return
            if self._rotates:
                self._rotate()

    def _rotate(self) -> None:
        """As logrotate does: the file is `.1` from now on, what was `.1` is `.2`, and a new one begins."""
        self.rotations += 1
        for number in range(self.rotations, 0, -1):
            older = self._file.with_name(f"{self._file.name}.{number - 1}") if number > 1 else self._file
            older.rename(self._file.with_name(f"{self._file.name}.{number}"))

    def wait_quiet(self) -> None:
        """Until every client has ended as its history says, and nothing is due any more."""
        wanted = self.statuses()
        eventually(self._service.statuses, lambda found: found == wanted)
        eventually(lambda: self._service.items("/v1/alerts", state="pending"), lambda found: not found)
        eventually(lambda: self._service.items("/v1/deliveries", state="due"), lambda found: not found)

    def statuses(self) -> dict[str, str]:
        """How every client must end."""
        return {chain.client: chain.status for chain in self._chains() if chain.count}

    def _chains(self) -> list[Chain]:
        return [*self.pushed[0], *self.pushed[1], *self.written]

    # What must be true once all is quiet

    def check(self, sink: Sink) -> None:
        """Nothing is lost, doubled or out of order."""
        self._check_states()
        self._check_lines()
        self._check_outbox(sink)
        self._check_decisions(sink)
        self._check_order(sink)

    def _check_states(self) -> None:
        printed = {entry["client"]: entry["status"] for entry in self._service.printed("clients")}
        assert printed == self.statuses()
        firing = [(alert["rule"], alert["client"]) for alert in self._service.items("/v1/alerts", state="firing")]
        offline = [client for client, status in self.statuses().items() if status == "offline"]
        assert sorted(firing) == sorted((rule, client) for rule in PAGING for client in offline)

    def _check_lines(self) -> None:
        """Every line of the file is in the journal once: applied exactly once."""
        found = Counter(journal_lines(self._service.folder, "log"))
        assert found == Counter(self.lines)
        pushed = Counter(journal_lines(self._service.folder, "push"))
        assert len(pushed) == sum(chain.count for side in self.pushed for chain in side)

    def _check_outbox(self, sink: Sink) -> None:
        """What was decided has arrived, and nothing arrived that was not decided."""
        rows = self._service.printed("deliveries", "list", "--limit", "1000000")
        assert Counter(row["state"] for row in rows) == {"delivered": len(rows)}
        assert {row["key"] for row in rows} == {arrival.key for arrival in sink.seen()}

    def _check_decisions(self, sink: Sink) -> None:
        """One decision, one key, one body; every client was welcomed once."""
        keys: dict[tuple[Any, ...], set[str]] = defaultdict(set)
        bodies: dict[str, set[str]] = defaultdict(set)
        for arrival in sink.seen():
            keys[decision(arrival)].add(arrival.key)
            bodies[arrival.key].add(str(arrival.body))
        assert {found: some for found, some in keys.items() if len(some) > 1} == {}
        assert {key: some for key, some in bodies.items() if len(some) > 1} == {}
        welcomed = Counter(arrival.body["client"] for arrival in sink.first_seen() if arrival.body["rule"] == "hello")
        assert welcomed == Counter(self.statuses().keys())

    def _check_order(self, sink: Sink) -> None:
        """For each rule and client firing and recovery take turns, as they happened, and the last one is true."""
        told: dict[tuple[str, str], list[Arrival]] = defaultdict(list)
        for arrival in sink.first_seen():
            told[arrival.body["rule"], arrival.body["client"]].append(arrival)
        for rule, chain in product(PAGING, self._chains()):
            arrivals = told[rule, chain.client]
            phases = [arrival.body["phase"] for arrival in arrivals]
            assert phases == (["firing", "recovery"] * len(phases))[: len(phases)], (rule, chain.client, phases)
            times = [arrival.body["occurred_at"] for arrival in arrivals]
            assert times == sorted(times), (rule, chain.client, times)
            if chain.count:
                assert (phases[-1:] == ["firing"]) == (chain.status == "offline"), (
                    rule,
                    chain.client,
                    chain.status,
                    phases,
                )


def decision(arrival: Arrival) -> tuple[Any, ...]:
    """What one delivery is about: rule, client, phase and transition."""
    body = arrival.body
    return body["rule"], body["client"], body["phase"], body["occurred_at"]


def journal_lines(folder: Path, source: str) -> list[str]:
    """The events that the journal holds of a source, as they were written, in order."""
    connection = sqlite3.connect(f"file:{folder / 'data' / 'rollcall.sqlite3'}?mode=ro", uri=True)
    rows = connection.execute("SELECT events FROM journal WHERE source = ? ORDER BY id", (source,)).fetchall()
    connection.close()
    return [line.decode() for (events,) in rows if events for line in bytes(events).split(b"\n")]
