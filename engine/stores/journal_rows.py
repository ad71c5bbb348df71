"""Rows of the journal as a store packs them, and a client's history as a walk through them. Read `history`."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence

import msgspec

from engine.core.history import FACT_OFFSET, POSITION_BITS, Fact
from engine.stores.rows import HistoryEntry, JournalRow

EVERYTHING = 1 << 62
"""More entries than any history has."""

ROWS_REMEMBERED = 64
"""Journal rows kept decoded while one history is read: neighbouring entries of a client often share a row."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list).decode


MAX_NEWEST_ROWS = 500
"""Rows that a look at the newest history reads at most: a quiet feed has one event a row."""

NO_FACTS = _encode([])
"""The column of facts of a row that has none."""


def pack(events: Sequence[bytes], previous: Sequence[int], facts: Sequence[Fact]) -> tuple[int, bytes, bytes, bytes]:
    """How many events a row has, and its three columns: events, previous positions, facts."""
    return len(events), b"\n".join(events), array("q", previous).tobytes(), _encode(facts)


def unpack(row: int, at_ms: int, source: str, events: bytes, previous: bytes, facts: bytes) -> JournalRow:
    """A row out of its columns; without positions when `previous` is empty."""
    positions = array("q")
    positions.frombytes(previous)
    return JournalRow(row, at_ms, source, _lines(events), positions, _facts(facts))


def history(read: Callable[[int], JournalRow | None], position: int) -> Iterator[HistoryEntry]:
    """A client's entries from a position backwards; nothing for a position that was purged or never was.

    `read` gives a row with its positions, None when it was purged.
    """
    if not 0 < position < EVERYTHING:
        return
    rows: dict[int, JournalRow | None] = {}
    while position:
        number = position >> POSITION_BITS
        if number not in rows:
            if len(rows) > ROWS_REMEMBERED:
                rows.clear()
            rows[number] = read(number)
        row = rows[number]
        if row is None:
            return
        try:
            entry = _entry(row, position)
        except IndexError:  # no such place in that row: a position that somebody made up
            return
        yield entry
        position = entry.previous


def _entry(row: JournalRow, position: int) -> HistoryEntry:
    """The entry of a row that a position names; IndexError when the row has no such place."""
    place = position & ((1 << POSITION_BITS) - 1)
    if place < FACT_OFFSET:
        raw, previous = row.events[place], row.previous[place]
        return HistoryEntry(position=position, previous=previous, at_ms=row.at_ms, source=row.source, raw=raw)
    fact = row.facts[place - FACT_OFFSET]
    return HistoryEntry(
        position=position,
        previous=fact.previous,
        at_ms=fact.at_ms,
        source=row.source,
        fact=fact.kind,
        answer=fact.answer,
        client=fact.client,
    )


def _lines(events: bytes) -> list[bytes]:
    return events.split(b"\n") if events else []


def _facts(packed: bytes) -> list[Fact]:
    return [_fact(*fields) for fields in _decode(packed)]


def _fact(
    after: int, kind: str, client: str, at_ms: int, previous: int, answer: tuple[int, int, bool] | None = None
) -> Fact:
    return Fact(after, kind, client, at_ms, previous, None if answer is None else (answer[0], answer[1], answer[2]))
