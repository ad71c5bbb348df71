"""One target's part of what the dispatcher holds, and whether it is being sent to. Read `Target`."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

from engine.actions.base import Done, OutboxItem, Outcome, RetryLater
from engine.core.breaker import Breaker
from engine.core.delivery import MAX_ANSWER_CHARS, kept_text
from engine.delivery.health import Pause


@dataclass(slots=True)
class Target:
    """What is held for one target. While its breaker is open a single delivery at a time, the probe, is sent to it."""

    name: str
    breaker: Breaker
    ready: deque[OutboxItem] = field(default_factory=deque)  # heads of their lanes
    held: dict[int, OutboxItem] = field(default_factory=dict)  # every delivery of it that is in memory, by id
    fetched: set[int] = field(default_factory=set)  # of these, the ones that something in the outbox may wait for
    under_way: dict[int, float] = field(default_factory=dict)  # ids of what is being sent, and since when (monotonic)
    behind: bool = False  # the outbox may hold something due that is not here
    missed: bool = False  # and more came while it was being read
    pumping: bool = False
    done: Done = field(init=False)  # one for each target, so that a sender can group its outcomes
    probe: int = 0  # the id of the delivery that finds out whether the target works again
    probes: int = 0  # begun so far: every other one takes a delivery that was never tried

    @property
    def in_flight(self) -> int:
        """How many are being sent."""
        return len(self.under_way)

    def pause(self, now_ms: int) -> Pause | None:
        """What an open breaker means for the deliveries of this target; None while it is closed."""
        breaker = self.breaker
        if breaker.problem is None:
            return None
        return Pause(
            self.name, breaker.problem, breaker.opened_at_ms, max(now_ms, breaker.retry_at_ms), breaker.is_probing
        )

    def is_closed_to(self, now_ms: int) -> bool:
        """Whether nothing may be sent to it at present."""
        next_ms = self.breaker.next_call_ms(now_ms)
        return next_ms is None or next_ms > now_ms

    @property
    def is_idle(self) -> bool:
        """Nothing but its failures would be forgotten with it."""
        return not self.held and not self.behind

    def leaves(self, item: OutboxItem) -> None:
        """A delivery is sent."""
        self.under_way[item.id] = time.monotonic()
        if self.breaker.call_started():
            self.probe = item.id
            self.probes += 1

    def judge(self, outcome: Outcome, now_ms: int) -> tuple[bool, bool]:
        """What an answer says about the target. Returns whether it opened the breaker (also: for longer), and closed it.

        Any answer but RetryLater closes it. A failure of ours says nothing about the target.
        """
        was_probe = self.probe == outcome.id
        if was_probe:
            self.probe = 0
        answer = outcome.answer
        if not isinstance(answer, RetryLater):
            self.probe = 0
            return False, self.breaker.succeeded()
        if answer.our_fault:
            if was_probe:
                self.breaker.not_tried()
            return False, False
        failed_probe = was_probe and self.breaker.is_open
        problem = kept_text(answer.reason, MAX_ANSWER_CHARS)
        return self.breaker.failed(problem, now_ms, probe=was_probe) or failed_probe, False

    def not_sent(self, item: OutboxItem) -> None:
        """A sender returned a delivery that it had not begun."""
        if self.probe == item.id:
            self.probe = 0
            self.breaker.not_tried()
