"""How many clients the engine keeps a state for (`clients.limit`), so that invented ids cannot fill the memory. Read `ClientLimit.within`.

Who is known goes on as before. A client that a row of the inventory names by its whole id always gets in: operators write those.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from engine.core.events import LifecycleEvent

CLIENT_BYTES: Final = 2_048
"""Memory that one client takes, with a long id and what is kept of its channels: 1.3 KB were measured."""

PART_OF_MEMORY: Final = 2
"""One part in so many of the memory may hold clients when the configuration does not say how many."""

FEWEST: Final = 10_000
"""The limit on the smallest machine."""

SHOWN_MS: Final = 600_000
"""How long after the last refusal the limit is trouble: long enough to be seen."""

CGROUP: Final = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""What a container may take; the file of the one kind of groups, and of the other."""


def memory_bytes(limits: Sequence[Path] = CGROUP) -> int:
    """The memory of this machine, or of the container we run in if that is less."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in limits:
        try:
            text = path.read_text("ascii").strip()
        except (OSError, ValueError):
            continue
        if text.isdigit():  # else `max`: no limit
            found = min(found, int(text))
    return found


def default_limit(memory: int) -> int:
    """How many clients this much memory is for."""
    return max(FEWEST, memory // PART_OF_MEMORY // CLIENT_BYTES)


class Within(NamedTuple):
    """What of a batch is within the limit."""

    events: Sequence[LifecycleEvent]
    raw: Sequence[bytes]
    rejected: list[tuple[str, bytes]]


class ClientLimit:
    """Used by the writer's thread; `trouble` by any."""

    def __init__(self, limit: int | None, is_listed: Callable[[str], bool]) -> None:
        """`limit`: None for what the machine's memory is for; `is_listed`: does a row of the inventory name it by its whole id?"""
        self.limit = 0
        self.refused = 0  # events since the start
        self._refused_at_ms: int | None = None  # the newest under this limit, of the steady clock
        self.set(limit)
        self._is_listed = is_listed

    def set(self, limit: int | None) -> None:
        """Take another limit, from any thread: None for what the machine's memory is for. Clients that are known stay."""
        new = default_limit(memory_bytes()) if limit is None else limit
        if new != self.limit:
            self.limit, self._refused_at_ms = new, None

    def within(
        self, known: Container[str], count: int, events: Sequence[LifecycleEvent], raw: Sequence[bytes], at_ms: int
    ) -> Within:
        """Take out of a batch the events of new clients that are beyond the limit; so many are known already."""
        kept: list[LifecycleEvent] = []
        kept_raw: list[bytes] = []
        rejected: list[tuple[str, bytes]] = []
        new: set[str] = set()
        for event, text in zip(events, raw, strict=True):
            client = event.client
            if client not in known and client not in new:
                if count + len(new) >= self.limit and not self._is_listed(client):
                    rejected.append((f"a new client beyond the {self.limit} of `clients.limit`", text))
                    continue
                new.add(client)
            kept.append(event)
            kept_raw.append(text)
        if rejected:
            self.refused += len(rejected)
            self._refused_at_ms = at_ms
        return Within(kept, kept_raw, rejected)

    def trouble(self, at_ms: int) -> str | None:
        """What is wrong, in words, while new clients are refused; None: nothing."""
        if self._refused_at_ms is None or at_ms - self._refused_at_ms >= SHOWN_MS:
            return None
        return (
            f"`clients.limit` is reached: {self.refused} events of new clients were refused beyond {self.limit} clients; "
            "look for invented ids, forget clients or raise the limit, then `rollcall quarantine retry`"
        )
