"""The stages of a rule: their order is written once, a rule has only those that it needs, and they say why and until when."""

from __future__ import annotations

from typing import Any

import pytest

from engine.core.alerting.alert import Alert
from engine.core.alerting.explain import WAY
from engine.core.alerting.stage_compiler import STAGES, RuleStages
from engine.core.alerting.stages.base import AWAITS_ANSWER, PASS, Suppressed
from engine.core.presence.debounce import Policy
from engine.core.rules import OutageTerms
from engine.core.timers import TIMERS, NextWakeUp, Timer, TimerKind, TimerQueue, TimerTable
from tests.core.worlds import Hours, World, at, full, rule

UP, CUT = "0s p1 connect A", "60s p1 tcpclean A"


def compiled(world: World, name: str) -> RuleStages:
    found = world.fleet.alerts.pipeline.stages.of(name)
    assert found is not None
    return found


def stages(world: World, name: str = "r") -> list[str]:
    return [stage.reason for stage in compiled(world, name).stages]


def test_the_stages_stand_in_the_order_of_the_reasons_in_the_contract() -> None:
    assert STAGES == ("flapping", "mute", "silence", "inhibited", "throttle", "verify")
    assert [name for name in WAY if name in STAGES] == list(STAGES)


def test_a_rule_that_fires_while_flapping_and_asks_for_nothing_has_no_stage() -> None:
    assert stages(World(rule("r", "offline", flapping_skip=False))) == []


NEEDS: list[tuple[dict[str, Any], list[str]]] = [
    ({}, ["flapping"]),
    ({"mute": Hours(("0s", "1h"))}, ["flapping", "mute"]),
    ({"active": Hours(("0s", "1h"))}, ["flapping", "mute"]),
    ({"inhibited_by": ("other",)}, ["flapping", "inhibited"]),
    ({"throttle": (1, "1m")}, ["flapping", "throttle"]),
    ({"verify": True}, ["flapping", "verify"]),
    (
        {"mute": Hours(("0s", "1h")), "inhibited_by": ("other",), "throttle": (1, "1m"), "verify": True},
        ["flapping", "mute", "inhibited", "throttle", "verify"],
    ),
]


@pytest.mark.parametrize(("terms", "expected"), NEEDS)
def test_a_rule_has_the_stages_that_it_needs(terms: dict[str, Any], expected: list[str]) -> None:
    assert stages(World(rule("r", "offline", **terms), rule("other", "online"))) == expected


@pytest.mark.parametrize("trigger", ["feed", "outage", "schedule", "flapping", "never_seen"])
def test_a_rule_that_flapping_cannot_concern_has_no_such_stage(trigger: str) -> None:
    assert "flapping" not in stages(World(rule("r", trigger)))


def test_an_outage_rule_gives_every_rule_the_stage_of_inhibition() -> None:
    world = World(rule("r", "offline"), rule("o", "outage", outage=OutageTerms(at_least=1)))
    assert stages(world) == ["flapping", "inhibited"]


def test_the_stage_of_silences_is_there_while_a_silence_is_open() -> None:
    world = World(rule("r", "offline"))
    assert "silence" not in stages(world)
    world.silence("10s", "1m", group=("G",))
    assert stages(world) == ["flapping", "silence"]
    world.pass_to("2m")
    assert stages(world) == ["flapping"]


def verdicts(world: World, when: str, trigger: str = "offline") -> dict[str, object]:
    """What each stage of the rule says of an alert about p1 that is due."""
    alert = Alert(
        name="x", rule="r", client=full("p1"), source=None, trigger=trigger, started_at_ms=at(when), due_at_ms=at(when)
    )
    state = world.state("p1")
    found: dict[str, object] = {}
    for stage in compiled(world, "r").stages:
        verdict = stage.check(alert, state, at(when))
        found[stage.reason] = (verdict.reason, verdict.until) if isinstance(verdict, Suppressed) else verdict
    return found


def test_a_stage_that_suppresses_names_its_reason_and_what_has_to_end() -> None:
    world = World(
        rule("r", "offline", mute=Hours(("0s", "1h")), inhibited_by=("big",), throttle=(1, "1h")),
        rule("big", "offline"),
    ).tell(UP).silence("10s", "1h", group=("G",))  # fmt: skip
    world.tell(CUT).pass_to("2m")
    big = next(alert for alert in world.fleet.alerts.open_alerts if alert.rule == "big")
    assert verdicts(world, "2m") == {
        "flapping": PASS,
        "mute": ("mute", "mute\0r"),
        "silence": ("silence", "silence\0s"),
        "inhibited": PASS if big.state != "firing" else ("inhibited", f"alert\0{big.name}"),
        "throttle": PASS,
    }


def test_verification_waits_for_an_answer_only_where_there_is_somebody_to_ask() -> None:
    asks = World(rule("r", "offline", verify=True, flapping_skip=False), policy=Policy(asks=True)).tell(UP)
    silent = World(rule("r", "offline", verify=True, flapping_skip=False)).tell(UP)
    assert verdicts(asks, "2m") == {"verify": AWAITS_ANSWER}
    assert verdicts(silent, "2m") == {"verify": PASS}
    assert verdicts(asks, "2m", "flapping") == {"verify": PASS}


# Timers


def test_every_kind_of_timer_is_in_the_table_once() -> None:
    assert len(set(TIMERS)) == len(TIMERS)
    assert len({kind.name for kind in TIMERS}) == len(TIMERS)


def timer(kind: TimerKind, acted: list[object]) -> Timer:
    queue = TimerQueue(kind, NextWakeUp(), lambda item, due_ms: item != "gone")
    return Timer(queue, lambda item, at_ms: acted.append((item, at_ms)))


def test_of_one_instant_the_kinds_act_in_their_order_and_pointless_entries_never() -> None:
    acted: list[object] = []
    timers = [timer(kind, acted) for kind in TIMERS[2:]]
    table = TimerTable(timers)
    for one in reversed(timers):
        one.queue.push(5, one.kind.name)
        one.queue.push(4, "gone")
    while True:
        due_ms, found = table.next(5)
        if found is None:
            break
        found.run(due_ms)
    assert acted == [(kind.name, 5) for kind in TIMERS[2:]]


def test_an_event_time_timer_waits_for_the_watermark_and_acts_when_it_is_released() -> None:
    acted: list[object] = []
    timers = [timer(kind, acted) for kind in TIMERS[2:]]
    table = TimerTable(timers)
    for one in timers:
        one.queue.push(5, one.kind.name)
    while True:
        due_ms, found = table.next(4)
        if found is None:
            break
        found.run(due_ms)
    assert acted == [(kind.name, 5) for kind in TIMERS[2:] if not kind.event_time]
    table.release(5, 70)
    acted.clear()
    while True:
        due_ms, found = table.next(4)
        if found is None:
            break
        found.run(due_ms)
    assert acted == [(kind.name, 70) for kind in TIMERS[2:] if kind.event_time]


def test_a_table_out_of_order_or_with_a_kind_twice_is_refused() -> None:
    acted: list[object] = []
    one, other = timer(TIMERS[3], acted), timer(TIMERS[2], acted)
    for wrong in ([one, other], [one, one]):
        with pytest.raises(ValueError, match="order of TIMERS"):
            TimerTable(wrong)
