"""A failover in a fleet whose devices come and go all the time: the outage ends soon after the last return, and mutes only its own.

The traffic is that of `rollcall simulate --storm`: sessions, short absences, takeovers, messages late and twice. Virtual time.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby, takewhile

import pytest

from engine.core.alerting.alert import AlertLine
from engine.core.events import CONNECT
from engine.core.presence.debounce import Policy
from engine.core.rules import OutageTerms
from engine.sources.simulator.synthetic import START_MS, Storm, SyntheticFleet, arrivals
from tests.core.worlds import World, rule

CLIENTS = 2_000
STORM_MS = 120_000
SPREAD_MS = 180_000  # who returns is back within this
LATEST_MS = 90_000  # the outage is over within this of the last return
RULES = (
    rule("site", "outage", outage=OutageTerms(at_least=5, percent=10), recovery=True),
    rule("dark", "offline", recovery=True, flapping_skip=False),
    rule("up", "online", flapping_skip=False),
)


@dataclass
class Told:
    """What came of the traffic: instants are epoch milliseconds."""

    world: World
    last_return_ms: int

    def steps(self, rule: str, *states: str) -> list[AlertLine]:
        """The steps of a rule's alerts."""
        return [
            line
            for line in self.world.lines
            if isinstance(line, AlertLine) and line.rule == rule and line.state in states
        ]


def told(rate: float, returns: float, hold_ms: int, until_ms: int) -> Told:
    """A storm amid traffic of so many events a second."""
    storm = Storm(at_ms=STORM_MS, returns=returns, spread_ms=SPREAD_MS)
    # As `rollcall simulate` makes them.
    fleet = SyntheticFleet(clients=CLIENTS, storm=storm, flaps=0.2, takeovers=0.1, graceful=0.5).at_rate(rate)
    world = World(*RULES, policy=Policy(offline_ms=hold_ms))
    storm_ms = START_MS + STORM_MS
    back: dict[str, int] = {}
    stream = takewhile(lambda arrival: arrival.received_at_ms < START_MS + until_ms, arrivals(fleet))
    for received_ms, batch in groupby(stream, key=lambda arrival: arrival.received_at_ms):
        events = [arrival.event for arrival in batch]
        world.batch(events, received_ms)
        for event in events:
            if event.type == CONNECT and event.occurred_at_ms > storm_ms:
                back.setdefault(event.client, event.occurred_at_ms)
    world.batch([], START_MS + until_ms)
    return Told(world, max(back[client] for client in world.fleet.states))


@pytest.mark.parametrize("returns", [1.0, 0.95])
@pytest.mark.parametrize("rate", [0.2, 1, pytest.param(3, marks=pytest.mark.long), 10])
def test_the_outage_ends_soon_after_the_last_return(rate: float, returns: float) -> None:
    """Those 5 % that stay away for minutes are too few to keep it open: they fire together when it is over."""
    found = told(rate, returns, hold_ms=10_000, until_ms=600_000)
    (opened,) = found.steps("site", "firing")
    assert START_MS + STORM_MS < opened.at_ms < START_MS + STORM_MS + 15_000
    (over,) = found.steps("site", "resolved")
    assert over.at_ms <= found.last_return_ms + LATEST_MS
    suppressed = found.steps("dark", "suppressed") + found.steps("up", "suppressed")
    assert {line.reason for line in suppressed} == {"inhibited"}
    assert max(line.at_ms for line in suppressed) <= over.at_ms
    together = [line for line in found.steps("dark", "firing") if line.at_ms == over.at_ms]
    assert len(together) > 50 if returns < 1 else len(together) <= 1


def test_who_goes_while_the_last_come_back_speaks_for_itself() -> None:
    found = told(10, 0.95, hold_ms=10_000, until_ms=600_000)
    (over,) = found.steps("site", "resolved")
    nearly_all_back_ms = START_MS + STORM_MS + SPREAD_MS
    alone = [line for line in found.steps("dark", "firing") if nearly_all_back_ms < line.at_ms < over.at_ms]
    assert len(alone) > 20, "about two a second"
