"""How far silence may be trusted of a feed that is pushed to us and cannot be asked. Pure: the clock is an argument.

It is the present, with these exceptions: while it is down, and for a grace after it is up, others may be about to
reconnect; what waits for its commit has not been read; and after old news more may be on its way, so for as long as a
feed may lag it stays where it was before. Read `PushFeed.caught_up_to`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.core.events import LifecycleEvent


@dataclass(slots=True, kw_only=True, eq=False)
class PushFeed:
    """What is remembered of one feed. Instants are epoch milliseconds.

    `max_lag_ms`: how late news may be before silence means nothing; `grace_ms`: how long after a start or a reconnect
    silence proves nothing.
    """

    max_lag_ms: int = 60_000
    grace_ms: int = 30_000
    _since_ms: int | None = field(default=None, init=False)  # up since then; None: down
    _reached_ms: int | None = field(default=None, init=False)  # caught up to that when it went down
    _late_until_ms: int = field(default=0, init=False)
    _before_late_ms: int | None = field(default=None, init=False)  # caught up to that before the old news

    @property
    def is_up(self) -> bool:
        """Whether news can reach us."""
        return self._since_ms is not None

    def begin(self, now_ms: int) -> None:
        """The feed is up from now on."""
        self._since_ms = now_ms

    def end(self, now_ms: int, oldest_waiting_ms: int | None) -> None:
        """The feed is down: `caught_up_to` stays where it is until a reconnect and its grace are over."""
        self._reached_ms, self._since_ms = self.caught_up_to(now_ms, oldest_waiting_ms), None

    def note(self, events: Sequence[LifecycleEvent], received_at_ms: int, oldest_waiting_ms: int | None) -> None:
        """Events arrived. They are old news when even the newest of them occurred more than `max_lag_ms` ago."""
        if events and received_at_ms - max(event.occurred_at_ms for event in events) > self.max_lag_ms:
            self.distrust(received_at_ms, oldest_waiting_ms)

    def distrust(self, at_ms: int, oldest_waiting_ms: int | None) -> None:
        """Let `caught_up_to` stay where it is, for as long as a feed may lag."""
        self._before_late_ms = self.caught_up_to(at_ms, oldest_waiting_ms)
        self._late_until_ms = at_ms + self.max_lag_ms

    def is_late(self, now_ms: int) -> bool:
        """Whether more old news may be on its way."""
        return now_ms < self._late_until_ms

    def caught_up_to(self, now_ms: int, oldest_waiting_ms: int | None) -> int | None:
        """The instant up to which everything pushed to us has been read; None while that cannot be said.

        `oldest_waiting_ms`: when the oldest of what is not yet committed was received, None: nothing waits.
        """
        if self._since_ms is None or now_ms < self._since_ms + self.grace_ms:
            return self._reached_ms
        if self.is_late(now_ms):
            return self._before_late_ms
        return now_ms if oldest_waiting_ms is None else min(now_ms, oldest_waiting_ms)
