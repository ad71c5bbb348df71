"""One target's part of what the dispatcher holds, and whether it is being sent to. Read `Target`."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from engine.actions.base import Done, OutboxItem, Outcome, RetryLater
from engine.core.breaker import Breaker


@dataclass(slots=True)
class Target:
    """What is held for one target. While its breaker is open a single delivery at a time, the probe, is sent to it."""

    name: str
    breaker: Breaker
    ready: deque[OutboxItem] = field(default_factory=deque)  # heads of their lanes
    held: dict[int, OutboxItem] = field(default_factory=dict)  # every delivery of it that is in memory, by id
    fetched: set[int] = field(default_factory=set)  # of these, the ones that something in the outbox may wait for
    in_flight: int = 0
    behind: bool = False  # the outbox may hold something due that is not here
    missed: bool = False  # and more came while it was being read
    pumping: bool = False
    done: Done = field(init=False)  # one for each target, so that a sender can group its outcomes
    probe: int = 0  # the id of the delivery that finds out whether the target works again

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
        self.in_flight += 1
        if self.breaker.call_started():
            self.probe = item.id

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
        return self.breaker.failed(answer.reason, now_ms, probe=was_probe) or failed_probe, False

    def not_sent(self, item: OutboxItem) -> None:
        """A sender returned a delivery that it had not begun."""
        if self.probe == item.id:
            self.probe = 0
            self.breaker.not_tried()
