"""Commands of `rollcall` without a process for each: to start Python and import everything takes a second, most commands a hundredth of that.

What a process has of its own (signals, pipes, the locale, standard streams that are closed, `rollcall run`) is tested with one:
`tests.acceptance.service.ROLLCALL`.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path

from click.testing import CliRunner

from engine.cli import main


def command(
    folder: Path, *arguments: str, input: str | None = None, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """One command in a folder, to its end, as `subprocess.run` would return it."""
    assert arguments[:1] != ("run",), "a service needs a process of its own"
    with chdir(folder):
        done = CliRunner().invoke(main, arguments, input=input, env=environment, prog_name="rollcall")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return subprocess.CompletedProcess([*arguments], done.exit_code, done.stdout, done.stderr)
