"""`python -m tests.compare OLD_ROLLCALL NEW_ROLLCALL`: do two versions decide the same, to the byte?

Runs both on worked cases (`--cases DIR`) and on random rules with random traces and scenarios (`--seeds A-B`), and says what it ran. The folder
of each case that differs is kept, with the outputs of both. Exit codes: 0 no difference, 1 a difference, 2 wrong use, 3 no
difference, but something of the contract never occurred, so that too little was compared.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.compare.cases import Case, random_case, worked_cases
from tests.compare.coverage import Coverage
from tests.compare.differences import differences
from tests.compare.versions import Commands, Player, Version, VersionError

CRASHES = ("a fault of ours", "internal error", "Internal error", "player:")
"""What a version writes to standard error when it fails in a way that it should not."""

EVERY_TOLD = 50
"""Cases between two lines of progress."""


@dataclass(kw_only=True)
class Report:
    """What was run and what differed; filled by several threads, one case at a time."""

    keep: Path
    skip: frozenset[str]
    coverage: Coverage = field(default_factory=Coverage)
    ran: Counter[str] = field(default_factory=Counter)
    differing: list[str] = field(default_factory=list)
    not_loading: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, case: Case, found: list[str], loads: bool) -> None:
        """Count a case that was run, and keep its folder when the versions differ."""
        with self.lock:
            self.ran["cases"] += 1
            if self.ran["cases"] % EVERY_TOLD == 0:
                print(f"  {self.ran['cases']} cases, {len(self.differing)} differ", file=sys.stderr, flush=True)
            if found:
                shutil.copytree(case.folder, self.keep / case.name.replace(" ", "-"))
                self.differing.append(case.name)
                _say(f"DIFFERS {case.name}, kept in {self.keep / case.name.replace(' ', '-')}")
                for text in found:
                    _say(f"  {text}")
            if not loads:
                self.not_loading.append(case.name)
                return
            self.ran.update(case.commands.keys())
            self.ran["crashes of the old version"] += _crashes(case.folder)
            self.ran["scenario files that do not load"] += b'"type":"problem"' in _compact(case.folder / "old.test.out")
            if case.rules:
                self.coverage.count(case)


def _crashes(folder: Path) -> int:
    texts = [file.read_text(errors="replace") for file in folder.glob("old.*.err")]
    return sum(any(word in text for word in CRASHES) for text in texts)


def _compact(file: Path) -> bytes:
    return file.read_bytes().replace(b'": "', b'":"') if file.exists() else b""


def _say(text: str) -> None:
    print(text, flush=True)


class Pair:
    """Both versions, each with a player; a worker thread has one pair of its own."""

    def __init__(self, old: Version, new: Version) -> None:
        self.players = Player(old), Player(new)
        self._threads = ThreadPoolExecutor(2)

    def play(self, folder: Path, commands: Commands) -> tuple[dict[str, int], dict[str, int]]:
        """Run commands in both at the same time; both answers."""
        old, new = self._threads.map(lambda player: player.play(folder, commands), self.players)
        return old, new

    def run(self, folder: Path, commands: Commands) -> tuple[dict[str, int], dict[str, int]]:
        """The same in processes of their own."""
        old, new = self._threads.map(lambda player: player.version.run(folder, commands), self.players)
        return old, new

    def close(self) -> None:
        """End both players."""
        for player in self.players:
            player.close()
        self._threads.shutdown()


def compare(case: Case, pair: Pair, report: Report, *, as_processes: bool) -> None:
    """Run one case in both versions and report it. Rules that the old version refuses are only counted."""
    play = pair.run if as_processes else pair.play
    found: list[str] = []
    loads = True
    if case.gate:
        old, new = play(case.folder, case.gate)
        found = differences(case.folder, old, new)
        loads = not any(old.values())
    if loads:
        commands = {name: arguments for name, arguments in case.commands.items() if name not in report.skip}
        found += differences(case.folder, *play(case.folder, commands))
    report.add(case, found, loads)


def run_worked(cases: Path, old: Version, new: Version, report: Report, work: Path) -> None:
    """Every worked case, each command in a process of its own."""
    pair = Pair(old, new)
    for case in worked_cases(cases, work):
        compare(case, pair, report, as_processes=True)
        report.ran["worked cases"] += 1
    pair.close()


def run_seeds(seeds: Iterable[int], jobs: int, old: Version, new: Version, report: Report, work: Path) -> None:
    """Every seed, `jobs` at a time; a folder is gone as soon as its case agrees."""
    pairs = [Pair(old, new) for _ in range(jobs)]
    free = list(pairs)

    def one(seed: int) -> None:
        pair = free.pop()
        try:
            with tempfile.TemporaryDirectory(dir=work) as folder:
                compare(random_case(seed, Path(folder)), pair, report, as_processes=False)
        finally:
            free.append(pair)

    with ThreadPoolExecutor(jobs) as pool:
        running: list[Future[None]] = [pool.submit(one, seed) for seed in seeds]
        for done in running:
            done.result()
    for pair in pairs:
        pair.close()


def _seeds(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.compare", description="Do two versions decide the same?")
    parser.add_argument("old", type=Path, help="the `rollcall` of the older version, in its environment")
    parser.add_argument("new", type=Path, help="the `rollcall` of the newer one")
    parser.add_argument("--seeds", type=_seeds, default=_seeds("0-299"), metavar="A-B", help="default 0-299")
    parser.add_argument(
        "--jobs", type=int, default=1, help="cases at a time, each with a process a version (default 1)"
    )
    parser.add_argument("--cases", type=Path, help="a folder of worked cases, each with config.yaml and events.jsonl")
    parser.add_argument("--keep", type=Path, help="where the folders of differing cases go (default: a new folder)")
    parser.add_argument(
        "--skip", action="append", default=[], help="a command to leave out: jsonl, table, against, test, shared"
    )
    return parser.parse_args(arguments)


def _told(report: Report, seconds: float) -> Iterator[str]:
    """What was run, at the end."""
    if report.coverage.written:
        yield f"\n{report.coverage.tables()}\n"
    yield ", ".join(f"{name} {count}" for name, count in sorted(report.ran.items()) if count)
    yield f"rule sets that the old version refuses: {len(report.not_loading)} {report.not_loading[:10]}"
    yield f"{len(report.differing)} of {report.ran['cases']} cases differ {report.differing[:20]} ({seconds:.0f} s)"


def main(arguments: list[str]) -> int:
    """Compare and print; the exit code is in the module's description."""
    options = _options(arguments)
    keep = options.keep or Path(tempfile.mkdtemp(prefix="rollcall-compare-"))
    keep.mkdir(parents=True, exist_ok=True)
    old, new = (
        Version(label="old", command=options.old.absolute()),
        Version(label="new", command=options.new.absolute()),
    )
    report = Report(keep=keep, skip=frozenset(options.skip))
    started = time.monotonic()
    try:
        for version in (old, new):
            player = Player(version)
            _say(f"{version.label}: {version.command} {player.start()}")
            player.close()
        with tempfile.TemporaryDirectory() as work:
            if options.cases is not None:
                run_worked(options.cases, old, new, report, Path(work))
            run_seeds(options.seeds, options.jobs, old, new, report, Path(work))
    except VersionError as error:
        _say(str(error))
        return 2
    for text in _told(report, time.monotonic() - started):
        _say(text)
    lacking = report.coverage.lacking() if options.seeds and not report.skip else []
    if lacking:
        _say(f"never occurred: {', '.join(lacking)}")
    return 1 if report.differing else 3 if lacking else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
