"""The log lines about dead deliveries: each one in full, until a target has many; then they are counted.

A target that was removed can make thousands of deliveries dead at once. Of each target the first `DETAILED` within `WINDOW_MS`
get a line of their own, and the others one line together when that time is over. Read `DeadDeliveryLog.note`.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from engine.actions.base import Answer, Expired, OutboxItem, Rejected, RetryLater, Untried
from engine.clock import Clock
from engine.core.delivery import DEAD, DUE, DeliveryPolicy, Standing, life_of, next_state
from engine.delivery.target_watch import TargetWatch
from engine.telemetry import Event, logger

WINDOW_MS: Final = 60_000
"""How long the dead deliveries of one target are counted together."""

DETAILED: Final = 5
"""Of one target within `WINDOW_MS`: dead deliveries with a line of their own."""

MAX_TARGETS: Final = 1_000
"""Targets counted at a time; with more, the oldest count is written early."""

log = logger(__name__)


class DeadRow(Protocol):
    """What is logged of a delivery; a stored one and a new one both have it."""

    @property
    def rule(self) -> str:
        """Its rule."""
        ...

    @property
    def client(self) -> str | None:
        """The client that it is about; None for several."""
        ...

    @property
    def clients(self) -> Sequence[str] | None:
        """The clients of a delivery about several."""
        ...

    @property
    def target(self) -> str:
        """Where it was to go."""
        ...

    @property
    def action(self) -> str:
        """Its kind: notify, webhook, email, command or log."""
        ...

    @property
    def phase(self) -> str:
        """The phase of the alert that it reports."""
        ...


@dataclass(slots=True)
class _Count:
    """The dead deliveries of one target since `began_ms`."""

    began_ms: int
    lines: int = 0
    more: int = 0  # without a line of their own
    last_error: str = ""


class DeadDeliveryLog:
    """Writes `delivery.dead`. May be used by several threads."""

    def __init__(self, clock: Clock, watch: TargetWatch | None = None) -> None:
        """`watch`: which is told of them, too."""
        self._clock = clock
        self._watch = watch
        self._counts: dict[str, _Count] = {}  # by target, oldest first
        self._lock = threading.Lock()

    def note(self, row: DeadRow, *, error: str, attempts: int, delivery: int | None = None) -> None:
        """A delivery is dead because of `error`, after so many attempts. `delivery`: its number, None when it is not known."""
        now_ms = self._clock.now_ms()
        target = row.target
        if self._watch is not None:
            self._watch.died(target, error, now_ms)
        with self._lock:
            self._write_over(now_ms)
            count = self._counts.setdefault(target, _Count(now_ms))
            if count.lines >= DETAILED:
                count.more += 1
                count.last_error = error
                return
            count.lines += 1
            if len(self._counts) > MAX_TARGETS:
                oldest = next(iter(self._counts))
                self._write(oldest, self._counts.pop(oldest))
        facts: dict[str, Any] = {"rule": row.rule, "client": row.client, "target": target}
        if row.clients is not None:
            facts["clients"] = len(row.clients)
        if delivery is not None:
            facts["delivery"] = delivery
        log.error(Event.DELIVERY_DEAD, **facts, action=row.action, phase=row.phase, attempts=attempts, error=error)

    def flush(self, *, all_targets: bool = False) -> None:
        """Write the counts whose time is over, or all of them."""
        with self._lock:
            self._write_over(None if all_targets else self._clock.now_ms())

    def _write_over(self, now_ms: int | None) -> None:
        while self._counts:
            target = next(iter(self._counts))
            if now_ms is not None and now_ms < self._counts[target].began_ms + WINDOW_MS:
                return
            self._write(target, self._counts.pop(target))

    def _write(self, target: str, count: _Count) -> None:
        if count.more:
            log.error(Event.DELIVERY_DEAD, target=target, more=count.more, error=count.last_error)


def may_be_dead(item: OutboxItem, answer: Answer | Expired | Untried, now_ms: int, policy: DeliveryPolicy) -> bool:
    """Whether an answer may have made a delivery dead. For a retry the longest possible pause decides: the store draws it."""
    if not isinstance(answer, RetryLater):
        return isinstance(answer, Rejected | Expired)
    before = Standing(
        state=DUE,
        attempts=item.attempts,
        due_at_ms=now_ms,
        decided_at_ms=item.decided_at_ms,
        life_ms=life_of(item.request),
    )
    return next_state(before, answer, now_ms, 1.0, policy).state == DEAD
