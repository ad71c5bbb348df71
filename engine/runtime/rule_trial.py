"""Edited rules are tried: checked as they are typed, and run on the newest history beside the rules in force. Nothing is kept.

What is edited is a rule file as a text; the other files stay as they are. A replay runs in a process of its own, one at a time, for as
long as `LONGEST_S` at most. Read `RuleTrial`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Protocol

from engine.config.inventory import Inventory
from engine.config.loader import Config
from engine.core.rules import Rule
from engine.core.times import rfc3339
from engine.errors import BadQuestion, InvalidFiles, NotThere, Overloaded, Problem, Unavailable
from engine.rulefiles.files import rule_files
from engine.rulefiles.loader import load_rules
from engine.stores.base import JournalRow, Reader

LONGEST_S: Final = 120.0
"""Seconds after which a replay is given up."""

MAX_EVENTS: Final = 300_000
"""Newest events that are replayed."""

MAX_FILE_BYTES: Final = 256 * 1024
MAX_FOLDER_BYTES: Final = 32 * 1024 * 1024
"""All files in a folder of rules, which are copied for a check."""

ROWS: Final = 500
"""Rows of the journal that are read at once."""

DAY_MS: Final = 86_400_000


class Trying(Protocol):
    """What a trial needs of the service."""

    config: Config
    inventory: Inventory

    @property
    def rules(self) -> Sequence[Rule]:
        """Those in force."""
        ...

    def now_ms(self) -> int:
        """The present instant, epoch milliseconds."""
        ...

    async def ask(self, question: Callable[[Reader], Any]) -> Any:
        """Ask the store."""
        ...


class RuleTrial:
    """Tries edited rule files."""

    def __init__(self, service: Trying) -> None:
        self._service = service
        self._busy = asyncio.Lock()

    @property
    def files(self) -> dict[str, Path]:
        """The rule files by their name."""
        return {file.name: file for file in rule_files(self._service.config.rules)}

    def text_of(self, name: str) -> str:
        """The text of a rule file. NotThere."""
        path = self.files.get(name)
        if path is None or not path.is_file() or path.stat().st_size > MAX_FILE_BYTES:
            raise NotThere(f"there is no rule file {name[:60]!r} that can be edited here")
        return path.read_text("utf-8", "replace")

    def check(self, name: str, text: str) -> list[Problem]:
        """Every problem of an edited file, together with the other files; warnings too. An empty list: it could be saved."""
        with self._edited(name, text) as paths:
            return self._problems(paths)

    def _problems(self, paths: Sequence[Path]) -> list[Problem]:
        try:
            loaded = load_rules(paths, inventory=self._service.inventory, config=self._service.config, performs=False)
        except InvalidFiles as error:
            return [_by_name(problem) for problem in error.problems]
        return [_by_name(problem) for problem in loaded.problems]

    @contextlib.contextmanager
    def _edited(self, name: str, text: str) -> Iterator[list[Path]]:
        """A copy of the rule files with one of them edited; a name that no file has is another file beside the first one."""
        if len(text.encode()) > MAX_FILE_BYTES:
            raise BadQuestion(f"the file is larger than {MAX_FILE_BYTES} bytes")
        if not name or Path(name).name != name or not name.endswith((".yaml", ".yml")):
            raise BadQuestion("the name of the file must end in .yaml")
        with tempfile.TemporaryDirectory(prefix="rollcall-trial-") as folder:
            yield _copied(self._service.config.rules, Path(folder), name, text)

    async def compare(self, name: str, text: str, days: int) -> dict[str, Any]:
        """What the edited rules would have done in the last days, beside the rules in force.

        Raises BadQuestion when the file does not load, Overloaded while another trial runs, Unavailable when it takes too long.
        """
        if self._busy.locked():
            raise Overloaded("another change is being tried; try again when it has ended", 10)
        async with self._busy:
            since_ms = self._service.now_ms() - days * DAY_MS
            with tempfile.TemporaryDirectory(prefix="rollcall-events-") as folder, self._edited(name, text) as paths:
                events = Path(folder) / "events.jsonl"
                began_ms = await self._service.ask(lambda reader: write_recording(reader, since_ms, events))
                if began_ms is None:
                    raise BadQuestion("no event was recorded in this time")
                found = await self._replay(paths, events)
        if "problem" in found:
            raise BadQuestion(found["problem"])
        return found | {"from": rfc3339(began_ms), "is_all": began_ms <= since_ms or found["events"] < MAX_EVENTS}

    async def _replay(self, paths: Sequence[Path], events: Path) -> dict[str, Any]:
        asked = {
            "config": str(self._service.config.path),
            "edited": [str(path) for path in paths],
            "in_force": [rule.definition for rule in self._service.rules],
            "events": str(events),
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "engine.replay.trial"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            written, _ = await asyncio.wait_for(process.communicate(json.dumps(asked).encode()), LONGEST_S)
        except TimeoutError:
            raise Unavailable(f"the replay took longer than {LONGEST_S:.0f} s: choose fewer days", 10) from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        try:
            found: dict[str, Any] = json.loads(written)
        except ValueError:
            raise Unavailable("the replay has ended without a result; the log of the service may say why", 10) from None
        return found


def write_recording(reader: Reader, since_ms: int, path: Path) -> int | None:
    """Write the newest events since an instant, `MAX_EVENTS` at most, oldest first; returns when the first was received."""
    parts: list[JournalRow] = []
    count, before = 0, None
    while count < MAX_EVENTS:
        rows = reader.recorded(before, limit=ROWS)
        kept = [row for row in rows if row.at_ms >= since_ms]
        parts += kept
        count += sum(len(row.events) for row in kept)
        if len(rows) < ROWS or len(kept) < len(rows):
            break
        before = rows[-1].id
    with path.open("wb") as file:
        for row in reversed(parts):
            received = b',"received_at":%d}\n' % row.at_ms
            file.writelines(raw.rstrip()[:-1] + received for raw in row.events)
    return parts[-1].at_ms if parts else None


def _copied(paths: Sequence[Path], folder: Path, name: str, text: str) -> list[Path]:
    """The rule files in a folder, with one of them edited."""
    found, is_written = [], False
    for number, path in enumerate(paths):
        beside = folder / str(number)
        if path.is_dir():
            if sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) > MAX_FOLDER_BYTES:
                raise BadQuestion(f"the folder {path.name} is too large to try a change")
            shutil.copytree(path, beside)
            copy, target = beside, beside / name
        else:
            beside.mkdir()
            copy = target = beside / path.name
            if path.exists():
                shutil.copyfile(path, copy)
        if not is_written and target.name == name and target.is_file():
            target.write_text(text)
            is_written = True
        found.append(copy)
    if not is_written:
        if not found or not found[0].is_dir():
            found.insert(0, folder / "new")
            found[0].mkdir()
        (found[0] / name).write_text(text)
    return found


def _by_name(problem: Problem) -> Problem:
    """A problem with the name of its file alone: people do not know the copy."""
    return replace(problem, file=Path(problem.file).name)
