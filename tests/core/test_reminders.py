"""§6: `repeat` and acknowledgement. Hold 30 s."""

from __future__ import annotations

from dataclasses import replace

from engine.core.rules import Grouping
from tests.core.worlds import Hours, World, at, rule

CUT, CUT2, BACK = "0s p1 tcpclean A", "1s p2 tcpclean A", "35m p1 connect B"
REPEATED = rule("r", "offline", repeat_ms=600_000, recovery=True)


def test_a_reminder_leaves_every_repeat_after_the_last_delivery_until_it_is_over() -> None:
    assert World(REPEATED).tell(CUT, BACK).pass_to("2h").deliveries == [
        "30s r > p1 log firing",
        "10m30s r > p1 log reminder",
        "20m30s r > p1 log reminder",
        "30m30s r > p1 log reminder",
        "35m r > p1 log recovery",
    ]


def test_a_reminder_is_no_step_in_an_alerts_life_and_has_a_key_of_its_own() -> None:
    world = World(REPEATED).tell(CUT).pass_to("25m")
    assert world.alerts == ["30s r p1 firing"]
    assert len({one.key for one in world.planned}) == 3
    assert len({(one.alert, one.lane) for one in world.planned}) == 1


def test_an_acknowledged_alert_is_not_told_again_but_keeps_its_recovery() -> None:
    world = World(REPEATED).tell(CUT)
    assert world.acknowledge("15m", rule="r", client="G@@@p1", by="kim") == 1
    assert world.tell(BACK).deliveries == [
        "30s r > p1 log firing",
        "10m30s r > p1 log reminder",
        "35m r > p1 log recovery",
    ]


def test_by_its_id_by_its_rule_or_by_its_client_and_each_only_once() -> None:
    world = World(REPEATED, rule("s", "offline")).tell(CUT, CUT2).pass_to("2m")
    assert world.acknowledge("2m", alert_id="unknown") == 0
    assert world.acknowledge("2m", alert_id=world.planned[0].alert) == 1
    assert world.acknowledge("2m", rule="r", by="kim") == 1
    assert world.acknowledge("2m", client="G@@@p1") == 1
    assert world.acknowledge("2m") == 1
    assert world.acknowledge("2m") == 0
    assert [alert.acknowledged for alert in world.fleet.alerts.open_alerts.by_subject["G@@@p2"]] == [True, True]


def test_what_does_not_fire_cannot_be_acknowledged() -> None:
    world = World(rule("r", "offline", for_="1h"), rule("s", "offline", mute=Hours(("0s", "1h")))).tell(CUT)
    assert world.acknowledge("2m") == 0


def test_the_next_alert_of_the_same_client_is_a_new_one() -> None:
    world = World(REPEATED).tell(CUT)
    world.acknowledge("2m", rule="r")
    world.tell("3m p1 connect B", "4m p1 tcpclean B").pass_to("15m")
    assert world.deliveries[-1] == "14m30s r > p1 log reminder"


def test_a_reminder_in_a_mute_window_is_left_out_and_the_next_comes_in_its_turn() -> None:
    muted = replace(REPEATED, mute=Hours(("5m", "25m")))
    assert World(muted).tell(CUT).pass_to("31m").deliveries == ["30s r > p1 log firing", "30m30s r > p1 log reminder"]


def test_a_silence_stops_reminders_too() -> None:
    world = World(REPEATED).tell(CUT).silence("1m", "12m").pass_to("21m")
    assert world.deliveries[1:] == ["20m30s r > p1 log reminder"]


def test_a_reminder_takes_no_room_in_a_throttle() -> None:
    world = World(replace(REPEATED, throttle=rule("x", "offline", throttle=(1, "1h")).throttle)).tell(CUT, CUT2)
    assert world.pass_to("11m").deliveries[1:] == ["10m30s r > p1 log reminder"]


def test_what_was_told_together_is_reminded_of_together_without_those_who_are_back_or_known() -> None:
    world = World(replace(REPEATED, mute=Hours(("0s", "5m")))).tell(CUT, CUT2, "2s p3 tcpclean A", "3s p4 tcpclean A")
    world.tell("6m p3 connect B")
    world.acknowledge("7m", client="G@@@p4")
    assert world.pass_to("16m").deliveries == [
        "5m r > p1+p2+p3+p4 log firing",
        "10m r > p1+p2+p4 log firing",
    ]
    assert world.pass_to("21m").deliveries[2:] == ["20m r > p1+p2 log reminder"]
    assert len({(one.lane, one.alert) for one in world.planned}) == 1


def test_no_reminder_of_a_device_whose_reconnect_may_be_waiting_to_be_read() -> None:
    world = World(REPEATED).tell(CUT).pass_to("2m")
    world.pass_to("15m", silence="5m")
    assert world.deliveries[1:] == []
    world.pass_to("16m", silence="16m")
    assert world.deliveries[1:] == ["16m r > p1 log reminder"]
    assert world.pass_to("27m").deliveries[2:] == ["26m r > p1 log reminder"]


def test_of_a_dead_feed_everybody_is_reminded_while_nothing_is_read() -> None:
    world = World(rule("r", "feed", repeat_ms=600_000))
    world.act(lambda fleet: fleet.alerts.triggers.feed("log", "gone", at("0s")))
    assert world.pass_to("15m", silence="0s").deliveries[1:] == ["10m r > - log reminder"]


def test_what_is_over_in_the_instant_it_fires_is_not_told_again() -> None:
    assert len(World(rule("r", "first_seen", repeat_ms=60_000)).tell("0s p1 connect A").pass_to("1h").deliveries) == 1


def test_a_replay_does_not_run_on_for_reminders() -> None:
    assert World(REPEATED).tell(CUT).run_on().deliveries == ["30s r > p1 log firing"]
    world = World(REPEATED).tell(CUT)
    world.fleet.begin()
    assert not world.fleet.advance((1 << 60) - 1, (1 << 60) - 1)


def test_a_removed_rule_reminds_of_nothing() -> None:
    world = World(REPEATED).tell(CUT).pass_to("2m")
    world.rules = ()
    world.act(lambda fleet: fleet.use(world.matcher(), [REPEATED]))
    world.pass_to("3m").act(lambda fleet: fleet.alerts.retire("r", at("3m")))
    assert world.pass_to("1h").deliveries == ["30s r > p1 log firing", "3m r > p1 log recovery"]


def test_a_rule_edited_to_repeat_no_more_stops() -> None:
    world = World(REPEATED).tell(CUT).pass_to("2m")
    world.rules = (replace(REPEATED, repeat_ms=0),)
    world.act(lambda fleet: fleet.use(world.matcher()))
    assert len(world.pass_to("1h").deliveries) == 1


def test_a_rule_edited_to_repeat_reminds_of_what_fires_already() -> None:
    world = World(replace(REPEATED, repeat_ms=0), rule("g", "offline", grouping=Grouping())).tell(CUT).pass_to("2m")
    world.rules = (REPEATED, replace(world.rules[1], repeat_ms=600_000))
    world.act(lambda fleet: fleet.use(world.matcher()))
    assert world.pass_to("13m").deliveries[2:] == ["12m r > p1 log reminder", "12m g > p1 log reminder"]
