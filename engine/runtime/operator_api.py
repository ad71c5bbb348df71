"""What the web and services ask of a running service, and what operators do to it. Read `Desk`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

from engine.clock import Clock
from engine.config.inventory import Inventory
from engine.config.loader import Config
from engine.core.alerting.explain import Gate
from engine.core.alerting.stages.silence import Silence
from engine.core.fleet import Fleet
from engine.core.rules import Rule
from engine.delivery.dispatcher import Dispatcher
from engine.runtime.history_codec import RETRIED_ROWS, Answering, quarantined_batch
from engine.runtime.rule_reloader import RuleKeeper
from engine.runtime.source_runner import Feeding
from engine.runtime.writer import Writer
from engine.sources.base import SourceHealth
from engine.sources.http import HttpSource
from engine.stores.base import DeliveryRow, QuarantineRow, Reader, Store

T = TypeVar("T")

ASKING_THREADS = 4
"""Questions to the store that are answered at once."""


class Desk(Answering):
    """The side of the service that is spoken to. Writes go through the writer; reads have connections of their own."""

    store: Store
    fleet: Fleet
    keeper: RuleKeeper
    feeding: Feeding
    writer: Writer
    dispatcher: Dispatcher

    def __init__(self, config: Config, clock: Clock, inventory: Inventory) -> None:
        self.config, self.clock, self.inventory = config, clock, inventory
        self.ready_at_ms: int | None = None
        # Threads of their own: people's long questions must not hold up the dispatcher's short ones.
        self._asking = ThreadPoolExecutor(ASKING_THREADS, "asking")

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules in force."""
        return self.keeper.rules

    @property
    def rules_problem(self) -> str | None:
        """Why the rule files do not load; None while they do."""
        return self.keeper.problem

    @property
    def push(self) -> HttpSource | None:
        """The source that events are sent to."""
        return self.feeding.push

    async def write(self, work: Callable[[], T]) -> T:
        """Do something inside the next transaction; returns when it has committed. StoreError when it could not."""
        return await asyncio.wrap_future(self.writer.submit(work))

    async def ask(self, question: Callable[[Reader], T]) -> T:
        """Ask the store, in a thread, beside the writer."""

        def asked() -> T:
            with self.store.reading() as reader:
                return question(reader)

        return await asyncio.get_running_loop().run_in_executor(self._asking, asked)

    def healths(self) -> list[SourceHealth]:
        """How every source is doing, and what its alert says."""
        now_ms, trouble = self.clock.now_ms(), self.feeding.watch.trouble
        found = [source.health(now_ms) for source in self.feeding.sources.values()]
        return [replace(health, trouble=trouble.get(health.name)) for health in found]

    def gaps_found(self) -> Mapping[str, int]:
        """How many gaps each source has found since the start."""
        return self.feeding.watch.gaps_found

    def now_ms(self) -> int:
        """The present instant, epoch milliseconds."""
        return self.clock.now_ms()

    def counters(self) -> dict[str, int]:
        """What was counted since the start."""
        stats, sent = self.writer.stats, self.dispatcher.stats
        found = {name: int(getattr(stats, name)) for name in stats.__slots__}
        found["flaps_suppressed"] = self.fleet.counts.flaps_suppressed
        for name in ("sent", "delivered", "retried", "rejected"):
            found[f"delivery_{name}"] = int(getattr(sent, name))
        return found

    async def act_on_delivery(self, number: int, what: str) -> tuple[DeliveryRow | None, bool]:
        """Carry out `retry` or `discard`: (the delivery as it is then, was it changed); (None, False): there is none."""
        now_ms = self.clock.now_ms()
        found = await self.write(lambda: self.store.deliveries.act(number, what, now_ms))
        self.dispatcher.wake()
        return found

    async def act_on_held(self, rule: str, what: str) -> int:
        """`release` or `discard` all held deliveries of a rule, some in each transaction; how many."""
        changed = 0
        while some := await self.write(lambda: self.store.deliveries.act_on_held(rule, what, self.clock.now_ms())):
            changed += some
            self.dispatcher.wake()
        return changed

    def suppressed(self) -> Mapping[str, int]:
        """How many alerts were suppressed since the start, by the reason."""
        return dict(self.writer.suppressed)

    def outages(self) -> Mapping[str, tuple[int, int]]:
        """Outages that go on, by the id of their alert: how many clients ever joined, and how many are back."""
        return self.fleet.book.gates.counts()

    def silences_open(self) -> int:
        """How many silences are not over."""
        return len(self.fleet.book.gates.silences.open)

    async def silence(self, silence: Silence) -> None:
        """Add a silence."""
        await self.write(lambda: self.fleet.silence(silence, self.clock.now_ms()))

    async def expire_silence(self, id_: str) -> bool:
        """End a silence now; was there one that was not over?"""
        return await self.write(lambda: self.fleet.expire_silence(id_, self.clock.now_ms()))

    async def why_not(self, rule: str, client: str) -> list[Gate]:
        """Every gate between a client and a firing of the rule; asked between two turns, when nothing changes."""
        return await self.write(lambda: self.fleet.why_not(rule, client, self.clock.now_ms()))

    async def acknowledge(self, alert_id: str, by: str) -> int:
        """Somebody knows of an alert, or of all in a group; how many were firing and not acknowledged."""
        return await self.write(lambda: self.fleet.acknowledge(self.clock.now_ms(), alert_id=alert_id, by=by))

    def readiness(self, now_ms: int) -> list[str]:
        """Reasons why the service is not ready; empty when it is."""
        reasons = []
        if self.ready_at_ms is None:
            reasons.append("starting: the states are being loaded")
        if self.writer.failure is not None:
            reasons.append(self.writer.failure)
        for name, source in self.feeding.sources.items():
            reason = self.feeding.watch.not_flowing(source.health(now_ms), now_ms)
            if reason is not None:
                reasons.append(f"source {name}: {reason}")
        return reasons

    async def retry_quarantine(self) -> tuple[int, int]:
        """Offer all quarantined events again: (accepted, still malformed). What is accepted leaves the quarantine."""
        accepted = left = 0
        cursor: int | None = None
        while rows := await self.ask(_quarantined_from(cursor)):
            cursor = rows[-1].id
            batch, ids = quarantined_batch(rows, self.clock.now_ms(), self.config.events.max_future_ms)
            left += len(rows) - len(ids)
            if not ids:
                continue
            done: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
            batch.acknowledge = done.set_result
            self.writer.offer(batch)
            if (error := await done) is not None:
                raise error
            await self.write(lambda ids=ids: self.store.quarantine.delete(ids))  # type: ignore[misc]
            accepted += len(ids)
        return accepted, left

    async def forget(self, clients: Sequence[str]) -> int:
        """Keep these clients no longer; their alerts are closed. Returns how many were known."""

        def work() -> int:
            known = [client for client in clients if client in self.fleet.states]
            for client in known:
                self.fleet.forget(client, self.clock.now_ms())
            return len(known)

        return await self.write(work)


def _quarantined_from(cursor: int | None) -> Callable[[Reader], list[QuarantineRow]]:
    """The question for one page of the quarantine."""
    return lambda reader: reader.quarantine(limit=RETRIED_ROWS, cursor=cursor)
