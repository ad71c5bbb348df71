"""Text and bytes that the engine reads again: stored events, quarantined lines, stored requests, and `key=pattern` pairs.

A running service and a store that was opened without one read them alike. Read `HistoryCodec`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from engine.config.inventory import Inventory
from engine.config.lookalikes import mistaken_patterns
from engine.config.matcher_arguments import ClientPredicate, match_of_arguments, predicate_of_arguments
from engine.core.alerting.silence_coverage import Covered
from engine.core.alerting.silences import SUBJECTS, Silence
from engine.core.events import LifecycleEvent
from engine.core.presence.evidence import Doubt, Reading
from engine.core.rules import Match
from engine.runtime.silence_request import silence_warnings
from engine.sources.base import Batch
from engine.sources.wire import decode_lines
from engine.stores.base import QuarantineRow
from engine.templates.evidence_text import WHY, doubt_text
from engine.templates.secret_markers import conceal

ANY_FUTURE_MS = 1 << 60
"""How far in the future a stored event may lie: it was accepted once, so it is accepted again whatever the limit is today."""


class HistoryCodec:
    """What the views of `engine.web` need to read the store, under one inventory."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory

    def matcher(self, pairs: Sequence[str]) -> ClientPredicate:
        """The predicate (client id, `ip:port`) -> bool that `key=pattern` pairs stand for. ValueError for an invalid pair."""
        return predicate_of_arguments(pairs, self._inventory)

    def match(self, pairs: Sequence[str]) -> Match:
        """The match that `key=pattern` pairs of a silence stand for. ValueError for an invalid pair."""
        return match_of_arguments(pairs, self._inventory, SUBJECTS)

    def silence_warnings(self, silence: Silence, covered: Covered, rules: Sequence[str]) -> list[str]:
        """What is probably not meant with a silence, as sentences; `rules`: the names of those in force."""
        return silence_warnings(silence, covered, rules)

    def mistaken_patterns(self, match: Match) -> Iterator[tuple[Match, str]]:
        """Each pattern that seems to be something else, such as a list or an expression: a match of it alone, and what to write instead."""
        return mistaken_patterns(match, self._inventory)

    def decode(self, raw: list[bytes], received_at_ms: int) -> list[LifecycleEvent]:
        """The events of stored lines; `received_at_ms` is when they were received."""
        return decode_stored(raw, received_at_ms)

    def conceal(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """A stored request with its secrets replaced by `***`."""
        return conceal(request)

    def why(self, reading: Reading) -> str:
        """Why an event or an answer was used as it was, as a sentence."""
        return WHY[reading.why]

    def doubt(self, doubt: Doubt) -> str:
        """Why a belief may be wrong, as a sentence."""
        return doubt_text(doubt)

    def quarantined_batch(
        self,
        rows: Sequence[QuarantineRow],
        now_ms: int,
        max_future_ms: int,
        has_cell: Callable[[str], bool] = lambda client: True,
    ) -> tuple[Batch, list[int]]:
        """The quarantined events that are valid now, as a batch received now, and the ids of their rows. `has_cell`: does a client belong to one?"""
        decoded = decode_lines([row.raw for row in rows], now_ms, max_future_ms)
        refused = {rejection.line for rejection in decoded.rejected}
        ids = [row.id for number, row in enumerate(rows, 1) if number not in refused]
        valid = [at for at, event in enumerate(decoded.events) if has_cell(event.client)]
        events, raw = [decoded.events[at] for at in valid], [decoded.raw[at] for at in valid]
        batch = Batch(source="quarantine", received_at_ms=now_ms, events=events, raw=raw)
        return batch, [ids[at] for at in valid]


def decode_stored(raw: list[bytes], received_at_ms: int) -> list[LifecycleEvent]:
    """The events of stored lines. A line that this version cannot read is left out."""
    return decode_lines(raw, received_at_ms, ANY_FUTURE_MS).events
