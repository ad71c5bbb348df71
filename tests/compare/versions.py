"""The two versions that are compared: how a command of each is run, in a player's process or in a process of its own."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PLAYER = Path(__file__).with_name("player.py")

JOBS_A_PLAYER = 100
"""After so many a player is replaced: a replay keeps its states to the end of its process."""

WITHIN_S = 120.0
"""The longest that the commands of one case may take; then the player is killed and its codes are `HANGS`."""

HANGS = -1
"""What stands for the exit code of a command that was killed, or whose player died."""

Commands = Mapping[str, Sequence[str]]
"""Arguments of `rollcall` by a name that says what the command shows."""


class VersionError(Exception):
    """A version cannot be run; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Version:
    """One installed Rollcall: a label for files, and the path of its command."""

    label: str
    command: Path

    @property
    def python(self) -> Path:
        """The interpreter beside the command. Raises VersionError when there is none."""
        found = self.command.with_name("python")
        if not self.command.exists() or not found.exists():
            raise VersionError(f"{self.command}: no command there with a `python` beside it")
        return found

    def run(self, folder: Path, commands: Commands) -> dict[str, int]:
        """Run each command in a process of its own, as a person would; same files and answer as a player's."""
        codes = {}
        for name, arguments in commands.items():
            filled = [argument.replace("{label}", self.label) for argument in arguments]
            with (
                (folder / f"{self.label}.{name}.out").open("wb") as out,
                (folder / f"{self.label}.{name}.err").open("wb") as err,
            ):
                try:
                    done = subprocess.run(
                        [self.command, *filled], cwd=folder, stdout=out, stderr=err, timeout=WITHIN_S, check=False
                    )
                    codes[name] = done.returncode
                except subprocess.TimeoutExpired:
                    codes[name] = HANGS
        return codes


class Player:
    """A process that plays one version; started when the first job comes, and anew every `JOBS_A_PLAYER` jobs."""

    def __init__(self, version: Version) -> None:
        self.version = version
        self._process: subprocess.Popen[str] | None = None
        self._jobs = 0
        self.about: dict[str, Any] = {}

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None or self._jobs >= JOBS_A_PLAYER:
            self.close()
            self._process = subprocess.Popen(
                [self.version.python, "-P", PLAYER, self.version.label],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            self._jobs = 0
            self.about = self._answer(self._process) or {}
            if not self.about:
                raise VersionError(f"{self.version.python} cannot import the engine of {self.version.command}")
        return self._process

    def start(self) -> dict[str, Any]:
        """What is played: the path of the engine, and whether its core is compiled."""
        self._started()
        return self.about

    def play(self, folder: Path, commands: Commands) -> dict[str, int]:
        """Run commands in a folder; their exit codes. `HANGS` for all when the player dies or takes too long."""
        process = self._started()
        self._jobs += 1
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps({"folder": str(folder), "commands": commands}) + "\n")
            process.stdin.flush()
        except OSError:
            pass  # it has died: there is no answer either
        found = self._answer(process)
        if found is None:
            self.close()
            return dict.fromkeys(commands, HANGS)
        return found

    def _answer(self, process: subprocess.Popen[str]) -> dict[str, Any] | None:
        """The next line of a player; None when it has ended, or had to be killed because it did not answer."""
        assert process.stdout is not None
        guard = threading.Timer(WITHIN_S, process.kill)
        guard.start()
        try:
            line = process.stdout.readline()
        finally:
            guard.cancel()
        return dict(json.loads(line)) if line else None

    def close(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
