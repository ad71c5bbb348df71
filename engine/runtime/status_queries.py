"""Puts together those who ask: provider, budget, asker, judging and reconciler. Read `assemble`, then `Asking`.

The service has one `Asking`; commands make one over a store they opened themselves, or only an asker (`asker_alone`), all
within the one budget whose ledger lies in the data folder.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from typing import Any

from engine.clock import Clock
from engine.config.inventory import Inventory
from engine.config.loader import Config, Secret
from engine.config.status import StatusConfig
from engine.core.fleet import Fleet
from engine.core.presence.query import QueryRequest, StatusAnswer
from engine.core.presence.reconcile import is_concerned, sweep_order
from engine.errors import Overloaded, StoreError
from engine.queries.queue import DRY_RUN, OPERATOR
from engine.queries.reconciler import ASKED_FOR, Plan, Reconciler, Scope, Wiring
from engine.queries.result_applier import Judging
from engine.queries.results import OUTCOMES, Seams, Verdict
from engine.queries.scheduler import Asker
from engine.queries.sweep import agrees
from engine.sources.base import Gap
from engine.status.base import Provider
from engine.status.budget import Budget
from engine.status.ledger import Ledger
from engine.status.route import RouteProvider
from engine.stores.base import Sweeps
from engine.web.service import QueryNumbers

LEDGER = "status.ledger"
"""The file in the data folder that says when the last call left, for the budget after a restart."""

BUSY_S = 10.0
"""How long another process of ours that asks now, a command most likely, is waited for."""

OPERATOR_S = 5.0
"""How long somebody who wants to know is kept waiting; then the belief is the answer."""

BEGIN_S = 10.0
"""How long whoever wants a sweep waits for it to begin."""

ALIVE_EVERY_S = 30.0


def provider_of(config: StatusConfig[Secret], clock: Clock) -> Provider:
    """The provider that the configuration names. RollcallError when it lacks its package."""
    timeout_s = config.timeout_ms / 1000
    keys = config.access_key.reveal, config.secret.reveal
    if config.provider == "openapi":
        from engine.status.openapi import OpenApiProvider  # its package is not always installed

        return OpenApiProvider(config.endpoint, config.instance, *keys, timeout_s)
    return RouteProvider(config.endpoint, config.instance, *keys, clock.now_ms, timeout_s)


@contextmanager
def asker_alone(config: Config, status: StatusConfig[Secret], clock: Clock) -> Iterator[Asker]:
    """Somebody to ask without a store: answers are told and not applied. StatusBusy while another process asks."""
    asker = _asker(config, status, clock, Seams())
    asker.start()
    try:
        yield asker
    finally:
        asker.stop()


def _asker(config: Config, status: StatusConfig[Secret], clock: Clock, seams: Seams) -> Asker:
    """One who asks within the budget of this data folder. StatusBusy while another process does."""
    config.data.mkdir(parents=True, exist_ok=True)
    provider = provider_of(status, clock)
    ledger = Ledger(config.data / LEDGER, within_s=BUSY_S)
    return Asker(
        provider,
        Budget(status.rate, ledger=ledger),
        clock,
        seams,
        rate=status.rate,
        retries=status.unknown_retries,
        close=ledger.close,
    )


class Asking:
    """Those who ask, as one part of a service."""

    def __init__(self, asker: Asker, judging: Judging, reconciler: Reconciler, fleet: Fleet) -> None:
        self.asker, self.judging, self.reconciler = asker, judging, reconciler
        self._fleet = fleet

    def start(self) -> None:
        """Begin to ask; what `recover` found is done first."""
        self.asker.start()
        self.reconciler.start()

    def stop(self) -> None:
        """Ask nobody any more. A sweep stays as it is, for the next start."""
        self.reconciler.stop()
        self.asker.stop()

    def want(self, asks: Iterable[QueryRequest]) -> None:
        """The fleet wants these asked; called when what wants it has committed."""
        self.asker.want(asks)

    def note_gap(self, gap: Gap) -> None:
        """Messages are gone: whom they may have been about is asked."""
        self.reconciler.note_gap(gap)

    async def verify(self, client: str) -> StatusAnswer | None:
        """Ask about a client now, before everybody else; None when there is no number in time."""
        told: asyncio.Future[Verdict] = asyncio.wrap_future(self.asker.ask(client, OPERATOR))
        try:
            answer = (await asyncio.wait_for(told, OPERATOR_S)).asked.answer
        except (TimeoutError, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and not told.cancelled():
                raise
            return None
        return None if answer.connections is None else answer

    def begin_sweep(self, *, dry_run: bool) -> int:
        """Begin a sweep; its number, once it has begun. Blocks. Overloaded while one is running, StoreError after `BEGIN_S`."""
        if self.reconciler.is_sweeping:
            progress = self.reconciler.progress()
            raise Overloaded("a sweep is running already" + (f": number {progress.number}" if progress else ""), 5)
        begun = self.reconciler.request(DRY_RUN if dry_run else ASKED_FOR)
        try:
            return begun.result(BEGIN_S)
        except (TimeoutError, CancelledError):
            raise StoreError(f"the sweep could not begin within {BEGIN_S:.0f} s") from None

    def numbers(self) -> QueryNumbers:
        """What the metrics tell."""
        stats, progress = self.asker.stats, self.reconciler.progress()
        return QueryNumbers(
            calls=stats.calls,
            throttled=stats.throttled,
            failures=stats.failures,
            outcomes={name: stats.answers[name] for name in OUTCOMES},
            verdicts=dict(stats.verdicts),
            waiting=len(self.asker),
            trouble=self.asker.trouble,
            corrections=self.judging.corrections,
            sweeps=self.reconciler.swept,
            sweep_total=progress.total if progress else 0,
            sweep_asked=progress.tally.asked if progress else 0,
            stale=self._fleet.counts.stale_answers,
            avoided=self._fleet.book.false_alarms_avoided,
        )


def assemble(
    config: Config,
    store: Sweeps,
    fleet: Fleet,
    inventory: Inventory,
    clock: Clock,
    submit: Callable[[Callable[[], Any]], Future[Any]],
    is_settled: Callable[[], bool] = lambda: True,
) -> Asking | None:
    """Those who ask under this configuration; None without `status`."""
    status = config.status
    if status is None:
        return None
    judging = Judging(fleet, store)
    whom = _Whom(fleet, inventory)
    seams = Seams(
        submit=submit, judge=judging.judge, judged=judging.judged, agrees=whom.agrees, is_listed=inventory.lists
    )
    asker = _asker(config, status, clock, seams)
    fleet.can_ask = asker.can_answer
    wiring = Wiring(
        submit=submit,
        clients=whom.sweep,
        published=fleet.published,
        is_settled=is_settled,
        max_hold_ms=config.feed.max_hold_ms,
        confirm_after_ms=status.confirm_after_ms,
    )
    plan = Plan()
    if config.reconcile is not None:
        plan = Plan(ticks=config.reconcile.ticks, catches_up=config.reconcile.catches_up)
    return Asking(asker, judging, Reconciler(asker, judging, store, clock, plan, wiring), fleet)


class _Whom:
    """Whom a sweep asks, out of what the fleet knows. In the reconciler's thread, beside the writer."""

    def __init__(self, fleet: Fleet, inventory: Inventory) -> None:
        self._fleet, self._inventory = fleet, inventory

    def agrees(self, client: str, connections: int) -> bool:
        """Is this what is believed?"""
        state = self._fleet.published(client)
        return state is not None and agrees(state.observed, connections)

    def sweep(self, scope: Scope | None, began_ms: int | None) -> list[str]:
        """Everybody, or whom a scope concerns, most needy first; whose answer since `began_ms` is final is left out.

        Whom the inventory names and nobody has ever seen is always among them.
        """
        known = states = dict(self._fleet.states)
        if scope is not None:
            gaps = [(_bound(gap), int(gap["noted_at"])) for gap in scope["gaps"]]
            states = {
                client: state
                for client, state in states.items()
                if any(is_concerned(state, to_ms, noted_ms) for to_ms, noted_ms in gaps)
            }
        roll = [client for client in self._inventory.clients() if client not in known]
        ordered = sweep_order(states, roll, self._alerting(), self._fleet.policy.clock_skew_ms, self._fleet.gaps)
        if began_ms is None:
            return ordered
        # Whose answer was unknown, or waited to be confirmed, has not been counted: asked again.
        return [client for client in ordered if client not in states or states[client].verified_ms < began_ms]

    def _alerting(self) -> set[str]:
        """Clients with an alert that is about to fire, or firing."""
        alerts = (alert for some in list(self._fleet.book.active.values()) for alert in list(some))
        return {alert.client for alert in alerts if alert.client is not None and alert.state in {"pending", "firing"}}


def _bound(gap: Any) -> int:
    """When the newest of a gap's messages occurred at the latest."""
    return int(gap["to"] if gap["to"] is not None else gap["noted_at"])
