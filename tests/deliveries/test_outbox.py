"""The outbox in SQLite: what is kept once, what leaves first, and what a dead firing takes along."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.delivery import Answer, Delivered, Expired, Outcome, Policy, Rejected, RetryLater
from engine.stores.base import NewDelivery, Share
from engine.stores.sqlite import delivery_rows

TARGET = "http://pager.test:80"
POLICY = Policy(max_age_ms=100_000)


_OPENED: list[sqlite3.Connection] = []


@pytest.fixture(autouse=True)
def _all_closed() -> Iterator[None]:
    yield
    while _OPENED:
        _OPENED.pop().close()


@pytest.fixture
def conn() -> sqlite3.Connection:
    return opened()


def opened() -> sqlite3.Connection:
    """An empty outbox; closed when the test ends."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    _OPENED.append(connection)
    delivery_rows.create(connection)
    return connection


def new(key: str, **changes: Any) -> NewDelivery:
    """A due firing in a lane of its own."""
    row = NewDelivery(key, "dark", f"G@@@{key}", None, None, f"alert-{key}", "webhook", TARGET, f"lane-{key}", "firing",
                      "due", 0, {"url": TARGET, "json": {}})  # fmt: skip
    return row._replace(**changes)


def ended(conn: sqlite3.Connection, id_: int, answer: Answer | Expired, now_ms: int = 10) -> delivery_rows.Recorded:
    return delivery_rows.record(
        conn, [Outcome(id=id_, answer=answer, attempted_at_ms=now_ms)], now_ms, lambda: 1.0, POLICY
    )


def leaving(conn: sqlite3.Connection, now_ms: int = 10, holding: tuple[int, ...] = ()) -> list[str]:
    return [item.key for item in delivery_rows.due(conn, now_ms, [Share(TARGET, 100, holding)])]


def state(conn: sqlite3.Connection, id_: int) -> str:
    row = delivery_rows.get(conn, id_)
    assert row is not None
    return row.state


def test_a_key_that_exists_is_the_same_delivery(conn: sqlite3.Connection) -> None:
    first = delivery_rows.insert(conn, [new("a"), new("b")])
    again = delivery_rows.insert(conn, [new("b", rule="other"), new("c"), new("c")])
    assert [bool(id_) for id_ in first] == [True, True]
    assert [bool(id_) for id_ in again] == [False, True, False]
    assert [row.key for row in delivery_rows.list_(conn)] == ["c", "b", "a"]


def test_shadow_held_and_dead_ones_do_not_leave(conn: sqlite3.Connection) -> None:
    rows = [new("s", state="shadow"), new("h", state="held"), new("d", state="dead", error="broken"), new("due")]
    ids = delivery_rows.insert(conn, rows)
    assert leaving(conn) == ["due"] == [item.key for item in delivery_rows.fresh_items(conn, rows, ids)]
    assert delivery_rows.counts(conn) == {"due": 1, "held": 1}


def test_what_is_held_by_the_reader_is_not_handed_out_again(conn: sqlite3.Connection) -> None:
    ids = delivery_rows.insert(conn, [new("a"), new("b")])
    assert leaving(conn, holding=(ids[0],)) == ["b"]


def test_a_lane_waits_for_its_retry_and_others_do_not(conn: sqlite3.Connection) -> None:
    ids = delivery_rows.insert(conn, [new("1", lane="l"), new("2", lane="l"), new("other")])
    ended(conn, ids[0], RetryLater(reason="busy"))
    assert leaving(conn, 500) == ["other"]
    assert delivery_rows.waiting(conn, 500).next_due_at_ms == 1_010
    assert leaving(conn, 1_010) == ["1", "other"]
    ended(conn, ids[0], Delivered(), 1_020)
    assert leaving(conn, 1_020) == ["2", "other"]


def test_a_lane_waits_for_what_is_held_until_it_is_released_or_discarded(conn: sqlite3.Connection) -> None:
    rows = [new("1", lane="l", state="held"), new("2", lane="l", state="held"), new("3", lane="l")]
    ids = delivery_rows.insert(conn, rows)
    assert leaving(conn) == [] == delivery_rows.fresh_items(conn, rows, ids)
    assert delivery_rows.release(conn, ids[:1], 20) == ids[:1]
    assert leaving(conn, 20) == ["1"]
    ended(conn, ids[0], Delivered(), 20)
    assert delivery_rows.discard(conn, ids, 20) == [ids[1], ids[2]]
    assert [row.state for row in delivery_rows.list_(conn)] == ["discarded", "discarded", "delivered"]


def test_the_recovery_of_a_firing_that_died_dies_with_it(conn: sqlite3.Connection) -> None:
    ids = delivery_rows.insert(conn, [new("f", alert="a", lane="l"), new("r", alert="a", lane="l", phase="recovery")])
    ended(conn, ids[0], Rejected(reason="HTTP 404"))
    recovery = delivery_rows.get(conn, ids[1])
    assert recovery is not None and recovery.state == "dead" and "never delivered" in (recovery.last_error or "")


def test_a_recovery_decided_after_its_firing_died_is_dead_at_once(conn: sqlite3.Connection) -> None:
    (firing,) = delivery_rows.insert(conn, [new("f", alert="a", lane="l")])
    ended(conn, firing, Rejected(reason="HTTP 404"))
    rows = [new("r", alert="a", lane="l", phase="recovery")]
    ids = delivery_rows.insert(conn, rows)
    assert state(conn, ids[0]) == "dead" and not delivery_rows.fresh_items(conn, rows, ids) and leaving(conn) == []


def test_the_recovery_of_a_firing_that_may_have_arrived_is_sent(conn: sqlite3.Connection) -> None:
    ids = delivery_rows.insert(conn, [new("f", alert="a", lane="l"), new("r", alert="a", lane="l", phase="recovery")])
    ended(conn, ids[0], RetryLater(reason="no answer", may_have_arrived=True))
    ended(conn, ids[0], Rejected(reason="HTTP 404"))
    assert leaving(conn) == ["r"]


def test_the_recovery_is_sent_when_a_reminder_died_but_the_firing_had_arrived(conn: sqlite3.Connection) -> None:
    rows = [new("f", alert="a"), new("reminder", alert="a"), new("r", alert="a", phase="recovery")]
    ids = delivery_rows.insert(conn, rows)
    ended(conn, ids[0], Delivered())
    ended(conn, ids[1], Rejected(reason="HTTP 404"))
    assert leaving(conn) == ["r"]


def test_the_recovery_lives_as_long_as_another_action_may_still_tell(conn: sqlite3.Connection) -> None:
    rows = [
        new("f1", alert="a", lane="l"),
        new("f2", alert="a", lane="l"),
        new("r", alert="a", lane="l", phase="recovery"),
    ]
    ids = delivery_rows.insert(conn, rows)
    ended(conn, ids[0], Rejected(reason="HTTP 404"))
    assert state(conn, ids[2]) == "due"
    ended(conn, ids[1], Rejected(reason="HTTP 404"))
    assert state(conn, ids[2]) == "dead"


def test_what_passed_its_deadline_unsent_is_dead_and_was_not_attempted(conn: sqlite3.Connection) -> None:
    (id_,) = delivery_rows.insert(conn, [new("a")])
    assert ended(conn, id_, Expired(), 99_999).dead == 0
    assert ended(conn, id_, Expired(), 100_000).dead == 1
    row = delivery_rows.get(conn, id_)
    assert row is not None and (row.state, row.attempts) == ("dead", 0)


def test_an_answer_that_comes_after_a_discard_changes_nothing(conn: sqlite3.Connection) -> None:
    (id_,) = delivery_rows.insert(conn, [new("a")])
    delivery_rows.discard(conn, [id_], 5)
    assert ended(conn, id_, Delivered()) == ended(conn, id_, Rejected(reason="no")) == delivery_rows.Recorded()
    assert state(conn, id_) == "discarded"


def test_a_dead_one_can_be_sent_once_more(conn: sqlite3.Connection) -> None:
    (id_,) = delivery_rows.insert(conn, [new("a")])
    ended(conn, id_, Rejected(reason="HTTP 401"))
    assert delivery_rows.retry(conn, [id_, 99], 200_000) == [id_]
    assert leaving(conn, 200_000) == ["a"] and ended(conn, id_, Delivered(), 200_001).delivered == 1


def test_lists_are_filtered_and_paged_newest_first(conn: sqlite3.Connection) -> None:
    ids = delivery_rows.insert(
        conn, [new("a"), new("b", rule="r"), new("c", client="G@@@a"), new("d", clients=["x", "y"])]
    )
    assert [row.key for row in delivery_rows.list_(conn, limit=2)] == ["d", "c"]
    assert [row.key for row in delivery_rows.list_(conn, cursor=ids[2])] == ["b", "a"]
    assert [row.key for row in delivery_rows.list_(conn, client="G@@@a")] == ["c", "a"]
    assert [row.key for row in delivery_rows.list_(conn, state="due", rule="r")] == ["b"]
    assert delivery_rows.list_(conn, limit=1)[0].clients == ("x", "y")
    with pytest.raises(ValueError, match="'gone'"):
        delivery_rows.list_(conn, state="gone")


def test_purging_removes_old_finished_ones_only(conn: sqlite3.Connection) -> None:
    ids = delivery_rows.insert(conn, [new("a"), new("b"), new("c", decided_at_ms=50)])
    ended(conn, ids[1], Delivered())
    ended(conn, ids[2], Delivered())
    assert delivery_rows.purge(conn, 50) == 1
    assert [row.key for row in delivery_rows.list_(conn)] == ["c", "a"]


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["ok", "later", "never"])), max_size=40), st.randoms())
def test_whatever_targets_answer_a_lane_leaves_in_order(plan: list[tuple[int, str]], random: Any) -> None:
    conn = opened()
    rows = [new(f"{n:03}", lane=f"lane-{lane}", alert=f"{n}") for n, (lane, _) in enumerate(plan)]
    ids = dict(zip((row.key for row in rows), delivery_rows.insert(conn, rows), strict=True))
    answers = {f"{n:03}": how for n, (_, how) in enumerate(plan)}
    left: dict[str, list[str]] = {}
    now_ms = 0
    for _ in range(3 * len(plan) + 1):
        items = delivery_rows.due(conn, now_ms, [Share(TARGET, 5, ())])
        heads: dict[str, Any] = {}
        for item in items:
            heads.setdefault(item.lane, item)
        for item in random.sample(list(heads.values()), len(heads)):
            how = answers[item.key]
            answers[item.key] = "ok"
            if how == "later":
                ended(conn, ids[item.key], RetryLater(reason="busy"), now_ms)
                continue
            left.setdefault(item.lane, []).append(item.key)
            ended(conn, ids[item.key], Delivered() if how == "ok" else Rejected(reason="no"), now_ms)
        now_ms += 600
    conn.close()
    assert all(keys == sorted(keys) for keys in left.values())
    assert sum(map(len, left.values())) == len(plan)


def test_a_commands_life_is_kept_with_it(conn: sqlite3.Connection) -> None:
    (id_,) = delivery_rows.insert(conn, [new("a", action="command", request={"to": "d", "expires_ms": 5_000})])
    assert ended(conn, id_, Expired(), now_ms=4_999).dead == 0
    assert ended(conn, id_, RetryLater(reason="down"), now_ms=100).retried == 1
    assert leaving(conn, now_ms=725) == ["a"]
    assert ended(conn, id_, Expired(), now_ms=5_000).dead == 1
    row = delivery_rows.get(conn, id_)
    assert row is not None and row.last_error == "too old to be sent; before that: down"


SMTP = "smtp://mail.test:587"
BROKER = "mqtt://broker.test:1883"


def mail(key: str, *to: str, cc: tuple[str, ...] = (), **changes: Any) -> NewDelivery:
    """An e-mail of one alert."""
    request = {"to": list(to), "cc": list(cc)}
    told = {"action": "email", "target": SMTP, "alert": "a", "lane": "l", "request": request} | changes
    return new(key, **told)


def order(key: str, to: str, **changes: Any) -> NewDelivery:
    """A command of one alert to a device."""
    return new(
        key, **({"action": "command", "target": BROKER, "alert": "a", "lane": "l", "request": {"to": to}} | changes)
    )


def known(conn: sqlite3.Connection, *keys: str) -> list[str]:
    """The states of some deliveries."""
    states = {row.key: row.state for row in delivery_rows.list_(conn)}
    return [states[key] for key in keys]


AFTER = ("before the firing ended", "after it")


@pytest.mark.parametrize("decided", AFTER)
@pytest.mark.parametrize("one", [mail, order])
def test_who_was_never_reached_hears_of_no_end_though_others_at_the_same_server_were(
    one: Any, decided: str, conn: sqlite3.Connection
) -> None:
    recoveries = [one("ra", "ann@x", phase="recovery"), one("rb", "bob@x", phase="recovery")]
    ann, bob = delivery_rows.insert(conn, [one("fa", "ann@x"), one("fb", "bob@x")])
    if decided == AFTER[0]:
        delivery_rows.insert(conn, recoveries)
    ended(conn, bob, Delivered())
    ended(conn, ann, Rejected(reason="refused"))
    rows = delivery_rows.insert(conn, recoveries) if decided == AFTER[1] else []
    assert known(conn, "ra", "rb") == ["dead", "due"]
    if rows:
        assert [item.key for item in delivery_rows.fresh_items(conn, recoveries, rows)] == ["rb"]


@pytest.mark.parametrize(
    ("firings", "to", "expected"),
    [
        ({"fa": ("ann@x",), "fb": ("bob@x",)}, ("ann@x", "bob@x"), "due"),  # one of them was told
        ({"fa": ("ann@x",), "fb": ("bob@x",)}, ("ANN@x",), "dead"),  # a mailbox is one however it is written
        ({"fa": ("ann@x", "eve@x"), "fb": ("bob@x", "eve@x")}, ("eve@x",), "due"),
        ({"fa": ("ann@x",), "fb": ("bob@x",)}, ("team@x",), "due"),  # written to only now: somebody there was told
        ({"fa": ("ann@x",)}, ("team@x",), "dead"),  # nobody was
    ],
)
def test_a_recovery_to_several_goes_when_one_of_them_was_told(
    firings: dict[str, tuple[str, ...]], to: tuple[str, ...], expected: str, conn: sqlite3.Connection
) -> None:
    for key, id_ in zip(
        firings, delivery_rows.insert(conn, [mail(key, *people) for key, people in firings.items()]), strict=True
    ):
        ended(conn, id_, Rejected(reason="refused") if key == "fa" else Delivered())
    delivery_rows.insert(conn, [mail("r", *to, phase="recovery")])
    assert known(conn, "r") == [expected]


def test_a_copy_is_told_as_well(conn: sqlite3.Connection) -> None:
    ann, bob = delivery_rows.insert(conn, [mail("fa", "ann@x"), mail("fb", "bob@x", cc=("ann@x",))])
    ended(conn, ann, Rejected(reason="refused"))
    delivery_rows.insert(conn, [mail("r", "ann@x", phase="recovery")])
    assert known(conn, "r") == ["due"]  # the other one may still tell her
    ended(conn, bob, Rejected(reason="refused"))
    assert known(conn, "r") == ["dead"]


def test_a_firing_that_is_dead_when_it_is_written_takes_along_the_recovery_written_with_it(
    conn: sqlite3.Connection,
) -> None:
    rows = [order("f", "a/b", state="dead", error="no client id"), order("r", "a/b", phase="recovery")]
    ids = delivery_rows.insert(conn, rows)
    assert delivery_rows.fresh_items(conn, rows, ids) == []
    assert known(conn, "r") == ["dead"]
