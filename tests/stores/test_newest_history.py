"""What every store says of its newest history, and of an alert beside its row."""

from __future__ import annotations

from engine.stores.base import Store
from engine.stores.journal_rows import MAX_NEWEST_ROWS
from tests.stores.backends import Backend
from tests.stores.test_every_store import alert


def test_the_newest_rows_are_read_until_they_have_enough_events(backend: Backend, store: Store) -> None:
    with store.transaction():
        for row in range(1, 6):
            events = [f'{{"n":{row}}}'.encode()] * row
            store.journal.append(row, row * 10, f"source {row}", events, [0] * row, [])
    with backend.reader() as reader:
        found = reader.newest_journal(6)
        assert [(row.id, row.at_ms, row.source, len(row.events)) for row in found] == [
            (5, 50, "source 5", 5),
            (4, 40, "source 4", 4),
        ]
        assert [row.id for row in reader.newest_journal(5)] == [5]
        assert [row.id for row in reader.newest_journal(1_000)] == [5, 4, 3, 2, 1]
        assert not found[0].facts


def test_no_more_rows_are_read_than_a_quiet_feed_may_cost(backend: Backend, store: Store) -> None:
    with store.transaction():
        for row in range(1, MAX_NEWEST_ROWS + 20):
            store.journal.append(row, row, "push", [b"{}"], [0], [])
    with backend.reader() as reader:
        assert len(reader.newest_journal(10_000)) == MAX_NEWEST_ROWS


def test_an_alert_says_when_it_fired_and_with_what_it_was_told(backend: Backend, store: Store) -> None:
    with store.transaction():
        store.alerts.write(
            [
                alert("alone", fired_at_ms=5, notification_id=""),
                alert("one of many", fired_at_ms=None, notification_id="group"),
            ]
        )
    with backend.reader() as reader:
        rows = {row.id: reader.alert_life(row.id) for row in reader.alerts()}
        assert sorted(rows.values(), key=repr) == [(5, None), (None, "group")]
        assert reader.alert_life("none") is None


def test_alerts_come_newest_first_also_those_of_one_instant(backend: Backend, store: Store) -> None:
    with store.transaction():
        store.alerts.write([alert(f"a{n}", started_at_ms=n // 3) for n in range(12)])
    with backend.reader() as reader:
        rows = reader.alerts(limit=7)
        assert [(row.started_at_ms, row.id) for row in rows] == sorted(
            ((row.started_at_ms, row.id) for row in reader.alerts()), reverse=True
        )[:7]
