"""`python -m tests.benchmarks.pairs OLD_CHECKOUT NEW_CHECKOUT`: what a change costs, two versions in alternating pairs.

Both versions do the same work one directly after the other, the older one first in every other pair: a machine that slows down or
is busy with something else slows both. Only the ratio of a pair means something, and of several pairs their median. A checkout
is a folder with `.venv/bin/rollcall`; compile both or neither.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import machine, report, rule_sets, works
from tests.benchmarks.engine_process import BenchmarkError
from tests.benchmarks.load import Load, write_day

Work = Callable[[Load, Path, Path], works.Figures]
"""Runs the `rollcall` at a path (the last argument) on a load in an empty folder."""

WORKS: dict[str, Work] = {
    "day": lambda load, folder, rollcall: works.from_file(load, folder, rule_sets.ten(), rollcall),
    "replay": works.replay,
    "webhooks": works.with_webhooks,
}
"""A day from a file until it is durable, `rollcall replay` of it, and the same day with one event in ten a delivered webhook."""

LEAST = 0.97
"""The smallest ratio new/old of events a second that counts as no loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Events a second of one work, both versions one after the other."""

    old: float
    new: float

    @property
    def ratio(self) -> float:
        """New over old: above 1, the new version is faster."""
        return self.new / self.old


def measure(work: Work, load: Load, folder: Path, commands: dict[str, Path], *, newer_first: bool) -> Pair:
    """One pair. Raises BenchmarkError when a version cannot do the work."""
    order = ("new", "old") if newer_first else ("old", "new")
    rates = {}
    for version in order:
        inside = folder / "work"
        inside.mkdir()
        try:
            rates[version] = work(load, inside, commands[version])["events/s"]
        finally:
            shutil.rmtree(inside, ignore_errors=True)
    return Pair(old=rates["old"], new=rates["new"])


def table(pairs: dict[str, list[Pair]]) -> str:
    """Medians, the median of the ratios, and each pair's ratio, one line a work."""
    rows = []
    for name, found in pairs.items():
        if found:
            old, new, ratio = (
                statistics.median(getattr(pair, figure) for pair in found) for figure in ("old", "new", "ratio")
            )
            each = " ".join(f"{pair.ratio:.3f}" for pair in found)
            mark = "good" if ratio >= LEAST else "below"
            rows.append((name, report.number(old), report.number(new), f"{ratio:.3f}", mark, each))
    return report.table(("work", "old events/s", "new events/s", "new/old", f">= {LEAST}", "pairs"), rows)


def command_of(checkout: Path) -> Path:
    """The `rollcall` of a checkout. Raises BenchmarkError when it has none."""
    found = checkout.absolute() / ".venv" / "bin" / "rollcall"
    if not found.exists():
        raise BenchmarkError(f"{checkout} has no .venv/bin/rollcall")
    return found


def is_compiled(checkout: Path) -> bool:
    """Is the core of a checkout compiled?"""
    return any((checkout / "engine" / "core").rglob("*.so"))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.pairs", description="What does a change cost?")
    parser.add_argument("old", type=Path, metavar="OLD_CHECKOUT")
    parser.add_argument("new", type=Path, metavar="NEW_CHECKOUT")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of each work (default 5)")
    parser.add_argument("--only", action="append", choices=list(WORKS), help="repeatable; all three by default")
    parser.add_argument("--events", type=int, default=1_000_000, help="events of the day (default a million)")
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder); its disk is measured")
    return parser.parse_args(arguments)


def _measure_all(options: argparse.Namespace, commands: dict[str, Path], folder: Path) -> dict[str, list[Pair]]:
    chosen: list[str] = options.only or list(WORKS)
    day = write_day(folder / "day.jsonl", events=options.events, clients=options.events // 10)
    pairs: dict[str, list[Pair]] = {name: [] for name in chosen}
    for turn in range(options.rounds):
        for name in chosen:
            pair = measure(WORKS[name], day, folder, commands, newer_first=turn % 2 == 1)
            pairs[name].append(pair)
            _say(f"  pair {turn + 1} {name}: {pair.old:,.0f} old, {pair.new:,.0f} new events/s, ratio {pair.ratio:.3f}")
    return pairs


def main(arguments: list[str]) -> int:
    """Measure and print. Exit codes: 0 measured, 1 a version could not do a work; ratios change nothing."""
    options = _options(arguments)
    try:
        commands = {"old": command_of(options.old), "new": command_of(options.new)}
        with tempfile.TemporaryDirectory(prefix="rollcall-pairs-", dir=options.folder) as temporary:
            folder = Path(temporary)
            print(report.table(("machine", ""), machine.describe(folder)), flush=True)
            for label, checkout in (("old", options.old), ("new", options.new)):
                print(f"{label}: {checkout}, {'compiled' if is_compiled(checkout) else 'NOT compiled'}", flush=True)
            pairs = _measure_all(options, commands, folder)
    except BenchmarkError as error:
        _say(str(error))
        return 1
    print(f"\n{options.events:,} events of {options.events // 10:,} clients; medians of {options.rounds} pairs\n")
    print(table(pairs))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
