"""The clients of one key that are offline, by the time of their change, kept so that each change and each count is cheap in a storm.

A sorted list in pieces: entering, removing and counting cost about the square root of its length, whatever the order in
which clients come and go. A hundred thousand clients that fail over within a minute are counted at every one of them.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator

PIECE = 512
"""Entries of a piece; it is cut in two at twice as many."""

Entry = tuple[int, str]
"""(when the change occurred, client)"""


class OfflineIndex:
    """Clients that are offline, by when their change occurred (epoch ms)."""

    __slots__ = ("_count", "_pieces")

    def __init__(self) -> None:
        self._count = 0
        self._pieces: list[list[Entry]] = []  # none is empty; ascending within and from piece to piece

    def __len__(self) -> int:
        return self._count

    @property
    def is_empty(self) -> bool:
        """Is no client offline?"""
        return not self._pieces

    def add(self, occurred_ms: int, client: str) -> None:
        """The client is offline."""
        pieces, entry = self._pieces, (occurred_ms, client)
        self._count += 1
        if not pieces:
            pieces.append([entry])
            return
        place = min(self._place(entry), len(pieces) - 1)
        piece = pieces[place]
        insort(piece, entry)
        if len(piece) >= 2 * PIECE:
            pieces[place : place + 1] = [piece[:PIECE], piece[PIECE:]]

    def remove(self, occurred_ms: int, client: str) -> None:
        """The client is not offline any more. KeyError when it was not."""
        entry = (occurred_ms, client)
        place = self._place(entry)
        piece = self._pieces[place] if place < len(self._pieces) else []
        index = bisect_left(piece, entry)
        if index == len(piece) or piece[index] != entry:
            raise KeyError(client)
        self._count -= 1
        del piece[index]
        if not piece:
            del self._pieces[place]

    def count(self, from_ms: int, enough: int) -> int:
        """How many changes occurred at or after `from_ms`; counting stops at `enough`."""
        found, bound = 0, (from_ms, "")
        for piece in reversed(self._pieces):
            if piece[0] >= bound:
                found += len(piece)
            else:
                return found + len(piece) - bisect_left(piece, bound)
            if found >= enough:
                return found
        return found

    def since(self, from_ms: int) -> Iterator[Entry]:
        """Those whose change occurred at or after `from_ms`, the earliest first."""
        bound = (from_ms, "")
        for place in range(self._place(bound), len(self._pieces)):
            for entry in self._pieces[place]:
                if entry >= bound:
                    yield entry

    def _place(self, entry: Entry) -> int:
        """The first piece that ends at or after `entry`."""
        pieces = self._pieces
        low, high = 0, len(pieces)
        while low < high:
            middle = (low + high) // 2
            if pieces[middle][-1] < entry:
                low = middle + 1
            else:
                high = middle
        return low
