"""What a running service and a store without one have in common: the words of questions, and the pieces of acts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine.config.inventory import Inventory
from engine.config.matcher_arguments import ClientPredicate, match_of_arguments, predicate_of_arguments
from engine.core.events import LifecycleEvent
from engine.core.presence.evidence import Doubt, Reading
from engine.core.rules import Match
from engine.sources.base import Batch
from engine.sources.wire import decode_lines
from engine.stores.base import QuarantineRow
from engine.templates.evidence_text import WHY, doubt_text
from engine.templates.secret_markers import conceal

RETRIED_ROWS = 500
"""Quarantined events offered again at once."""


class Answering:
    """Understands what people ask about, and shows what is stored, by an inventory."""

    inventory: Inventory

    def match(self, pairs: Sequence[str]) -> ClientPredicate:
        """Whether `key=pattern` pairs hold for a client; ValueError for pairs that cannot be."""
        return predicate_of_arguments(pairs, self.inventory)

    def match_value(self, pairs: Sequence[str]) -> Match:
        """The value that `key=pattern` pairs mean; ValueError for pairs that cannot be."""
        return match_of_arguments(pairs, self.inventory)

    def decode(self, raw: list[bytes], received_at_ms: int) -> list[LifecycleEvent]:
        """Events of the history."""
        return decode_stored(raw, received_at_ms)

    def conceal(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """A stored request as it may be shown."""
        return conceal(request)

    def why(self, reading: Reading) -> str:
        """Why an event or an answer was used as it was, as a sentence."""
        return WHY[reading.why]

    def doubt(self, doubt: Doubt) -> str:
        """Why a belief may be wrong, as a sentence."""
        return doubt_text(doubt)


def decode_stored(raw: list[bytes], received_at_ms: int) -> list[LifecycleEvent]:
    """Events of the journal: accepted once, so accepted again whatever the limits are now."""
    return decode_lines(raw, received_at_ms, 1 << 60).events


def quarantined_batch(rows: Sequence[QuarantineRow], now_ms: int, max_future_ms: int) -> tuple[Batch, list[int]]:
    """What of the quarantine is acceptable now: as a batch received now, and the ids of its rows."""
    decoded = decode_lines([row.raw for row in rows], now_ms, max_future_ms)
    refused = {rejection.line for rejection in decoded.rejected}
    ids = [row.id for number, row in enumerate(rows, 1) if number not in refused]
    return Batch(source="quarantine", received_at_ms=now_ms, events=decoded.events, raw=decoded.raw), ids
