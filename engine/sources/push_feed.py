"""How far a source is caught up when events are pushed to it and cannot be requested. Pure: `now_ms` is an argument.

It is caught up to the present, with these exceptions. While it is down, and for a grace period after it is up, senders may
be about to reconnect. Events that wait for their commit are not read yet. After late events more may follow, so for as long as
a feed may lag, `caught_up_to` stays where it was. Read `PushFeed.caught_up_to`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from engine.core.events import LifecycleEvent

LATE: Final = "the last batch was late: waiting for current events"
"""The `detail` of a source while `PushFeed.is_late`."""


@dataclass(slots=True, kw_only=True, eq=False)
class PushFeed:
    """The state of one feed. Instants are epoch milliseconds.

    It keeps them without the steps of the clock (`shifted_ms`), so that a grace period lasts as long as it should whatever happens
    to the clock meanwhile.

    `max_lag_ms`: events older than this on arrival are late; `grace_ms`: how long after a start or a reconnect the feed is
    not caught up.
    """

    max_lag_ms: int = 60_000
    grace_ms: int = 30_000
    shifted_ms: Callable[[], int] = lambda: 0
    _since_ms: int | None = field(default=None, init=False)  # up since then; None: down
    _reached_ms: int | None = field(default=None, init=False)  # caught up to that when it went down
    _late_until_ms: int = field(default=0, init=False)
    _before_late_ms: int | None = field(default=None, init=False)  # caught up to that before the late events

    @property
    def is_up(self) -> bool:
        """Whether events can arrive."""
        return self._since_ms is not None

    def begin(self, now_ms: int) -> None:
        """The feed is up from now on."""
        self._since_ms = now_ms - self.shifted_ms()

    def end(self, now_ms: int, oldest_waiting_ms: int | None) -> None:
        """The feed is down: `caught_up_to` stays where it is until a reconnect and its grace are over."""
        self._reached_ms, self._since_ms = self._steady(self.caught_up_to(now_ms, oldest_waiting_ms)), None

    def note(self, events: Sequence[LifecycleEvent], received_at_ms: int, oldest_waiting_ms: int | None) -> None:
        """Events arrived. They are late when even the newest of them occurred more than `max_lag_ms` ago."""
        if events and received_at_ms - max(event.occurred_at_ms for event in events) > self.max_lag_ms:
            self.distrust(received_at_ms, oldest_waiting_ms)

    def distrust(self, at_ms: int, oldest_waiting_ms: int | None) -> None:
        """Let `caught_up_to` stay where it is, for as long as a feed may lag."""
        self._before_late_ms = self._steady(self.caught_up_to(at_ms, oldest_waiting_ms))
        self._late_until_ms = at_ms - self.shifted_ms() + self.max_lag_ms

    def is_late(self, now_ms: int) -> bool:
        """Whether more late events may follow."""
        return now_ms - self.shifted_ms() < self._late_until_ms

    def caught_up_to(self, now_ms: int, oldest_waiting_ms: int | None) -> int | None:
        """The instant up to which everything that was pushed has been read; None while that is unknown.

        `oldest_waiting_ms`: when the oldest of what is not yet committed was received, None: nothing waits.
        """
        if self._since_ms is None or now_ms - self.shifted_ms() < self._since_ms + self.grace_ms:
            return self._shown(self._reached_ms)
        if self.is_late(now_ms):
            return self._shown(self._before_late_ms)
        return now_ms if oldest_waiting_ms is None else min(now_ms, oldest_waiting_ms)

    def _steady(self, instant_ms: int | None) -> int | None:
        return None if instant_ms is None else instant_ms - self.shifted_ms()

    def _shown(self, steady_ms: int | None) -> int | None:
        return None if steady_ms is None else steady_ms + self.shifted_ms()
