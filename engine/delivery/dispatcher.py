"""Takes due deliveries out of the outbox and has them sent: in order within a lane, side by side between targets.

Read `Dispatcher.run` and `_pump` first. The outbox in the store is the truth; what is held here is a window of it, bounded in
all (`Limits.held`) and for each target, so that one slow target can neither delay another nor fill the memory.

A delivery comes in by `offer`, right after the commit that decided it, or by `_fetch`, when its target is `behind`: when
the outbox may hold something due that is not here. It leaves when its outcome is recorded. Until then its lane is closed, so
nothing overtakes it even if we crash; a retry is given back to the outbox, which knows when it is due and what waits for it.

`_keep` alternates between recording and fetching and never does both at once: what it fetches has therefore seen every
outcome that left this window. A target that fails `Limits.failures_to_open` times in a row is left alone (its breaker is
open) for a while that doubles; then a single delivery probes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from engine.actions.base import (
    ActionSender,
    BatchSender,
    Delivered,
    Done,
    Expired,
    OutboxItem,
    Outcome,
    Rejected,
    RetryLater,
    Untried,
)
from engine.clock import Clock
from engine.core.delivery import DEFAULT_POLICY, Policy, deadline_ms, life_of
from engine.delivery.outbox import Outbox
from engine.errors import RollcallError
from engine.stores.base import Share

log = logging.getLogger(__name__)

GATHER_S = 0.005
"""Between two writes of outcomes: a write costs the store a commit, whether it holds one outcome or hundreds."""

STORE_RETRY_S = 1.0
"""After an outbox that could not be read or written."""

MAX_TARGETS = 10_000
"""Targets remembered for their failures alone."""

LONGEST_SLEEP_S = 60.0
"""Looked at again at least this often, whatever the clock did meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is allowed at most. Times are in the unit their name ends with."""

    held: int = 5_000  # deliveries in memory
    per_target: int = 16  # requests under way to one target
    fetched: int = 1_000  # deliveries of one target taken from the outbox at once
    recorded: int = 1_000  # outcomes written at once
    failures_to_open: int = 5  # in a row, until a target is left alone
    open_first_ms: int = 1_000
    open_longest_ms: int = 60_000
    drain_s: float = 5.0  # for requests under way when stopping
    policy: Policy = DEFAULT_POLICY


@dataclass(slots=True, kw_only=True)
class Stats:
    """What has happened since the start, and what is held now; plain numbers for whoever publishes them."""

    offered: int = 0
    fetched: int = 0
    sent: int = 0
    delivered: int = 0
    retried: int = 0
    rejected: int = 0
    expired: int = 0
    opened: int = 0  # breakers, times
    held: int = 0
    in_flight: int = 0
    store_errors: int = 0


@dataclass(slots=True)
class _Target:
    """One target's part of the window."""

    name: str
    ready: deque[OutboxItem] = field(default_factory=deque)  # heads of their lanes
    held: dict[int, OutboxItem] = field(default_factory=dict)  # everything of it that is in memory, by id
    fetched: set[int] = field(default_factory=set)  # of these, the ones that something in the outbox may wait for
    in_flight: int = 0
    behind: bool = False  # the outbox may hold something due that is not here
    missed: bool = False  # and more came while we were reading it
    pumping: bool = False
    failures: int = 0  # in a row
    open_until_ms: int = 0
    times_opened: int = 0  # in a row
    done: Done = field(init=False)  # one for each target, so that a sender can put its outcomes together
    probe: int = 0  # the id of the delivery that finds out whether it is back

    def is_open(self, now_ms: int) -> bool:
        return now_ms < self.open_until_ms or self.probe > 0

    @property
    def idle(self) -> bool:
        """Nothing but its failures would be forgotten with it."""
        return not self.held and not self.behind


class Dispatcher:
    """The one who sends. `senders` by action; everything happens on the event loop that `run` is awaited on.

    Call `offer` after each commit, in the order of the commits, and `wake` after an operator changed deliveries.
    """

    def __init__(
        self,
        outbox: Outbox,
        senders: Mapping[str, ActionSender | BatchSender],
        clock: Clock,
        limits: Limits = Limits(),  # frozen
    ) -> None:
        self._outbox = outbox
        self._senders = senders
        self._stock = {action: getattr(sender, "prefetch", 0) for action, sender in senders.items()}
        self._clock = clock
        self._limits = limits
        self._targets: dict[str, _Target] = {}
        self._lanes: dict[str, deque[OutboxItem]] = {}  # of each lane with a head in hand, the followers
        self._behind: dict[str, _Target] = {}
        self._unrecorded: list[tuple[_Target, Outcome]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._awake = asyncio.Event()
        self._look_around = True  # which targets have something due is to be asked
        self._acquainted = False  # has looked once: until then an earlier one of a lane may lie in the outbox
        self._next_due_ms: int | None = None
        self._stopping = False
        self._finished = asyncio.Event()
        self.stats = Stats()

    # Coming in

    def offer(self, items: Sequence[OutboxItem]) -> None:
        """Take deliveries that were just committed; what does not fit stays in the outbox and is fetched later."""
        touched: dict[str, _Target] = {}
        for item in items:
            target = self._target(item.target)
            if (
                not self._acquainted
                or self._stopping
                or target.behind
                or self._room(target) <= 0
                or target.open_until_ms
            ):
                # The outbox knows the order of what is there already; this one queues behind it.
                self._fall_behind(target)
                continue
            self._hold(target, item)
            touched[target.name] = target
            self.stats.offered += 1
        now_ms = self._clock.now_ms()
        for target in touched.values():
            self._pump(target, now_ms)

    def wake(self) -> None:
        """Look at the outbox again: someone retried, released or discarded deliveries."""
        self._look_around = True
        self._awake.set()

    def _fall_behind(self, target: _Target) -> None:
        """The outbox is to be asked for what this target has there."""
        target.behind = target.missed = True
        self._behind[target.name] = target
        self._awake.set()

    def _target(self, name: str) -> _Target:
        target = self._targets.get(name)
        if target is None:
            target = self._targets[name] = _Target(name)
            target.done = partial(self._done, target)
        return target

    def _room(self, target: _Target) -> int:
        """How many more of a target fit: at most half of what is free beyond its fair start, so others always fit too."""
        free = self._limits.held - self.stats.held
        share = max(2 * self._limits.per_target, (free + len(target.held)) // 2)
        return min(free, share - len(target.held))

    def _hold(self, target: _Target, item: OutboxItem) -> None:
        if item.id in target.held:
            return
        target.held[item.id] = item
        self.stats.held += 1
        followers = self._lanes.get(item.lane)
        if followers is None:
            self._lanes[item.lane] = deque()
            target.ready.append(item)
        else:
            followers.append(item)

    # Going out

    def _pump(self, target: _Target, now_ms: int) -> None:
        """Send as much of what is ready as the target's limit and breaker allow."""
        if target.pumping:
            return  # an action that answers at once; the loop below goes on
        target.pumping = True
        try:
            while batch := self._take(target, now_ms):
                self.stats.sent += len(batch)
                self._send(target, batch)
        finally:
            target.pumping = False

    def _take(self, target: _Target, now_ms: int) -> list[OutboxItem]:
        """What may leave for a target at once; what is too old on the way ends here."""
        batch: list[OutboxItem] = []
        while target.ready and not self._stopping:
            if self._is_expired(target.ready[0], now_ms):
                outcome = Outcome(id=target.ready.popleft().id, answer=Expired(), attempted_at_ms=now_ms)
                self._note(target, outcome)
                continue
            # A sender that keeps to the limit itself may have a few in stock, unless the target is in trouble.
            stock = 0 if target.failures else self._stock.get(target.ready[0].action, 0)
            if target.in_flight >= self._limits.per_target + stock or target.is_open(now_ms):
                break
            item = target.ready.popleft()
            target.in_flight += 1
            self.stats.in_flight += 1
            if target.open_until_ms:
                target.probe = item.id  # the time is over: this one finds out for all
            batch.append(item)
        return batch

    def _is_expired(self, item: OutboxItem, now_ms: int) -> bool:
        return now_ms >= deadline_ms(item.decided_at_ms, self._limits.policy, life_of(item.request))

    def _send(self, target: _Target, batch: list[OutboxItem]) -> None:
        by_action: dict[str, list[OutboxItem]] = {}
        for item in batch:
            by_action.setdefault(item.action, []).append(item)
        for action, items in by_action.items():
            self._send_by(self._senders.get(action), action, items, target.done)

    def _send_by(
        self, sender: ActionSender | BatchSender | None, action: str, items: list[OutboxItem], done: Done
    ) -> None:
        submit = getattr(sender, "submit", None)
        if submit is not None:
            submit(items, done)
        elif sender is None:
            now_ms = self._clock.now_ms()
            answer = Rejected(reason=f"no such action here: {action}")
            done([Outcome(id=item.id, answer=answer, attempted_at_ms=now_ms) for item in items])
        else:
            for item in items:
                task = asyncio.get_running_loop().create_task(self._send_one(sender, item, done))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _send_one(self, sender: ActionSender | BatchSender, item: OutboxItem, done: Done) -> None:
        assert not isinstance(sender, type) and hasattr(sender, "send")
        try:
            answer = await sender.send(item)
        except Exception:
            log.exception("a sender broke its promise", extra={"action": item.action, "delivery": item.id})
            answer = RetryLater(reason="sending failed; the engine's log says how", may_have_arrived=True)
        done([Outcome(id=item.id, answer=answer, attempted_at_ms=self._clock.now_ms())])

    def _done(self, target: _Target, outcomes: Sequence[Outcome]) -> None:
        """Some attempts at a target came to an end: judge it, note them down, and send the next ones."""
        target.in_flight -= len(outcomes)
        self.stats.in_flight -= len(outcomes)
        now_ms = self._clock.now_ms()
        handed_back = []
        for outcome in outcomes:
            if isinstance(outcome.answer, Untried):
                handed_back.append(target.held[outcome.id])
                continue
            self._judge(target, outcome, now_ms)
            self._note(target, outcome)
        self._take_back(target, handed_back, now_ms)
        self._pump(target, now_ms)

    def _take_back(self, target: _Target, items: Sequence[OutboxItem], now_ms: int) -> None:
        """Put what a sender did not begin first in line again; lanes stay as they are."""
        for item in items:
            if target.probe == item.id:
                target.probe = 0
        self.stats.sent -= len(items)
        target.ready.extendleft(reversed(items))
        if items and target.is_open(now_ms):
            self._let_go(target)

    def _judge(self, target: _Target, outcome: Outcome, now_ms: int) -> None:
        """What an answer says about its target: anything but trouble closes the breaker."""
        was_open, was_probe = target.open_until_ms > 0, target.probe == outcome.id
        if was_probe:
            target.probe = 0
        if isinstance(outcome.answer, RetryLater) and outcome.answer.our_fault:
            return
        if not isinstance(outcome.answer, RetryLater):
            target.failures = target.times_opened = target.open_until_ms = target.probe = 0
            if was_open:
                self._fall_behind(target)
            return
        target.failures += 1
        if was_open and not was_probe:
            return  # it was under way when the breaker opened, and tells nothing new
        if target.failures >= self._limits.failures_to_open:
            wait = min(self._limits.open_first_ms << min(target.times_opened, 20), self._limits.open_longest_ms)
            target.open_until_ms = now_ms + wait
            target.times_opened += 1
            self.stats.opened += 1
            self._let_go(target)

    def _note(self, target: _Target, outcome: Outcome) -> None:
        self._unrecorded.append((target, outcome))
        self._awake.set()

    def _let_go(self, target: _Target) -> None:
        """Leave all but what is under way to the outbox: it would only take memory from targets that are well."""
        for item in target.ready:
            self._drop(target, item)
            for follower in self._lanes.pop(item.lane):
                self._drop(target, follower)
        target.ready.clear()
        self._fall_behind(target)

    def _drop(self, target: _Target, item: OutboxItem) -> None:
        del target.held[item.id]
        target.fetched.discard(item.id)
        self.stats.held -= 1

    # Keeping the books

    async def run(self) -> None:
        """Send until `stop`; then wait for what is under way, for a bounded time, and record it. Cancelling is a crash."""
        try:
            while not self._stopping:
                self._awake.clear()
                try:
                    await self._record()
                    await self._fetch()
                except RollcallError as error:
                    self.stats.store_errors += 1
                    log.warning("outbox unavailable: %s", error)
                    await self._sleep(STORE_RETRY_S)
                    continue
                await asyncio.sleep(GATHER_S)
                await self._sleep(self._idle_s())
            await self._drain()
        finally:
            self._finished.set()

    async def stop(self) -> None:
        """Send nothing more and let `run` end; returns when it has."""
        self._stopping = True
        self._awake.set()
        await self._finished.wait()

    async def _record(self) -> None:
        """Write the outcomes gathered so far, and only then let what waited for them go on."""
        while self._unrecorded:
            batch = self._unrecorded[: self._limits.recorded]
            await self._outbox.record([outcome for _, outcome in batch])
            del self._unrecorded[: len(batch)]
            touched = {target.name: target for target, _ in batch}
            for target, outcome in batch:
                self._count(outcome)
                self._settle(target, outcome)
            now_ms = self._clock.now_ms()
            for target in touched.values():
                self._pump(target, now_ms)
                self._forget_if_idle(target)

    def _settle(self, target: _Target, outcome: Outcome) -> None:
        """Open the lane of a recorded delivery: to its next one, or to what the outbox makes of the rest."""
        item = target.held[outcome.id]
        # Whatever was fetched may have been a retry, and then others in the outbox waited for it.
        something_waits = item.id in target.fetched
        self._drop(target, item)
        followers = self._lanes.pop(item.lane)
        if isinstance(outcome.answer, Delivered):
            if followers:
                target.ready.append(followers.popleft())
                self._lanes[item.lane] = followers
        else:
            # A retry holds them back, a dead firing may have taken them along: the outbox knows.
            for follower in followers:
                self._drop(target, follower)
            something_waits = something_waits or bool(followers)
            self._look_around = self._look_around or isinstance(outcome.answer, RetryLater)
        if something_waits:
            self._fall_behind(target)

    def _count(self, outcome: Outcome) -> None:
        stats, answer = self.stats, outcome.answer
        stats.delivered += isinstance(answer, Delivered)
        stats.retried += isinstance(answer, RetryLater)
        stats.rejected += isinstance(answer, Rejected)
        stats.expired += isinstance(answer, Expired)

    def _forget_if_idle(self, target: _Target) -> None:
        if target.idle and (not target.failures or len(self._targets) > MAX_TARGETS):
            self._targets.pop(target.name, None)

    async def _fetch(self) -> None:
        """Read what is due from the outbox, for every target that is behind and has room."""
        now_ms = self._clock.now_ms()
        if self._look_around or (self._next_due_ms is not None and self._next_due_ms <= now_ms):
            self._look_around = False
            found = await self._outbox.waiting(now_ms)
            self._next_due_ms = found.next_due_at_ms
            for name in found.targets:
                self._fall_behind(self._target(name))
            self._acquainted = True
        shares = self._shares(now_ms)
        if not shares:
            return
        for share in shares:
            self._targets[share.target].missed = False
        items = await self._outbox.due(now_ms, shares)
        self._take_in(shares, items)

    def _shares(self, now_ms: int) -> list[Share]:
        """How much to ask for: a good portion for a target that runs low, a little for one that is to be probed."""
        shares, free = [], self._limits.held - self.stats.held
        for target in self._behind.values():
            if target.is_open(now_ms) or len(target.held) > self._limits.fetched // 2:
                continue
            most = self._limits.per_target if target.open_until_ms else self._limits.fetched
            limit = min(most, self._room(target), free)
            if limit > 0:
                shares.append(Share(target.name, limit, tuple(target.held)))
                free -= limit
        return shares

    def _take_in(self, shares: Sequence[Share], items: Sequence[OutboxItem]) -> None:
        now_ms = self._clock.now_ms()
        counted: dict[str, int] = {}
        for item in items:
            target = self._targets[item.target]
            counted[item.target] = counted.get(item.target, 0) + 1
            if now_ms < target.open_until_ms:
                continue  # it opened while we were reading
            self._hold(target, item)
            target.fetched.add(item.id)
        self.stats.fetched += len(items)
        for share in shares:
            target = self._targets[share.target]
            if counted.get(share.target, 0) < share.limit and not target.missed:
                target.behind = False
                del self._behind[target.name]
            self._pump(target, now_ms)
            self._forget_if_idle(target)

    def _idle_s(self) -> float:
        """How long nothing is to be done unless something happens, in seconds."""
        now_ms = self._clock.now_ms()
        instants = [target.open_until_ms for target in self._behind.values() if target.open_until_ms > now_ms]
        if self._next_due_ms is not None:
            instants.append(self._next_due_ms)
        if self._look_around or self._shares(now_ms):
            return 0.0
        return min([max(0, instant - now_ms) / 1000 for instant in instants] + [LONGEST_SLEEP_S])

    async def _sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._awake.wait()

    async def _drain(self) -> None:
        """Wait for what is under way, then record it; what remains unrecorded is sent again after the next start."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.drain_s):
                while self.stats.in_flight:
                    self._awake.clear()
                    await self._awake.wait()
        try:
            await self._record()
        except RollcallError as error:
            log.warning("outcomes not recorded, these deliveries are sent again after the next start: %s", error)
