"""Hands what is wrong with targets of deliveries to the writer, which opens and ends the alerts of trigger `undelivered`.

Read `keep_target_watch`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

from engine.clock import Clock
from engine.core.alerting.alert import FIRING
from engine.core.fleet import Fleet
from engine.core.rules import UNDELIVERED
from engine.delivery.target_watch import TargetTrouble, TargetWatch

LOOK_EVERY_S: Final = 1.0
SAY_AGAIN_S: Final = 30.0
"""What is wrong is handed over again after this time, for rules that are new. What is known has no effect."""

Write = Callable[[Callable[[], Any]], Awaitable[Any]]


async def keep_target_watch(watch: TargetWatch, fleet: Fleet, *, clock: Clock, write: Write) -> None:
    """Look at the targets again and again, and hand over what has changed."""
    recall(watch, fleet)
    said: Mapping[str, TargetTrouble] = {}
    said_s = 0.0
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        if not fleet.alerts.matcher.undelivered and not said:
            continue
        troubles, ended = watch.troubles(), watch.take_ended()
        is_old = bool(troubles) and loop.time() - said_s >= SAY_AGAIN_S
        new = {name: one for name, one in troubles.items() if is_old or said.get(name) != one}
        if new or ended:
            try:
                await write(partial(note_troubles, fleet, new, ended, clock.now_ms()))
            except BaseException:
                watch.put_back(ended)
                raise
            said_s = loop.time() if is_old else said_s
        said = troubles


def note_troubles(fleet: Fleet, troubles: Mapping[str, TargetTrouble], ended: set[str], now_ms: int) -> None:
    """In the writer's transaction: what is wrong with targets, and which get deliveries again."""
    triggers = fleet.alerts.triggers
    for target in sorted(ended):
        triggers.undelivered(target, None, now_ms)
    for target, one in troubles.items():
        triggers.undelivered(target, one.detail, now_ms, failing_since_ms=one.since_ms, is_dead=one.is_dead)


def recall(watch: TargetWatch, fleet: Fleet) -> None:
    """What was wrong before the restart, by the alerts that are open."""
    for alert in list(fleet.alerts.open_alerts):
        if alert.trigger == UNDELIVERED and alert.shown_key:
            trouble = TargetTrouble(detail=alert.detail, since_ms=alert.started_at_ms, is_dead=alert.state == FIRING)
            watch.recall(alert.shown_key.get("target", ""), trouble)
