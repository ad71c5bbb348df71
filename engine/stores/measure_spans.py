"""How what is counted once a minute becomes coarser as it grows old, in every store, and its rows. Read `SPANS` and `fold_to`."""

from __future__ import annotations

from typing import Any, Final

from engine.stores.rows import FleetSample

MINUTE_MS: Final = 60_000
TEN_MINUTES_MS: Final = 600_000
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 86_400_000

SPANS: Final = (MINUTE_MS, TEN_MINUTES_MS, HOUR_MS)
"""How long a row stands for. The queries that read name the same numbers."""

FOLDS: Final = ((MINUTE_MS, TEN_MINUTES_MS, 2 * DAY_MS), (TEN_MINUTES_MS, HOUR_MS, 14 * DAY_MS))
"""Rows of a span become rows of a longer one at an age: (span, longer span, age), milliseconds."""

FOLDED_AT_ONCE_MS: Final = HOUR_MS
"""Of this time at most one purge folds rows: after a long stop it takes several, and none holds up the writer."""


def fold_to(oldest_ms: int | None, newest_ms: int | None, longer_ms: int, age_ms: int) -> int | None:
    """Up to which instant (epoch ms) rows are folded now; None: there is nothing to fold.

    `oldest_ms`: of the rows of the shorter span; `newest_ms`: the newest minute of all. What a longer row stands for is folded as a
    whole or not at all.
    """
    if oldest_ms is None or newest_ms is None:
        return None
    old_ms = (newest_ms - age_ms) // longer_ms * longer_ms
    if oldest_ms >= old_ms:
        return None
    return min(old_ms, oldest_ms // longer_ms * longer_ms + max(longer_ms, FOLDED_AT_ONCE_MS))


def rows_of(sample: FleetSample) -> list[dict[str, Any]]:
    """What was counted in a minute as rows: one of the whole fleet (group ""), which has what happened in it, and one a group."""
    rows = []
    for group, counts in sample.groups.items():
        happened = {"flaps": 0, "transitions": 0}
        if not group:
            happened = {"flaps": sample.flaps, "transitions": sample.transitions}
        rows.append({"group": group, "span": MINUTE_MS, "at": sample.at_ms, **counts._asdict(), **happened})
    return rows
