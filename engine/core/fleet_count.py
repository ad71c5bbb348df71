"""How many clients are online, offline, unknown and on hold, of the fleet and of each MQTT group, and how long verdicts took.

A fleet of a million is counted in slices, so that nothing waits for it. Durations are counted in buckets that are a quarter of an
octave wide: buckets of different minutes can be added up, percentiles cannot. Read `FleetCount`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from engine.core.presence.client_state import NEVER, OFFLINE, ONLINE, UNKNOWN, ClientState

MAX_COUNTED_GROUPS: Final = 10_000
"""Groups that one count tells apart: ids come from devices, and one that makes up groups must not fill the memory."""

SEPARATOR: Final = "@@@"

ON_HOLD: Final = 3
"""Place of the clients on hold in the numbers of a group; the places before it are those of the statuses."""

_NOTHING: Final = (0, 0, 0, 0)


class FleetCount:
    """One count of all clients, as of one instant. `add` slices until none is left."""

    __slots__ = ("groups", "latencies", "since_ms", "total")

    def __init__(self, since_ms: int) -> None:
        """`since_ms`: verdicts that settled at or after this instant (epoch ms) have their duration counted."""
        self.since_ms: Final = since_ms
        self.total: Final[list[int]] = list(_NOTHING)
        self.groups: Final[dict[str, list[int]]] = {}
        self.latencies: Final[dict[tuple[int, int], int]] = {}  # (status, bucket) -> verdicts

    def add(self, states: Sequence[ClientState]) -> None:
        """Count some more clients."""
        total, groups = self.total, self.groups
        for state in states:
            settled = state.settled
            total[settled] += 1
            client = state.client
            end = client.find(SEPARATOR)
            counts: list[int] | None = None
            if end > 0:
                name = client[:end]
                counts = groups.get(name)
                if counts is None and len(groups) < MAX_COUNTED_GROUPS:
                    counts = groups[name] = list(_NOTHING)
                if counts is not None:
                    counts[settled] += 1
            if state.hold_since_ms != NEVER:  # it is on hold
                total[ON_HOLD] += 1
                if counts is not None:
                    counts[ON_HOLD] += 1
            if settled != UNKNOWN and state.settled_at_ms >= self.since_ms:
                self._count_latency(settled, state.settled_at_ms - state.occurred_at_ms)

    def _count_latency(self, status: int, duration_ms: int) -> None:
        key = (status, bucket_of(duration_ms))
        self.latencies[key] = self.latencies.get(key, 0) + 1

    def largest(self, most: int) -> list[tuple[str, list[int]]]:
        """The groups with most clients, largest first: (group, numbers of clients unknown, offline, online, on hold)."""
        sized = [(-(counts[UNKNOWN] + counts[OFFLINE] + counts[ONLINE]), name) for name, counts in self.groups.items()]
        sized.sort()
        return [(name, self.groups[name]) for _, name in sized[:most]]


def bucket_of(duration_ms: int) -> int:
    """The bucket of a duration in milliseconds: four in each octave; the first four are 0 to 3 ms."""
    if duration_ms < 4:
        return max(0, duration_ms)
    octave = duration_ms.bit_length() - 1
    return 4 * (octave - 1) + ((duration_ms >> (octave - 2)) & 3)


def bucket_start_ms(bucket: int) -> int:
    """The shortest duration of a bucket, in milliseconds."""
    if bucket < 4:
        return bucket
    return (4 + bucket % 4) << (bucket // 4 - 1)


def percentile_ms(buckets: Iterable[tuple[int, int]], part: float) -> int | None:
    """The duration (ms) that this part of the verdicts did not exceed, to within a bucket; None without any.

    `buckets`: (bucket, how many).
    """
    counted = sorted(buckets)
    total = sum([count for _, count in counted])
    if total <= 0:
        return None
    wanted = part * total
    passed = 0
    for bucket, count in counted:
        passed += count
        if passed >= wanted:
            start_ms, end_ms = bucket_start_ms(bucket), bucket_start_ms(bucket + 1)
            inside = 1.0 - (passed - wanted) / count
            return round(start_ms + (end_ms - 1 - start_ms) * inside)
    return bucket_start_ms(counted[-1][0] + 1) - 1
