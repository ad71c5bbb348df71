"""Answers on their way to the writer: what the asker brings home, and who is told what became of it. Read `Handing`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from engine.core.presence.query import UNKNOWN, StatusAnswer
from engine.errors import StoreError
from engine.queries.queue import DRY_RUN, Entry
from engine.telemetry import Event, logger

log = logger(__name__)

MAX_REFUSED: Final = 30
"""Commits in a row that may fail, a second apart, before the answers in hand are given up."""


class Asked(NamedTuple):
    """A client's answer, why it was asked, and the provider's sentence where there is no number."""

    answer: StatusAnswer
    why: str
    problem: str | None = None


class Verdict(NamedTuple):
    """What became of a question. `verdict`: see `core.asking`; None: the answer was not applied."""

    asked: Asked
    verdict: str | None


Judge = Callable[[Any, Sequence[Asked]], Sequence[str]]
"""Inside the writer's transaction (its connection is given): apply the answers, a verdict for each. Memory that is not the
fleet's must not change here, because the transaction may fail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seams:
    """What the asker needs of the rest.

    `submit` is the writer's (None: answers are told and not applied); `judge` applies answers; `judged` is told what has committed; `agrees` says whether a number of
    connections is what is believed; `is_listed` whether the inventory names a client by its whole id.
    """

    submit: Callable[[Callable[[Any], Any]], Future[Any]] | None = None
    judge: Judge = lambda connection, answers: [UNKNOWN for _ in answers]
    judged: Callable[[Sequence[Verdict]], None] = lambda verdicts: None
    agrees: Callable[[str, int], bool] = lambda client, connections: False
    is_listed: Callable[[str], bool] = lambda client: False


OUTCOMES: Final = ("online", "offline", "duplicate", "unknown", "failed")


@dataclass(slots=True)
class AskingStats:
    """Counters since the start, read by the metrics page."""

    calls: int = 0
    throttled: int = 0
    failures: int = 0
    answers: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    verdicts: dict[str, int] = field(default_factory=dict)


def outcome_of(asked: Asked) -> str:
    """An answer in one word, for the metrics."""
    connections = asked.answer.connections
    if connections is None:
        return "unknown" if asked.problem is None else "failed"
    return "offline" if connections == 0 else "online" if connections == 1 else "duplicate"


class Handing:
    """Hands answers to the writer: one transaction for all that came in since the last."""

    def __init__(self, seams: Seams, stats: AskingStats) -> None:
        self._seams, self._stats = seams, stats
        self._lock = threading.Lock()
        self._waiting: list[tuple[Entry, Asked]] = []
        self._submitted = False
        self._refused = 0  # commits that failed in a row

    def take(self, answers: Sequence[tuple[Entry, Asked]]) -> None:
        """These have come in."""
        real = []
        with self._lock:
            for _, asked in answers:
                self._stats.answers[outcome_of(asked)] += 1
        for entry, asked in answers:
            if entry.why == DRY_RUN or self._seams.submit is None:
                _tell(entry, Verdict(asked, None))
            else:
                real.append((entry, asked))
        with self._lock:
            self._waiting += real
            if self._submitted or not self._waiting:
                return
            self._submitted = True
        self._submit()

    def _submit(self) -> None:
        taken: list[tuple[Entry, Asked]] = []

        def work(connection: Any) -> Sequence[str]:
            with self._lock:
                taken.extend(self._waiting)
                self._waiting.clear()
            return self._seams.judge(connection, [asked for _, asked in taken])

        assert self._seams.submit is not None
        self._seams.submit(work).add_done_callback(lambda done: self._settled(taken, done))

    def _settled(self, taken: list[tuple[Entry, Asked]], done: Future[Sequence[str]]) -> None:
        """The transaction has committed, or not: then the same answers are handed over again, a bounded number of times."""
        error = done.exception()
        self._refused = self._refused + 1 if isinstance(error, StoreError) else 0
        if error is None:
            verdicts = [Verdict(asked, said) for (_, asked), said in zip(taken, done.result(), strict=True)]
            for found in verdicts:
                name = str(found.verdict)
                self._stats.verdicts[name] = self._stats.verdicts.get(name, 0) + 1
            self._seams.judged(verdicts)
        elif self._refused and self._refused <= MAX_REFUSED:
            with self._lock:
                self._waiting = taken + self._waiting
            verdicts, taken = [], []
        else:
            log.error(Event.QUERY_RESULTS_LOST, answers=len(taken), error=str(error))
            verdicts = [Verdict(asked, None) for _, asked in taken]
        for (entry, _), found in zip(taken, verdicts, strict=True):
            _tell(entry, found)
        with self._lock:
            self._submitted = bool(self._waiting)
            again = self._submitted
        if again:
            self._submit()


def _tell(entry: Entry, verdict: Verdict) -> None:
    for told in entry.told:
        if told.set_running_or_notify_cancel():  # whoever waited may have gone
            told.set_result(verdict)
