"""How the sending of deliveries is doing, for `/readyz`, the metrics and whoever looks at a delivery. Read `DispatcherHealth`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

LONGEST_ATTEMPT_S: Final = 20 * 60.0
"""An attempt that takes longer, and is no command waiting for its device, hangs: no timeout of a rule is as long."""

LONGEST_TURN_S: Final = 120.0
"""The dispatcher looks around at least every minute; twice as long without a look means that it hangs."""


class Pause(NamedTuple):
    """An open circuit breaker: nothing but a probe is sent to its target. Instants are epoch milliseconds."""

    target: str
    reason: str
    since_ms: int
    next_try_ms: int
    is_probing: bool  # the attempt that finds out whether it works again is under way


class DispatcherHealth(NamedTuple):
    """Why deliveries are not sent as they should be (None: they are), and since when; and what breakers hold back.

    A target that fails is no trouble of the dispatcher's: its breaker is in `pauses`.
    """

    trouble: str | None
    since_ms: int
    pauses: Mapping[str, Pause]
