"""Routes: a firing goes to the first route that takes it, and everything that follows goes where the firing went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from engine.core.alerting.routing import KEPT_MS
from engine.core.rules import EscalationStep, Grouping, OutageTerms, Rule
from engine.delivery.target_watch import TargetTrouble
from engine.runtime.target_troubles import note_troubles
from tests.core.test_restarts import kept
from tests.core.worlds import To, World, at, event, notify, rule

OFFICE = {"oncall": [To("chat", ("0s", "2m")), To("pager")]}


def routed(name: str = "dark", *triggers: str, **more: object) -> Rule:
    """A rule that notifies `oncall` of firing and recovery."""
    made = rule(name, *(triggers or ("offline",)), actions=notify("oncall"), **more)  # type: ignore[arg-type]
    return replace(made, on_recovery=notify("oncall"))


def world(*rules: Rule, routes: Mapping[str, Sequence[To]] = OFFICE) -> World:
    """A world with these routes."""
    found = World(*rules)
    found.routes = routes
    found.fleet = found._new_fleet()
    return found


def test_reminder_and_recovery_go_where_the_firing_went_whatever_the_time_is_then() -> None:
    told = world(routed(repeat_ms=60_000)).tell("0s p1 connect A", "1m p1 tcpclean A", "2m45s p1 connect B")
    assert told.deliveries == [
        "1m30s dark > p1 notify firing to chat",
        "2m30s dark > p1 notify reminder to chat",
        "2m45s dark > p1 notify recovery to chat",
    ]
    told.tell("3m p1 tcpclean B", "4m p1 connect C")
    assert told.deliveries[3:] == ["3m30s dark > p1 notify firing to pager", "4m dark > p1 notify recovery to pager"]


def test_groups_bundles_and_outages_stay_with_the_receiver_of_their_first_list() -> None:
    gone = [f"{80 + number}s p{number} tcpclean A" for number in range(3)]
    back = [f"200s p{number} connect B" for number in range(3)]
    for one in (
        routed(grouping=Grouping(wait_ms=1_000, interval_ms=1_000)),
        routed("dark", "outage", outage=OutageTerms(at_least=3, within_ms=60_000)),
    ):
        told = world(one).tell(*[f"0s p{number} connect A" for number in range(3)], *gone).pass_to("190s").tell(*back)
        told.run_on()
        assert told.deliveries and {line.rpartition(" ")[2] for line in told.deliveries} == {"chat"}
        assert " recovery " in told.deliveries[-1]
    silenced = world(routed()).tell(*[f"0s p{number} connect A" for number in range(2)])
    silenced.silence("10s", "115s").tell(*gone[:2]).pass_to("130s").tell(*back[:2]).run_on()
    assert [line.rpartition(" ")[2] for line in silenced.deliveries] == ["chat"] * len(silenced.deliveries)
    assert len(silenced.deliveries) >= 2


def test_a_restart_and_an_edit_of_the_route_between_firing_and_recovery_change_nothing() -> None:
    with kept(routed()) as told:
        told.routes = OFFICE
        told.fleet = told._new_fleet()
        told.turn([event("0s p1 connect A")[0]], at("0s"))
        told.turn([event("1m p1 tcpclean A")[0]], at("1m"))
        told.turn([], at("1m30s"))
        told.routes = {"oncall": [To("pager")]}
        told.restart()
        told.turn([event("9m p1 connect B")[0]], at("9m"))
        assert told.deliveries == ["1m30s dark > p1 notify firing to chat", "9m dark > p1 notify recovery to chat"]


def test_routes_lead_to_routes_and_what_no_route_takes_goes_to_nobody() -> None:
    routes = {"oncall": [To("night", group="H"), To("west", group="G")], "west": [To("chat")]}
    told = world(routed(), routes=routes)
    told.tell("0s p1 connect A", "0s H@@@p2 connect A", "0s X@@@p3 connect A")
    told.tell("1s p1 tcpclean A", "2s H@@@p2 tcpclean A", "3s X@@@p3 tcpclean A").pass_to("40s")
    assert [line.rpartition(" ")[2] for line in told.deliveries] == ["chat", "night", "nobody"]


def test_a_receiver_that_two_names_come_to_is_told_once() -> None:
    one = replace(routed(), actions=notify("chat", "oncall", "pager"))
    told = world(one).tell("0s p1 connect A", "1m p1 tcpclean A").pass_to("91s")
    assert told.deliveries == ["1m30s dark > p1 notify firing to chat", "1m30s dark > p1 notify firing to pager"]


def test_a_choice_is_kept_while_its_alert_is_open_and_for_a_day_then_forgotten() -> None:
    with kept(routed()) as told:
        told.routes = OFFICE
        told.fleet = told._new_fleet()
        told.turn([event("0s p1 connect A")[0]], at("0s"))
        told.turn([event("1m p1 tcpclean A")[0]], at("1m"))
        told.turn([], at("1m30s"))
        told.turn([], at("1m30s") + 2 * KEPT_MS, purge=True)
        assert len(told.store.alerts.kept().routed) == 1
        back = at("1m30s") + 2 * KEPT_MS + 1
        told.turn([event("9m p1 connect B")[0]._replace(occurred_at_ms=back)], back)
        assert told.deliveries[-1].endswith(" recovery to chat")
        told.turn([], back + 2 * KEPT_MS, purge=True)
        assert told.store.alerts.kept().routed == [] and told.fleet.alerts.routing.chosen == {}


# A target that gets nothing


def fails(
    told: World, instant: str, target: str, detail: str | None, since: str = "0s", *, is_dead: bool = False
) -> None:
    """The dispatcher says what is wrong with a target."""
    told.pass_to(instant)
    told.act(
        lambda fleet: fleet.alerts.triggers.undelivered(
            target, detail, at(instant), failing_since_ms=at(since), is_dead=is_dead
        )
    )


def undelivered(**more: object) -> World:
    """A world with that rule alone."""
    made = rule("undelivered", "undelivered", actions=notify("chat", "pager"))
    return World(replace(made, for_ms=300_000, on_recovery=notify("chat", "pager"), **more))  # type: ignore[arg-type]


def test_deliveries_that_fail_for_five_minutes_are_told_to_everybody_but_the_target_itself() -> None:
    told = undelivered()
    fails(told, "10s", "notify:pager", "deliveries fail: HTTP 503", since="5s")
    fails(told, "20s", "notify:pager", "deliveries fail: HTTP 500", since="5s")
    told.pass_to("6m")
    fails(told, "7m", "notify:pager", None)
    assert told.story == [
        "10s undelivered target=notify:pager pending",
        "5m5s undelivered target=notify:pager firing",
        "5m5s undelivered > - notify firing to chat",
        "7m undelivered target=notify:pager resolved",
        "7m undelivered > - notify recovery to chat",
    ]
    alert = told.planned[0].variables["alert"]
    assert alert["target"] == "notify:pager" and alert["detail"] == "deliveries fail: HTTP 500"


def test_a_dead_delivery_is_not_waited_for_also_when_failures_were_noted_before() -> None:
    told = undelivered()
    fails(told, "1m", "notify:pager", "deliveries fail: HTTP 503", since="1m")
    fails(told, "2m", "notify:pager", "a delivery is dead: HTTP 400", since="1m", is_dead=True)
    fails(told, "3m", "notify:pager", "a delivery is dead: HTTP 400", since="1m", is_dead=True)
    assert told.deliveries == ["2m undelivered > - notify firing to chat"]


def test_failures_that_end_in_time_are_told_to_nobody() -> None:
    told = undelivered()
    fails(told, "1m", "http://a:1/x", "deliveries fail: HTTP 503", since="1m")
    fails(told, "2m", "http://a:1/x", None)
    told.pass_to("1h")
    assert told.deliveries == [] and told.alerts == ["1m undelivered target=http://a:1/x pending"]


def test_what_waits_and_what_fires_of_a_target_outlives_a_restart() -> None:
    made = replace(undelivered().rules[0])
    with kept(made) as told:
        for target, is_dead in (("notify:pager", True), ("http://a:1/x", False)):
            told.fleet.begin()
            told.fleet.alerts.triggers.undelivered(target, "no", at("1s"), failing_since_ms=at("1s"), is_dead=is_dead)
            with told.store.transaction():
                told.store.alerts.write(told.fleet.alerts.out.alerts.values())
            told.commit()
        told.restart()
        told.turn([], at("10m"))
        told.fleet.begin()
        told.fleet.alerts.triggers.undelivered("notify:pager", None, at("11m"))
        told.commit()
        assert told.deliveries == [
            "1s undelivered > - notify firing to chat",
            "5m1s undelivered > - notify firing to chat",
            "5m1s undelivered > - notify firing to pager",
            "11m undelivered > - notify recovery to chat",
        ]


def test_alerts_about_a_target_that_nothing_is_sent_to_any_more_end_when_nothing_waits_there() -> None:
    made = rule("undelivered", "undelivered", actions=notify("chat"))
    told = world(replace(made, on_recovery=notify("chat")), routed(), routes={"oncall": [To("night", group="H")]})
    trouble = TargetTrouble(detail="a delivery is dead", since_ms=at("1s"), is_dead=True)
    troubles = dict.fromkeys(("notify:chat", "notify:night", "notify:oncall", "notify:old", "notify:older"), trouble)
    for target in troubles:
        fails(told, "1s", target, trouble.detail, is_dead=True)

    def noted(instant: str, *waiting: str) -> set[str]:
        found: set[str] = set()
        told.act(lambda fleet: found.update(note_troubles(fleet, troubles, set(), waiting, at(instant))))
        return found

    assert noted("2s", "notify:old") == {"notify:older"}
    assert noted("3s") == {"notify:old", "notify:older"}
    ended = [
        "2s undelivered target=notify:older resolved target_unused",
        "3s undelivered target=notify:old resolved target_unused",
    ]
    assert [line for line in told.alerts if "resolved" in line] == ended
    noted("4s", "notify:old")  # what fails there on its last attempts begins no alert
    assert told.alerts[-1] == ended[-1]


# Edits of the rule


def test_a_recovery_goes_to_the_receiver_that_got_the_firing_though_an_edit_has_named_another() -> None:
    def to(*receivers: str) -> Rule:
        return replace(rule("dark", "offline", actions=notify(*receivers)), on_recovery=notify(*receivers, "log"))

    step = EscalationStep(after_ms=60_000, actions=notify("boss"), on_recovery=notify("boss"))
    with kept(replace(to("a", "chat"), escalate=(step,))) as told:
        told.turn([event("0s p1 connect A")[0]], at("0s"))
        told.turn([event("1m p1 tcpclean A")[0]], at("1m"))
        told.turn([], at("3m"))
        told.rules = (to("b", "chat"),)
        told.restart()
        told.turn([event("9m p1 connect B")[0]], at("9m"))
        told.turn([event("10m p1 tcpclean B")[0]], at("10m"))
        told.turn([event("20m p1 connect C")[0]], at("20m"))
        assert [line.partition(" > p1 notify ")[2] for line in told.deliveries] == [
            *("firing to a", "firing to chat", "escalation to boss"),
            *("recovery to chat", "recovery to log", "recovery to a", "recovery to boss"),
            *("firing to b", "firing to chat", "recovery to b", "recovery to chat", "recovery to log"),
        ]
        assert len({one.key for one in told.planned}) == len(told.planned)
    renamed = World(to("a"))
    renamed.fleet.alerts.routing.exists = {"b", "log"}.__contains__
    renamed.tell("0s p1 connect A", "1m p1 tcpclean A").pass_to("3m")
    renamed.rules = (to("b"),)
    renamed.act(lambda fleet: fleet.use(renamed.matcher()))
    renamed.tell("9m p1 connect B")  # the receiver has another name now, and closes what it opened
    assert renamed.deliveries[1:] == ["9m dark > p1 notify recovery to b", "9m dark > p1 notify recovery to log"]
