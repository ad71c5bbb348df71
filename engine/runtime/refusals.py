"""How many events of each source are refused, counted over its newest events.

So a hundred requests of one event tell as much as one request of a hundred. Pure: instants (milliseconds of a steady clock) are
arguments. Read `RefusedShares.note`.

A source most of whose events are refused is degraded. When nothing else comes, or the events are dated in the future, nothing that
it says tells who is offline: it is *blind* from its first refusal on, and what rests on missing events waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from engine.core.events import Rejection
from engine.core.times import duration_text
from engine.sources.acceptance import is_ahead_of_time

NEWEST: Final = 100
"""Events of a source that its share is taken of, the newest ones."""

COUNTED_MS: Final = 600_000
"""How long an event counts: of a slow source, one bad hour long ago says nothing about now."""

AT_LEAST: Final = 3
"""Refused events from which on a share means anything."""

CLEAN: Final = 5
"""So many accepted events in a row, and a source is blind no more."""


class _Intake:
    """The newest events of one source."""

    __slots__ = ("ahead", "clean", "first_ms", "is_degraded", "malformed", "recent", "total")

    def __init__(self) -> None:
        self.recent: deque[tuple[int, int, int, int]] = deque()  # (instant, accepted, ahead of time, malformed)
        self.total = self.ahead = self.malformed = 0
        self.clean = 0  # accepted since the last refusal
        self.first_ms: int | None = None  # the first refusal since it was well
        self.is_degraded = False

    @property
    def refused(self) -> int:
        return self.ahead + self.malformed


class RefusedShares:
    """The share of refused events, by source. `note` each batch; everything may be read by any thread."""

    def __init__(self) -> None:
        self.blind: dict[str, int] = {}  # sources that are blind, and since when
        self._intakes: dict[str, _Intake] = {}

    def note(self, source: str, accepted: int, rejected: Sequence[Rejection], at_ms: int) -> None:
        """A source read so many events that were accepted, and these that were not."""
        if not accepted and not rejected:
            return
        intake = self._intakes.get(source)
        if intake is None:
            intake = self._intakes[source] = _Intake()
        elif not rejected and not intake.refused:
            return  # as it should be: nothing to count
        ahead = sum(1 for one in rejected if is_ahead_of_time(one.reason))
        if rejected:
            intake.clean = 0
            if intake.first_ms is None:
                intake.first_ms = at_ms
        else:
            intake.clean += accepted
        self._add(intake, (at_ms, min(accepted, NEWEST), ahead, len(rejected) - ahead))
        self._judge(source, intake, at_ms)

    def look(self, at_ms: int) -> None:
        """Time has passed: what is too old counts no more."""
        for source, intake in self._intakes.items():
            self._judge(source, intake, at_ms)

    def forgive(self) -> None:
        """The clock was set: what was refused for its date says nothing any more."""
        self._intakes.clear()
        self.blind.clear()

    def trouble(self, source: str) -> str | None:
        """What is wrong with what a source reads, in words; None: nothing."""
        intake = self._intakes.get(source)
        if intake is None or not intake.is_degraded:
            return None
        span = f"of the last {intake.total} events (within {duration_text(COUNTED_MS)})"
        if intake.ahead * 2 >= intake.refused:
            return f"clock: {intake.ahead} {span} are dated in the future: check the clocks of this machine and of the broker"
        return f"form: {intake.refused} {span} were refused: `rollcall quarantine list` has the reasons"

    def _add(self, intake: _Intake, entry: tuple[int, int, int, int]) -> None:
        intake.recent.append(entry)
        intake.total += entry[1] + entry[2] + entry[3]
        intake.ahead += entry[2]
        intake.malformed += entry[3]

    def _judge(self, source: str, intake: _Intake, at_ms: int) -> None:
        recent = intake.recent
        while recent and (recent[0][0] <= at_ms - COUNTED_MS or intake.total - sum(recent[0][1:]) >= NEWEST):
            _, accepted, ahead, malformed = recent.popleft()
            intake.total -= accepted + ahead + malformed
            intake.ahead -= ahead
            intake.malformed -= malformed
        refused, total = intake.refused, intake.total
        if intake.is_degraded:
            intake.is_degraded = refused * 4 > total
        else:
            intake.is_degraded = refused >= AT_LEAST and refused * 2 > total
        if not refused:
            intake.first_ms = None
        is_blind = intake.is_degraded and intake.clean < CLEAN and (intake.ahead * 2 > total or refused == total)
        if is_blind and intake.first_ms is not None:
            self.blind.setdefault(source, intake.first_ms)
        else:
            self.blind.pop(source, None)
