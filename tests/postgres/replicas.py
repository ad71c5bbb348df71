"""Real replicas on a real PostgreSQL: one service each, one database, events from one file that all of them can read."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.acceptance.service import Service, eventually, service

LEASE_S = 8.0
"""Long enough that a busy machine lets no lease run out by itself."""


class Replicas:
    """Some replicas of one cell. `folder` has a folder for each, and the file of events."""

    def __init__(self, folder: Path, made: list[Service], events: Path) -> None:
        self.made, self._events = made, events
        self.folder = folder

    def begin(self, *rules: dict[str, Any]) -> None:
        """Start all of them with these rules, and do not wait."""
        for one in self.made:
            if rules:
                one.rules(*rules)
            one.start(ready=False)

    def start(self, *rules: dict[str, Any]) -> Service:
        """Start all of them with these rules; the owner, once the others follow it."""
        self.begin(*rules)
        self.wait_warm()
        return self.owner()

    def standings(self) -> list[str]:
        """How each stands to the cell: owner, standby, behind, or gone."""
        return [standing(one) for one in self.made]

    def owners(self) -> dict[str, list[int]]:
        """Which replicas own each of several cells, by their places; a cell that none owns is missing."""
        found: dict[str, list[int]] = {}
        for place, one in enumerate(self.made):
            for cell, how in standings_of(one).items():
                if how == "owner":
                    found.setdefault(cell, []).append(place)
        return found

    def owner(self, *, but: Service | None = None) -> Service:
        """The replica that owns the cell, once there is one (another than `but`)."""

        def found() -> Service | None:
            owners = [one for one in self.made if one is not but and standing(one) == "owner"]
            return owners[0] if owners else None

        owner = eventually(found)
        assert owner is not None
        return owner

    def wait_warm(self) -> None:
        """One owns the cell, and all others follow it."""
        eventually(self.standings, lambda all_: sorted(all_) == ["owner"] + ["standby"] * (len(self.made) - 1))

    def append(self, *events: str) -> None:
        """Add events to the file that every replica reads."""
        with self._events.open("a") as file:
            file.write("".join(f"{line}\n" for line in events))


def standing(one: Service) -> str:
    """How a replica stands to its only cell, `gone` when it does not answer."""
    found = list(standings_of(one).values())
    return found[0] if found else "gone"


def standings_of(one: Service) -> dict[str, str]:
    """How a replica stands to each of its cells, by their names; empty when it does not answer."""
    status, text = one.readiness()
    return {} if status == 0 else {cell["cell"]: cell["standing"] for cell in json.loads(text)["cells"]}


def freeze(one: Service) -> None:
    """SIGSTOP: as if the machine stood still."""
    os.kill(one.pid, signal.SIGSTOP)


def is_frozen(one: Service) -> bool:
    """Does it stand still?"""
    return Path(f"/proc/{one.pid}/stat").read_text().rpartition(") ")[2].startswith("T")


def thaw(one: Service) -> None:
    """SIGCONT."""
    os.kill(one.pid, signal.SIGCONT)


@contextmanager
def replicas(
    folder: Path, dsn: str, count: int, *, lease_s: float = LEASE_S, own_cells: Sequence[str] = (), **config: Any
) -> Iterator[Replicas]:
    """So many replicas, not started. `own_cells`: the one cell that each may run; none: every cell."""
    events = folder / "events.jsonl"
    events.touch()
    with ExitStack() as stack:
        made = []
        for number in range(count):
            own = folder / f"replica-{number}"
            own.mkdir()
            told = {
                "store": {"type": "postgres", "dsn": dsn},
                "cluster": {"name": f"r{number}", "lease": f"{lease_s:g}s"}
                | ({"cells": [own_cells[number]]} if own_cells else {}),
                "sources": [
                    {"name": "log", "type": "file", "path": str(events), "follow": True},
                    {"name": "push", "type": "http"},
                ],
            }
            made.append(stack.enter_context(service(own, **told | config)))
        yield Replicas(folder, made, events)
