"""What rules did lately: how often each fired, what was suppressed by which stage, what became of its deliveries. Read `activity`."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Final

from engine.stores.base import Reader

DAY_MS: Final = 86_400_000


@dataclass(slots=True)
class Activity:
    """Of one rule."""

    alerts: int = 0
    fired: int = 0
    firing: int = 0  # now
    suppressed: Counter[str] = field(default_factory=Counter)  # that never fired, by reason
    deliveries: Counter[str] = field(default_factory=Counter)  # by state

    @property
    def suppressed_by(self) -> list[tuple[str, int]]:
        """The reasons, the most frequent one first."""
        return self.suppressed.most_common()

    @property
    def sent(self) -> list[tuple[str, int]]:
        """The states of deliveries, the most frequent one first."""
        return self.deliveries.most_common()


def activity(reader: Reader, since_ms: int) -> defaultdict[str, Activity]:
    """What each rule did since an instant (epoch ms), by its name; a rule that did nothing is made when it is asked for."""
    found: defaultdict[str, Activity] = defaultdict(Activity)
    for counted in reader.alerts_since(since_ms):
        one = found[counted.rule]
        one.alerts += counted.number
        if counted.has_fired:
            one.fired += counted.number
        elif counted.reason:
            one.suppressed[counted.reason] += counted.number
        if counted.state == "firing":
            one.firing += counted.number
    for sent in reader.deliveries_since(since_ms):
        found[sent.rule].deliveries[sent.state] += sent.number
    return found
