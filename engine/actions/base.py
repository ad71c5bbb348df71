"""The interface of every action. What a target may answer is defined in `engine.core.delivery` and re-exported here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from engine.core.delivery import Answer, Delivered, Expired, OutboxItem, Outcome, Rejected, RetryLater, Untried

__all__ = [
    "ActionSender",
    "Answer",
    "Attempted",
    "BatchSender",
    "Delivered",
    "Done",
    "Expired",
    "MaySend",
    "NothingMayLeave",
    "OutboxItem",
    "Outcome",
    "Rejected",
    "RetryLater",
    "Untried",
    "always",
]

Attempted = Answer | Untried
"""What became of an item that a sender was given: what its target answered, or nothing was sent."""

MaySend = Callable[[], bool]
"""Whether something may leave now. A sender asks it in any thread, right before it gives what it sends to the system, however long it
waited for a connection before: meanwhile another replica may have become the one that sends."""


def always() -> bool:
    """Where one process sends: something may always leave."""
    return True


class NothingMayLeave(Exception):
    """`MaySend` said no at the last moment: nothing was sent, and the answer is `Untried`."""


Done = Callable[[Sequence[Outcome]], None]
"""Takes the outcomes of items, some at a time, on the event loop that submitted them."""


class ActionSender(Protocol):
    """Carries out one kind of action."""

    async def send(self, item: OutboxItem) -> Attempted:
        """Try once; bounded in time; never raises for what a target does. Untried: nothing was sent, for nothing may leave now."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


class BatchSender(Protocol):
    """Carries out one kind of action, many at a time: for actions where a task for each item would cost too much.

    `prefetch`: how many items of a target it may be given beyond the target's limit on parallel requests; it keeps to the
    limit itself, and returns what it has not begun (`Untried`) when the target fails.
    """

    prefetch: int

    def submit(self, items: Sequence[OutboxItem], done: Done) -> None:
        """Take items; returns at once. `done` gets exactly one outcome for each, in any order, perhaps before this returns."""
        ...

    async def close(self) -> None:
        """Close connections; items without an outcome stay without."""
        ...
