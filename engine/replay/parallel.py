"""A replay on several processors: each process replays its share of the clients, and their lines are merged.

What concerns one client never depends on another, and a rule says how far it reaches (`core.rules.reach`): when no rule
reaches beyond a client, clients are dealt out, when none reaches beyond a group, groups are. Every process reads the whole
input, since the engine's clock is the running maximum over all events, and applies only its share.

A process tells, after each chunk, its lines with the instant of each and the instant up to which it has told everything;
lines before the least of those are sorted by their instants and written. So the lines are those of a single process, in
the order of the engine's clock.

The burst guard counts a rule's deliveries over all shares, which none of them sees. Each share is given its part of the limit:
while no share reaches that, all together are within the whole. As soon as one does, a single process starts from the
beginning and goes on from the first instant that nothing was written of. Read `run_shared` first.
"""

from __future__ import annotations

import marshal
import multiprocessing
import os
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
from engine.errors import RollcallError
from engine.replay.runner import Entry, Progress, Replay, Terms, Write, chunks_of, rejected_line, summary_line

MIN_BYTES = 4 * 1024 * 1024
"""Input from which sharing pays: below, starting processes costs more than it saves."""

MAX_SHARES = 8
"""Processes at most: each one decodes the whole input, so more of them gain ever less."""

Line = tuple[int, str]
"""The instant of the engine's clock at which a line was told, and the line."""

Told = tuple[int, list[Line], int, bool]
"""The instant up to which everything is told, lines, bytes read, and whether the burst guard has held anything so far."""

_by_instant = itemgetter(0)
_client = itemgetter(0)

ShareOf = Callable[[Iterable[str]], list[int]]
"""Which shares clients belong to, as numbers that only the remainder is taken of."""


def shares_of(rules: Iterable[Rule]) -> ShareOf | None:
    """How clients may be dealt out under these rules; None when a rule reaches over the whole fleet."""
    reaches = {reach(rule) for rule in rules}
    if FLEET in reaches:
        return None
    return _by_group() if GROUP in reaches else _by_client


def _by_client(clients: Iterable[str]) -> list[int]:
    return [zlib.crc32(client.encode()) for client in clients]


def _by_group() -> ShareOf:
    """Groups in turn, in the order in which the input names them: the same in every process."""
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
    """How many processes may share a replay here: one a processor, one where processes cannot be forked."""
    return min(MAX_SHARES, len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else 1


def _nowhere(_: object) -> None:
    """What nobody wants to be told: a share's lines leave by another way, and progress may not be shown."""


class _Share(Replay):
    """One process's part: everything is decoded, the share is applied, lines are kept with their instants."""

    def __init__(self, terms: Terms, number: int, shares: int, share_of: ShareOf) -> None:
        super().__init__(terms, _nowhere)
        self._number, self._shares, self._share_of = number, shares, share_of
        self._latest_ms = 0  # the engine's clock, over all shares
        self._has_held = False  # did the burst guard hold anything back?
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
            self.rejected += 1
            self.lines.append((self._latest_ms, rejected_line(rejection).decode()))

    def told(self, file: IO[bytes]) -> Iterator[Told]:
        """What each chunk brought about, and in the end what time did."""
        line = 1
        for chunk in chunks_of(file):
            self._chunk(chunk, line)
            line += chunk.count(b"\n")
            yield self._latest_ms, self._taken(), len(chunk), self._has_held
        self._run_on()
        yield FOREVER, self._taken(), 0, self._has_held

    def _taken(self) -> list[Line]:
        lines, self.lines = self.lines, []
        return lines


def _instant(entry: Entry) -> int:
    return entry.settled_at_ms if isinstance(entry, Transition) else entry.at_ms


def run_shared(
    terms: Terms, path: str, shares: int, share_of: ShareOf, write: Write, progress: Progress = _nowhere
) -> dict[str, Any]:
    """Replay the file at `path` in `shares` processes; returns the summary, which is written as the last line too.

    Raises RollcallError when one of the processes ends before its time.
    """
    within = terms.burst // shares
    merged = _Merged(write, progress)
    summaries: list[dict[str, Any]] = []
    if within or not terms.burst:
        summaries = _replayed(replace(terms, burst=within), path, shares, share_of, merged, stops=True)
    if not summaries:
        summaries = _replayed(terms, path, 1, share_of, merged, stops=False)
    summary = {
        name: sum(one[name] for one in summaries) if isinstance(value, int) else value
        for name, value in summaries[0].items()
    }
    write(summary_line(summary))
    return summary


def _replayed(
    terms: Terms, path: str, shares: int, share_of: ShareOf, merged: _Merged, *, stops: bool
) -> list[dict[str, Any]]:
    """The summary of each process; none when it `stops` because one of them held deliveries back."""
    with _processes(terms, path, shares, share_of) as pipes:
        if merged.take(pipes, stops=stops):
            return [_received(pipe) for pipe in pipes]
    return []


@contextmanager
def _processes(terms: Terms, path: str, shares: int, share_of: ShareOf) -> Iterator[list[Connection]]:
    """The started processes' pipes. Forked, so that compiled rules need not travel."""
    context = multiprocessing.get_context("fork")
    pipes, processes = [], []
    try:
        for number in range(shares):
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(theirs, path, terms, number, shares, share_of), daemon=True)
            process.start()
            theirs.close()
            pipes.append(ours)
            processes.append(process)
        yield pipes
    finally:
        for process in processes:
            process.kill()
            process.join()


def _work(pipe: Connection, path: str, terms: Terms, number: int, shares: int, share_of: ShareOf) -> None:
    """A process: tell everything, then the summary; leave without taking the states apart."""
    try:
        share = _Share(terms, number, shares, share_of)
        with open(path, "rb") as file:
            for told in share.told(file):
                pipe.send_bytes(marshal.dumps(told))
        pipe.send_bytes(marshal.dumps(share.summary()))
    except (OSError, KeyboardInterrupt):
        os._exit(1)  # whoever asked has gone, or the file has: the other end says so
    os._exit(0)


def _received(pipe: Connection) -> Any:
    try:
        return marshal.loads(pipe.recv_bytes())  # from our own child, never from outside
    except (EOFError, OSError) as error:
        raise RollcallError("a process of this replay ended before its time: was it out of memory?") from error


class _Merged:
    """The output: every line is written as soon as nothing earlier can come, and once, however often it is told."""

    def __init__(self, write: Write, progress: Progress) -> None:
        self._write, self._progress = write, progress
        self._written_ms = 0  # every line of an earlier instant is written
        self._read = 0  # bytes that the progress knows of

    def take(self, pipes: Sequence[Connection], *, stops: bool) -> bool:
        """Write what the processes tell, to the end; False when it `stops` before the first line that one held back."""
        told = [0] * len(pipes)  # up to which instant each has told everything
        waiting: list[Line] = []
        read = 0
        while min(told) < FOREVER:
            slowest = told.index(min(told))
            told[slowest], lines, some, has_held = _received(pipes[slowest])
            if has_held and stops:
                return False  # nothing of this instant is written yet: it had not told everything up to there
            waiting += lines
            read += some if slowest == 0 else 0
            self._show(read)
            self._write_until(min(told), waiting)
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
