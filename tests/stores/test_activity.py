"""What every store says of what rules did lately, and of what was recorded."""

from __future__ import annotations

from engine.stores.base import RuleAlerts, RuleDeliveries, Store
from engine.testing import delivery
from tests.stores.backends import Backend
from tests.stores.test_every_store import added, alert

HOSTILE = "'; DROP TABLE alerts; -- <b>"


def test_alerts_are_counted_by_rule_state_and_reason_since_an_instant(backend: Backend, store: Store) -> None:
    alerts = [
        alert("old", started_at_ms=99),
        alert("fires", started_at_ms=100),
        alert("fires too", started_at_ms=101),
        alert("over", started_at_ms=102, state="resolved", resolved_at_ms=300),
        alert("held", started_at_ms=103, rule=HOSTILE, state="suppressed", reason="silence", fired_at_ms=None),
    ]
    with store.transaction():
        store.alerts.write(alerts)
    with backend.reader() as reader:
        assert sorted(reader.alerts_since(100)) == [
            RuleAlerts(HOSTILE, "suppressed", "silence", False, 1),
            RuleAlerts("dark", "firing", None, True, 2),
            RuleAlerts("dark", "resolved", None, True, 1),
        ]
        assert reader.alerts_since(1_000) == []


def test_deliveries_are_counted_by_rule_phase_and_state_since_an_instant(backend: Backend, store: Store) -> None:
    added(store, delivery("old", decided_at_ms=99), *(delivery(key, decided_at_ms=100) for key in "ab"),
          delivery("c", decided_at_ms=200, rule=HOSTILE, phase="recovery", state="held"))  # fmt: skip
    with backend.reader() as reader:
        assert sorted(reader.deliveries_since(100)) == [
            RuleDeliveries(HOSTILE, "recovery", "held", 1),
            RuleDeliveries("dark", "firing", "due", 2),
        ]
        assert reader.deliveries_since(201) == []


def test_what_was_recorded_is_read_from_the_newest_row_backwards(backend: Backend, store: Store) -> None:
    with store.transaction():
        for row in range(1, 6):
            events = [f'{{"n":{row}}}'.encode()] * (row % 2)  # rows of facts alone are left out
            store.journal.append(row, row * 10, "push", events, [0] * len(events), [])
    with backend.reader() as reader:
        assert [(row.id, row.at_ms, list(row.events)) for row in reader.recorded(None, limit=2)] == [
            (5, 50, [b'{"n":5}']),
            (3, 30, [b'{"n":3}']),
        ]
        assert [row.id for row in reader.recorded(3, limit=2)] == [1]
        assert reader.recorded(1, limit=2) == []
