"""Attempts are kept: when each was, what came of it and how long it took; the newest ones, through retries of an operator."""

from __future__ import annotations

import gzip
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from engine.core.delivery import (
    DEFAULT_POLICY,
    MAX_ATTEMPTS_KEPT,
    Answer,
    Delivered,
    Expired,
    Outcome,
    Rejected,
    RetryLater,
    kept_text,
)
from engine.stores.base import DeliveryRow, NewDelivery, Share, Store
from engine.stores.sqlite.queries import migrations, queries, script
from engine.stores.sqlite.store import FILE_NAME, SqliteStore
from engine.testing import delivery
from tests.stores.backends import BACKENDS

ORIGIN = "http://pager.test:80"


class Box:
    """The outbox of a store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def add(self, *rows: NewDelivery) -> list[int]:
        with self.store.transaction():
            return [item.id for item in self.store.deliveries.add(rows)]

    def record(self, id_: int, answer: Answer | Expired, at_ms: int = 1_000, duration_ms: int | None = 5) -> None:
        outcome = Outcome(id=id_, answer=answer, attempted_at_ms=at_ms, duration_ms=duration_ms)
        with self.store.transaction():
            self.store.deliveries.record([outcome], at_ms, lambda: 0.0, DEFAULT_POLICY)

    def act(self, id_: int, what: str, now_ms: int) -> None:
        with self.store.transaction():
            self.store.deliveries.act(id_, what, now_ms)

    def row(self, id_: int) -> DeliveryRow:
        with self.store.reading() as reader:
            found = reader.delivery(id_)
        assert found is not None
        return found

    def due(self, target: str, now_ms: int = 10**9) -> list[str]:
        with self.store.reading() as reader:
            return [item.key for item in reader.due(now_ms, [Share(target, 100, ())])]


@pytest.fixture(params=sorted(BACKENDS))
def box(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Box]:
    backend = BACKENDS[request.param](tmp_path)
    yield Box(backend.open())
    backend.close()


def test_each_attempt_is_kept_with_its_time_its_answer_and_how_long_it_took(box: Box) -> None:
    (id_,) = box.add(delivery("a"))
    box.record(id_, RetryLater(reason="HTTP 503"), 1_000, 40)
    box.record(id_, RetryLater(reason="no connection"), 3_000, None)
    box.record(id_, Delivered(), 9_000, 7)
    assert [tuple(one) for one in box.row(id_).kept_attempts] == [
        (1_000, 40, "retry later", "HTTP 503"), (3_000, None, "retry later", "no connection"), (9_000, 7, "delivered", None),
    ]  # fmt: skip


def test_the_newest_attempts_are_kept_and_all_are_counted(box: Box) -> None:
    (id_,) = box.add(delivery("a"))
    for at_ms in range(50):
        box.record(id_, RetryLater(reason="x" * 5_000), at_ms)
    assert [one.ended_at_ms for one in box.row(id_).kept_attempts] == list(range(50 - MAX_ATTEMPTS_KEPT, 50))
    box.record(id_, Delivered(detail="late"), 99)
    row = box.row(id_)
    assert (len(row.kept_attempts), row.attempts, row.kept_attempts[-1].answer) == (MAX_ATTEMPTS_KEPT, 51, "late")
    assert all(len(one.answer or "") <= 200 for one in row.kept_attempts)


def test_what_was_never_sent_is_no_attempt(box: Box) -> None:
    (id_,) = box.add(delivery("a"))
    box.record(id_, Expired(), DEFAULT_POLICY.max_age_ms + 1)
    row = box.row(id_)
    assert (row.state, row.attempts, row.kept_attempts) == ("dead", 0, ())


def test_an_operators_retry_keeps_the_decision_and_the_attempts_and_gives_it_its_whole_life_again(box: Box) -> None:
    (id_,) = box.add(delivery("a", decided_at_ms=500))
    box.record(id_, Rejected(reason="HTTP 410"))
    late_ms = 10 * DEFAULT_POLICY.max_age_ms
    box.act(id_, "retry", late_ms)
    row = box.row(id_)
    assert (row.state, row.decided_at_ms, row.renewed_at_ms, row.attempts) == ("due", 500, late_ms, 1)
    box.record(id_, RetryLater(reason="HTTP 503"), late_ms)
    row = box.row(id_)
    assert (row.state, row.due_at_ms - late_ms) == ("due", 500)  # the first pause again
    box.record(id_, Delivered(), late_ms + 1)
    assert [one.outcome for one in box.row(id_).kept_attempts] == ["rejected", "retry later", "delivered"]


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("HTTP 500: " + gzip.compress(b"a page" * 99, mtime=0).decode("utf-8", "replace"), "HTTP 500: (compressed or binary body, not shown)"),
        ("550 no such user \udc9b", r"550 no such user \x9b"),
        ("550 \ud800", r"550 \ud800"),
        ("HTTP 500: tab\tand\x1b[31m", r"HTTP 500: tab\tand\x1b[31m"),
    ],
)  # fmt: skip
def test_whatever_was_said_is_kept_as_text(said: str, kept: str, box: Box) -> None:
    (id_,) = box.add(delivery("a"))
    box.record(id_, RetryLater(reason=said))
    row = box.row(id_)
    assert row.last_error == kept and row.kept_attempts[0].answer == kept
    assert kept_text(said, 500) == kept


@pytest.mark.parametrize("broken", [{"client": "G@@@\udc9b"}, {"decided_at_ms": 2**70}, {"request": '{"a": "\ud800"}'}])
def test_a_delivery_that_cannot_be_stored_is_dead_and_stops_no_other(broken: dict[str, object], box: Box) -> None:
    ids = box.add(delivery("a"), delivery("broken", **broken), delivery("c"))
    assert len(ids) == 2 and box.due(ORIGIN) == ["a", "c"]
    with box.store.reading() as reader:
        (row,) = reader.deliveries(state="dead")
    assert row.key == "broken" and "cannot be stored" in (row.last_error or "")


def test_what_is_unfinished_in_an_old_store_is_sent_first_and_what_follows_waits_for_it(tmp_path: Path) -> None:
    lane, target = f"dark\nG@@@a\n{ORIGIN}", f"{ORIGIN}/v1/"
    with closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)) as old:
        for number, name in migrations():
            if number <= 3:
                old.executescript(script(name) + (queries("outbox.sql")["create"] if number == 1 else ""))
        for key in ("firing", "lost"):
            old.execute(
                "INSERT INTO deliveries (key, rule, client, alert, action, target, lane, phase, state, retrying, attempts,"
                " may_have_arrived, decided_at, due_at, request) VALUES (?, 'dark', 'G@@@a', ?, 'webhook', ?, ?, 'firing', ?, 0, 0, 0,"
                " 0, 0, '{}')",
                (key, f"alert-{key}", ORIGIN, lane, "due" if key == "firing" else "dead"),
            )
        old.execute("PRAGMA user_version = 3")
    box = Box(SqliteStore.open(tmp_path))
    after = {"lane": f"dark\nG@@@a\n{target}", "target": target, "phase": "recovery"}
    assert box.add(delivery("recovery", alert="alert-firing", **after)) == []
    assert box.add(delivery("next", alert="b", **after | {"phase": "firing"})) == []
    assert (box.due(ORIGIN), box.due(target)) == (["firing"], [])
    box.record(1, Delivered())
    assert box.due(target) == ["recovery"]
    # The recovery of a firing that the old version knew to be lost is lost, too.
    box.add(delivery("of the lost one", alert="alert-lost", **after))
    with box.store.reading() as reader:
        assert [row.key for row in reader.deliveries(state="dead")] == ["of the lost one", "lost"]
    box.store.close()
