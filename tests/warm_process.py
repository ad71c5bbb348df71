"""A service process without a fresh interpreter: forked from one that has imported everything already.

To start Python and import the engine takes more than a second of CPU time, and the tests start hundreds of services. What differs between a
fresh interpreter and a fork (the command line, the environment while Python starts, limits of the system, a tracer) is tested with the
real command: `Service.start(under=...)` and `tests.acceptance.service.ROLLCALL`.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

_FORKS: Final = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.warm_imports"])  # an ImportError in it is passed over in silence


class WarmProcess:
    """`rollcall ARGUMENTS` in a folder, with as much of the interface of `subprocess.Popen` as the tests use."""

    def __init__(self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str], stderr: Path) -> None:
        """Begin. `environment` is the whole one; standard error is appended to a file."""
        self.args = ["rollcall", *arguments]
        self._process = _FORKS.Process(target=_run, args=([*arguments], str(folder), dict(environment), str(stderr)))
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        """As `poll` says."""
        return self.poll()

    def poll(self) -> int | None:
        """The exit code, negative after a signal; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, when it has ended. Raises subprocess.TimeoutExpired when it has not within `timeout` seconds."""
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


def _run(arguments: list[str], folder: str, environment: dict[str, str], stderr: str) -> None:
    import atexit

    from engine.cli import main

    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    log = os.open(stderr, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(log, 2)
    os.close(log)
    sys.argv = ["rollcall", *arguments]
    try:
        main(arguments, prog_name="rollcall")
    finally:
        atexit._run_exitfuncs()  # the end of a fork does not run them
