"""Which targets get nothing: since when their deliveries fail, and whether one was given up. For the trigger `undelivered`.

A target is in trouble from its first failure until a delivery there succeeds. Read `TargetWatch.note`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from engine.core.delivery import Delivered, Outcome, RetryLater

MAX_TARGETS: Final = 10_000
"""Targets in trouble that are remembered: more than anybody writes into rules."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetTrouble:
    """What is wrong with one target. Instants are epoch milliseconds."""

    detail: str
    since_ms: int
    is_dead: bool = False  # a delivery is dead: it is not waited for anything


class TargetWatch:
    """The targets in trouble. May be used by several threads."""

    def __init__(self) -> None:
        self._troubles: dict[str, TargetTrouble] = {}
        self._ended: set[str] = set()  # since they were taken last
        self._lock = threading.Lock()

    def note(self, target: str, outcome: Outcome) -> None:
        """What became of one attempt at a target."""
        answer = outcome.answer
        if isinstance(answer, Delivered):
            if target in self._troubles:
                with self._lock:
                    self._troubles.pop(target, None)
                    self._ended.add(target)
        elif isinstance(answer, RetryLater):
            self._fails(target, f"deliveries fail: {answer.reason}", outcome.attempted_at_ms, is_dead=False)

    def died(self, target: str, error: str, at_ms: int) -> None:
        """A delivery to a target is dead."""
        self._fails(target, f"a delivery is dead: {error}", at_ms, is_dead=True)

    def recall(self, target: str, trouble: TargetTrouble) -> None:
        """A target was in trouble before the restart."""
        with self._lock:
            self._troubles.setdefault(target, trouble)

    def take_ended(self) -> set[str]:
        """Targets that a delivery has reached since the last call."""
        with self._lock:
            found, self._ended = self._ended, set()
            return found

    def put_back(self, ended: set[str]) -> None:
        """These could not be noted: they are handed out again."""
        with self._lock:
            self._ended |= ended

    def forget(self, targets: Iterable[str]) -> None:
        """Nothing is sent to these any more."""
        with self._lock:
            for target in targets:
                self._troubles.pop(target, None)

    def troubles(self) -> Mapping[str, TargetTrouble]:
        """The targets in trouble now."""
        with self._lock:
            return dict(self._troubles)

    def _fails(self, target: str, detail: str, at_ms: int, *, is_dead: bool) -> None:
        with self._lock:
            known = self._troubles.get(target)
            if known is None:
                if len(self._troubles) < MAX_TARGETS:
                    self._troubles[target] = TargetTrouble(detail=detail, since_ms=at_ms, is_dead=is_dead)
                self._ended.discard(target)
            elif is_dead or not known.is_dead:
                self._troubles[target] = replace(known, detail=detail, is_dead=known.is_dead or is_dead)
