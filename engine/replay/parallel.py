"""A replay on several processors: each process replays its share of the clients, and their lines are merged.

What concerns one client never depends on another, and a rule says how far it reaches (`core.rules.reach`): when no rule reaches
beyond a client, clients are distributed; when none reaches beyond a group, groups are. Every process reads the whole input,
since the engine's clock is the running maximum over all events, and applies only its share.

After each chunk, a process sends its lines with the instant of each, and the instant up to which its lines are complete. Lines
before the earliest of these instants are sorted and written. So the output is that of a single process, in the order of the
engine's clock.

`deliveries.burst` limits a rule's deliveries over all shares, and no share sees them all. Each share gets its part of the limit:
as long as no share reaches its part, all together are within the limit. As soon as one does, a single process starts again from
the beginning and writes from the first instant that was not written yet. Read `run_shared` first.
"""

from __future__ import annotations

import marshal
import multiprocessing
import os
import signal
import threading
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import accumulate, compress
from multiprocessing.connection import Connection
from operator import itemgetter
from typing import IO, Any

from engine.core.events import EventFields, Rejection
from engine.core.presence.client_state import Transition
from engine.core.rules import FLEET, GROUP, Rule, reach
from engine.core.times import FOREVER
from engine.errors import BadRecording, RollcallError
from engine.replay.recording import chunks_of, opened
from engine.replay.runner import (
    Entry,
    Progress,
    Replay,
    ReplayOutcome,
    ReplaySettings,
    Write,
    rejected_line,
    summary_line,
)

MIN_BYTES = 4 * 1024 * 1024
"""Smallest input that is shared: below, starting processes costs more than it saves."""

MAX_SHARES = 8
"""Most processes: each one decodes the whole input, so more of them save little."""

Line = tuple[int, str]
"""The instant of the engine's clock at which a line was made, and the line."""

Report = tuple[int, list[Line], int, bool]
"""The instant up to which lines are complete, lines, bytes read, and whether `burst` has stopped a delivery so far."""

_by_instant = itemgetter(0)
_client = itemgetter(0)

ShareOf = Callable[[Iterable[str]], list[int]]
"""A number for each client: its remainder, divided by the number of shares, is the share."""


def shares_of(rules: Iterable[Rule]) -> ShareOf | None:
    """How clients can be distributed under these rules; None when a rule reaches over the whole fleet."""
    reaches = {reach(rule) for rule in rules}
    if FLEET in reaches:
        return None
    return _by_group() if GROUP in reaches else _by_client


def _by_client(clients: Iterable[str]) -> list[int]:
    return [zlib.crc32(client.encode()) for client in clients]


def _by_group() -> ShareOf:
    """Groups in the order in which they appear in the input, which is the same in every process."""
    seen: dict[str, int] = {}
    number_of = seen.get

    def shares(clients: Iterable[str]) -> list[int]:
        found = []
        for client in clients:
            group, at, _ = client.partition("@@@")
            number = number_of(group if at else "")
            if number is None:
                number = seen[group if at else ""] = len(seen)
            found.append(number)
        return found

    return shares


def processors() -> int:
    """How many processes can share a replay here: one for each processor, or 1 where processes cannot be forked."""
    return min(MAX_SHARES, len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else 1


def _discard(_: object) -> None:
    """Ignores its argument: the lines of a share are sent another way, and progress is not always shown."""


class _Share(Replay):
    """The replay of one process: decodes everything, applies its share, keeps lines with their instants."""

    def __init__(self, settings: ReplaySettings, number: int, shares: int, share_of: ShareOf) -> None:
        super().__init__(settings, _discard)
        self._number, self._shares, self._share_of = number, shares, share_of
        self._latest_ms = 0  # the engine's clock, over all shares
        self._has_held = False  # whether `burst` has stopped a delivery
        self.lines: list[Line] = []

    def _apply(self, events: Sequence[EventFields], instants: Sequence[int]) -> None:
        if not events:
            return
        known = list(accumulate(instants, max, initial=self._latest_ms))[1:]
        self._latest_ms = known[-1]
        number, shares = self._number, self._shares
        ours = [share % shares == number for share in self._share_of(map(_client, events))]
        super()._apply(list(compress(events, ours)), list(compress(known, ours)))
        self.fleet.begin()
        self.fleet.advance(self._latest_ms, self._latest_ms)
        self._flush()

    def _flush(self) -> None:
        self._has_held = self._has_held or any(planned.held for planned in self.fleet.alerts.out.deliveries)
        self.lines += [(_instant(entry), self._line(entry)) for entry in self.fleet.alerts.out.lines]
        self.fleet.commit()

    def _reject(self, rejection: Rejection) -> None:
        if self._number == 0:  # every process sees it
            self._count_rejection(rejection)
            self.lines.append((self._latest_ms, rejected_line(rejection).decode()))

    def reports(self, file: IO[bytes], name: str) -> Iterator[Report]:
        """What followed from each chunk, and at last what follows when the clock runs on."""
        for chunk in chunks_of(opened(file, name)):
            size = self._take(chunk)
            yield self._latest_ms, self._taken(), size, self._has_held
        self._run_on()
        yield FOREVER, self._taken(), 0, self._has_held

    def _taken(self) -> list[Line]:
        lines, self.lines = self.lines, []
        return lines


def _instant(entry: Entry) -> int:
    return entry.settled_at_ms if isinstance(entry, Transition) else entry.at_ms


def run_shared(
    settings: ReplaySettings, path: str, shares: int, share_of: ShareOf, write: Write, progress: Progress = _discard
) -> ReplayOutcome:
    """Replay the file at `path` in `shares` processes. The summary is also written as the last line.

    Raises RollcallError when one of the processes ends unexpectedly.
    """
    within = settings.burst // shares
    merged = _Merged(write, progress)
    outcomes: list[ReplayOutcome] = []
    if within or not settings.burst:
        outcomes = _replayed(replace(settings, burst=within), path, shares, share_of, merged, stops=True)
    if not outcomes:
        outcomes = _replayed(settings, path, 1, share_of, merged, stops=False)
    first = outcomes[0]  # it has what every process sees
    summary = {
        name: sum(one.summary[name] for one in outcomes) if isinstance(value, int) else value
        for name, value in first.summary.items()
    }
    write(summary_line(summary))
    return first._replace(summary=summary)


def _replayed(
    settings: ReplaySettings, path: str, shares: int, share_of: ShareOf, merged: _Merged, *, stops: bool
) -> list[ReplayOutcome]:
    """The outcome of each process; none when it `stops` because `burst` stopped a delivery in one of them."""
    with _processes(settings, path, shares, share_of) as pipes:
        if merged.take(pipes, stops=stops):
            return [ReplayOutcome(*_received(pipe)) for pipe in pipes]
    return []


@contextmanager
def _processes(settings: ReplaySettings, path: str, shares: int, share_of: ShareOf) -> Iterator[list[Connection]]:
    """The pipes of the started processes. They are forked, so that compiled rules need not be sent to them."""
    context = multiprocessing.get_context("fork")
    pipes, processes = [], []
    try:
        for number in range(shares):
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(
                target=_work, args=(theirs, path, settings, number, shares, share_of), daemon=True
            )
            with _ctrl_c_waits():
                process.start()
            theirs.close()
            pipes.append(ours)
            processes.append(process)
        yield pipes
    finally:
        for process in processes:
            process.kill()
            process.join()


@contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """Ctrl-C takes effect after this, and never in a process that was started in it: the parent ends those.

    While Python forks, it would be caught and forgotten.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(pipe: Connection, path: str, settings: ReplaySettings, number: int, shares: int, share_of: ShareOf) -> None:
    """A process: send every report, then the summary; exit without freeing the states."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        share = _Share(settings, number, shares, share_of)
        with open(path, "rb") as file:
            for report in share.reports(file, path):
                pipe.send_bytes(marshal.dumps(report))
        pipe.send_bytes(marshal.dumps(tuple(share.outcome())))
    except BadRecording as error:
        pipe.send_bytes(marshal.dumps(str(error)))
    except OSError:
        os._exit(1)  # the parent or the file is gone: the parent reports it
    os._exit(0)


def _end_with_parent() -> None:
    """End this process as soon as its parent has ended, however that happened.

    Its pipe alone would not tell: the other processes of the replay have inherited the reading end of it.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _received(pipe: Connection) -> Any:
    try:
        found = marshal.loads(pipe.recv_bytes())  # from our own child, never from outside
    except (EOFError, OSError) as error:
        raise RollcallError("a process of this replay ended unexpectedly; perhaps it ran out of memory") from error
    if isinstance(found, str):
        raise BadRecording(found)
    return found


class _Merged:
    """The output: each line is written once, as soon as no earlier line can follow, however often it is received."""

    def __init__(self, write: Write, progress: Progress) -> None:
        self._write, self._progress = write, progress
        self._written_ms = 0  # every line of an earlier instant is written
        self._read = 0  # bytes that progress was called with

    def take(self, pipes: Sequence[Connection], *, stops: bool) -> bool:
        """Write the reports of all processes, to the end; False when it `stops` before the first stopped delivery."""
        complete = [0] * len(pipes)  # the instant up to which the lines of each process are complete
        waiting: list[Line] = []
        read = 0
        while min(complete) < FOREVER:
            slowest = complete.index(min(complete))
            complete[slowest], lines, some, has_held = _received(pipes[slowest])
            if has_held and stops:
                return False  # nothing of this instant is written yet: its lines were not complete
            waiting += lines
            read += some if slowest == 0 else 0
            self._show(read)
            self._write_until(min(complete), waiting)
        return True

    def _show(self, read: int) -> None:
        if read > self._read:
            self._progress(read - self._read)
            self._read = read

    def _write_until(self, until_ms: int, waiting: list[Line]) -> None:
        if until_ms <= self._written_ms:
            return
        waiting.sort(key=_by_instant)  # stable: of one instant, a process's lines stay in their order
        known = bisect_left(waiting, self._written_ms, key=_by_instant)
        ready = bisect_left(waiting, until_ms, key=_by_instant)
        self._write("".join([line for _, line in waiting[known:ready]]).encode())
        del waiting[:ready]
        self._written_ms = until_ms
