"""The peer: the same work in Bytewax, in memory, as a person who knows Bytewax would write it.

Last arrival wins for each client, a wall-clock hold before "offline" is reported, no durability, no rules. Run by
`python -m bytewax.run tests.benchmarks.peer_flow:flow`; the environment names the file (`PEER_FILE`) and the hold in
seconds (`PEER_HOLD_S`). Prints `first <instant>` when it starts to read, `end <instant> <events>` after the last line and
`reported <count>` when all is done; instants are seconds of the monotonic clock.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import bytewax.operators as op
import orjson
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.operators import StatefulBatchLogic
from bytewax.outputs import DynamicSink, StatelessSinkPartition

HOLD = timedelta(seconds=float(os.environ.get("PEER_HOLD_S", "10")))
READ_BYTES = 128 * 1024
"""Read at once: some 800 events, the batch size at which this flow was fastest."""

Event = dict[str, Any]


class Lines(StatefulSourcePartition[bytes, int]):
    """The events file, in chunks of whole lines."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "rb")  # noqa: SIM115 (closed by `close`)
        self._read = 0
        print("first", time.monotonic(), flush=True)

    def next_batch(self) -> list[bytes]:
        lines = self._file.readlines(READ_BYTES)
        self._read += len(lines)
        if not lines:
            print("end", time.monotonic(), self._read, flush=True)
            raise StopIteration
        return lines

    def snapshot(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()


class EventsFile(FixedPartitionedSource[bytes, int]):
    """One partition: one file, one worker."""

    def list_parts(self) -> list[str]:
        return ["file"]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> Lines:
        return Lines(os.environ["PEER_FILE"])


class Presence(StatefulBatchLogic[Event, int, Any]):
    """One client: its channel, whether it is online, and when the hold of its offline is over."""

    __slots__ = ("_channel", "_due", "_offline_at", "_online")

    def __init__(self, _resume_state: Any) -> None:
        self._channel: str | None = None
        self._online = False
        self._offline_at = 0
        self._due: datetime | None = None

    def on_batch(self, values: list[Event]) -> tuple[Iterable[int], bool]:
        for event in values:
            channel = event["channelId"]
            if event["eventType"] == "connect":
                if channel != self._channel:
                    self._channel, self._online, self._due = channel, True, None
            elif channel == self._channel and self._online:
                self._online, self._offline_at = False, int(event["time"])
                self._due = datetime.now(UTC) + HOLD
        return (), False

    def on_notify(self) -> tuple[Iterable[int], bool]:
        # A notification that was asked for earlier still comes after `notify_at` has withdrawn it, so look again.
        if self._due is None or datetime.now(UTC) < self._due:
            return (), False
        self._due = None
        return (self._offline_at,), False

    def on_eof(self) -> tuple[Iterable[int], bool]:
        return ((self._offline_at,) if self._due is not None else ()), False

    def notify_at(self) -> datetime | None:
        return self._due

    def snapshot(self) -> Any:
        return (self._channel, self._online, self._offline_at, self._due)


class Counter(StatelessSinkPartition[tuple[str, int]]):
    """Counts what would be reported."""

    def __init__(self) -> None:
        self._reported = 0

    def write_batch(self, items: list[tuple[str, int]]) -> None:
        self._reported += len(items)

    def close(self) -> None:
        print("reported", self._reported, flush=True)


class Reports(DynamicSink[tuple[str, int]]):
    """Where the flow ends."""

    def build(self, step_id: str, worker_index: int, worker_count: int) -> Counter:
        return Counter()


def keyed(lines: list[bytes]) -> list[tuple[str, Event]]:
    """Decode a batch, each event with its client: one step instead of two, which Bytewax rewards."""
    events = map(orjson.loads, lines)
    return [(event["clientId"], event) for event in events]


flow = Dataflow("presence")
_lines = op.input("read", flow, EventsFile())
_events = op.flat_map_batch("decode", _lines, keyed)
_offline = op.stateful_batch("presence", _events, Presence)
op.output("report", _offline, Reports())
