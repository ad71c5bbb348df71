"""A client that was forgotten stays forgotten for what is older than that; a newer connect brings it back."""

from __future__ import annotations

from engine.core.fleet import MAX_FORGOTTEN
from engine.core.history import apply_row
from engine.core.presence.client_state import NEW_CLIENT, ClientState
from tests.core.worlds import START_MS, World, at, event, ms, rule

DARK = rule("dark", "offline")
DAYS_MS = 3 * 86_400_000


def forgotten(at_text: str = "100s") -> World:
    """A client that connected, was closed, and is forgotten."""
    world = World(DARK)
    world.fleet.tombstone_ms = DAYS_MS
    world.tell("0s p1 connect A", "1s p2 connect Z").pass_to(at_text)
    return world.act(lambda fleet: fleet.forget("G@@@p1", at(at_text)))


def test_a_redelivered_close_pages_for_nobody_who_was_forgotten() -> None:
    world = forgotten().tell("50s/110s p1 tcpclean A", "60s/111s p1 disconnect A", "0s/112s p1 connect A").pass_to("1h")
    assert world.deliveries == []
    assert world.state("p1") is NEW_CLIENT


def test_a_newer_close_alone_brings_nobody_back_and_a_newer_connect_does() -> None:
    world = forgotten().tell("120s p1 tcpclean A").pass_to("200s")
    assert world.deliveries == []
    world.tell("210s p1 connect B", "220s p1 tcpclean B")
    assert world.pass_to("5m").deliveries == ["4m10s dark > p1 log firing"]
    assert "G@@@p1" not in world.fleet.forgotten


def test_it_is_remembered_for_so_long_and_no_longer() -> None:
    world = forgotten()
    late = START_MS + ms("100s") + DAYS_MS
    world.batch([event("50s p1 tcpclean A")[0]], late - 1)
    assert world.state("p1") is NEW_CLIENT
    world.batch([event("50s p1 tcpclean A")[0]], late)
    assert world.observed("p1") == "offline"


def test_a_transaction_that_fails_forgets_nobody() -> None:
    world = World(DARK)
    world.fleet.tombstone_ms = DAYS_MS
    world.tell("0s p1 connect A")
    world.fleet.begin()
    world.fleet.forget("G@@@p1", at("1s"))
    world.fleet.rollback()
    world.fleet.restore([], [])
    assert world.fleet.forgotten == {}
    assert world.tell("2s p1 tcpclean A").observed("p1") == "offline"


def test_the_journal_leads_to_the_same_states() -> None:
    world = forgotten()
    states: dict[str, ClientState] = {"G@@@p2": world.state("p2")}
    kept = dict(world.fleet.forgotten)
    rows = [event("50s/110s p1 tcpclean A")[0], event("120s p1 connect B")[0], event("110s p1 tcpclean A")[0]]
    world.fleet.begin()
    world.fleet.begin_row(7)
    world.fleet.apply(rows, at("130s"), at("130s"))
    facts = list(world.fleet.facts)
    world.commit()
    apply_row(states, 7, rows, facts, at("130s"), world.policy, kept)
    assert states == world.fleet.states
    assert kept == world.fleet.forgotten == {}


def test_how_many_are_remembered_is_bounded() -> None:
    world = World(DARK)
    world.fleet.tombstone_ms = DAYS_MS
    world.fleet.forgotten = {f"G@@@{number}": START_MS for number in range(MAX_FORGOTTEN + 7)}
    world.act(lambda fleet: fleet.purge_forgotten(START_MS + 1))
    assert len(world.fleet.forgotten) == MAX_FORGOTTEN
    assert "G@@@6" not in world.fleet.forgotten and "G@@@7" in world.fleet.forgotten
