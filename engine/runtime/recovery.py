"""Memory as the store has it: after a start, and after a transaction that was undone (`restore_alerts`).

A start goes in this order: client rows (`load_states`), the journal after the checkpoint (`apply_rows`), and the rest (`restore_rest`).
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterable, Iterator

from engine.core.events import LifecycleEvent
from engine.core.fleet import Fleet
from engine.core.rules import Rule
from engine.rulefiles.loader import rule_from_definition
from engine.runtime.checkpoint import Checkpoint
from engine.stores.base import JournalRow, Store

ERA = "clock_era"
"""Remembered value: the journal row of the last step of the clock, see `OpenAlerts.era`."""

WORKED_AT = "worked_at"
"""Remembered value, `ROW:INSTANT`: what the engine's clock showed in a transaction that followed this journal row and added none."""

DecodeStored = Callable[[list[bytes], int], list[LifecycleEvent]]
"""Reads stored events, received at an instant (epoch ms). They were accepted once and are so again."""


@contextlib.contextmanager
def loading_states() -> Iterator[None]:
    """Around what fills a fleet: millions of objects that stay are not looked through for garbage, now or later."""
    gc.disable()
    try:
        yield
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
    finally:
        gc.enable()


def load_states(store: Store, fleet: Fleet) -> None:
    """Fill a fleet from the client rows."""
    fleet.clock_ms = last_instant(store)
    fleet.states.clear()  # of a try that failed
    fleet.forgotten.clear()
    fleet.states.update(store.clients.load())
    if fleet.tombstone_ms:
        fleet.forgotten.update(store.clients.forgotten())


def apply_rows(rows: Iterable[JournalRow], fleet: Fleet, checkpoint: Checkpoint, decode: DecodeStored) -> int:
    """Apply journal rows again; returns how many events they held. The checkpoint notes whose states have changed."""
    applied = 0
    for row in rows:
        events = decode(list(row.events), row.at_ms) if row.events else []
        fleet.apply_row_again(row.id, events, row.facts, row.at_ms)
        checkpoint.note((event.client for event in events), len(events))
        checkpoint.note((fact.client for fact in row.facts), 0)
        applied += len(events)
    return applied


def restore_rest(store: Store, fleet: Fleet) -> None:
    """The states are those of the newest journal row: add rules that are gone, alerts with what goes on for them, and gaps."""
    fleet.clock_ms = max(fleet.clock_ms, last_instant(store))
    fleet.use(fleet.alerts.matcher, removed_rules(store, fleet))
    restore_alerts(store, fleet)
    with store.reading() as reader:
        for gap in reversed(reader.gaps()):
            fleet.note_gap(gap.to_ms, gap.noted_at_ms)


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
