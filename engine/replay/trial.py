"""Tries edited rules on recorded events, in a process of its own: `python -m engine.replay.trial`. Read `main`.

The running service starts it for its console (see `runtime.rule_trial`), because a replay needs a processor for itself. It reads one JSON
object from standard input and writes one to standard output; nothing is sent or kept.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from engine.config.inventory import Inventory
from engine.config.loader import Config, load_config
from engine.core.rules import Rule
from engine.errors import RollcallError
from engine.replay.diff import changes_between, totals_by_rule
from engine.replay.recording import chunks_of, opened
from engine.replay.runner import Replay
from engine.replay.settings import settings_of
from engine.rulefiles.loader import load_rules, rule_from_definition
from engine.runtime.fleet_factory import inventory_of

MAX_CHANGES: Final = 300
"""Differences that are listed; all are counted."""

NICE: Final = 10
"""The replay gives way to the service."""

_TRANSITION: Final = b'{"type":"transition"'


def trial(config: Config, edited: list[Path], in_force: list[str], events: Path) -> dict[str, Any]:
    """What edited rules would have done with recorded events, beside what the rules in force would have done.

    `edited`: rule files and folders; `in_force`: definitions of rules; `events`: a recording, one event a line.
    """
    inventory = inventory_of(config)
    new_rules = load_rules(edited, inventory=inventory, config=config, performs=False).rules
    new = _lines(config, inventory, new_rules, events)
    old = _lines(config, inventory, tuple(map(rule_from_definition, in_force)), events)
    changes = changes_between(new, old)
    return {
        "events": new[-1]["events"],
        "totals": totals_by_rule(new, old),
        "changes": changes[:MAX_CHANGES],
        "changed": len(changes),
    }


def _lines(config: Config, inventory: Inventory, rules: tuple[Rule, ...], events: Path) -> list[dict[str, Any]]:
    """The lines of a replay but transitions, which rules do not change; the summary is the last one."""
    found: list[dict[str, Any]] = []

    def take(some: bytes) -> None:
        found.extend(json.loads(line) for line in some.splitlines() if not line.startswith(_TRANSITION))

    with events.open("rb") as file:
        Replay(settings_of(config, inventory, rules), take).run(_chunks(file, events))
    return found


def _chunks(file: Any, events: Path) -> Iterator[Any]:
    yield from chunks_of(opened(file, str(events)))


def main() -> None:
    """One trial: from standard input to standard output. `problem` says why there is no result."""
    os.nice(NICE)
    asked = json.load(sys.stdin)
    gc.disable()  # as in `rollcall replay`
    try:
        config = load_config(Path(asked["config"]))
        found = trial(config, list(map(Path, asked["edited"])), asked["in_force"], Path(asked["events"]))
    except RollcallError as error:
        found = {"problem": str(error)}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
