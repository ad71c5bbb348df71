"""Hands deliveries to the senders of their actions, one by one or many at once; every outcome comes back through `done`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Final

from engine.actions.base import (
    ActionSender,
    BatchSender,
    Delivered,
    Done,
    OutboxItem,
    Outcome,
    Rejected,
    RetryLater,
    Untried,
)
from engine.clock import Clock
from engine.telemetry import Event, logger

LOGGED_AT_ONCE: Final = 5
"""Deliveries named in the log when a sender raises for many of them."""

log = logger(__name__)


class SenderCalls:
    """The senders by action, and the calls in progress on the event loop."""

    def __init__(self, senders: Mapping[str, ActionSender | BatchSender], clock: Clock) -> None:
        self._senders = senders
        self._stock = {action: getattr(sender, "prefetch", 0) for action, sender in senders.items()}
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()

    def stock(self, action: str) -> int:
        """How many deliveries of one target this action's sender may have beyond those being sent."""
        return self._stock.get(action, 0)

    def send(self, items: Sequence[OutboxItem], done: Done) -> None:
        """Send each; `done` gets exactly one outcome for each, perhaps before this returns."""
        by_action: dict[str, list[OutboxItem]] = {}
        for item in items:
            by_action.setdefault(item.action, []).append(item)
        for action, some in by_action.items():
            self._send_by(self._senders.get(action), action, some, done)

    def _send_by(
        self, sender: ActionSender | BatchSender | None, action: str, items: list[OutboxItem], done: Done
    ) -> None:
        submit = getattr(sender, "submit", None)
        if submit is not None:
            try:
                submit(items, done)
            except Exception as error:  # noqa: BLE001  # those that the sender took nevertheless are reported twice, which is harmless
                self._failed(items, done, error)
        elif sender is None:
            now_ms = self._clock.now_ms()
            answer = Rejected(reason=f"the configuration has no sender for the action {action}")
            done([Outcome(id=item.id, answer=answer, attempted_at_ms=now_ms) for item in items])
        else:
            for item in items:
                task = asyncio.get_running_loop().create_task(self._send_one(sender, item, done))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _send_one(self, sender: ActionSender | BatchSender, item: OutboxItem, done: Done) -> None:
        assert not isinstance(sender, type) and hasattr(sender, "send")
        began_ns = time.monotonic_ns()
        try:
            answer = await sender.send(item)
            if not isinstance(answer, Delivered | RetryLater | Rejected | Untried):
                raise TypeError(f"the sender answered with {type(answer).__name__}")
        except Exception as error:  # noqa: BLE001  # whatever a sender raises costs its own deliveries only
            self._failed([item], done, error)
            return
        took_ms = (time.monotonic_ns() - began_ns) // 1_000_000
        done([Outcome(id=item.id, answer=answer, attempted_at_ms=self._clock.now_ms(), duration_ms=took_ms)])

    def _failed(self, items: Sequence[OutboxItem], done: Done, error: Exception) -> None:
        """A sender raised: these are tried again later, which says nothing about their target."""
        for item in items[:LOGGED_AT_ONCE]:
            log.error(Event.SENDER_FAILED, action=item.action, delivery=item.id, rule=item.rule, exc_info=error)
        reason = f"internal error of the sender: {type(error).__name__}; see the log"
        answer = RetryLater(reason=reason, may_have_arrived=True, our_fault=True)
        now_ms = self._clock.now_ms()
        done([Outcome(id=item.id, answer=answer, attempted_at_ms=now_ms) for item in items])
