"""How the outputs of two versions differ, each in the form in which programs read it; texts for people are left out.

A replay is compared byte for byte. Of `rollcall test` the JSON lines are compared without seconds, without the sentences about what
differs from the expectations (their number counts) and without the words of the timeline's inputs; of its JUnit file names,
results and structure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tests.compare.versions import HANGS

INPUTS = frozenset({"event", "answer", "act"})
"""Lines of a timeline that say what was done to the fleet; their text is for people."""

SHOWN = 600
"""Characters of a line that a report shows."""


def differences(folder: Path, old: Mapping[str, int], new: Mapping[str, int]) -> list[str]:
    """Every command whose outputs or exit codes differ, with the first difference; empty when all agree."""
    found = []
    for name in old:
        if old[name] != new[name] or HANGS in (old[name], new[name]):
            found.append(f"{name}: exit code {old[name]} in the old version, {new[name]} in the new one")
        elif first := _first_difference(name, folder):
            found.append(f"{name}: {first}")
    return found


def _first_difference(name: str, folder: Path) -> str:
    old, new = folder / f"old.{name}.out", folder / f"new.{name}.out"
    if name.startswith("check"):
        return ""
    if name == "test":
        junits = _junit(folder / "old.junit.xml"), _junit(folder / "new.junit.xml")
        return _first(_test_lines(old), _test_lines(new)) or _first(*junits)
    a, b = old.read_bytes(), new.read_bytes()
    return "" if a == b else _first(_raw_lines(a), _raw_lines(b)) or "line ends"


def _raw_lines(output: bytes) -> Iterator[str]:
    return (line.decode(errors="backslashreplace") for line in output.splitlines())


def _first(old: Iterator[str], new: Iterator[str]) -> str:
    for number, (a, b) in enumerate(zip_longest(old, new), 1):
        if a != b:
            return f"line {number}\n    old {_shown(a)}\n    new {_shown(b)}"
    return ""


def _shown(line: str | None) -> str:
    return "(no such line)" if line is None else line[:SHOWN]


def _test_lines(file: Path) -> Iterator[str]:
    """What `rollcall test --format jsonl` says to programs, one line of a timeline after the other."""
    for text in file.read_text(errors="backslashreplace").splitlines():
        line: dict[str, Any] = json.loads(text)
        line.pop("seconds", None)
        line.pop("message", None)
        timeline = line.pop("timeline", [])
        if "differences" in line:
            line["differences"] = len(line["differences"])
        yield json.dumps(line, ensure_ascii=False)
        for seen in timeline:
            if seen["type"] in INPUTS:
                seen = {key: value for key, value in seen.items() if key != "text"}
            yield json.dumps(seen, ensure_ascii=False)


def _junit(file: Path) -> Iterator[str]:
    """The elements of a JUnit file with what programs count by; none where no file was written."""
    if not file.exists():
        return
    for element in ElementTree.parse(file).iter():
        attributes = {name: value for name, value in element.attrib.items() if name not in ("time", "message")}
        yield f"{element.tag} {json.dumps(attributes)}"
