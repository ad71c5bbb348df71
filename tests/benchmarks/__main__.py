"""`python -m tests.benchmarks`: everything in one run, because only ratios on one machine at one time mean anything.

Works run round by round, the peer beside the engine, so that a machine that slows down slows both. Nothing here asserts.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import (
    console,
    failover,
    machine,
    on_call,
    peer,
    postgres_works,
    profile,
    report,
    rocketmq_works,
    rule_sets,
    sweeps,
    works,
)
from tests.benchmarks.collector import CollectorProcess
from tests.benchmarks.engine_process import BenchmarkError
from tests.benchmarks.load import Load, write_day, write_storm

Figures = dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What the works have in common: a folder on the disk that is measured, and the two loads."""

    folder: Path
    day: Load
    storm: Load | None
    posts: int
    asked: int
    fleet: int

    @contextlib.contextmanager
    def fresh(self, name: str) -> Iterator[Path]:
        """An empty folder, gone afterwards."""
        folder = self.folder / name
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _limits(scene: Scene) -> Figures:
    with scene.fresh("limits") as folder, CollectorProcess() as target:
        return {
            "decode only": machine.decode_only(scene.day),
            "decode and dict": machine.decode_and_remember(scene.day),
            "journal only": machine.journal_only(scene.day, folder),
            "bare posts/s": asyncio.run(machine.post_bare(target.url, scene.posts)),
        }


def _peer(scene: Scene) -> Figures:
    if why := peer.missing():
        raise BenchmarkError(why)
    return {"events/s": peer.run(scene.day)}


def _peer_storm(scene: Scene) -> Figures:
    if why := peer.missing():
        raise BenchmarkError(why)
    return {"events/s": peer.run(_storm_of(scene))}


def _storm_of(scene: Scene) -> Load:
    assert scene.storm is not None, "the storm is written whenever a work that needs it is chosen"
    return scene.storm


def _file(scene: Scene) -> Figures:
    with scene.fresh("file") as folder:
        return works.from_file(scene.day, folder, rule_sets.ten())


def _webhooks(scene: Scene) -> Figures:
    with scene.fresh("webhooks") as folder:
        return works.with_webhooks(scene.day, folder)


def _storm(scene: Scene) -> Figures:
    with scene.fresh("storm") as folder:
        return works.storm(_storm_of(scene), folder)


def _killed(scene: Scene) -> Figures:
    with scene.fresh("killed") as folder:
        return works.killed_storm(_storm_of(scene), folder)


def _failover(scene: Scene) -> Figures:
    with scene.fresh("failover") as folder:
        return failover.run(scene.day.clients, folder)


def _on_call(scene: Scene) -> Figures:
    with scene.fresh("on-call") as folder:
        return on_call.run(scene.day.clients, folder)


def _replay(scene: Scene) -> Figures:
    with scene.fresh("replay") as folder:
        return works.replay(scene.day, folder)


def _rules(scene: Scene) -> Figures:
    with scene.fresh("rules") as folder:
        return works.many_rules(scene.day, folder)


def _latency(scene: Scene) -> Figures:
    with scene.fresh("latency") as folder:
        return works.latency(folder)


def _outbox(scene: Scene) -> Figures:
    with scene.fresh("outbox") as folder:
        return works.outbox(scene.posts, folder)


def _rocketmq(scene: Scene) -> Figures:
    with scene.fresh("rocketmq") as folder:
        return rocketmq_works.measure(scene.day, folder)


def _sweep(scene: Scene) -> Figures:
    with scene.fresh("sweep") as folder:
        return sweeps.measure(scene.asked, folder)


def _console(scene: Scene) -> Figures:
    with scene.fresh("console") as folder:
        return console.run(scene.fleet, folder)


def _postgres(scene: Scene) -> Figures:
    with scene.fresh("postgres") as folder:
        return postgres_works.measure(scene.day, scene.fleet, folder)


WORKS: dict[str, Callable[[Scene], Figures]] = {
    "limits": _limits,
    "peer": _peer,
    "file": _file,
    "webhooks": _webhooks,
    "replay": _replay,
    "rules": _rules,
    "latency": _latency,
    "outbox": _outbox,
    "sweep": _sweep,
    "rocketmq": _rocketmq,
    "postgres": _postgres,
    "peer-storm": _peer_storm,
    "storm": _storm,
    "killed": _killed,
    "failover": _failover,
    "on-call": _on_call,
    "console": _console,
}
ONCE = {"on-call", "console"}
"""Works that wait for minutes, and are run in the first round only."""

NEED_STORM = {"peer-storm", "storm", "killed"}


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description="How fast Rollcall is on this machine."
    )
    parser.add_argument("--runs", type=int, default=3, help="rounds; medians are printed (default 3)")
    parser.add_argument("--events", type=int, default=1_000_000, help="events of the day, a tenth as many clients")
    parser.add_argument("--fleet", type=int, default=1_000_000, help="clients of the storm, three events each")
    parser.add_argument("--posts", type=int, default=10_000, help="bare posts and due webhooks")
    parser.add_argument("--asked", type=int, default=20_000, help="clients that one sweep asks about")
    parser.add_argument(
        "--only", action="append", choices=list(WORKS), metavar="NAME", help=f"one of {', '.join(WORKS)}; repeatable"
    )
    parser.add_argument("--quick", action="store_true", help="one round, a tenth of everything: does it run at all?")
    parser.add_argument(
        "--profile", action="store_true", help="sample the engine once while it reads the day (needs py-spy)"
    )
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder); its disk is measured")
    parser.add_argument("--json", type=Path, help="write every figure of every round there as well")
    options = parser.parse_args(arguments)
    if options.quick:
        options.runs, options.events, options.fleet, options.posts = 1, 100_000, 100_000, 1_000
        options.asked = 2_000
    return options


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _measure(scene: Scene, chosen: list[str], runs: int) -> tuple[dict[str, list[Figures]], list[str]]:
    """Every chosen work in every round; one that fails says why once and is left out of further rounds."""
    rounds: dict[str, list[Figures]] = {name: [] for name in chosen}
    failed: dict[str, str] = {}
    for turn in range(1, runs + 1):
        for name in chosen:
            if name in failed or (turn > 1 and name in ONCE):
                continue
            started = time.monotonic()
            try:
                figures = WORKS[name](scene)
            except BenchmarkError as error:
                failed[name] = f"{name}: {error}"
                _say(f"  round {turn} {failed[name]}")
                continue
            rounds[name].append(figures)
            shown = ", ".join(
                f"{key} {report.number(value)}" for key, value in figures.items() if not key.startswith("cpu ")
            )
            _say(f"  round {turn} {name} ({time.monotonic() - started:.0f} s): {shown}")
    return rounds, list(failed.values())


def _write_loads(folder: Path, options: argparse.Namespace, chosen: list[str]) -> tuple[Load, Load | None]:
    _say(f"writing a day of {options.events:,} events")
    day = write_day(folder / "day.jsonl", events=options.events, clients=options.events // 10)
    if not NEED_STORM & set(chosen):
        return day, None
    _say(f"writing a storm of {options.fleet:,} clients")
    return day, write_storm(folder / "storm.jsonl", clients=options.fleet)


def main(arguments: list[str]) -> int:
    """Measure and print; 0 unless the arguments are wrong."""
    options = _options(arguments)
    chosen: list[str] = options.only or list(WORKS)
    with tempfile.TemporaryDirectory(prefix="rollcall-bench-", dir=options.folder) as temporary:
        folder = Path(temporary)
        print(report.table(("machine", ""), machine.describe(folder)), flush=True)
        day, fleet = _write_loads(folder, options, chosen)
        scene = Scene(
            folder=folder, day=day, storm=fleet, posts=options.posts, asked=options.asked, fleet=options.fleet
        )
        rounds, failed = _measure(scene, chosen, options.runs)
        sampled = profile.run(scene.day, folder) if options.profile else ""
    print(
        f"\n{day.events:,} events of {day.clients:,} clients; storm of {options.fleet:,}; medians of {options.runs}\n"
    )
    for text in (
        report.figures_table(rounds),
        report.targets_table(rounds),
        report.time_table(rounds),
        sampled,
        *failed,
    ):
        if text:
            print(text, end="\n\n")
    if options.json is not None:
        options.json.write_text(json.dumps(rounds, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
