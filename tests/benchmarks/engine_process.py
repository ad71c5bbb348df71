"""The engine as its users run it: a process started from the command line, watched from outside.

`Engine.start` writes a configuration into a folder and starts `rollcall run` on it. Progress is read from the committed
rows of the store (read-only), CPU time and memory from the kernel; nothing here imports the engine.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

POLL_S = 0.02
"""Between two looks at the engine: far below every duration that is measured, far above what a look costs."""

STOP_S = 60.0
"""A stopping engine may finish its batch and write its checkpoint; after this long it is killed."""

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class BenchmarkError(Exception):
    """A measurement could not be made; the message says why, and the others go on."""


def command(rollcall: Path | None = None) -> list[str]:
    """How `rollcall` is called: the one named, else that of this environment. Raises BenchmarkError when it is not there."""
    found = rollcall or Path(sys.executable).with_name("rollcall")
    if not found.exists():
        raise BenchmarkError(f"no `rollcall` at {found}: install the package there first")
    return [str(found)]


def free_port() -> int:
    """A loopback port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(what: str, true: Callable[[], bool], *, within_s: float, alive: Callable[[], None]) -> float:
    """Poll until `true()`; returns the monotonic instant (s) at which it was seen.

    `alive` is called between looks and raises when there is no point in waiting on. Raises BenchmarkError after `within_s`.
    """
    deadline = time.monotonic() + within_s
    while not true():
        if time.monotonic() > deadline:
            raise BenchmarkError(f"{what} did not happen within {within_s:.0f} s")
        alive()
        time.sleep(POLL_S)
    return time.monotonic()


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a process and its children have used. Memory in bytes, CPU time in seconds by `process/thread`."""

    peak_engine: int
    peak_all: int
    cpu_s: dict[str, float]

    @property
    def cpu_total_s(self) -> float:
        """CPU seconds of all threads that still live."""
        return sum(self.cpu_s.values())


def _children(pid: int) -> Iterator[int]:
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in listing.read_text().split():
                yield int(child)
                yield from _children(int(child))


def _peak_bytes(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def _cpu(pid: int, label: str) -> dict[str, float]:
    """CPU seconds of each thread, those of one name together: the first number says which threads there are."""
    used: dict[str, float] = {}
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):
            head, _, rest = stat.read_text().rpartition(")")
            fields = rest.split()
            thread = "main" if stat.parent.name == str(pid) else head.partition("(")[2]
            name = f"{label}/{thread}"
            used[name] = used.get(name, 0.0) + (int(fields[11]) + int(fields[12])) / TICKS_PER_S
    return used


def usage(pid: int) -> Usage:
    """What process `pid` and all below it have used so far."""
    below = list(dict.fromkeys(_children(pid)))
    peak, cpu = _peak_bytes(pid), _cpu(pid, "engine")
    for number, child in enumerate(below, 1):
        cpu |= _cpu(child, f"child {number}")
    return Usage(peak_engine=peak, peak_all=peak + sum(map(_peak_bytes, below)), cpu_s=cpu)


class Engine:
    """One running `rollcall run`. Made by `start`; a context manager that stops it."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes], port: int) -> None:
        self.folder, self.port = folder, port
        self._process = process
        self._store: sqlite3.Connection | None = None

    @classmethod
    def start(
        cls, folder: Path, config: dict[str, Any], rules: Sequence[dict[str, Any]], rollcall: Path | None = None
    ) -> Self:
        """Write `config` (without rules, data and http) and `rules` into `folder` and start the service there.

        `rollcall` is the command of another version than the one of this environment. What the engine logs goes to `engine.log` beside them. Returns before it is ready.
        """
        port = free_port()
        (folder / "rules").mkdir(parents=True, exist_ok=True)
        # JSON is YAML: no second writer is needed.
        (folder / "rules" / "rules.yaml").write_text(json.dumps({"version": 1, "rules": list(rules)}))
        here = {"version": 1, "data": "./data", "rules": "rules/", "http": {"listen": f"127.0.0.1:{port}"}}
        (folder / "config.yaml").write_text(json.dumps(here | config))
        with (folder / "engine.log").open("ab") as log:
            process = subprocess.Popen(
                [*command(rollcall), "run", "-c", "config.yaml"],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return cls(folder, process, port)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The engine's own process."""
        return self._process.pid

    def must_live(self) -> None:
        """Raise BenchmarkError with the end of its log when the engine has stopped."""
        if self._process.poll() is not None:
            said = (self.folder / "engine.log").read_text(errors="replace")[-1500:]
            raise BenchmarkError(f"the engine stopped with code {self._process.returncode}:\n{said}")

    def stop(self) -> None:
        """Ask it to stop, wait, and kill it if it does not."""
        if self._store is not None:
            self._store.close()
            self._store = None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def kill(self) -> None:
        """End it at once, as a power cut would; its children notice by themselves."""
        self._process.kill()
        self._process.wait()

    def usage(self) -> Usage:
        """Memory and CPU time so far."""
        return usage(self.pid)

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of `GET path`; status 0 while nobody listens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except OSError:
            return 0, b""
        finally:
            connection.close()

    def wait_for(self, path: str, *, within_s: float = 60.0) -> float:
        """Wait until `GET path` answers 200; returns the monotonic instant (s)."""
        return self.wait_until(f"200 at {path}", lambda: self.get(path)[0] == 200, within_s=within_s)

    def wait_until(self, what: str, true: Callable[[], bool], *, within_s: float) -> float:
        """`wait_until` that gives up when the engine dies."""
        return wait_until(what, true, within_s=within_s, alive=self.must_live)

    def committed_bytes(self, source: str) -> int:
        """How far into its file the committed position of `source` lies, in bytes."""
        rows = self.query("SELECT position FROM sources WHERE name = ?", source)
        return int(json.loads(rows[0][0])["offset"]) if rows and rows[0][0] else 0

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """What the store has committed, asked on a read-only connection; nothing while there is no store yet."""
        try:
            if self._store is None:
                path = self.folder / "data" / "rollcall.sqlite3"
                self._store = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
            return self._store.execute(sql, values).fetchall()
        except sqlite3.OperationalError:
            return []
