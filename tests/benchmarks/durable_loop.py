"""One owner's loop, alone in a process: events of a file into a store, a thousand a transaction, as fast as it goes.

`python -m tests.benchmarks.durable_loop '{"store": "sqlite", "folder": ..., "events": ...}'`, or with `"store": "postgres"`, `"dsn"` and
`"cell"`. It reads and opens everything, prints `ready`, waits for a line, works, and prints what it took as JSON. The writer, the fleet and
the rules are the engine's own; time is that of the events, so holds end and alerts fire while it goes on, as they do on the day.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from engine.core.delivery import Delivered, DeliveryPolicy, Outcome
from engine.core.rules import Match
from engine.sources.base import Batch
from engine.sources.wire import decode_lines
from engine.stores.base import Store
from engine.stores.postgres.database import Database
from engine.stores.postgres.store import PostgresStore
from engine.stores.sqlite.store import SqliteStore
from engine.testing import FakeClock, WriterBench, rule
from tests.benchmarks.load import EPOCH_MS
from tests.benchmarks.rule_sets import WELCOMED_SITES

EVENTS_AT_ONCE = 1_000
"""Events of one batch, and with it of one transaction."""

POLICY = DeliveryPolicy()


def no_chance() -> float:
    """The jitter of retries, of which there are none."""
    return 0.0


CHECKPOINT_EVENTS = 500_000
"""As in the service."""


def open_store(wanted: dict[str, Any]) -> Store:
    """The store that is measured, open for writing."""
    if wanted["store"] == "sqlite":
        return SqliteStore.open(Path(wanted["folder"]))
    return PostgresStore.open(Database(dsn=wanted["dsn"], replica=wanted["cell"]), wanted["cell"]).own()


def bench(wanted: dict[str, Any]) -> WriterBench:
    """A writer over that store: the first connect of clients of three sites in ten is logged, and so are dark
    pumps; what is logged counts as delivered with the next transaction."""
    sites = tuple(f"GID_SITE{number:02d}" for number in range(WELCOMED_SITES))
    rules = [
        rule("new-client", "first_seen", match=Match(group=sites)),
        rule("pump-offline", "offline", match=Match(device=("pump-*",)), recovery=True, for_ms=20_000),
    ]
    return WriterBench(
        Path(wanted["folder"]),
        *rules,
        clock=FakeClock(EPOCH_MS),
        open_store=lambda folder: open_store(wanted),
        checkpoint_events=CHECKPOINT_EVENTS,
    )


def run(made: WriterBench, lines: Sequence[bytes]) -> dict[str, float]:
    """Work through all lines; seconds, CPU seconds and how many deliveries were decided."""
    started, cpu = time.perf_counter(), time.process_time()
    place = deliveries = 0
    for first in range(0, len(lines), EVENTS_AT_ONCE):
        chunk = lines[first : first + EVENTS_AT_ONCE]
        decoded = decode_lines(chunk, EPOCH_MS, 10**12)
        place += sum(map(len, chunk))
        made.clock.at_ms = max(made.clock.at_ms, max(event.occurred_at_ms for event in decoded.events))
        made.writer.offer(
            Batch(
                source="log",
                received_at_ms=made.clock.at_ms,
                events=decoded.events,
                raw=decoded.raw,
                position=str(place),
                caught_up_to_ms=made.clock.at_ms,
            )
        )
        outcomes = [Outcome(id=item.id, answer=Delivered(), attempted_at_ms=made.clock.at_ms) for item in made.offered]
        deliveries += len(outcomes)
        made.offered = []
        if outcomes:
            made.submit(partial(made.store.deliveries.record, outcomes, made.clock.at_ms, no_chance, POLICY))
        made.writer.run_once()
    assert made.writer.failure is None, made.writer.failure
    return {
        "seconds": time.perf_counter() - started,
        "cpu_s": time.process_time() - cpu,
        "deliveries": float(deliveries),
        "rows": float(made.store.journal.last_id()),
    }


def main(wanted: dict[str, Any]) -> None:
    """See the module."""
    lines = Path(wanted["events"]).read_bytes().splitlines(keepends=True)
    made = bench(wanted)
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(run(made, lines)), flush=True)
    made.close()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
