"""Memory as the store has it: after a start (`recover`), and after a transaction that was undone (`restore_alerts`)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from engine.core.events import LifecycleEvent
from engine.core.fleet import Fleet
from engine.core.rules import Rule
from engine.rulefiles.loader import rule_from_definition
from engine.runtime.checkpoint import Checkpoint
from engine.stores.base import Store

ERA = "clock_era"
"""Remembered value: the journal row of the last step of the clock, see `OpenAlerts.era`."""

WORKED_AT = "worked_at"
"""Remembered value, `ROW:INSTANT`: what the engine's clock showed in a transaction that followed this journal row and added none."""

DecodeStored = Callable[[list[bytes], int], list[LifecycleEvent]]
"""Reads stored events, received at an instant (epoch ms). They were accepted once and are so again."""


def recover(store: Store, fleet: Fleet, checkpoint: Checkpoint, decode: DecodeStored) -> int:
    """Load a new fleet from the store; returns how many events of the journal were applied again.

    In this order: client rows, the journal after the checkpoint, alerts with what goes on for them, recorded gaps.
    """
    fleet.clock_ms = last_instant(store)
    fleet.states.update(store.clients.load())
    if fleet.tombstone_ms:
        fleet.forgotten.update(store.clients.forgotten())
    applied = 0
    for row in store.journal.after(checkpoint.row):
        events = decode(list(row.events), row.at_ms) if row.events else []
        fleet.apply_row_again(row.id, events, row.facts, row.at_ms)
        checkpoint.note((event.client for event in events), len(events))
        checkpoint.note((fact.client for fact in row.facts), 0)
        applied += len(events)
    fleet.use(fleet.alerts.matcher, removed_rules(store, fleet))
    restore_alerts(store, fleet)
    with store.reading() as reader:
        for gap in reversed(reader.gaps()):
            fleet.note_gap(gap.to_ms, gap.noted_at_ms)
    return applied


def removed_rules(store: Store, fleet: Fleet) -> list[Rule]:
    """Rules that are gone from the files and not retired yet: their outages, quorums and groups go on over a restart."""
    found = []
    for name, (definition, _) in store.rules.all().items():
        if name not in fleet.alerts.rules:
            with contextlib.suppress(ValueError):  # written by a version that knew more: nothing can be said of it
                found.append(rule_from_definition(definition))
    return found


def last_instant(store: Store) -> int:
    """What the engine's clock showed when the last transaction was committed, as far as the store knows; 0: it is new."""
    row, _, at_ms = (store.meta(WORKED_AT) or "").partition(":")
    if at_ms and int(row) >= store.journal.last_id():
        return int(at_ms)
    return store.journal.last_at_ms()


def restore_alerts(store: Store, fleet: Fleet) -> None:
    """Alerts, throttles, silences, groups, outages, schedules, bursts and escalations as they were committed last."""
    alerts = store.alerts
    fleet.alerts.open_alerts.era = store.meta(ERA) or ""
    fleet.restore(alerts.open(), alerts.throttles(), alerts.kept())
