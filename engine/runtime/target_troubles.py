"""Hands what is wrong with targets of deliveries to the writer, which opens and ends the alerts of trigger `undelivered`.

A target that no rule names any more, such as a receiver that was removed, never gets another delivery that could succeed. Its alerts
end when nothing is waiting to be sent there. Read `keep_target_watch`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from typing import Any, Final

from engine.clock import Clock
from engine.core.alerting.alert import FIRING
from engine.core.fleet import Fleet
from engine.core.rules import UNDELIVERED, actions_of
from engine.core.times import FOREVER
from engine.delivery.target_watch import TargetTrouble, TargetWatch
from engine.stores.reading import Reader

LOOK_EVERY_S: Final = 1.0
SAY_AGAIN_S: Final = 30.0
"""What is wrong is handed over again after this time, for rules that are new or gone. What is known has no effect."""

UNUSED: Final = "target_unused"
"""Why alerts about a target ended to which nothing is sent any more: the `reason` that they show."""

Write = Callable[[Callable[[], Any]], Awaitable[Any]]
Ask = Callable[[Callable[[Reader], Collection[str]]], Awaitable[Collection[str]]]


async def keep_target_watch(watch: TargetWatch, fleet: Fleet, *, clock: Clock, write: Write, ask: Ask) -> None:
    """Look at the targets again and again, and hand over what has changed."""
    recall(watch, fleet)
    said: Mapping[str, TargetTrouble] = {}
    said_s: float | None = None
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        if not fleet.alerts.matcher.undelivered and not said:
            continue
        troubles, ended = watch.troubles(), watch.take_ended()
        is_old = bool(troubles) and (said_s is None or loop.time() - said_s >= SAY_AGAIN_S)
        new = {name: one for name, one in troubles.items() if is_old or said.get(name) != one}
        if new or ended:
            try:
                waiting = await ask(with_deliveries) if is_old else troubles
                unused = await write(partial(note_troubles, fleet, new, ended, waiting, clock.now_ms()))
            except BaseException:
                watch.put_back(ended)
                raise
            watch.forget(unused)
            said_s = loop.time() if is_old else said_s
        said = troubles


def with_deliveries(reader: Reader) -> Collection[str]:
    """The targets to which a delivery is to be sent, now or later."""
    return reader.waiting(FOREVER).targets


def note_troubles(
    fleet: Fleet, troubles: Mapping[str, TargetTrouble], ended: set[str], waiting: Collection[str], now_ms: int
) -> set[str]:
    """In the writer's transaction: what is wrong with targets, and which get deliveries again.

    `waiting`: targets to which something is still to be sent. Returns those that are of no interest any more.
    """
    triggers = fleet.alerts.triggers
    for target in sorted(ended):
        triggers.undelivered(target, None, now_ms)
    used = used_targets(fleet)
    unused = set()
    for target, one in troubles.items():
        if target in used:
            triggers.undelivered(target, one.detail, now_ms, failing_since_ms=one.since_ms, is_dead=one.is_dead)
        elif target not in waiting:
            triggers.undelivered(target, None, now_ms, reason=UNUSED)
            unused.add(target)
    return unused


def used_targets(fleet: Fleet) -> set[str]:
    """Every target that the rules name, those included that only end their alerts, and those that routes lead to."""
    alerts = fleet.alerts
    target_of, routing = alerts.routing.target_of, alerts.routing
    actions = [action for rule in alerts.rules.values() for action in actions_of(rule)]
    return {target_of(one) for action in actions for one in routing.every_address(action)}


def recall(watch: TargetWatch, fleet: Fleet) -> None:
    """What was wrong before the restart, by the alerts that are open."""
    for alert in fleet.alerts.open_alerts.of_trigger(UNDELIVERED):
        if alert.shown_key:
            trouble = TargetTrouble(detail=alert.detail, since_ms=alert.started_at_ms, is_dead=alert.state == FIRING)
            watch.recall(alert.shown_key.get("target", ""), trouble)
