"""Answers inside the writer's transaction: the fleet judges them; corrections and the sweep's counters go along with them.

`judge` runs in the transaction and changes nothing but the fleet and the store, both of which are as before when it fails;
`judged` is called when it has committed. Read `Judging`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from engine.core.presence.client_state import NEVER, OFFLINE, ONLINE, STATUS_NAMES, ClientState
from engine.core.presence.query import CORRECTED, StatusAnswer
from engine.core.times import rfc3339
from engine.queries.results import Asked, Verdict
from engine.queries.sweep import NOBODY, Said, Sweep
from engine.stores.base import NewCorrection, Sweeps

MAX_CHANNELS_TOLD = 8
"""Newest connections that a correction tells of: what the events had said."""


class Believer(Protocol):
    """The fleet, as far as answers concern it."""

    clock_ms: int

    def state_of(self, client: str) -> ClientState:
        """The client's state, uncommitted changes included."""
        ...

    def answer(self, answer: StatusAnswer, now_ms: int) -> str:
        """Take an answer; the verdict, see `core.asking`."""
        ...


class Judging:
    """Judges answers, and keeps the books of the sweep under way."""

    def __init__(self, fleet: Believer, store: Sweeps) -> None:
        self.lock = threading.Lock()
        self.sweep: Sweep | None = None
        self.corrections = 0  # since the start
        self.on_progress: Callable[[], None] = lambda: None
        self._fleet, self._store = fleet, store
        self._said: list[Said] = []  # of the transaction in hand
        self._of: Sweep | None = None  # and the sweep that they count for
        self._corrected = 0

    def judge(self, answers: Sequence[Asked]) -> list[str]:
        """Inside the transaction: the verdicts. The sweep's counters are written with them."""
        said, corrections = [], []
        for asked in answers:
            one, correction = self._one(asked)
            said.append(one)
            if correction is not None:
                corrections.append(correction)
        if corrections:
            self._store.write_corrections(corrections)
        with self.lock:
            sweep = self._of = self.sweep if self.sweep is not None and not self.sweep.is_dry else None
            more = sweep.count(said) if sweep is not None else NOBODY
        if sweep is not None and more.asked:
            self._store.count_reconciliation(sweep.number, more)
        self._said, self._corrected = said, len(corrections)
        return [str(one.verdict) for one in said]

    def is_in_hand(self, sweep: Sweep) -> bool:
        """Have answers been counted for a sweep that its books do not hold yet?"""
        return self._of is sweep

    def _one(self, asked: Asked) -> tuple[Said, NewCorrection | None]:
        fleet, answer = self._fleet, asked.answer
        before = fleet.state_of(answer.client)
        verdict = fleet.answer(answer, max(answer.answered_at_ms, fleet.clock_ms))
        said = Said(answer.client, verdict, asked.problem)
        if verdict != CORRECTED or answer.connections is None:
            return said, None
        sweep = self.sweep
        is_its = sweep is not None and not sweep.is_dry and answer.client in sweep.left
        return said, NewCorrection(
            reconciliation=sweep.number if sweep is not None and is_its else None,
            client=answer.client,
            at_ms=answer.answered_at_ms,
            believed=STATUS_NAMES[_believed(before, answer.connections)],
            connections=answer.connections,
            said=what_was_said(before),
        )

    def judged(self, verdicts: Sequence[Verdict]) -> None:
        """What was judged last has committed."""
        self.corrections += self._corrected
        with self.lock:
            if self._of is not None:  # which may be another sweep than goes on by now, or one that has just ended
                self._of.take(self._said)
            self._of = None
        self._said, self._corrected = [], 0
        self.on_progress()


def _believed(before: ClientState, connections: int) -> int:
    """What a correction corrects: a count is believed at once and only confirmed now, a zero when it comes the second time."""
    if connections == 0:
        return before.observed
    return OFFLINE if before.observed == ONLINE else before.observed


def what_was_said(state: ClientState) -> list[dict[str, Any]]:
    """What the events had said about a client: its newest connections, each with when it began, ended, and said goodbye."""
    newest = sorted(state.channels, key=lambda channel: max(channel.connect_ms, channel.close_ms))[-MAX_CHANNELS_TOLD:]
    return [
        {
            "channel": channel.id,
            "connect": _instant(channel.connect_ms),
            "tcpclean": _instant(channel.close_ms),
            "disconnect": _instant(channel.goodbye_ms),
        }
        for channel in newest
    ]


def _instant(at_ms: int) -> str | None:
    return None if at_ms == NEVER else rfc3339(at_ms)
