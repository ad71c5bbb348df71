"""Samples the engine from outside while it reads a day: which function holds each thread, by share of the samples.

Uses py-spy, which reads the memory of the process every few milliseconds and leaves it running: no hook slows the code
that is measured, and time inside C (SQLite, decoding) counts for the Python line that called it.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.benchmarks import report, rule_sets, works
from tests.benchmarks.engine_process import BenchmarkError, Engine
from tests.benchmarks.load import Load

SAMPLES_PER_S = 250
SHOWN = 30


def _sampler() -> str | None:
    beside = Path(sys.executable).with_name("py-spy")
    return str(beside) if beside.exists() else shutil.which("py-spy")


def run(load: Load, folder: Path) -> str:
    """Let an engine read `load` under the sampler; returns the table, or a sentence why there is none."""
    sampler = _sampler()
    if sampler is None:
        return "no samples: py-spy is not installed"
    place = folder / "profile"
    try:
        stacks = _stacks(sampler, load, place)
    except BenchmarkError as error:
        return f"no samples: {error}"
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return _table(stacks)


def _stacks(sampler: str, load: Load, folder: Path) -> Counter[tuple[str, ...]]:
    out = folder / "samples.txt"
    with Engine.start(folder, works.file_config(), rule_sets.ten()) as engine:
        engine.wait_for("/healthz")
        options = ["--format", "raw", "--threads", "--nonblocking", "--rate", str(SAMPLES_PER_S), "--output", str(out)]
        call = [sampler, "record", "--pid", str(engine.pid), *options]
        sampling = subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            works.read_through(engine, load)
        finally:
            # An interrupted py-spy writes what it has.
            sampling.send_signal(signal.SIGINT)
            sampling.wait(60)
    if not out.exists():
        raise BenchmarkError("py-spy wrote nothing; may it trace other processes here?")
    stacks: Counter[tuple[str, ...]] = Counter()
    for line in out.read_text().splitlines():
        frames, _, count = line.rpartition(" ")
        stacks[tuple(frames.split(";"))] += int(count)
    return stacks


def _place(frames: tuple[str, ...]) -> str:
    """The innermost frame of the engine; what libraries do counts for the line of ours that called them."""
    ours = [frame for frame in frames if "engine/" in frame]
    return (ours or frames)[-1].rpartition(":")[0] or frames[-1]


def _table(stacks: Counter[tuple[str, ...]]) -> str:
    """Share of all samples by thread and function, the most frequent first."""
    total = stacks.total()
    found: Counter[tuple[str, str]] = Counter()
    for frames, count in stacks.items():
        found[frames[0].partition(" (")[0], _place(frames)] += count
    rows = [(f"{thread}: {place}", f"{100 * count / total:.1f}") for (thread, place), count in found.most_common(SHOWN)]
    return report.table(("thread: function", "% of samples"), rows)
