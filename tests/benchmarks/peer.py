"""Runs the peer, Bytewax in memory on one worker, on the same file as the engine."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

from tests.benchmarks.engine_process import BenchmarkError
from tests.benchmarks.load import HOLD_MS, Load

WITHIN_S = 600.0


def missing() -> str | None:
    """A sentence for people when the peer cannot run here, None when it can."""
    needed = [name for name in ("bytewax", "orjson") if importlib.util.find_spec(name) is None]
    if not needed:
        return None
    return f"the peer is skipped: {' and '.join(needed)} not installed (the dependency group `bench` has what it needs)"


def run(load: Load) -> float:
    """Events a second from the opened file to its end. Raises BenchmarkError when the flow fails."""
    environment = os.environ | {"PEER_FILE": str(load.path), "PEER_HOLD_S": str(HOLD_MS / 1000)}
    flow = [sys.executable, "-m", "bytewax.run", "tests.benchmarks.peer_flow:flow"]
    try:
        done = subprocess.run(flow, env=environment, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    except subprocess.TimeoutExpired as late:
        raise BenchmarkError(f"the peer was not done within {WITHIN_S:.0f} s") from late
    said = {words[0]: words[1:] for line in done.stdout.splitlines() if (words := line.split())}
    if done.returncode or "first" not in said or "end" not in said:
        raise BenchmarkError(f"the peer failed: {done.stderr[-500:]}")
    seconds = float(said["end"][0]) - float(said["first"][0])
    if int(said["end"][1]) != load.events:
        raise BenchmarkError(f"the peer read {said['end'][1]} of {load.events} events")
    return load.events / seconds
