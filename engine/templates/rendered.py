"""What rendering makes of one action. Shared by the modules that render one kind of action each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from engine.core.alerting.planned_delivery import PlannedDelivery


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """One request as every attempt sends it, and the target that concurrency and the circuit breaker are counted by.

    `problem`: why a template failed; a default took its place. `dead`: why the request must never be sent.
    """

    request: dict[str, Any]
    target: str
    problem: str | None = None
    dead: str | None = None


KindRenderer = Callable[[PlannedDelivery], Rendered]
"""Renders actions of one kind. Never raises, whatever a template or a value does."""
