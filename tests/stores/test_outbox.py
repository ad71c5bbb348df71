"""The outbox of every store: what is kept once, what leaves first, and what a dead firing takes along."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.core.delivery import Answer, Delivered, DeliveryPolicy, Expired, OutboxItem, Outcome, Rejected, RetryLater
from engine.stores.base import DeliveryRow, NewDelivery, Recorded, Share, Store
from engine.testing import delivery

TARGET = "http://pager.test:80"
POLICY = DeliveryPolicy(max_age_ms=100_000)
ANSWERS: dict[str, Answer] = {"ok": Delivered(), "later": RetryLater(reason="busy"), "never": Rejected(reason="no")}


class Box:
    """The outbox of a store, with each verb in a transaction of its own, and deliveries by their keys."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def add(self, *rows: NewDelivery) -> list[str]:
        """Write deliveries; the keys of those that may leave at once."""
        with self.store.transaction():
            return [item.key for item in self.store.deliveries.add(rows)]

    def ended(self, key: str, answer: Answer | Expired, now_ms: int = 10) -> Recorded:
        """One attempt came to an end."""
        outcome = Outcome(id=self.row(key).id, answer=answer, attempted_at_ms=now_ms)
        with self.store.transaction():
            return self.store.deliveries.record([outcome], now_ms, lambda: 1.0, POLICY)

    def act(self, what: str, *keys: str, now_ms: int = 20) -> list[str]:
        """An operator acts on deliveries; the keys of those that it changed."""
        changed = []
        for key in keys:
            with self.store.transaction():
                row, is_changed = self.store.deliveries.act(self.row(key).id, what, now_ms)
            assert row is not None and row.key == key
            changed += [key] if is_changed else []
        return changed

    def leaving(self, now_ms: int = 10, holding: tuple[str, ...] = (), limit: int = 100) -> list[OutboxItem]:
        """What may leave for the target."""
        share = Share(TARGET, limit, [self.row(key).id for key in holding])
        with self.store.reading() as reader:
            return reader.due(now_ms, [share])

    def keys(self, now_ms: int = 10, holding: tuple[str, ...] = ()) -> list[str]:
        """The keys of what may leave."""
        return [item.key for item in self.leaving(now_ms, holding)]

    def rows(self, **wanted: Any) -> list[DeliveryRow]:
        """Deliveries, newest first."""
        with self.store.reading() as reader:
            return reader.deliveries(**wanted)

    def row(self, key: str) -> DeliveryRow:
        """One delivery."""
        (found,) = [row for row in self.rows(limit=10_000) if row.key == key]
        return found

    def states(self, *keys: str) -> list[str]:
        """The states of some deliveries."""
        states = {row.key: row.state for row in self.rows(limit=10_000)}
        return [states[key] for key in keys]


@pytest.fixture
def box(store: Store) -> Box:
    """An empty outbox."""
    return Box(store)


def test_a_key_that_exists_is_the_same_delivery(box: Box) -> None:
    assert box.add(delivery("a"), delivery("b")) == ["a", "b"]
    assert box.add(delivery("b", rule="other"), delivery("c"), delivery("c")) == ["c"]
    assert [row.key for row in box.rows()] == ["c", "b", "a"]
    assert box.row("b").rule == "dark"


def test_shadow_held_and_dead_ones_do_not_leave(box: Box) -> None:
    rows = [
        delivery("s", state="shadow"),
        delivery("h", state="held"),
        delivery("d", state="dead", error="broken"),
        delivery("due"),
    ]
    assert box.add(*rows) == box.keys() == ["due"]
    with box.store.reading() as reader:
        totals = reader.totals()
    assert (totals.due, totals.held, totals.dead) == (1, 1, 1)


def test_what_is_held_by_the_reader_is_not_handed_out_again(box: Box) -> None:
    box.add(delivery("a"), delivery("b"))
    assert box.keys(holding=("a",)) == ["b"]


def test_a_lane_waits_for_its_retry_and_others_do_not(box: Box) -> None:
    box.add(delivery("1", lane="l"), delivery("2", lane="l"), delivery("other"))
    box.ended("1", RetryLater(reason="busy"))
    assert box.keys(500) == ["other"]
    with box.store.reading() as reader:
        assert reader.waiting(500).next_due_at_ms == 1_010
    assert box.keys(1_010) == ["1", "other"]
    box.ended("1", Delivered(), 1_020)
    assert box.keys(1_020) == ["2", "other"]


def test_a_lane_waits_for_what_is_held_until_it_is_released_or_discarded(box: Box) -> None:
    assert (
        box.add(delivery("1", lane="l", state="held"), delivery("2", lane="l", state="held"), delivery("3", lane="l"))
        == []
    )
    assert box.keys() == []
    assert box.act("release", "1") == ["1"]
    assert box.keys(20) == ["1"]
    box.ended("1", Delivered(), 20)
    assert box.act("discard", "1", "2", "3") == ["2", "3"]
    assert box.states("1", "2", "3") == ["delivered", "discarded", "discarded"]


def test_an_act_on_a_delivery_that_does_not_exist_changes_nothing(box: Box) -> None:
    with box.store.transaction():
        assert box.store.deliveries.act(99, "retry", 20) == (None, False)


def test_an_act_on_the_held_deliveries_of_a_rule_leaves_other_rules_alone(box: Box) -> None:
    box.add(
        delivery("1", state="held"),
        delivery("2"),
        delivery("3", state="held", rule="other"),
        delivery("4", state="held"),
    )
    with box.store.transaction():
        assert box.store.deliveries.act_on_held("dark", "release", 20) == 2
        assert box.store.deliveries.act_on_held("dark", "release", 20) == 0
    assert box.states("1", "2", "3", "4") == ["due", "due", "held", "due"]


def test_the_recovery_of_a_firing_that_died_dies_with_it(box: Box) -> None:
    box.add(delivery("f", alert="a", lane="l"), delivery("r", alert="a", lane="l", phase="recovery"))
    box.ended("f", Rejected(reason="HTTP 404"))
    recovery = box.row("r")
    assert recovery.state == "dead" and "never delivered" in (recovery.last_error or "")


def test_the_recovery_of_a_step_shares_the_fate_of_the_step_and_not_that_of_a_firing_elsewhere(box: Box) -> None:
    chat = {"alert": "a", "target": "http://chat.test:80"}
    box.add(delivery("f", **chat), delivery("s", alert="a", phase="escalation"))
    box.ended("s", ANSWERS["never"])
    box.add(delivery("of-step", alert="a", phase="recovery"), delivery("of-rule", phase="recovery", **chat))
    assert box.states("of-step", "of-rule") == ["dead", "due"]


def test_a_step_that_arrived_keeps_the_recovery_of_a_firing_that_died_at_the_same_target(box: Box) -> None:
    box.add(delivery("f", alert="a"))
    box.ended("f", ANSWERS["never"])
    box.add(delivery("s", alert="a", phase="escalation"))
    box.ended("s", ANSWERS["ok"])
    box.add(delivery("r", alert="a", phase="recovery"))
    assert box.states("r") == ["due"]


def test_a_recovery_decided_after_its_firing_died_is_dead_at_once(box: Box) -> None:
    box.add(delivery("f", alert="a", lane="l"))
    box.ended("f", Rejected(reason="HTTP 404"))
    assert box.add(delivery("r", alert="a", lane="l", phase="recovery")) == []
    assert box.states("r") == ["dead"] and box.keys() == []


def test_the_recovery_of_a_firing_that_may_have_arrived_is_sent(box: Box) -> None:
    box.add(delivery("f", alert="a", lane="l"), delivery("r", alert="a", lane="l", phase="recovery"))
    box.ended("f", RetryLater(reason="no answer", may_have_arrived=True))
    box.ended("f", Rejected(reason="HTTP 404"))
    assert box.keys() == ["r"]


def test_the_recovery_is_sent_when_a_reminder_died_but_the_firing_had_arrived(box: Box) -> None:
    box.add(delivery("f", alert="a"), delivery("reminder", alert="a"), delivery("r", alert="a", phase="recovery"))
    box.ended("f", Delivered())
    box.ended("reminder", Rejected(reason="HTTP 404"))
    assert box.keys() == ["r"]


def test_the_recovery_lives_as_long_as_another_action_may_still_arrive(box: Box) -> None:
    box.add(
        delivery("f1", alert="a", lane="l"),
        delivery("f2", alert="a", lane="l"),
        delivery("r", alert="a", lane="l", phase="recovery"),
    )
    box.ended("f1", Rejected(reason="HTTP 404"))
    assert box.states("r") == ["due"]
    box.ended("f2", Rejected(reason="HTTP 404"))
    assert box.states("r") == ["dead"]


def test_what_passed_its_deadline_unsent_is_dead_and_was_not_attempted(box: Box) -> None:
    box.add(delivery("a"))
    assert box.ended("a", Expired(), 99_999).dead == 0
    assert box.ended("a", Expired(), 100_000).dead == 1
    assert (box.row("a").state, box.row("a").attempts) == ("dead", 0)


def test_an_answer_that_comes_after_a_discard_changes_nothing(box: Box) -> None:
    box.add(delivery("a"))
    box.act("discard", "a")
    assert box.ended("a", Delivered()) == box.ended("a", Rejected(reason="no")) == Recorded()
    assert box.states("a") == ["discarded"]


def test_a_dead_one_can_be_sent_once_more(box: Box) -> None:
    box.add(delivery("a"))
    assert box.act("retry", "a") == []
    box.ended("a", Rejected(reason="HTTP 401"))
    assert box.act("retry", "a", now_ms=200_000) == ["a"]
    assert box.keys(200_000) == ["a"] and box.ended("a", Delivered(), 200_001).delivered == 1


def test_lists_are_filtered_and_paged_newest_first(box: Box) -> None:
    box.add(delivery("a"), delivery("b", rule="r"), delivery("c", client="G@@@a"), delivery("d", clients=["x", "y"]))
    assert [row.key for row in box.rows(limit=2)] == ["d", "c"]
    assert [row.key for row in box.rows(cursor=box.row("c").id)] == ["b", "a"]
    assert [row.key for row in box.rows(client="G@@@a")] == ["c", "a"]
    assert [row.key for row in box.rows(state="due", rule="r")] == ["b"]
    assert box.rows(limit=1)[0].clients == ("x", "y")
    with pytest.raises(ValueError, match="'gone'"):
        box.rows(state="gone")


def test_purging_removes_old_finished_ones_only(box: Box) -> None:
    box.add(delivery("a"), delivery("b"), delivery("c", decided_at_ms=50))
    box.ended("b", Delivered())
    box.ended("c", Delivered())
    with box.store.transaction():
        assert box.store.purge(50, 0) == 1
    assert [row.key for row in box.rows()] == ["c", "a"]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["ok", "later", "never"])), max_size=40), st.randoms())
def test_whatever_targets_answer_a_lane_leaves_in_order(box: Box, plan: list[tuple[int, str]], random: Any) -> None:
    box.act("discard", *(row.key for row in box.rows(state="due", limit=10_000)))  # of an example that was cut short
    run = len(box.rows(limit=10_000))
    answers = {f"{run + n:06}": how for n, (_, how) in enumerate(plan)}
    box.add(*(delivery(key, lane=f"{run}-{lane}", alert=key) for key, (lane, _) in zip(answers, plan, strict=True)))
    left: dict[str, list[str]] = {}
    now_ms = 0
    for _ in range(3 * len(plan) + 1):
        heads: dict[str, OutboxItem] = {}
        for item in box.leaving(now_ms, limit=5):
            heads.setdefault(item.lane, item)
        outcomes = []
        for item in random.sample(list(heads.values()), len(heads)):
            how, answers[item.key] = answers[item.key], "ok"
            if how != "later":
                left.setdefault(item.lane, []).append(item.key)
            outcomes.append(Outcome(id=item.id, answer=ANSWERS[how], attempted_at_ms=now_ms))
        with box.store.transaction():
            box.store.deliveries.record(outcomes, now_ms, lambda: 1.0, POLICY)
        now_ms += 600
    assert all(keys == sorted(keys) for keys in left.values())
    assert sum(map(len, left.values())) == len(plan)


def test_a_commands_life_is_kept_with_it(box: Box) -> None:
    box.add(delivery("a", action="command", request={"to": "d", "expires_ms": 5_000}))
    assert box.ended("a", Expired(), now_ms=4_999).dead == 0
    assert box.ended("a", RetryLater(reason="down"), now_ms=100).retried == 1
    assert box.keys(725) == ["a"]
    assert box.ended("a", Expired(), now_ms=5_000).dead == 1
    assert box.row("a").last_error == "too old to be sent; before that: down"


SMTP = "smtp://mail.test:587"
BROKER = "mqtt://broker.test:1883"


def mail(key: str, *to: str, cc: tuple[str, ...] = (), **changes: Any) -> NewDelivery:
    """An e-mail of one alert."""
    request = {"to": list(to), "cc": list(cc)}
    told = {"action": "email", "target": SMTP, "alert": "a", "lane": "l", "request": request} | changes
    return delivery(key, **told)


def order(key: str, to: str, **changes: Any) -> NewDelivery:
    """A command of one alert to a device."""
    return delivery(
        key, **({"action": "command", "target": BROKER, "alert": "a", "lane": "l", "request": {"to": to}} | changes)
    )


AFTER = ("before the firing ended", "after it")


@pytest.mark.parametrize("decided", AFTER)
@pytest.mark.parametrize("one", [mail, order])
def test_who_was_never_reached_hears_of_no_end_though_others_at_the_same_server_were(
    one: Any, decided: str, box: Box
) -> None:
    recoveries = [one("ra", "ann@x", phase="recovery"), one("rb", "bob@x", phase="recovery")]
    box.add(one("fa", "ann@x"), one("fb", "bob@x"))
    if decided == AFTER[0]:
        box.add(*recoveries)
    box.ended("fb", Delivered())
    box.ended("fa", Rejected(reason="refused"))
    if decided == AFTER[1]:
        assert box.add(*recoveries) == ["rb"]
    assert box.states("ra", "rb") == ["dead", "due"]


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
    firings: dict[str, tuple[str, ...]], to: tuple[str, ...], expected: str, box: Box
) -> None:
    box.add(*(mail(key, *people) for key, people in firings.items()))
    for key in firings:
        box.ended(key, Rejected(reason="refused") if key == "fa" else Delivered())
    box.add(mail("r", *to, phase="recovery"))
    assert box.states("r") == [expected]


def test_a_copy_is_told_as_well(box: Box) -> None:
    box.add(mail("fa", "ann@x"), mail("fb", "bob@x", cc=("ann@x",)))
    box.ended("fa", Rejected(reason="refused"))
    box.add(mail("r", "ann@x", phase="recovery"))
    assert box.states("r") == ["due"]  # the other one may still reach her
    box.ended("fb", Rejected(reason="refused"))
    assert box.states("r") == ["dead"]


def test_a_firing_that_is_dead_when_it_is_written_takes_along_the_recovery_written_with_it(
    box: Box,
) -> None:
    rows = [order("f", "a/b", state="dead", error="no client id"), order("r", "a/b", phase="recovery")]
    assert box.add(*rows) == []
    assert box.states("r") == ["dead"]
