"""What the interface asks of the running service."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from engine.stores.base import DeliveryRow, Reader
from engine.web.answers import Subject

T = TypeVar("T")


class Push(Protocol):
    """Takes events that are sent to us."""

    async def accept(self, body: bytes, content_type: str = "") -> Any:
        """Returns (accepted, rejected) once what was accepted is durable."""
        ...


class Service(Subject, Protocol):
    """The running service. What it answers, `Subject` says; here is what it does, and how it is."""

    @property
    def config(self) -> Any: ...
    @property
    def push(self) -> Push | None: ...
    @property
    def ready_at_ms(self) -> int | None: ...

    async def ask(self, question: Callable[[Reader], T]) -> T:
        """Ask the store, beside the writer and without holding up anybody. StoreError when it cannot be read."""
        ...

    async def act_on_delivery(self, number: int, what: str) -> tuple[DeliveryRow | None, bool]:
        """Carry out `retry` or `discard`; the delivery as it is now, None: there is none, and whether it was changed."""
        ...

    async def retry_quarantine(self) -> tuple[int, int]:
        """Offer quarantined events again: (accepted, still malformed)."""
        ...

    async def forget(self, clients: Sequence[str]) -> int:
        """Keep these clients no longer; how many were known."""
        ...

    def readiness(self, now_ms: int) -> list[str]:
        """Reasons why it is not ready; empty when it is."""
        ...

    def counters(self) -> Mapping[str, int]:
        """What was counted since the start, by name."""
        ...
