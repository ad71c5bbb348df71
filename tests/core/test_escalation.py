"""`escalate`: who else is told of what nobody has acknowledged. Hold 30 s."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.alerting.escalation import Escalation, next_step, sent_steps
from engine.core.rules import Action, EscalationStep, Grouping, OutageTerms, Rule
from tests.core.worlds import LOG, Hours, World, at, rule, step

CUT, CUT2 = "0s p1 tcpclean A", "1s p2 tcpclean A"
CHAT, PHONE = step("15m", "chat"), step("1h", "phone", recovery=True)
LADDER = rule("r", "offline", escalate=(CHAT, PHONE), recovery=True)


def edited(world: World, to: Rule, instant: str) -> World:
    """The rule is another one from an instant on."""
    world.pass_to(instant)
    matcher = world.fleet.alerts.matcher
    return world.act(lambda fleet: fleet.use(type(matcher)((to,), world.attributes, matcher.compile_patterns)))


def test_each_step_leaves_so_long_after_the_firing_and_each_that_was_sent_gets_its_recovery() -> None:
    assert World(LADDER).tell(CUT, "2h p1 connect B").deliveries == [
        "30s r > p1 log firing",
        "15m30s r > p1 chat escalation",
        "1h30s r > p1 phone escalation",
        "2h r > p1 log recovery",
        "2h r > p1 phone recovery",
    ]


@pytest.mark.parametrize(
    ("back", "left"),
    [
        ("15m29s", []),
        ("15m30s", []),  # what resolves goes before what it would release
        ("15m31s", ["15m30s r > p1 chat escalation"]),
    ],
)
def test_no_step_leaves_once_it_is_resolved_and_a_step_that_was_not_sent_gets_no_recovery(
    back: str, left: list[str]
) -> None:
    world = World(LADDER).tell(CUT)
    world.pass_to(back).tell(f"{back} p1 connect B")
    told = ["30s r > p1 log firing", *left, f"{back} r > p1 log recovery"]
    assert world.run_on().deliveries == (
        told if back != "15m30s" else [told[0], "15m30s r > p1 chat escalation", told[1]]
    )


def test_an_acknowledgement_stops_the_ladder_and_nothing_keeps_the_clock_running() -> None:
    world = World(LADDER).tell(CUT)
    world.acknowledge("20m", rule="r", client="G@@@p1")
    assert world.run_on().deliveries == ["30s r > p1 log firing", "15m30s r > p1 chat escalation"]
    assert world.fleet.clock_ms == at("20m")
    assert world.tell("2h p1 connect B").deliveries[2:] == ["2h r > p1 log recovery"]


def test_a_step_in_the_instant_of_an_acknowledgement_leaves() -> None:
    world = World(LADDER).tell(CUT)
    world.acknowledge("15m30s", rule="r")
    assert world.run_on().deliveries[1:] == ["15m30s r > p1 chat escalation"]


def test_the_clock_of_a_replay_runs_on_while_a_step_is_left() -> None:
    assert World(LADDER).tell(CUT).run_on().deliveries[-1] == "1h30s r > p1 phone escalation"


def test_while_silenced_no_step_leaves_and_what_was_due_leaves_when_that_ends() -> None:
    world = World(LADDER).tell(CUT).silence("10m", "70m", device=("p1",))
    assert world.pass_to("2h").deliveries[1:] == ["1h10m r > p1 chat escalation", "1h10m r > p1 phone escalation"]


def test_a_silence_that_is_ended_early_lets_a_step_go_that_was_due() -> None:
    world = World(LADDER).tell(CUT).silence("10m", "5h", device=("p1",)).pass_to("20m")
    assert world.act(lambda fleet: fleet.expire_silence("s", at("20m"))).pass_to("21m").deliveries[1:] == [
        "20m r > p1 chat escalation"
    ]


@pytest.mark.parametrize("ends", ["ack", "connect"])
def test_what_was_acknowledged_or_over_while_it_was_silenced_escalates_no_more(ends: str) -> None:
    world = World(LADDER).tell(CUT).silence("10m", "70m", device=("p1",)).pass_to("30m")
    if ends == "ack":
        world.acknowledge("30m", rule="r")
    else:
        world.tell("30m p1 connect B")
    assert [line for line in world.pass_to("5h").deliveries if "escalation" in line] == []


def test_two_silences_after_one_another_hold_a_step_until_the_later_one_is_over() -> None:
    world = World(LADDER).tell(CUT).silence("10m", "30m", device=("p1",))
    world.silence("11m", "40m", "t", group=("G",))
    assert world.pass_to("50m").deliveries[1:] == ["40m r > p1 chat escalation"]


def test_while_its_window_mutes_the_rule_no_step_leaves() -> None:
    muted = replace(LADDER, mute=Hours(("10m", "25m"), ("59m", "61m")))
    assert World(muted).tell(CUT).pass_to("2h").deliveries[1:] == [
        "25m r > p1 chat escalation",
        "1h1m r > p1 phone escalation",
    ]


def test_while_it_is_inhibited_no_step_leaves() -> None:
    minor = replace(LADDER, inhibited_by=("restless",), flapping_skip=False)
    world = World(minor, rule("major", "offline", for_="10m"), replace(LADDER, name="other", inhibited_by=("major",)))
    world.tell(CUT, "40m p1 connect B").run_on()
    assert "15m30s r > p1 chat escalation" in world.deliveries
    assert not [line for line in world.deliveries if "other" in line and "escalation" in line]


def test_reminders_keep_their_own_pace_and_the_reminder_of_an_instant_goes_first() -> None:
    world = World(replace(LADDER, repeat_ms=450_000)).tell(CUT).pass_to("24m")
    assert [line.split()[0] + " " + line.split()[-1] for line in world.deliveries] == [
        "30s firing",
        "8m reminder",
        "15m30s reminder",
        "15m30s escalation",
        "23m reminder",
    ]


def test_every_phase_has_one_id_and_one_lane_and_each_delivery_a_key_of_its_own() -> None:
    world = World(LADDER).tell(CUT, "2h p1 connect B")
    assert len({(one.alert, one.lane) for one in world.planned}) == 1
    assert len({one.key for one in world.planned}) == 5
    assert [one.variables["alert"]["phase"] for one in world.planned] == [
        "firing",
        "escalation",
        "escalation",
        "recovery",
        "recovery",
    ]
    assert [one.variables["alert"]["escalation"] for one in world.planned] == [0, 1, 2, 0, 0]


def test_the_next_alert_of_the_same_client_has_a_ladder_of_its_own() -> None:
    world = World(LADDER).tell(CUT, "20m p1 connect B", "21m p1 tcpclean B", "50m p1 connect C").run_on()
    assert [line for line in world.deliveries if "chat" in line] == [
        "15m30s r > p1 chat escalation",
        "36m30s r > p1 chat escalation",
    ]


def test_a_source_in_trouble_escalates_though_nothing_of_it_is_read() -> None:
    world = World(replace(LADDER, triggers=("feed",)))
    world.act(lambda fleet: fleet.alerts.triggers.feed("broker", "silent", at("0s")))
    assert world.pass_to("20m", silence="1s").deliveries[1:] == ["15m r > - chat escalation"]


def test_of_a_device_whose_reconnect_may_be_waiting_to_be_read_no_step_leaves() -> None:
    world = World(LADDER).tell(CUT).pass_to("1m").pass_to("20m", silence="5m")
    assert world.deliveries == ["30s r > p1 log firing"]
    assert world.pass_to("21m").deliveries[1:] == ["21m r > p1 chat escalation"]


def test_a_shadow_rule_decides_its_steps_too() -> None:
    assert World(replace(LADDER, shadow=True)).tell(CUT).run_on().deliveries[1:] == [
        "15m30s r > p1 chat escalation",
        "1h30s r > p1 phone escalation",
    ]


# Many as one

GROUPED = replace(LADDER, grouping=Grouping(wait_ms=60_000, interval_ms=300_000))


def test_a_group_escalates_as_one_counted_from_its_first_delivery() -> None:
    world = World(GROUPED).tell(CUT, CUT2, "20m p1 connect B", "2h p2 connect B").run_on()
    assert world.deliveries == [
        "1m30s r > p1+p2 log firing",
        "16m30s r > p1+p2 chat escalation",
        "20m r > p2 log firing",
        "1h1m30s r > p2 phone escalation",
        "2h r > p2 log recovery",
        "2h r > p2 phone recovery",
    ]


def test_a_group_is_acknowledged_when_all_that_fire_in_it_are() -> None:
    world = World(GROUPED).tell(CUT, CUT2)
    world.acknowledge("5m", client="G@@@p1")
    assert world.pass_to("20m").deliveries[1:] == ["16m30s r > p2 chat escalation"]
    world.acknowledge("20m", client="G@@@p2")
    assert world.run_on().deliveries[2:] == []


def test_who_joins_an_acknowledged_group_begins_the_ladder_anew() -> None:
    world = World(GROUPED).tell(CUT)
    world.acknowledge("20m", client="G@@@p1")
    assert world.tell("30m p2 tcpclean A").run_on().deliveries == [
        "1m30s r > p1 log firing",
        "16m30s r > p1 chat escalation",
        "30m30s r > p1+p2 log firing",
        "45m30s r > p2 chat escalation",
        "1h30m30s r > p2 phone escalation",
    ]


def test_of_a_group_only_what_is_not_silenced_is_told() -> None:
    world = World(GROUPED).tell(CUT, CUT2).silence("10m", "30m", device=("p1",))
    assert world.pass_to("20m").deliveries[1:] == ["16m30s r > p2 chat escalation"]
    world = World(GROUPED).tell(CUT, CUT2).silence("10m", "30m", group=("G",))
    assert world.pass_to("40m").deliveries[1:] == ["30m r > p1+p2 chat escalation"]


def test_an_outage_escalates_as_one() -> None:
    gone = rule("gone", "outage", outage=OutageTerms(at_least=2), escalate=(CHAT, PHONE), recovery=True)
    world = World(gone).tell(CUT, CUT2, "2h p1 connect B", "2h1m p2 connect B").run_on()
    assert [line.split(" ", 1)[1] for line in world.deliveries] == [
        "gone > p1+p2 log firing",
        "gone > p1+p2 chat escalation",
        "gone > p1+p2 phone escalation",
        "gone > - log recovery",
        "gone > - phone recovery",
    ]
    world = World(gone).tell(CUT, CUT2)
    assert world.acknowledge("5m", rule="gone", client="G@@@p2") == 1, "a client that is down stands for its outage"
    assert len(world.run_on().deliveries) == 1


def test_what_a_silence_held_together_escalates_as_one_and_is_over_with_the_last() -> None:
    world = World(LADDER).silence("0s", "5m", group=("G",)).tell(CUT, CUT2).pass_to("90m")
    assert [line for line in world.deliveries if "escalation" in line] == [
        "20m r > p1+p2 chat escalation",
        "1h5m r > p1+p2 phone escalation",
    ]
    world.tell("2h p1 connect B", "3h p2 connect B").run_on()
    assert [line for line in world.deliveries if "phone recovery" in line] == [
        line for line in world.deliveries if "phone rec" in line
    ][-1:]
    assert len({one.alert for one in world.planned}) == 1


# Edits


def test_a_step_that_is_added_counts_from_the_firing_and_one_before_those_sent_is_not_made_up_for() -> None:
    world = World(LADDER).tell(CUT).pass_to("20m")
    early, late = step("5m", "early", recovery=True), step("18m", "late")
    edited(world, replace(LADDER, escalate=(early, CHAT, late, PHONE)), "20m")
    assert world.run_on().deliveries[1:] == [
        "15m30s r > p1 chat escalation",
        "20m r > p1 late escalation",
        "1h30s r > p1 phone escalation",
    ]


def test_a_step_that_was_sent_and_comes_later_now_is_not_sent_again_and_keeps_its_recovery() -> None:
    ladder = replace(LADDER, escalate=(step("15m", "chat", recovery=True), PHONE))
    world = World(ladder).tell(CUT).pass_to("20m")
    edited(world, replace(LADDER, escalate=(step("30m", "chat", recovery=True), PHONE)), "20m")
    assert world.tell("40m p1 connect B").deliveries == [
        "30s r > p1 log firing",
        "15m30s r > p1 chat escalation",
        "40m r > p1 log recovery",
        "40m r > p1 chat recovery",
    ]


def test_a_step_that_is_removed_says_nothing_any_more() -> None:
    world = World(replace(LADDER, escalate=(step("15m", "chat", recovery=True),))).tell(CUT).pass_to("20m")
    edited(world, replace(LADDER, escalate=()), "20m")
    assert world.tell("40m p1 connect B").deliveries[2:] == ["40m r > p1 log recovery"]


def test_what_fires_already_when_its_rule_gets_steps_counts_from_there() -> None:
    world = World(replace(LADDER, escalate=())).tell(CUT)
    edited(world, LADDER, "3h")
    assert world.run_on().deliveries[1:] == ["3h15m r > p1 chat escalation", "4h r > p1 phone escalation"]


def test_a_rule_that_is_removed_tells_the_recovery_to_the_steps_that_were_sent() -> None:
    world = World(LADDER).tell(CUT).pass_to("2h")
    world.act(lambda fleet: fleet.alerts.retire("r", at("2h")))
    assert world.deliveries[3:] == ["2h r > p1 log recovery", "2h r > p1 phone recovery"]


# E-mails

MAIL_TEAM, MAIL_BOSS = (Action(kind="email", spec={"to": (to,)}) for to in ("team@x.test", "boss@x.test"))


def test_the_recovery_of_a_step_answers_the_mail_of_the_step_and_the_step_the_mail_of_the_firing() -> None:
    boss = EscalationStep(after_ms=900_000, actions=(LOG, MAIL_BOSS), on_recovery=(MAIL_BOSS,))
    ladder = rule("r", "offline", actions=(MAIL_TEAM,), escalate=(boss,))
    world = World(replace(ladder, on_recovery=(MAIL_TEAM,))).tell(CUT, "2h p1 connect B")
    firing, _, mail, recovery, last = world.planned
    assert (mail.reply_to, recovery.reply_to, last.reply_to) == (firing.key, firing.key, mail.key)


# The plan by itself

AFTERS = st.lists(st.integers(1, 12), min_size=1, max_size=5, unique=True).map(sorted)


@given(AFTERS, st.lists(AFTERS, max_size=4), st.data())
def test_through_any_edits_a_ladder_takes_its_steps_in_order_and_none_twice(
    first: list[int], edits: list[list[int]], data: st.DataObject
) -> None:
    escalation = Escalation("n", "r", 0)
    seen: list[tuple[int, str]] = []
    for afters in [first, *edits]:
        steps = [step(f"{after}m", told=data.draw(st.sampled_from("abc"))) for after in afters]
        for _ in range(data.draw(st.integers(0, 3))):
            index = next_step(steps, escalation)
            if index is None:
                break
            assert steps[index].after_ms > escalation.reached_ms or not seen
            escalation.took(steps, index, steps[index].after_ms)
            seen.append((steps[index].after_ms, str(steps[index].actions)))
            assert escalation.sent[-1].after_ms == steps[index].after_ms
    assert [after for after, _ in seen] == sorted({after for after, _ in seen})
    places = [index for index, _ in sent_steps(steps, escalation)]
    assert len(places) == len(set(places)) <= len(escalation.sent)


def test_why_not_says_which_steps_were_sent_and_when_the_next_one_is_due() -> None:
    world = World(LADDER).tell(CUT).pass_to("20m")
    detail = world.fleet.why_not("r", "G@@@p1", at("20m"))[-1].detail
    assert (detail["steps"], detail["steps_sent"], detail["step_due_ms"]) == (2, 1, at("1h30s"))
    world.acknowledge("21m", rule="r")
    assert world.fleet.why_not("r", "G@@@p1", at("21m"))[-1].detail["step_due_ms"] is None
