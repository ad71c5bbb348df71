"""Takes due deliveries out of the outbox and has them sent: in order within a lane, in parallel between targets.

Read `Dispatcher.run` and `_pump` first. The outbox in the store is the truth; what is held here is a window of it, limited in
total (`Limits.held`) and for each target, so that one slow target can neither delay another nor fill the memory.

A delivery comes in by `offer`, right after the commit that decided it, or by `_fetch`, when its target is `behind`: when
the outbox may hold something due that is not here. It leaves when its outcome is recorded. Until then its lane is closed, so
nothing overtakes it even after a crash; a retry is returned to the outbox, which knows when it is due and what waits for it.

`run` alternates between recording and fetching and never does both at once: what it fetches has therefore seen every
outcome that left this window. A target that fails `Limits.failures_to_open` times in a row is paused (its breaker is
open) for a time that doubles; then a single delivery probes it. Probes take turns: every other one is a delivery that was never
tried, the rest are retries, the longest due first.

Whatever one sender, one answer or one row does, `run` goes on: what it raises is logged, shown (`health`) and tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from engine.actions.base import (
    ActionSender,
    BatchSender,
    Delivered,
    Expired,
    OutboxItem,
    Outcome,
    Rejected,
    RetryLater,
    Untried,
)
from engine.clock import Clock, SteadyClock
from engine.core.delivery import deadline_ms, life_of
from engine.delivery.dead_log import DeadDeliveryLog, may_be_dead
from engine.delivery.health import LONGEST_ATTEMPT_S, LONGEST_TURN_S, DispatcherHealth
from engine.delivery.limits import DEFAULT_LIMITS, DispatcherStats, Limits
from engine.delivery.outbox import Outbox
from engine.delivery.sender_calls import SenderCalls
from engine.delivery.target import Target
from engine.delivery.target_watch import TargetWatch
from engine.delivery.window import Window
from engine.errors import RollcallError
from engine.stores.base import Share
from engine.telemetry import Event, logger

log = logger(__name__)

GATHER_S = 0.005
"""Between two writes of outcomes: a write costs the store a commit, whether it holds one outcome or hundreds."""

STORE_RETRY_S = 1.0
"""Before an outbox that could not be read or written is tried again."""

LONGEST_FAULT_PAUSE_S = 30.0
"""The pause after an internal error doubles from `STORE_RETRY_S` up to this."""

RECEIVER = "notify:"
"""How the targets of receivers begin."""

LEASE_LOOK_S = 0.1
"""Between two looks whether something may leave again, while nothing may."""

LONGEST_SLEEP_S = 60.0
"""The outbox is checked at least this often, whatever the clock did meanwhile."""


class Dispatcher:
    """Sends what the outbox holds. `senders` by action; everything happens on the event loop that `run` is awaited on.

    Call `offer` after each commit, in the order of the commits, and `wake` after an operator changed deliveries.
    `dead_log`: where dead deliveries are logged.
    """

    def __init__(
        self,
        outbox: Outbox,
        senders: Mapping[str, ActionSender | BatchSender],
        clock: Clock,
        limits: Limits = DEFAULT_LIMITS,
        dead_log: DeadDeliveryLog | None = None,
        watch: TargetWatch | None = None,
        may_send: Callable[[], bool] | None = None,
    ) -> None:
        """`may_send`: asked before each attempt, where another replica may have become the one that sends; None: always."""
        self._outbox = outbox
        self._calls = SenderCalls(senders, clock)
        self._clock = clock
        self._steady = SteadyClock(clock)
        self._shifted_ms = self._steady.shifted_ms  # the steps of the clock that what is held here has taken
        self._limits = limits
        self._dead_log = dead_log or DeadDeliveryLog(clock)
        self._watch = watch or TargetWatch()
        self._trouble: str | None = None  # why the outbox or this dispatcher fails
        self._trouble_since_ms = 0  # of the steady clock
        self._faults = 0  # internal errors in a row
        self._turned_s = time.monotonic()  # when it last looked around
        self._unrecorded: list[tuple[Target, Outcome]] = []
        self._awake = asyncio.Event()
        self._look_around = True  # ask the outbox which targets have something due
        self._has_looked = False  # until then an earlier delivery of a lane may be in the outbox
        self._next_due_ms: int | None = None
        self._may_send = may_send
        self._is_barred = False  # did something stay that may not leave now?
        self._stopping = False
        self._finished = asyncio.Event()
        self.stats = DispatcherStats()
        self.receiver_attempts: dict[tuple[str, str], int] = {}  # (receiver, outcome) -> since the start
        self._window = Window(limits, self.stats, self._done, self._awake.set)

    # Coming in

    def offer(self, items: Sequence[OutboxItem]) -> None:
        """Take deliveries that were just committed; what does not fit stays in the outbox and is fetched later."""
        touched: dict[str, Target] = {}
        for item in items:
            if not self._window.knows(item.target):
                self._look_around = True
                continue
            target = self._window.target(item.target)
            if (
                not self._has_looked
                or self._stopping
                or target.behind
                or self._window.room(target) <= 0
                or target.breaker.is_open
            ):
                # The outbox knows the order of what it holds already; this delivery queues behind it.
                self._window.fall_behind(target)
                continue
            self._window.hold(target, item)
            touched[target.name] = target
        now_ms = self._now_ms()
        for target in touched.values():
            self._pump(target, now_ms)

    def wake(self) -> None:
        """Look at the outbox again: someone retried, released or discarded deliveries."""
        self._look_around = True
        self._awake.set()

    # The clock

    def _now_ms(self) -> int:
        """The present instant. When the clock was set since it was asked last, what is held here is moved first."""
        now_ms = self._clock.now_ms()
        step_ms = self._steady.shifted_ms - self._shifted_ms
        if step_ms:
            self._shifted_ms += step_ms
            self._window.shift(step_ms)
            self._look_around = True
        return now_ms

    # Going out

    def _pump(self, target: Target, now_ms: int) -> None:
        """Send as much of what is ready as the target's limit and breaker allow."""
        if target.pumping:
            return  # an action that answers at once; the loop below goes on
        target.pumping = True
        try:
            while batch := self._take(target, now_ms):
                self.stats.sent += len(batch)
                self._calls.send(batch, target.done)
        finally:
            target.pumping = False

    def _take(self, target: Target, now_ms: int) -> list[OutboxItem]:
        """What may be sent to a target now; what is too old to be sent gets its outcome here."""
        batch: list[OutboxItem] = []
        while target.ready and not self._stopping:
            if self._may_send is not None and not self._may_send():
                self._is_barred = True
                self._awake.set()
                break
            ending = self._ending(target.ready[0], now_ms)
            if ending is not None:
                self._note(target, Outcome(id=target.ready.popleft().id, answer=ending, attempted_at_ms=now_ms))
                continue
            # A sender that keeps to the limit itself may have a few in stock, unless the target has just failed.
            stock = 0 if target.breaker.failures else self._calls.stock(target.ready[0].action)
            if target.in_flight >= self._limits.per_target + stock or target.is_closed_to(now_ms):
                break
            item = target.ready.popleft()
            target.leaves(item)
            self.stats.in_flight += 1
            batch.append(item)
        return batch

    def _ending(self, item: OutboxItem, now_ms: int) -> Expired | Rejected | None:
        """Why a delivery is not sent at all: it is too old, or cannot be read. None: it is sent."""
        if item.broken is not None:
            return Rejected(reason=item.broken)
        is_over = now_ms >= deadline_ms(item.decided_at_ms, self._limits.policy, life_of(item.request))
        return Expired() if is_over else None

    def _send_what_stayed(self) -> None:
        """What was not allowed to leave may be so now."""
        if self._is_barred and self._may_send is not None and self._may_send():
            self._is_barred = False
            now_ms = self._now_ms()
            for target in list(self._window.targets.values()):
                self._pump(target, now_ms)

    def _done(self, target: Target, outcomes: Sequence[Outcome]) -> None:
        """Some attempts at a target have ended: judge the target, note the outcomes, and send the next ones.

        An outcome of what is not being sent, or one that comes twice, means nothing.
        """
        now_ms = self._now_ms()
        handed_back = []
        for outcome in outcomes:
            if target.under_way.pop(outcome.id, None) is None:
                continue
            self.stats.in_flight -= 1
            if isinstance(outcome.answer, Untried):
                handed_back.append(target.held[outcome.id])
                continue
            self._note(target, outcome)
            self._judge(target, outcome, now_ms)
        self._take_back(target, handed_back, now_ms)
        self._pump(target, now_ms)

    def _take_back(self, target: Target, items: Sequence[OutboxItem], now_ms: int) -> None:
        """Put what a sender did not begin at the front again; lanes stay as they are."""
        for item in items:
            target.not_sent(item)
        self.stats.sent -= len(items)
        target.ready.extendleft(reversed(items))
        if items and target.is_closed_to(now_ms):
            self._window.let_go(target)

    def _judge(self, target: Target, outcome: Outcome, now_ms: int) -> None:
        opened, closed = target.judge(outcome, now_ms)
        if opened:
            self.stats.opened += 1
            self._window.let_go(target)
        elif closed:
            self._window.fall_behind(target)

    def _note(self, target: Target, outcome: Outcome) -> None:
        self._unrecorded.append((target, outcome))
        self._awake.set()

    # Recording and fetching

    async def run(self) -> None:
        """Send until `stop`; then wait a limited time for what is being sent, and record it. Cancelling is a crash."""
        try:
            while not self._stopping:
                self._awake.clear()
                self._turned_s = time.monotonic()
                try:
                    await self._record()
                    self._send_what_stayed()
                    await self._fetch()
                    self._dead_log.flush()
                    idle_s = self._idle_s()
                except RollcallError as error:
                    self._outbox_failed(error)
                    await self._sleep(STORE_RETRY_S)
                    continue
                except Exception as error:  # noqa: BLE001  # whatever it is, the others go on
                    self._failed(error)
                    await self._sleep(min(LONGEST_FAULT_PAUSE_S, STORE_RETRY_S * 2 ** min(self._faults - 1, 10)))
                    continue
                self._works()
                await asyncio.sleep(GATHER_S)
                await self._sleep(idle_s)
            await self._drain()
            self._dead_log.flush(all_targets=True)
        finally:
            self._finished.set()

    async def stop(self) -> None:
        """Send nothing more and let `run` end; returns when it has."""
        self._stopping = True
        self._awake.set()
        await self._finished.wait()

    def health(self) -> DispatcherHealth:
        """How sending is doing. May be called in any thread."""
        now_ms, now_s = self._clock.now_ms(), time.monotonic()
        targets = list(self._window.targets.values())
        pauses = {found.target: found for target in targets if (found := target.pause(now_ms)) is not None}
        trouble, since_ms = self._trouble, self._steady.engine_ms(self._trouble_since_ms)
        hangs_s = now_s - self._turned_s
        if trouble is None and hangs_s > LONGEST_TURN_S and not self._stopping:
            trouble, since_ms = "the dispatcher makes no progress", now_ms - round(hangs_s * 1000)
        began_s = min((began_s for target in targets for began_s in _oldest(target)), default=now_s)
        if trouble is None and now_s - began_s > LONGEST_ATTEMPT_S:
            trouble, since_ms = "an attempt does not end", now_ms - round((now_s - began_s) * 1000)
        return DispatcherHealth(trouble, since_ms, pauses)

    def _in_trouble(self, reason: str) -> None:
        if self._trouble is None:
            self._trouble_since_ms = self._steady.now_ms()
        self._trouble = reason

    def _outbox_failed(self, error: RollcallError) -> None:
        self.stats.store_errors += 1
        if self._trouble is None:
            log.warning(Event.OUTBOX_UNAVAILABLE, error=str(error))
        self._in_trouble(f"the outbox cannot be read or written: {error}")

    def _failed(self, error: Exception) -> None:
        """An internal error: logged once, until all is well again."""
        self._faults += 1
        if self._faults == 1:
            log.error(Event.INTERNAL_ERROR, part="dispatcher", exc_info=error)
        self._in_trouble(f"internal error: {error!r}")

    def _works(self) -> None:
        self._faults = 0
        if self._trouble is not None:
            log.info(Event.OUTBOX_RECOVERED)
        self._trouble = None

    async def _record(self) -> None:
        """Write the outcomes gathered so far, and only then let what waited for them go on."""
        while self._unrecorded:
            batch = self._unrecorded[: self._limits.recorded]
            await self._outbox.record([outcome for _, outcome in batch])
            del self._unrecorded[: len(batch)]
            now_ms = self._now_ms()
            suspects = [
                o.id
                for target, o in batch
                if o.id in target.held and may_be_dead(target.held[o.id], o.answer, now_ms, self._limits.policy)
            ]
            touched = {target.name: target for target, _ in batch}
            for target, outcome in batch:
                self.stats.count(outcome.answer)
                self._watch.note(target.name, outcome)
                if target.name.startswith(RECEIVER):
                    self._count_receiver(target.name, outcome)
                    self._note_route(target, outcome)
                # The outbox does not agree when the clock was set just then: it is still due.
                self._look_around = self._look_around or isinstance(outcome.answer, Expired)
                may_wait = self._window.settle(target, outcome)
                self._look_around = self._look_around or may_wait
            for target in touched.values():
                self._pump(target, now_ms)
                self._window.forget_if_idle(target)
            await self._log_dead(suspects)

    def _count_receiver(self, target: str, outcome: Outcome) -> None:
        answer = outcome.answer
        what = (
            "delivered"
            if isinstance(answer, Delivered)
            else "retried"
            if isinstance(answer, RetryLater)
            else "rejected"
        )
        key = (target.removeprefix(RECEIVER), what)
        self.receiver_attempts[key] = self.receiver_attempts.get(key, 0) + 1

    def _note_route(self, target: Target, outcome: Outcome) -> None:
        """A receiver that a route chose got its delivery, so the route leads somewhere again."""
        item = target.held.get(outcome.id)
        if item is not None and isinstance(outcome.answer, Delivered) and item.request.get("via"):
            self._watch.note(f"{RECEIVER}{item.request['via']}", outcome)

    async def _log_dead(self, suspects: Sequence[int]) -> None:
        """Log those of these deliveries that are dead."""
        if not suspects:
            return
        try:
            rows = await self._outbox.dead(suspects)
        except RollcallError as error:
            self._outbox_failed(error)
            return
        for row in rows:
            self._dead_log.note(row, error=row.last_error or "", attempts=row.attempts, delivery=row.id)

    async def _fetch(self) -> None:
        """Read what is due from the outbox, for every target that is behind and has room."""
        now_ms = self._now_ms()
        if self._look_around or (self._next_due_ms is not None and self._next_due_ms <= now_ms):
            self._look_around = False
            found = await self._outbox.waiting(now_ms)
            self._next_due_ms = found.next_due_at_ms
            for name in filter(self._window.knows, found.targets):
                self._window.fall_behind(self._window.target(name))
            self._has_looked = True
        shares = self._shares(now_ms)
        if not shares:
            return
        for share in shares:
            self._window.targets[share.target].missed = False
        items = await self._outbox.due(now_ms, shares)
        if self._steady.shifted_ms != self._shifted_ms:  # nobody knows on which side of the step these were read
            for share in shares:
                self._window.targets[share.target].missed = True
            items = []
        self._take_in(shares, items)

    def _shares(self, now_ms: int) -> list[Share]:
        """How much to ask for: `fetched` for a target that runs low, `per_target` for one that is to be probed."""
        shares, free = [], self._window.free()
        for target in self._window.behind.values():
            if target.is_closed_to(now_ms) or len(target.held) > self._limits.fetched // 2:
                continue
            most = self._limits.per_target if target.breaker.is_open else self._limits.fetched
            limit = min(most, self._window.room(target, free))
            if limit > 0:
                fresh_first = target.breaker.is_open and target.probes % 2 == 1
                shares.append(Share(target.name, limit, tuple(target.held), fresh_first))
                free -= limit
        return shares

    def _take_in(self, shares: Sequence[Share], items: Sequence[OutboxItem]) -> None:
        now_ms = self._now_ms()
        counted: dict[str, int] = {}
        for item in items:
            target = self._window.targets[item.target]
            counted[item.target] = counted.get(item.target, 0) + 1
            if target.breaker.is_open and now_ms < target.breaker.retry_at_ms:
                continue  # the breaker opened while the outbox was being read
            self._window.hold(target, item)
            target.fetched.add(item.id)
        for share in shares:
            target = self._window.targets[share.target]
            if counted.get(share.target, 0) < share.limit and not target.missed:
                self._window.caught_up(target)
            self._pump(target, now_ms)
            self._window.forget_if_idle(target)

    def _idle_s(self) -> float:
        """Seconds until there is something to do, unless something happens before."""
        now_ms = self._now_ms()
        breakers = [target.breaker for target in self._window.behind.values()]
        instants = [found.retry_at_ms for found in breakers if found.is_open and found.retry_at_ms > now_ms]
        if self._next_due_ms is not None:
            instants.append(self._next_due_ms)
        if self._look_around or self._shares(now_ms):
            return 0.0
        if self._is_barred:
            return LEASE_LOOK_S
        return min([max(0, instant - now_ms) / 1000 for instant in instants] + [LONGEST_SLEEP_S])

    async def _sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._awake.wait()

    async def _drain(self) -> None:
        """Wait for what is being sent, then record it; what remains unrecorded is sent again after the next start."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.drain_s):
                while self.stats.in_flight:
                    self._awake.clear()
                    await self._awake.wait()
        try:
            await self._record()
        except Exception as error:  # noqa: BLE001  # whatever it is: these are sent again after the next start
            log.warning(Event.RESULTS_UNRECORDED, deliveries=len(self._unrecorded), error=str(error))


def _oldest(target: Target) -> Iterator[float]:
    """Since when (monotonic) the oldest attempt at a target goes on that should have ended. Commands wait for their device."""
    for id_, began_s in list(target.under_way.items())[:1]:
        item = target.held.get(id_)
        if item is not None and item.action != "command":
            yield began_s
