"""What every store has to do, in the domain's own verbs. No store is named here: see `conftest` and `backends`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.core.alerting.alert import Alert, Throttled
from engine.core.delivery import DeliveryPolicy
from engine.core.history import FACT_OFFSET, POSITION_BITS, SETTLED, Fact
from engine.core.presence.client_state import (
    FLAPPING,
    GRACEFUL,
    NEW_CLIENT,
    OFFLINE,
    ONLINE,
    ClientState,
    Transition,
    state_of_row,
)
from engine.errors import StoreError, StoreInUse
from engine.sources.base import Gap
from engine.stores.base import NewCorrection, NewDelivery, Share, Store, Tally
from engine.testing import delivery
from tests.stores.backends import Backend

TARGET = "http://pager.test:80"
POLICY = DeliveryPolicy(max_age_ms=100_000)

HOSTILE = [
    "G@@@'; DROP TABLE clients; --",
    "G@@@%_\\",
    'G@@@"{{ x }}"',
    "",
    "@@@",
    "é" * 128,
    "\U0001f4a9@@@\u202e",
    "null",
]
"""Ids and texts that have broken stores before."""

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=20)
TIMES = st.integers(0, 4_102_444_800_000)
ONE_FIXTURE = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Boom(Exception):
    """Something goes wrong inside a transaction."""


def positions(store: Store) -> dict[str, tuple[str | None, int | None, int | None]]:
    """Name -> (position, caught_up_to_ms, last_event_at_ms)."""
    with store.reading() as reader:
        rows = reader.sources().items()
    return {name: (row.position, row.caught_up_to_ms, row.last_event_at_ms) for name, row in rows}


# Transactions.


def test_a_transaction_is_all_or_nothing(store: Store) -> None:
    with store.transaction():
        store.write_meta("kept", "1")
    with pytest.raises(Boom), store.transaction():
        store.write_meta("kept", "2")
        store.journal.append(1, 0, "log", [b"{}"], [0], [])
        store.sources.write("log", "5", None, None)
        store.clients.write([("G@@@a", NEW_CLIENT)])
        store.alerts.write([alert("a1")])
        store.deliveries.add([delivery("k1")])
        raise Boom
    assert store.meta("kept") == "1"
    assert store.journal.last_id() == 0
    assert (positions(store), store.clients.load(), store.alerts.open()) == ({}, {}, [])


def test_after_a_transaction_that_failed_the_next_one_works(store: Store) -> None:
    for _ in range(3):
        with pytest.raises(Boom), store.transaction():
            raise Boom
    with store.transaction():
        store.write_meta("k", "v")
    assert store.meta("k") == "v"


def test_what_was_committed_is_there_when_the_store_is_opened_again(backend: Backend) -> None:
    store = backend.open()
    with store.transaction():
        store.journal.append(1, 7, "log", [b"{}"], [0], [])
        store.sources.write("log", "5", 6, 7)
    store.close()
    again = backend.open()
    assert [row.id for row in again.journal.after(0)] == [1]
    assert positions(again) == {"log": ("5", 6, 7)}


def test_a_reader_beside_the_writer_sees_what_is_committed_and_nothing_else(backend: Backend, store: Store) -> None:
    with store.transaction():
        store.sources.write("log", "1", None, None)
    with backend.reader() as reader:
        with store.transaction():
            store.sources.write("log", "2", None, None)
            store.alerts.write([alert("a1")])
            assert reader.sources()["log"].position == "1"
            assert reader.alerts() == []
        assert reader.sources()["log"].position == "2"
        assert [row.id for row in reader.alerts()] == ["a1"]


def test_a_question_that_goes_wrong_does_not_spoil_the_next(store: Store) -> None:
    with store.transaction():
        store.sources.write("log", "1", None, None)
    with pytest.raises(Boom), store.reading():
        raise Boom
    assert positions(store) == {"log": ("1", None, None)}


def test_many_threads_read_at_once_while_the_writer_writes(store: Store) -> None:
    def read(_: int) -> list[int]:
        return sorted(len(reader.sources()) for _ in range(10) for reader in [entered.enter_context(store.reading())])

    with ThreadPoolExecutor(8) as threads, ExitStack() as entered:
        answers = [threads.submit(read, n) for n in range(8)]
        for number in range(20):
            with store.transaction():
                store.sources.write(f"source-{number}", "1", None, None)
        assert all(0 <= count <= 20 for answer in answers for count in answer.result())
    with store.reading() as reader:
        assert len(reader.sources()) == 20


def test_a_store_that_was_given_back_raises_the_error_of_stores(store: Store) -> None:
    store.close()
    for verb in (
        store.alerts.open,
        store.clients.load,
        store.journal.last_id,
        store.rules.all,
        lambda: store.meta("k"),
        lambda: store.deliveries.add([delivery("a")]),
        lambda: store.quarantine.add("log", 1, [("broken", b"{}")]),
        lambda: store.sweeps.open_reconciliations(),
    ):
        with pytest.raises(StoreError):
            verb()
    with pytest.raises(StoreError), store.transaction():
        pass


# The journal.


def test_the_journal_is_read_back_as_it_was_written_oldest_first(store: Store) -> None:
    facts = [Fact(1, SETTLED, "G@@@'a", 12, 3 << POSITION_BITS), Fact(2, "calmed", "é", 13, 0)]
    with store.transaction():
        store.journal.append(1, 10, "log", [b'{"a":1}', b'{"b":"\xc3\xa9"}'], [0, -(1 << 62)], facts)
        store.journal.append(2, 20, "", [], [], [Fact(0, "forgotten", "x", 20, 1)])
    rows = list(store.journal.after(0))
    assert [(row.id, row.at_ms) for row in rows] == [(1, 10), (2, 20)]
    assert list(rows[0].events) == [b'{"a":1}', b'{"b":"\xc3\xa9"}']
    assert list(rows[0].facts) == facts
    assert list(rows[1].events) == []
    assert [row.id for row in store.journal.after(1)] == [2]
    assert store.journal.last_id() == 2


def test_a_clients_history_is_followed_from_its_newest_entry_backwards(backend: Backend, store: Store) -> None:
    first, second = 1 << POSITION_BITS, 2 << POSITION_BITS
    settled = first + FACT_OFFSET
    with store.transaction():
        store.journal.append(1, 10, "log", [b'{"n":0}', b'{"n":1}'], [0, 0], [Fact(2, SETTLED, "a", 11, first + 1)])
        store.journal.append(2, 20, "push", [b'{"n":2}'], [settled], [])
    with backend.reader() as reader:
        found = list(reader.history(second))
        assert [(entry.raw, entry.fact, entry.source) for entry in found] == [
            (b'{"n":2}', None, "push"),
            (None, SETTLED, "log"),
            (b'{"n":1}', None, "log"),
        ]
        assert list(reader.history(0)) == list(reader.history(9 << POSITION_BITS)) == []
        assert list(reader.history(second + 77)) == list(reader.history(-1)) == []


# Client states.


def state(**changes: Any) -> ClientState:
    """A state with something in every field."""
    row: dict[str, Any] = {
        "channels": ("A'", 1_000, None, None, "é", None, 5_000, None, "C", None, None, -7),
        "observed": OFFLINE,
        "settled": ONLINE,
        "since": 1_001,
        "occurred": 1_000,
        "settled_at": 1_002,
        "hold": (5_001, 5_000),
        "flaps": 3,
        "changes": (1_000, 5_000),
        "flags": FLAPPING | GRACEFUL,
        "takeovers": (2_000,),
        "ip": "[::1]:5",
        "last": (7 << POSITION_BITS) + FACT_OFFSET + 3,
    }
    return state_of_row(tuple({**row, **changes}.values()))


def test_states_come_back_as_they_were_every_field(store: Store) -> None:
    states = {client: state(ip=client[:8]) for client in HOSTILE}
    states["bare"] = state(channels=(), hold=None, changes=(), takeovers=(), ip="", flags=0)
    with store.transaction():
        store.clients.write(states.items())
    assert store.clients.load() == states


def test_a_state_is_replaced_by_a_newer_one_and_forgotten_by_none(store: Store) -> None:
    with store.transaction():
        store.clients.write([("a", state()), ("b", state())])
    with store.transaction():
        store.clients.write([("a", state(flaps=9)), ("b", None), ("never-there", None)])
    assert store.clients.load() == {"a": state(flaps=9)}


INSTANTS = st.one_of(st.none(), st.integers(-1_000, 4_102_444_800_000))
CHANNELS = st.lists(st.tuples(TEXTS, INSTANTS, INSTANTS, INSTANTS), max_size=32)


@ONE_FIXTURE
@given(
    client=TEXTS,
    channels=CHANNELS,
    times=st.lists(TIMES, max_size=64),
    hold=st.one_of(st.none(), st.tuples(TIMES, TIMES)),
    ip=TEXTS,
    last=st.integers(0, (1 << 62)),
)
def test_any_state_comes_back(
    store: Store, client: str, channels: list[tuple[Any, ...]], times: list[int], hold: Any, ip: str, last: int
) -> None:
    flat = tuple(value for channel in channels for value in channel)
    one = state(channels=flat, changes=tuple(times), takeovers=tuple(times), hold=hold, ip=ip, last=last)
    with store.transaction():
        store.clients.write([(client, one)])
    assert store.clients.load()[client] == one


# Alerts and throttles.


def alert(id_: str, **changes: Any) -> Alert:
    """A firing alert with something in every field."""
    fields: dict[str, Any] = {
        "name": id_,
        "id": id_,
        "rule": "dark",
        "client": "G@@@a",
        "source": None,
        "trigger": "offline",
        "state": "firing",
        "started_at_ms": 10,
        "due_at_ms": 20,
        "transition": Transition.of_row(("G@@@a", OFFLINE, ONLINE, 1, 2, 3, True, 4, False)),
        "reason": None,
        "fired_at_ms": 20,
        "resolved_at_ms": None,
        "notified": True,
        "notification_id": "together'",
        "detail": "",
        "throttle_key": '{"group": "é"}',
        "key": None,
        "group": '{"site": "n"}',
        "acknowledged": True,
        "acknowledged_by": "Zoë",
        "remind_at_ms": 77,
    }
    return Alert(**{**fields, **changes})


FIELDS = (
    *("id", "rule", "client", "source", "trigger", "state", "reason", "started_at_ms", "due_at_ms", "fired_at_ms"),
    *("resolved_at_ms", "notified", "notification_id", "transition", "detail", "throttle_key"),
    *("key", "group", "acknowledged", "acknowledged_by", "remind_at_ms"),
)


def fields_of(one: Alert) -> dict[str, object]:
    """An alert's fields, for comparing."""
    return {name: getattr(one, name) for name in FIELDS}


def test_open_alerts_come_back_as_they_were_oldest_first(store: Store) -> None:
    about_a_feed = {"client": None, "source": "log'", "trigger": "feed", "transition": None, "detail": "gone: \u202e"}
    alerts = [
        alert("c", started_at_ms=5, **about_a_feed),
        alert("a"),
        alert("b", state="suppressed", reason="throttle", fired_at_ms=None, notified=False, throttle_key=""),
    ]
    with store.transaction():
        store.alerts.write(reversed(alerts))
    assert [fields_of(one) for one in store.alerts.open()] == [fields_of(one) for one in alerts]


def test_an_alert_is_replaced_by_its_newer_self_and_leaves_when_it_is_over(backend: Backend, store: Store) -> None:
    with store.transaction():
        store.alerts.write([alert("a", state="pending", fired_at_ms=None, notified=False), alert("b"), alert("c")])
    with store.transaction():
        store.alerts.write([alert("a"), alert("b", state="resolved", resolved_at_ms=30), alert("c", state="dropped")])
    assert [(one.id, one.state, one.notified) for one in store.alerts.open()] == [("a", "firing", True)]
    with backend.reader() as reader:
        assert [(row.id, row.state) for row in reader.alerts()] == [("b", "resolved"), ("a", "firing")]


@ONE_FIXTURE
@given(client=TEXTS, detail=TEXTS, key=TEXTS, grace=st.booleans(), first=st.booleans(), at=TIMES)
def test_any_alert_comes_back(
    store: Store, client: str, detail: str, key: str, grace: bool, first: bool, at: int
) -> None:
    one = alert(
        "any", client=client, detail=detail, throttle_key=key, started_at_ms=at,
        transition=Transition.of_row((client, OFFLINE, ONLINE, at, at, at, grace, 1, first)),
    )  # fmt: skip
    with store.transaction():
        store.alerts.write([alert("any", state="dropped")])
        store.alerts.write([one])
    assert [fields_of(found) for found in store.alerts.open()] == [fields_of(one)]


def test_throttles_come_back_and_leave_when_nothing_counts(store: Store) -> None:
    with store.transaction():
        store.alerts.write_throttles([Throttled("r", key, [1, 2, 3]) for key in HOSTILE] + [Throttled("s", "", [4])])
    found = {(one.rule, one.key): one.firings for one in store.alerts.throttles()}
    assert found == {("r", key): [1, 2, 3] for key in HOSTILE} | {("s", ""): [4]}
    with store.transaction():
        store.alerts.write_throttles([Throttled("r", key) for key in HOSTILE] + [Throttled("s", "", [4, 5])])
    assert [(one.rule, one.firings) for one in store.alerts.throttles()] == [("s", [4, 5])]


# Deliveries.


def added(store: Store, *rows: NewDelivery) -> list[str]:
    """The keys that may leave at once."""
    with store.transaction():
        return [item.key for item in store.deliveries.add(rows)]


def leaving(store: Store, now_ms: int = 10, limit: int = 100) -> list[str]:
    """The keys that the dispatcher is given."""
    with store.reading() as reader:
        return [item.key for item in reader.due(now_ms, [Share(TARGET, limit, ())])]


def number_of(backend: Backend, key: str) -> int:
    """The number under which a delivery is kept."""
    with backend.reader() as reader:
        return next(row.id for row in reader.deliveries() if row.key == key)


def test_a_delivery_comes_back_as_it_was(backend: Backend, store: Store) -> None:
    request = {"url": TARGET, "json": {"text": "é \u202e '\"", "deep": [1, None, True]}, "headers": {"X": "\0pager\0"}}
    added(
        store,
        delivery("a", client=None, group_key='{"group":"é"}', clients=("x'", "é"), request=request, error="said so"),
    )
    with backend.reader() as reader:
        row = reader.delivery(number_of(backend, "a"))
    assert row is not None
    assert (row.client, row.group_key, row.clients) == (None, '{"group":"é"}', ("x'", "é"))
    assert (row.state, row.attempts, row.last_error, row.request) == ("due", 0, "said so", request)


def test_due_ones_leave_in_the_order_of_their_decision_and_no_more_than_asked_for(
    backend: Backend, store: Store
) -> None:
    added(store, *(delivery(key) for key in "dacb"), delivery("other", target="http://else.test:80"))
    assert leaving(store) == ["d", "a", "c", "b"]
    assert leaving(store, limit=2) == ["d", "a"]
    with store.reading() as reader:
        assert set(reader.waiting(10).targets) == {TARGET, "http://else.test:80"}


# Sources, quarantine, rules, meta.


def test_a_position_is_committed_with_the_batch_or_not_at_all(store: Store) -> None:
    with store.transaction():
        store.journal.append(1, 0, "log", [b"{}"], [0], [])
        store.sources.write("log", "1", 5, 6)
    with pytest.raises(Boom), store.transaction():
        store.journal.append(2, 0, "log", [b"{}"], [0], [])
        store.sources.write("log", "2", 7, 8)
        raise Boom
    assert positions(store) == {"log": ("1", 5, 6)}
    assert store.journal.last_id() == 1


def test_what_is_not_said_of_a_source_stays_as_it_was(store: Store) -> None:
    with store.transaction():
        store.sources.write("log", "1", None, 6)
        store.sources.write("log", None, 9, None)
        store.sources.write("push'", None, None, 1)
    assert positions(store) == {"log": ("1", 9, 6), "push'": (None, None, 1)}


def test_gaps_are_listed_newest_first(store: Store) -> None:
    gaps = [
        Gap(source="a", noted_at_ms=1, from_ms=None, to_ms=None, reason="truncated"),
        Gap(source="b'", noted_at_ms=2, from_ms=3, to_ms=4, reason="é"),
    ]
    with store.transaction():
        for gap in gaps:
            store.sources.write_gap(gap)
    with store.reading() as reader:
        assert reader.gaps() == gaps[::-1]
        assert reader.gaps(1) == gaps[1:]


def test_a_sweep_is_open_until_it_is_finished_and_its_counters_add_up(backend: Backend, store: Store) -> None:
    scope = {"gaps": [{"source": "é'", "from": None, "to": 5}]}
    with store.transaction():
        first = store.sweeps.begin_reconciliation("schedule", None, 10, 3)
        second = store.sweeps.begin_reconciliation("gap", scope, 20, 2)
        store.sweeps.count_reconciliation(second, Tally(asked=1, agreed=1))
        store.sweeps.count_reconciliation(second, Tally(asked=2, corrected=1, failed=1))
        store.sweeps.write_reconciliation_total(second, 7)
        store.sweeps.finish_reconciliation(first, 15)
    (going_on,) = store.sweeps.open_reconciliations()
    assert (going_on.id, going_on.why, going_on.scope, going_on.total) == (second, "gap", scope, 7)
    assert going_on.tally == Tally(asked=3, agreed=1, corrected=1, unknown=0, failed=1)
    with backend.reader() as reader:
        assert [row.id for row in reader.reconciliations()] == [second, first]
        assert [row.id for row in reader.reconciliations(limit=1)] == [second]
        assert [row.id for row in reader.reconciliations(cursor=second)] == [first]
        found = reader.reconciliation(first)
        assert found is not None
        assert (found.started_at_ms, found.finished_at_ms, found.scope, found.tally) == (10, 15, None, Tally())
        assert reader.reconciliation(99) is None


def correction(client: str, number: int | None, at_ms: int = 0) -> NewCorrection:
    said = [{"channel": client, "connect": None}]
    return NewCorrection(reconciliation=number, client=client, at_ms=at_ms, believed="online", connections=0, said=said)


def test_corrections_are_told_by_sweep_or_all_of_them(backend: Backend, store: Store) -> None:
    with store.transaction():
        number = store.sweeps.begin_reconciliation("operator", None, 10, 3)
        store.sweeps.write_corrections([correction(client, number) for client in HOSTILE])
        store.sweeps.write_corrections([correction("alone", None)])
    with backend.reader() as reader:
        found = reader.corrections(number)
        assert [one.client for one in found] == HOSTILE
        assert [one.said[0]["channel"] for one in found] == HOSTILE
        assert [one.client for one in reader.corrections(number, limit=2, cursor=found[1].id)] == HOSTILE[2:4]
        assert [one.client for one in reader.corrections(None)] == [*HOSTILE, "alone"]


def test_old_sweeps_and_corrections_are_purged_and_one_that_goes_on_is_kept(backend: Backend, store: Store) -> None:
    with store.transaction():
        old = store.sweeps.begin_reconciliation("schedule", None, 10, 0)
        store.sweeps.finish_reconciliation(old, 20)
        young = store.sweeps.begin_reconciliation("schedule", None, 30, 0)
        store.sweeps.finish_reconciliation(young, 200)
        going_on = store.sweeps.begin_reconciliation("schedule", None, 40, 0)
        store.sweeps.write_corrections(
            [correction("a", old, 15), correction("b", young, 150), correction("c", None, 99)]
        )
    with store.transaction():
        store.purge(100, 0)
    with backend.reader() as reader:
        assert [row.id for row in reader.reconciliations()] == [going_on, young]
        assert [one.client for one in reader.corrections(None)] == ["b"]


def test_the_quarantine_keeps_raw_bytes_whatever_they_are(backend: Backend, store: Store) -> None:
    with store.transaction():
        store.quarantine.add("log", 5, [("no JSON", b"\xff\0'\n"), ("empty", b"")])
    with backend.reader() as reader:
        assert [(row.reason, row.raw, row.received_at_ms) for row in reader.quarantine()] == [
            ("empty", b"", 5),
            ("no JSON", b"\xff\0'\n", 5),
        ]


def test_the_quarantine_is_bounded_the_oldest_leave_first(backend: Backend, store: Store) -> None:
    with store.transaction():
        store.quarantine.add("log", 100, [(f"reason {number}", b"x") for number in range(10_050)])
    with store.transaction():
        store.purge(0, 0)
    with backend.reader() as reader:
        kept = reader.quarantine(limit=20_000)
    assert len(kept) == 10_000
    assert (kept[0].reason, kept[-1].reason) == ("reason 10049", "reason 50")


def test_rules_are_remembered_with_since_when_they_are_missing(store: Store) -> None:
    with store.transaction():
        store.rules.write("a", '{"é":1}', 1, None)
        store.rules.write("b", "{}", 1, None)
        store.rules.write("b", "{}", 2, 77)
        store.rules.write("c", "{}", 1, None)
        store.rules.delete("c")
    assert store.rules.all() == {"a": ('{"é":1}', None), "b": ("{}", 77)}


def test_meta_values_are_replaced(store: Store) -> None:
    assert store.meta("k") is None
    with store.transaction():
        store.write_meta("k", "1")
        store.write_meta("k", "2'é")
    assert store.meta("k") == "2'é"


# Retention.


def test_a_purge_never_goes_past_the_checkpoint_however_old_the_rows_are(store: Store) -> None:
    with store.transaction():
        for row in range(1, 6):
            store.journal.append(row, row, "log", [b"{}"], [0], [])
    with store.transaction():
        store.purge(1_000, checkpoint=3)
    assert [row.id for row in store.journal.after(0)] == [4, 5]


def test_a_purge_keeps_what_is_young_and_what_is_going_on(backend: Backend, store: Store) -> None:
    with store.transaction():
        for row in range(1, 4):
            store.journal.append(row, row * 100, "log", [b"{}"], [0], [])
        store.alerts.write([alert("open", started_at_ms=1), alert("over", state="resolved", resolved_at_ms=50)])
        store.alerts.write([alert("just-over", state="resolved", resolved_at_ms=200)])
        store.deliveries.add([delivery("due"), delivery("held", state="held"), delivery("old", state="dead")])
        store.deliveries.add([delivery("young", state="dead", decided_at_ms=200)])
        store.quarantine.add("log", 50, [("old", b"")])
        store.quarantine.add("log", 200, [("young", b"")])
    with store.transaction():
        assert store.purge(200, checkpoint=99) == 4
    assert [row.id for row in store.journal.after(0)] == [2, 3]
    with backend.reader() as reader:
        assert sorted(row.id for row in reader.alerts()) == ["just-over", "open"]
        assert sorted(row.key for row in reader.deliveries()) == ["due", "held", "young"]
        assert [row.reason for row in reader.quarantine()] == ["young"]


def test_the_newest_row_is_known_even_when_all_rows_are_gone(store: Store) -> None:
    with store.transaction():
        store.journal.append(5, 1, "log", [b"{}"], [0], [])
        store.write_meta("checkpoint", "5")
        store.purge(1_000, checkpoint=5)
    assert list(store.journal.after(0)) == []
    assert store.journal.last_id() == 5


# Opening.


def test_opening_again_changes_nothing(backend: Backend) -> None:
    backend.open().close()
    before = backend.schema()
    backend.open().close()
    assert backend.schema() == before


def test_a_store_of_a_newer_version_is_refused_and_left_alone(backend: Backend) -> None:
    backend.open().close()
    backend.made_by_a_newer_version()
    before = backend.schema()
    with pytest.raises(StoreError, match="newer version"):
        backend.open()
    assert backend.schema() == before


def test_a_second_opener_is_refused_until_the_first_has_closed(backend: Backend) -> None:
    first = backend.open()
    with pytest.raises(StoreInUse, match="in use by another"):
        backend.open()
    first.close()
    backend.open().close()


def test_a_refused_opener_does_not_loosen_the_lock_of_the_first(backend: Backend) -> None:
    backend.open()
    for _ in range(2):
        with pytest.raises(StoreInUse):
            backend.open()


def test_reading_needs_a_store(backend: Backend) -> None:
    with pytest.raises(StoreError), backend.reader():
        pass
