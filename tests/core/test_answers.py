"""What a synchronous answer does to the belief, to holds and to alerts; and what events do to it afterwards."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.events import LifecycleEvent
from engine.core.fleet import Fleet
from engine.core.presence.client_state import NEVER, STATUS_NAMES, Answered, Channel, ClientState
from engine.core.presence.evidence import readings
from engine.core.presence.query import AGREED, CORRECTED, IGNORED, STALE, UNCONFIRMED, UNKNOWN, StatusAnswer
from engine.core.presence.reconcile import Gaps, is_concerned, is_unsure, sweep_order, with_gap
from engine.stores.alert_rows import alert_of_row, alert_row
from tests.core.worlds import POLICY, START_MS, World, at, event, full, no_names, rule

ASKING = replace(POLICY, asks=True)
DARK = rule("dark", "offline", recovery=True)
SURE = rule("sure", "offline", recovery=True, verify=True)


def world(*rules: object, **more: object) -> World:
    """A world in which clients can be asked about."""
    return World(*rules, policy=replace(ASKING, **more))  # type: ignore[arg-type]


# What an answer does


def test_an_answer_that_agrees_verifies() -> None:
    told = world().tell("0s p1 connect A")
    assert told.answer("10s", "p1", 1) == AGREED
    assert told.state("p1").verified_ms == at("10s")
    assert told.observed("p1") == "online"


def test_an_answer_older_than_the_newest_event_is_stale() -> None:
    told = world().tell("0s p1 connect A", "10s p1 tcpclean A")
    assert told.answer("11s", "p1", 1, asked="9s") == STALE
    assert told.observed("p1") == "offline"
    assert told.fleet.counts.stale_answers == 1


def test_an_event_that_occurred_before_the_question_but_came_after_it_makes_the_answer_stale() -> None:
    told = world().tell("0s p1 connect A", "10s/20s p1 tcpclean A")
    assert told.answer("21s", "p1", 1, asked="15s") == STALE


def test_an_answer_older_than_another_answer_is_stale() -> None:
    told = world().tell("0s p1 connect A")
    assert told.answer("10s", "p1", 1) == AGREED
    assert told.answer("11s", "p1", 0, asked="9s") == STALE


def test_one_zero_while_online_is_asked_again_and_changes_nothing() -> None:
    told = world().tell("0s p1 connect A")
    assert told.answer("10s", "p1", 0) == UNCONFIRMED
    assert told.observed("p1") == "online"
    assert told.asks == ["15s p1 confirm"]


def test_two_zeros_while_online_make_it_offline_and_the_hold_counts_from_the_second() -> None:
    told = world(DARK).tell("0s p1 connect A")
    told.answer("10s", "p1", 0)
    assert told.answer("15s", "p1", 0) == CORRECTED
    assert told.observed("p1") == "offline"
    assert told.run_on().story == [
        "0s p1 online first",
        "45s p1 offline",
        "45s dark p1 firing",
        "45s dark > p1 log firing",
    ]
    assert told.state("p1").occurred_at_ms == at("15s")


def test_a_second_zero_that_comes_too_soon_is_no_second_zero() -> None:
    told = world().tell("0s p1 connect A")
    told.answer("10s", "p1", 0)
    assert told.answer("11s", "p1", 0) == UNCONFIRMED
    assert told.answer("15s", "p1", 0) == CORRECTED


def test_news_between_two_zeros_makes_the_second_a_first_one() -> None:
    told = world().tell("0s p1 connect A")
    told.answer("10s", "p1", 0)
    told.tell("12s p1 connect B")
    assert told.answer("15s", "p1", 0) == UNCONFIRMED
    assert told.observed("p1") == "online"


def test_a_connection_between_two_zeros_takes_the_first_one_back() -> None:
    told = world().tell("0s p1 connect A")
    told.answer("10s", "p1", 0)
    assert told.answer("15s", "p1", 1) == AGREED
    assert told.answer("20s", "p1", 0) == UNCONFIRMED


def test_a_connect_that_two_zeros_have_voided_is_closed_when_it_comes_at_last() -> None:
    told = world().tell("0s p1 connect A", "1s p1 tcpclean A", "2s p1 connect B")
    told.answer("10s", "p1", 0)
    told.answer("15s", "p1", 0)
    told.tell("14s/20s p1 connect C")
    assert told.observed("p1") == "offline"


def test_a_connect_within_the_skew_of_the_second_zero_is_not_voided() -> None:
    told = world().tell("0s p1 connect A")
    told.answer("10s", "p1", 0)
    told.answer("15s", "p1", 0)
    told.tell("14001ms/20s p1 connect C")
    assert told.observed("p1") == "online"


def test_a_connect_after_two_zeros_brings_the_client_back() -> None:
    told = world().tell("0s p1 connect A")
    told.answer("10s", "p1", 0)
    told.answer("15s", "p1", 0)
    told.tell("20s p1 connect B")
    assert (told.observed("p1"), told.run_on().transitions) == ("online", ["0s p1 online first"])


def test_a_goodbye_before_a_lost_close_makes_the_offline_graceful() -> None:
    told = world().tell("0s p1 connect A", "5s p1 disconnect A")
    told.answer("10s", "p1", 0)
    told.answer("15s", "p1", 0)
    assert told.run_on().transitions[-1] == "45s p1 offline graceful"


def test_a_connection_while_offline_is_an_anonymous_channel_and_is_asked_again() -> None:
    told = world().tell("0s p1 connect A", "10s p1 tcpclean A").pass_to("60s")
    assert told.answer("60s", "p1", 1) == UNCONFIRMED
    assert told.observed("p1") == "online"
    assert told.asks == ["1m5s p1 confirm"]
    assert told.answer("65s", "p1", 1) == CORRECTED
    assert told.transitions == ["0s p1 online first", "40s p1 offline", "1m p1 online"]


def test_a_zero_undoes_a_correction_during_the_hold_and_the_old_hold_counts() -> None:
    told = world().tell("0s p1 connect A", "10s p1 tcpclean A")
    told.answer("20s", "p1", 1)
    assert told.answer("25s", "p1", 0) == AGREED
    assert told.run_on().transitions == ["0s p1 online first", "40s p1 offline"]
    assert told.state("p1").flaps == 0


def test_a_zero_undoes_a_correction_that_had_settled_and_the_old_since_counts() -> None:
    told = world().tell("0s p1 connect A", "10s p1 tcpclean A").pass_to("60s")
    told.answer("60s", "p1", 1)
    told.answer("65s", "p1", 0)
    assert told.transitions == ["0s p1 online first", "40s p1 offline", "1m p1 online", "1m5s p1 offline"]
    assert told.state("p1").since_ms == at("10s")


def test_the_connect_it_spoke_of_takes_the_place_of_the_anonymous_channel() -> None:
    told = world().tell("0s p1 connect A", "10s p1 tcpclean A").pass_to("60s")
    told.answer("60s", "p1", 1)
    told.tell("50s/70s p1 connect B", "80s p1 tcpclean B")
    assert told.observed("p1") == "offline"


def test_a_newer_connect_supersedes_the_anonymous_channel() -> None:
    told = world().tell("0s p1 connect A", "10s p1 tcpclean A").pass_to("60s")
    told.answer("60s", "p1", 1)
    told.tell("70s p1 connect B", "80s p1 tcpclean B")
    assert told.observed("p1") == "offline"
    assert len(told.state("p1").takeovers) == 1


def test_the_close_of_a_channel_nobody_knows_closes_the_anonymous_one() -> None:
    told = world().tell("0s p1 connect A", "10s p1 tcpclean A").pass_to("60s")
    told.answer("60s", "p1", 1)
    told.tell("59s/70s p1 tcpclean B")
    assert told.observed("p1") == "online", "closed before we asked, so it was another"
    told.tell("71s p1 tcpclean C")
    assert told.observed("p1") == "offline"


def test_the_late_connect_of_a_channel_closed_before_the_question_does_not_take_the_place() -> None:
    told = world().tell("0s p1 connect A", "10s p1 tcpclean A").pass_to("60s")
    told.answer("60s", "p1", 1)
    told.tell("45s/70s p1 tcpclean B", "40s/71s p1 connect B")
    assert told.observed("p1") == "online"


def test_a_redelivered_connect_of_the_closed_channel_does_not_take_the_place() -> None:
    told = world().tell("0s p1 connect A", "10s p1 tcpclean A").pass_to("60s")
    told.answer("60s", "p1", 1)
    told.tell("0s/70s p1 connect A", "80s p1 tcpclean B")
    assert told.observed("p1") == "offline"


def test_a_goodbye_of_an_older_channel_says_nothing_about_the_anonymous_one() -> None:
    told = world().tell("0s p1 connect A", "9s p1 disconnect A", "10s p1 tcpclean A").pass_to("60s")
    told.answer("60s", "p1", 1)
    told.tell("80s p1 tcpclean B")
    assert told.run_on().transitions[-1] == "1m50s p1 offline"


def test_an_unknown_answer_leaves_the_belief_and_marks_the_client() -> None:
    told = world(rule("lost", "unverified", recovery=True)).tell("0s p1 connect A")
    assert told.answer("10s", "p1", None) == UNKNOWN
    assert told.answer("20s", "p1", None) == UNKNOWN
    assert told.answer("30s", "p1", 1) == AGREED
    assert told.alerts == ["10s lost p1 firing", "30s lost p1 resolved"]


# Who was never seen


def test_a_zero_for_a_client_of_the_inventory_that_nobody_heard_of_is_never_seen_and_not_offline() -> None:
    told = world(DARK, rule("missing", "never_seen", recovery=True))
    assert told.answer("10s", "p1", 0, listed=True) == AGREED
    told.run_on()
    assert told.alerts == ["10s missing p1 firing"]
    assert told.transitions == ["40s p1 offline first"]
    told.answer("50s", "p1", 0, listed=True)
    told.tell("60s p1 connect A")
    assert told.alerts == ["10s missing p1 firing", "1m missing p1 resolved"]


def test_who_was_never_seen_is_first_seen_when_an_event_names_it() -> None:
    told = world(rule("new", "first_seen"), rule("missing", "never_seen"), rule("back", "online"))
    told.answer("10s", "p1", 0, listed=True)
    told.run_on().tell("60s p1 connect A", "70s p1 tcpclean A", "200s p1 connect B").run_on()
    assert told.alerts == [
        "10s missing p1 firing",
        "1m missing p1 resolved",
        "1m back p1 firing",
        "1m new p1 firing",
        "1m new p1 resolved",
        "1m40s back p1 resolved",
        "3m20s back p1 firing",
    ]


def test_a_zero_for_a_client_that_nobody_knows_at_all_is_ignored() -> None:
    told = world()
    assert told.answer("10s", "p1", 0) == IGNORED
    assert told.fleet.states == {}


def test_a_connection_of_a_client_that_nobody_heard_of_makes_it_known() -> None:
    told = world(rule("missing", "never_seen", recovery=True))
    told.answer("10s", "p1", 0, listed=True)
    told.answer("20s", "p1", 1, listed=True)
    assert told.observed("p1") == "online"
    assert told.alerts == ["10s missing p1 firing", "20s missing p1 resolved"]


# Duplicates


def test_an_answer_of_two_connections_is_a_duplicate_until_an_answer_of_one() -> None:
    told = world(rule("twice", "duplicate", recovery=True)).tell("0s p1 connect A")
    told.answer("10s", "p1", 2)
    told.answer("20s", "p1", 2)
    told.answer("30s", "p1", 1)
    assert told.alerts == ["10s twice p1 firing", "30s twice p1 resolved"]


def test_a_close_ends_what_an_answer_said_about_duplicates() -> None:
    told = world(rule("twice", "duplicate", recovery=True)).tell("0s p1 connect A")
    told.answer("10s", "p1", 2)
    told.tell("20s p1 tcpclean B")
    assert told.alerts == ["10s twice p1 firing", "20s twice p1 resolved"]


# Holds and doubt


def test_a_doubtful_client_is_asked_before_it_settles_offline() -> None:
    told = world(DARK).tell("0s p1 connect A", "10s p1 connect B", "20s p1 tcpclean B").pass_to("50s")
    assert told.asks == ["50s p1 doubt"]
    assert told.answer("51s", "p1", 1) == UNCONFIRMED
    told.answer("56s", "p1", 1)
    assert told.run_on().transitions == ["0s p1 online first"]


def test_a_zero_lets_a_doubtful_client_settle_at_once() -> None:
    told = world(DARK).tell("0s p1 connect A", "10s p1 connect B", "20s p1 tcpclean B").pass_to("50s")
    told.answer("51s", "p1", 0)
    assert told.transitions == ["0s p1 online first", "51s p1 offline"]


@pytest.mark.parametrize("answers", [[], [None]])
def test_a_doubtful_client_waits_no_longer_than_confirm_after(answers: list[None]) -> None:
    told = world(DARK).tell("0s p1 connect A", "10s p1 connect B", "20s p1 tcpclean B").pass_to("50s")
    for answer in answers:
        told.answer("52s", "p1", answer)
    assert told.run_on().transitions[-1] == ("52s p1 offline" if answers else "55s p1 offline")


def test_a_doubtful_client_that_cannot_be_asked_settles_in_its_time() -> None:
    told = world(DARK)
    told.fleet.can_query = lambda client: False
    told.tell("0s p1 connect A", "10s p1 connect B", "20s p1 tcpclean B").run_on()
    assert told.transitions[-1] == "50s p1 offline"


def held() -> World:
    """A client went offline at 10s, and the feed is behind since 20s."""
    return world(DARK).tell("0s p1 connect A", "10s p1 tcpclean A")


def test_two_zeros_settle_a_hold_although_the_feed_is_down() -> None:
    told = held().pass_to("60s", silence="20s")
    assert told.transitions == ["0s p1 online first"]
    told.fleet.begin()
    for when in ("1m", "1m5s"):
        told.fleet.advance(at(when), at("20s"))
        told.fleet.answer(StatusAnswer(full("p1"), at(when), at(when), 0), at(when))
    told.commit()
    assert told.transitions == ["0s p1 online first", "1m5s p1 offline"]
    assert told.asks == ["1m5s p1 confirm"]


def test_a_hold_that_two_zeros_confirmed_before_it_is_over_settles_in_its_time_although_the_feed_is_down() -> None:
    told = held()
    told.fleet.begin()
    for when in ("20s", "25s"):
        told.fleet.advance(at(when), at("20s"))
        told.fleet.answer(StatusAnswer(full("p1"), at(when), at(when), 0), at(when))
    told.commit()
    told.pass_to("60s", silence="20s")
    assert told.transitions == ["0s p1 online first", "40s p1 offline"]


def test_holds_kept_longer_than_max_hold_are_asked_about_once() -> None:
    told = held()
    for when in ("5m39s", "5m40s", "5m41s", "9m"):
        told.pass_to(when, silence="20s")
    assert told.asks == ["5m40s p1 held"]


def test_a_held_one_is_asked_again_later_when_the_answer_said_nothing() -> None:
    told = held().pass_to("5m40s", silence="20s")
    told.fleet.begin()
    told.fleet.advance(at("5m41s"), at("20s"))
    told.fleet.answer(StatusAnswer(full("p1"), at("5m41s"), at("5m41s"), None), at("5m41s"))
    told.commit()
    assert told.asks == ["5m40s p1 held", "10m41s p1 held"]


# Rules that verify


def dark_and_asked(*rules: object, **more: object) -> World:
    """A client went dark at 10s and would page at 40s."""
    return world(*(rules or (SURE,)), **more).tell("0s p1 connect A", "10s p1 tcpclean A").pass_to("40s")


def test_a_rule_that_verifies_asks_first_and_fires_when_the_answer_agrees() -> None:
    told = dark_and_asked()
    assert (told.asks, told.alerts) == (["40s p1 verify"], [])
    told.answer("41s", "p1", 0)
    assert told.story[1:] == ["40s p1 offline", "41s sure p1 firing", "41s sure > p1 log firing"]


def test_a_contradiction_suppresses_the_alert_and_is_a_false_alarm_avoided() -> None:
    told = dark_and_asked()
    told.answer("41s", "p1", 1)
    told.answer("46s", "p1", 1)
    assert told.story[1:] == ["40s p1 offline", "41s sure p1 suppressed verify", "41s p1 online"]
    assert told.fleet.alerts.pipeline.verification.false_alarms_avoided == 1


def test_a_contradiction_that_is_undone_is_verified_anew() -> None:
    told = dark_and_asked()
    told.answer("41s", "p1", 1)
    told.answer("46s", "p1", 0)
    assert told.asks == ["40s p1 verify", "46s p1 confirm", "46s p1 verify"]
    told.answer("47s", "p1", 0)
    assert told.alerts == ["41s sure p1 suppressed verify", "47s sure p1 firing"]


def test_an_answer_that_was_asked_before_the_alert_was_due_does_not_count() -> None:
    told = dark_and_asked()
    told.answer("41s", "p1", 0, asked="39s")
    assert told.alerts == []


def test_without_an_answer_in_time_it_is_sent_and_marked() -> None:
    told = dark_and_asked().run_on()
    assert told.alerts == ["1m10s sure p1 firing"]
    assert told.planned[0].variables["alert"]["unverified"] is True


def test_an_answer_that_says_nothing_is_asked_again_while_there_is_time() -> None:
    told = dark_and_asked()
    told.answer("42s", "p1", None)
    assert told.asks == ["40s p1 verify", "47s p1 verify"]
    told.answer("48s", "p1", 0)
    assert told.alerts == ["48s sure p1 firing"]


def test_several_rules_that_wait_for_one_answer_ask_once() -> None:
    told = dark_and_asked(SURE, replace(SURE, name="surer"), replace(SURE, name="surest"))
    assert told.asks == ["40s p1 verify"] * 3
    told.answer("42s", "p1", None)
    assert told.asks[3:] == ["47s p1 verify"]


def test_without_an_answer_a_rule_that_holds_waits_until_there_is_one() -> None:
    told = dark_and_asked(replace(SURE, verify_failure="hold")).run_on()
    assert told.alerts == ["1m10s sure p1 suppressed verify"]
    assert told.asks == ["40s p1 verify", "1m40s p1 verify"]
    told.answer("100s", "p1", 0)
    assert told.alerts == ["1m10s sure p1 suppressed verify", "1m40s sure p1 firing"]


def test_an_alert_that_ends_while_it_waits_for_an_answer_is_dropped() -> None:
    told = dark_and_asked().tell("45s p1 connect B").run_on()
    assert told.alerts == []


def test_where_nobody_can_be_asked_a_rule_that_verifies_fires_at_once() -> None:
    told = dark_and_asked(asks=False)
    assert told.alerts == ["40s sure p1 firing"]


def test_an_alert_that_waits_for_an_answer_waits_again_after_a_restart() -> None:
    told = dark_and_asked()
    alerts = [
        alert_of_row(alert_row(alert)) for some in told.fleet.alerts.open_alerts.by_subject.values() for alert in some
    ]
    told.fleet.restore(alerts, [])
    told.pass_to("50s")
    assert told.asks == ["40s p1 verify", "50s p1 verify"]
    told.answer("51s", "p1", 0)
    assert told.alerts == ["51s sure p1 firing"]


# Whom to ask


def test_a_sweep_asks_first_where_a_wrong_belief_does_most_harm() -> None:
    told = world(DARK).tell(
        "0s old connect A", "0s older connect A", "0s new connect A", "0s loud connect A",
        "1s loud tcpclean A", "0s odd connect A", "10s odd connect B",
    )  # fmt: skip
    told.pass_to("60s")
    told.answer("70s", "older", 1)
    told.answer("71s", "old", 1)
    order = sweep_order(told.fleet.states, [full("roll"), full("old")], {full("loud")}, 1_000)
    assert order == [full(name) for name in ("loud", "odd", "new", "roll", "older", "old")]


def test_a_gap_concerns_whoever_was_not_heard_of_since() -> None:
    told = world().tell("0s p1 connect A", "0s p2 connect A", "50s p2 tcpclean A", "0s p3 connect A")
    told.answer("61s", "p3", 1)
    states = {name: told.state(name) for name in ("p1", "p2", "p3")}
    assert [is_concerned(states[name], at("40s"), at("60s")) for name in states] == [True, False, False]


def test_whom_a_gap_concerns_counts_as_unverified_until_asked_again() -> None:
    told = world().tell("0s p1 connect A", "0s p2 connect A", "0s p3 connect A")
    for name in ("p1", "p2", "p3"):
        told.answer("61s", name, 1)
    told.fleet.note_gap(at("65s"), at("70s"))
    told.fleet.note_gap(at("30s"), at("35s"))  # it adds nothing
    told.tell("80s p2 tcpclean A")
    told.answer("71s", "p3", 1)
    fleet = told.fleet
    assert [fleet.verified_ms(told.state(name)) for name in ("p1", "p2", "p3")] == [NEVER, at("61s"), at("71s")]
    assert sweep_order(fleet.states, [], set(), 1_000, fleet.gaps)[0] == full("p1")
    told.answer("90s", "p1", 1)
    assert fleet.verified_ms(told.state("p1")) == at("90s")


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=6), st.integers(0, 20), st.integers(0, 20))
def test_gaps_that_others_cover_are_not_kept_and_make_no_difference(
    found: list[tuple[int, int]], verified_ms: int, closed_ms: int
) -> None:
    gaps: Gaps = ()
    for to_ms, noted_ms in found:
        gaps = with_gap(gaps, to_ms, noted_ms)
    state = ClientState(channels=(Channel("A", 0, closed_ms, NEVER),), answered=Answered(verified_ms, verified_ms))
    assert is_unsure(state, gaps) == any(is_concerned(state, *gap) for gap in found)
    assert len(gaps) <= len(set(found))


# Properties


KINDS = ("connect", "disconnect", "tcpclean")
rows = st.lists(
    st.tuples(st.integers(0, 60), st.sampled_from(KINDS), st.sampled_from("ABC"), st.integers(0, 30)), max_size=8
)
asked_at = st.lists(st.tuples(st.integers(0, 90), st.integers(0, 5), st.sampled_from([0, 1, None])), max_size=5)


@given(rows, asked_at)
def test_a_stale_answer_never_overrides_a_newer_event(
    told: list[tuple[int, str, str, int]], asked: list[tuple[int, int, int | None]]
) -> None:
    """Over interleavings: an answer asked before the newest evidence leaves the belief exactly as it was."""
    fleet = Fleet(ASKING, World().matcher(), lambda client: {}, no_names)
    stimuli: list[tuple[int, int, object]] = [
        (occurred + delay, 1, LifecycleEvent("G@@@p1", kind, START_MS + occurred * 1000, channel, ""))
        for occurred, kind, channel, delay in told
    ]
    stimuli += [
        (asked_s + takes_s, 0, StatusAnswer("G@@@p1", START_MS + asked_s * 1000, START_MS + (asked_s + takes_s) * 1000, count))
        for asked_s, takes_s, count in asked
    ]  # fmt: skip
    newest_ms = NEVER
    for seconds, _, stimulus in sorted(stimuli, key=lambda entry: entry[:2]):
        now_ms = START_MS + seconds * 1000
        fleet.begin()
        fleet.advance(now_ms, now_ms)
        before = fleet.state_of("G@@@p1")
        if isinstance(stimulus, StatusAnswer):
            verdict = fleet.answer(stimulus, now_ms)
            if stimulus.asked_at_ms < newest_ms:
                assert verdict == STALE
                assert fleet.state_of("G@@@p1") is before
        else:
            assert isinstance(stimulus, LifecycleEvent)
            fleet.apply([stimulus], now_ms, now_ms)
            newest_ms = max(newest_ms, stimulus.occurred_at_ms, now_ms)
        fleet.commit()


def all_asked(told: World, now_s: int, truth: bool) -> int:
    """Ask whenever the fleet wants it, until it wants no more; returns when that was."""
    while told.asks:
        told.asks.clear()
        now_s += 5
        told.answer(f"{now_s}s", "p1", int(truth))
    return now_s


TRUTHS = st.lists(st.tuples(st.sampled_from(("up", "down")), st.integers(2, 40)), min_size=1, max_size=6)


@given(TRUTHS, st.data())
def test_whatever_events_are_lost_or_late_answers_lead_the_belief_to_the_truth(
    life: list[tuple[str, int]], data: st.DataObject
) -> None:
    """A client lives its life, any of its events are lost, the others come in any order; whenever it is to be asked, it is."""
    now, channel, truth, events = 0, 0, False, []
    for what, seconds in life:
        now += seconds
        if what == "up" and not truth:
            channel += 1
            events.append(f"{now}s p1 connect C{channel}")
        elif what == "down" and truth:
            events.append(f"{now}s p1 tcpclean C{channel}")
        else:
            continue
        truth = what == "up"
    kept = [row for row in events if data.draw(st.booleans())]
    late = data.draw(st.permutations(kept))
    before, after = late[: len(late) // 2], late[len(late) // 2 :]
    told = world()
    told.tell("0s p1 connect C0", "1s p1 tcpclean C0")
    for row in before:
        when, rest = row.split(" ", 1)
        told.tell(f"{when}/{now + 10}s {rest}")
    asked_s = now + 15
    told.answer(f"{asked_s}s", "p1", int(truth))  # one sweep
    asked_s = all_asked(told, asked_s, truth)
    for row in after:  # the rest of the feed is even later than the answers
        when, rest = row.split(" ", 1)
        told.tell(f"{when}/{asked_s + 1}s {rest}")
    all_asked(told, asked_s + 1, truth)
    assert told.observed("p1") == ("online" if truth else "offline")


def test_any_order_of_answers_beside_events_that_both_know_the_truth_ends_alike() -> None:
    """A lost close, then a new life: the connect and the two zeros may be learned of in any order that time allows."""
    ends = set()
    for order in permutations(["70s/90s p1 connect B", "0s/90s p1 connect A", "5s/90s p1 disconnect A"]):
        told = world().tell("0s p1 connect A")
        told.answer("10s", "p1", 0)
        told.answer("15s", "p1", 0)
        told.tell(*order)
        ends.add(STATUS_NAMES[told.state("p1").observed])
    assert ends == {"online"}


def test_the_evidence_names_answers_as_such() -> None:
    told = world().tell("0s p1 connect A")
    told.answer("10s", "p1", 0)
    told.answer("15s", "p1", 0)
    shown = readings(told.state("p1"), 1_000)
    assert [(reading.type, reading.used) for reading in shown] == [
        ("connect", True),
        ("answer", True),
        ("answer", True),
    ]


def test_an_answer_is_taken_again_after_a_restart() -> None:
    told = world().tell("0s p1 connect A")
    fleet = told.fleet
    kept = []
    for number, (when, count) in enumerate([("10s", 0), ("15s", 0)], 1):
        fleet.begin()
        fleet.begin_row(number)
        fleet.advance(at(when), at(when))
        fleet.answer(StatusAnswer(full("p1"), at(when), at(when), count), at(when))
        kept.append((number, list(fleet.facts), at(when)))
        fleet.commit()
    again = world().tell("0s p1 connect A").fleet
    for number, facts, when_ms in kept:
        again.apply_row_again(number, [], facts, when_ms)
    assert again.state_of(full("p1")).as_row() == fleet.state_of(full("p1")).as_row()


def test_an_event_is_read_from_a_row() -> None:
    assert event("0s p1 connect A")[0].client == "G@@@p1"
