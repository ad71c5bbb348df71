"""What rows add up to, whatever their order: two tables with the same sum hold the same rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b

import msgspec

from engine.stores.copied import Row

MASK = (1 << 64) - 1

_pack = msgspec.msgpack.Encoder().encode


class RowSum:
    """The number of some rows, and a sum of the digests of each."""

    def __init__(self) -> None:
        self.rows = self.digest = 0

    def over(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The rows themselves, added up on their way."""
        for row in rows:
            self.rows += 1
            self.digest = (self.digest + int.from_bytes(blake2b(_pack(row), digest_size=8).digest(), "big")) & MASK
            yield row

    def add_all(self, rows: Iterable[Row]) -> None:
        """Add all these rows."""
        for _ in self.over(rows):
            pass
