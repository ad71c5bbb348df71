"""A connect that was refused for its date alone: the offline hold that it would have ended waits for it."""

from __future__ import annotations

from typing import Any

import pytest

from engine.core.events import LifecycleEvent
from engine.core.fleet import LONGEST_REFUSED_MS, MAX_REFUSED, REFUSED_MARGIN_MS
from engine.core.times import FOREVER
from tests.core.worlds import POLICY, START_MS, World, at, ms, rule, span

DARK = rule("dark", "offline")


def refused(
    world: World, when: str, dated: str, client: str = "p1", kind: str = "connect", channel: str = "B"
) -> World:
    event = LifecycleEvent(f"G@@@{client}", kind, at(dated), channel, "")
    return world.act(lambda fleet: fleet.refused(event, at(when)))


def gone(**policy: Any) -> World:
    """A client whose close was accepted ten seconds after its connect."""
    from dataclasses import replace

    return World(DARK, policy=replace(POLICY, **policy)).tell("0s p1 connect A", "10s p1 tcpclean A")


@pytest.mark.parametrize("hold_ms", [0, 30_000])
def test_the_hold_waits_until_the_date_has_passed_and_no_longer(hold_ms: int) -> None:
    world = World(DARK).tell("0s p1 connect A")
    refused(world, "5s", "5m") if hold_ms == 0 else None
    world.tell("10s p1 tcpclean A")
    refused(world, "11s", "5m")
    over = span(at("5m") + REFUSED_MARGIN_MS)
    assert world.pass_to("5m59s999ms").deliveries == []
    assert world.pass_to("10m").deliveries == [f"{over} dark > p1 log firing"]


def test_a_connect_refused_before_the_close_came_counts_as_well() -> None:
    world = World(DARK).tell("0s p1 connect A")
    refused(world, "5s", "5m")
    assert world.tell("10s p1 tcpclean A").pass_to("5m").deliveries == []


def test_the_connect_is_accepted_after_all_and_nobody_is_paged() -> None:
    world = refused(gone(), "11s", "90s")
    world.tell("92s/92s p1 connect B").pass_to("30m")
    assert (world.deliveries, world.status("p1")) == ([], "online")


def test_a_later_close_of_the_same_channel_is_told_in_its_time() -> None:
    world = refused(gone(), "11s", "90s")
    world.tell("92s p1 connect B", "100s p1 tcpclean B")
    assert world.pass_to("131s").deliveries == ["2m10s dark > p1 log firing"]


@pytest.mark.parametrize(("kind", "client"), [("tcpclean", "p1"), ("disconnect", "p1"), ("connect", "p2")])
def test_what_would_not_have_ended_the_hold_does_not_keep_it(kind: str, client: str) -> None:
    world = refused(gone(), "11s", "5m", client=client, kind=kind)
    assert world.pass_to("1m").deliveries == ["40s dark > p1 log firing"]


def test_a_date_years_ahead_keeps_the_hold_for_a_day_and_not_for_years() -> None:
    world = refused(gone(), "11s", "9000h")
    assert world.pass_to("23h").deliveries == []
    assert world.pass_to("25h").deliveries == [f"{span(at('11s') + LONGEST_REFUSED_MS)} dark > p1 log firing"]


def test_the_broker_is_asked_and_a_zero_lets_the_hold_settle() -> None:
    world = refused(gone(asks=True), "11s", "5m").pass_to("45s")
    assert [ask.split()[1:] for ask in world.asks] == [["p1", "doubt"]]
    assert world.deliveries == []
    world.answer("46s", "p1", 0)
    assert world.deliveries == ["46s dark > p1 log firing"]


def test_the_broker_is_asked_and_a_connection_ends_the_hold() -> None:
    world = refused(gone(asks=True), "11s", "5m").pass_to("45s")
    world.answer("46s", "p1", 1)
    assert (world.pass_to("20m").deliveries, world.observed("p1")) == ([], "online")


def test_how_many_are_remembered_is_bounded() -> None:
    world = World(DARK)
    for number in range(MAX_REFUSED + 5):
        world.fleet.states[f"G@@@c{number}"] = world.fleet.state_of("x").evolve(last=1)
        world.fleet.refused(LifecycleEvent(f"G@@@c{number}", "connect", START_MS + number, "B", ""), START_MS)
    assert world.fleet.next_refused(0) == START_MS + 5
    assert world.fleet.next_refused(START_MS + MAX_REFUSED + 5) == FOREVER
    assert ms("1s") == 1_000
