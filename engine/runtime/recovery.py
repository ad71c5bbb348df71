"""Memory as the store has it: after a start (`recover`), and after a transaction that was undone (`restore_alerts`)."""

from __future__ import annotations

from collections.abc import Callable

from engine.core.events import LifecycleEvent
from engine.core.fleet import Fleet
from engine.runtime.checkpoint import Checkpoint
from engine.stores.base import Store

DecodeStored = Callable[[list[bytes], int], list[LifecycleEvent]]
"""Reads stored events, received at an instant (epoch ms). They were accepted once and are so again."""


def recover(store: Store, fleet: Fleet, checkpoint: Checkpoint, decode: DecodeStored) -> int:
    """Load a new fleet from the store; returns how many events of the journal were applied again.

    In this order: client rows, the journal after the checkpoint, alerts with what goes on for them, recorded gaps.
    """
    fleet.states.update(store.clients.load())
    applied = 0
    for row in store.journal.after(checkpoint.row):
        events = decode(list(row.events), row.at_ms) if row.events else []
        fleet.apply_row_again(row.id, events, row.facts, row.at_ms)
        checkpoint.note((event.client for event in events), len(events))
        checkpoint.note((fact.client for fact in row.facts), 0)
        applied += len(events)
    restore_alerts(store, fleet)
    with store.reading() as reader:
        for gap in reversed(reader.gaps()):
            fleet.note_gap(gap.to_ms, gap.noted_at_ms)
    return applied


def restore_alerts(store: Store, fleet: Fleet) -> None:
    """Alerts, throttles, silences, groups, outages, schedules and bursts as they were committed last."""
    alerts = store.alerts
    fleet.restore(alerts.open(), alerts.throttles(), alerts.kept())
