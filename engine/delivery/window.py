"""What the dispatcher holds in memory of the outbox: deliveries by target, in lanes, within its limits. Read `Window.hold`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from engine.actions.base import Delivered, OutboxItem, Outcome, RetryLater
from engine.core.breaker import Breaker
from engine.core.delivery import origin_of
from engine.delivery.limits import DispatcherStats, Limits
from engine.delivery.target import Target

MAX_TARGETS: Final = 10_000
"""Targets in memory: more than anybody writes into rules. Those beyond wait in the outbox until others are done."""

FAIR_START: Final = 4
"""Deliveries of one target that are here even when others, which hang, fill the rest."""


class Window:
    """Deliveries that are here and not recorded yet.

    Only the first delivery of a lane may be sent; the others of the lane that are here follow it. `done` takes the outcomes of
    one target; `wake` is called when the outbox has to be asked for more.
    """

    def __init__(
        self,
        limits: Limits,
        stats: DispatcherStats,
        done: Callable[[Target, Sequence[Outcome]], None],
        wake: Callable[[], object],
    ) -> None:
        self._limits = limits
        self._breaker_limits = limits.breaker()
        self._stats = stats
        self._done = done
        self._wake = wake
        self._lanes: dict[str, deque[OutboxItem]] = {}  # of each lane whose head is held, the followers
        self.targets: dict[str, Target] = {}
        self.behind: dict[str, Target] = {}

    def knows(self, name: str) -> bool:
        """Is the target of that name here, or is there room for it?"""
        return name in self.targets or len(self.targets) < MAX_TARGETS

    def target(self, name: str) -> Target:
        """The target of that name, made when it is not known."""
        target = self.targets.get(name)
        if target is None:
            target = self.targets[name] = Target(name, Breaker(self._breaker_limits))
            target.done = partial(self._done, target)
        return target

    def fall_behind(self, target: Target) -> None:
        """Have the outbox asked for what it holds for this target."""
        target.behind = target.missed = True
        self.behind[target.name] = target
        self._wake()

    def caught_up(self, target: Target) -> None:
        """The outbox holds nothing due for this target that is not here."""
        target.behind = False
        del self.behind[target.name]

    def free(self) -> int:
        """How many more fit, of all targets together."""
        return self._limits.held - self._stats.held

    def room(self, target: Target, free: int | None = None) -> int:
        """How many more of a target fit: at most half of what is free, and always a few.

        However many targets hang, one more has its fair start. `free`: what the others leave, if some of it is given away already.
        """
        left = self.free() if free is None else free
        share = max(2 * self._limits.per_target, (self.free() + len(target.held)) // 2)
        return max(min(left, share - len(target.held)), FAIR_START - len(target.held))

    def hold(self, target: Target, item: OutboxItem) -> None:
        """Keep a delivery, ready to be sent when it is the first of its lane; nothing when it is here already."""
        if item.id in target.held:
            return
        target.held[item.id] = item
        self._stats.held += 1
        followers = self._lanes.get(item.lane)
        if followers is None:
            self._lanes[item.lane] = deque()
            target.ready.append(item)
        else:
            followers.append(item)

    def settle(self, target: Target, outcome: Outcome) -> bool:
        """Open the lane of a recorded delivery: for the next one held here, or for what the outbox holds.

        Returns whether the outbox has to be asked what is due: a retry waits there now.
        """
        item = target.held.get(outcome.id)
        if item is None:
            return False
        # Whatever was fetched may have been a retry, and then others in the outbox waited for it.
        something_waits = item.id in target.fetched
        is_retried = False
        self._drop(target, item)
        followers = self._lanes.pop(item.lane, deque())
        if isinstance(outcome.answer, Delivered):
            if followers:
                target.ready.append(followers.popleft())
                self._lanes[item.lane] = followers
        else:
            # They wait for a retry, or a dead firing ended them: the outbox knows.
            for follower in followers:
                self._drop(target, follower)
            something_waits = something_waits or bool(followers)
            is_retried = isinstance(outcome.answer, RetryLater)
        if something_waits:
            self.fall_behind(target)
        # A lane of an older version, which knew no paths, may have others in the outbox whose target has one.
        return is_retried or (something_waits and origin_of(item.target) == item.target)

    def let_go(self, target: Target) -> None:
        """Leave all but what is being sent to the outbox: it would only take memory from targets that work."""
        for item in target.ready:
            self._drop(target, item)
            for follower in self._lanes.pop(item.lane):
                self._drop(target, follower)
        target.ready.clear()
        self.fall_behind(target)

    def shift(self, step_ms: int) -> None:
        """The clock was set: what is held grows no older by that, and breakers pause for as long as before."""
        for target in self.targets.values():
            target.breaker.shift(step_ms)
            target.held = {
                id_: replace(item, decided_at_ms=item.decided_at_ms + step_ms) for id_, item in target.held.items()
            }
            target.ready = deque(target.held[item.id] for item in target.ready)
            for item in target.held.values():
                followers = self._lanes.get(item.lane)
                if followers and followers[0].target == target.name:
                    self._lanes[item.lane] = deque(target.held[one.id] for one in followers)

    def forget_if_idle(self, target: Target) -> None:
        """Forget a target of which nothing is held; its failures are remembered while there are not too many."""
        if target.is_idle and (not target.breaker.failures or len(self.targets) > MAX_TARGETS // 2):
            self.targets.pop(target.name, None)

    def _drop(self, target: Target, item: OutboxItem) -> None:
        del target.held[item.id]
        target.fetched.discard(item.id)
        self._stats.held -= 1
