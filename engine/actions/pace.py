"""At most so many messages in so many seconds: when the next one may leave. Instants are seconds of any one clock. Read `Pace.reserve_s`."""

from __future__ import annotations

from collections import deque


class Pace:
    """The messages of one receiver. Those that come together leave at the pace that its service allows, in their order."""

    def __init__(self, messages: int, per_s: float) -> None:
        self._per_s = per_s
        self._leaving: deque[float] = deque(maxlen=max(1, messages))  # when the newest of them leave
        self._paused_until_s = 0.0

    def reserve_s(self, now_s: float) -> float:
        """The instant at which one more message may leave; it counts from then on."""
        at_s = now_s
        if len(self._leaving) == self._leaving.maxlen:
            at_s = max(at_s, self._leaving[0] + self._per_s)
        self._leaving.append(at_s)
        return at_s

    def pause(self, until_s: float) -> None:
        """The service asked for a pause."""
        self._paused_until_s = max(self._paused_until_s, until_s)

    def paused_s(self, now_s: float) -> float:
        """How long that pause still lasts."""
        return max(0.0, self._paused_until_s - now_s)
