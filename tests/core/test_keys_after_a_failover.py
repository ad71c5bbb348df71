"""The same events give the same ids and keys whenever they are read: a failover may have lost that they were read before. Hold 30 s."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.core.rules import QuorumTerms
from tests.core.worlds import World, rule

ALONE = rule("alone", "offline", "online", recovery=True)
TOGETHER = rule("together", "quorum", quorum=QuorumTerms(by=("group",), down=2), recovery=True)


def sent(world: World) -> list[tuple[str, str, str]]:
    return sorted((one.rule.name, one.phase, one.key) for one in world.planned)


def read(late_s: int, *events: str) -> World:
    """The events (seconds, client, kind and channel), each read so many seconds after it occurred."""
    world = World(ALONE, TOGETHER)
    for text in events:
        seconds, rest = text.split(maxsplit=1)
        world.tell(f"{seconds}s/{int(seconds) + late_s}s {rest}")
    return world.pass_to("2h")


OUTAGE = ("0 p1 connect A", "1 p2 connect B", "100 p1 tcpclean A", "101 p2 tcpclean B", "900 p1 connect C")


@given(st.integers(0, 3_000))
def test_a_decision_keeps_its_keys_when_its_events_are_read_again_later(late_s: int) -> None:
    first, again = read(0, *OUTAGE), read(late_s, *OUTAGE)
    assert {(name, phase) for name, phase, _ in sent(first)} >= {
        ("alone", "firing"),
        ("alone", "recovery"),
        ("together", "firing"),
        ("together", "recovery"),
    }
    assert sent(first) == sent(again)


def test_every_time_that_a_client_goes_has_keys_of_its_own_also_at_the_same_instant() -> None:
    world = World(rule("r", "offline")).tell("0s p1 connect A", "100s p1 tcpclean A").pass_to("150s")
    # A second connection of the same two instants, told of late.
    world.tell("0s/200s p1 connect B", "100s/300s p1 tcpclean B").pass_to("400s")
    assert len(world.planned) == 2
    assert len({one.key for one in world.planned}) == len({one.alert for one in world.planned}) == 2
