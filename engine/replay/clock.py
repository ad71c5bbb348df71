"""The clock of a replay: the running maximum of the instants of its lines, and what is wrong with a recording that it shows. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from operator import gt, sub
from typing import Final

from engine.core.rules import Rule
from engine.core.times import duration_text, rfc3339
from engine.errors import BadRecording

BEHIND_MS: Final = 1000
"""How far a line may be dated before one above it without being counted: clocks of brokers differ by as much."""

STEP_MS: Final = 86_400_000
"""A pause between two lines that is longer is passed in turns, so that what falls into it is not all in memory."""

LONGEST_PAUSE_MS: Final = 366 * 86_400_000
"""The longest pause for which reminders and schedules are played: one line with a wrong date would make millions of them."""


class ReplayClock:
    """Follows the lines of a recording."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._recurs = [rule.name for rule in rules if rule.repeat_ms or "schedule" in rule.triggers]
        self._now_ms: int | None = None
        self._line = 0  # the one that set the clock
        self._lines = 0
        self._behind = 0  # how many of them found the clock far ahead of them

    def follow(self, lines: Sequence[int], instants: Sequence[int]) -> None:
        """The next lines of the recording, by their numbers, and the instant of each (epoch milliseconds)."""
        if not instants:
            return
        latest_ms, before_ms = max(instants), self._now_ms if self._now_ms is not None else instants[0]
        self._lines += len(instants)
        if instants[0] < before_ms - BEHIND_MS or sorted(instants) != instants:
            ahead = map(sub, accumulate(instants, max, initial=before_ms), instants)
            self._behind += sum(map(gt, ahead, (BEHIND_MS for _ in instants)))
        if self._now_ms is None or latest_ms > self._now_ms:
            self._now_ms, self._line = latest_ms, lines[instants.index(latest_ms)]

    def pauses(self, lines: Sequence[int], instants: Sequence[int]) -> Iterator[int]:
        """The places of lines before which the clock stands for longer than `STEP_MS`. To be asked before `follow`.

        Raises:
            BadRecording: reminders or schedules would have to be played for longer than `LONGEST_PAUSE_MS`.
        """
        if not instants or max(instants) - (instants[0] if self._now_ms is None else self._now_ms) <= STEP_MS:
            return
        now_ms, above = (instants[0], lines[0]) if self._now_ms is None else (self._now_ms, self._line)
        for place, instant in enumerate(instants):
            if instant - now_ms > LONGEST_PAUSE_MS and self._recurs:
                raise BadRecording(
                    f"line {lines[place]} is dated {rfc3339(instant)}, {duration_text((instant - now_ms) // STEP_MS * STEP_MS)}"
                    f" after line {above} ({rfc3339(now_ms)}): the rule {self._recurs[0]} would repeat for all that time."
                    " Correct or remove the line whose date is wrong, or replay the parts before and after the pause one by one"
                )
            if instant - now_ms > STEP_MS:
                yield place
            if instant > now_ms:
                now_ms, above = instant, lines[place]

    def warning(self) -> str | None:
        """Why the result may say little, in a sentence; None when nothing is wrong."""
        if self._now_ms is None or self._behind * 2 <= self._lines:
            return None
        return (
            f"the clock stood still for {self._behind} of {self._lines} lines, because they are dated before a line above them"
            f" (line {self._line}: {rfc3339(self._now_ms)}): no time passed between them. Events must come oldest first. If the file is"
            f" newest first, reverse it (`tac FILE`); if the date of line {self._line} is wrong, remove that line"
        )
