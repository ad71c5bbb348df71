"""The section `time_intervals` of the configuration: windows of local time under a name, for `active` and `mute` of rules and for routes.

Read `NamedIntervals`, then `with_windows`, which puts the windows in place of names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.config.reader import ConfigReader
from engine.config.schema import did_you_mean
from engine.config.time_intervals import windows
from engine.config.yamlfile import KeyPath
from engine.core.rules import Calendar

Windows = tuple[Mapping[str, Any], ...]
"""Windows as they are written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeInterval:
    """The windows under one name, as they are written and compiled."""

    written: Windows
    calendar: Calendar


NamedIntervals = Mapping[str, TimeInterval]
"""Time intervals by name."""


def read_time_intervals(reader: ConfigReader) -> NamedIntervals:
    """The section `time_intervals`; windows that cannot be read are reported."""
    found: dict[str, TimeInterval] = {}
    for name, written in (reader.raw.get("time_intervals") or {}).items():
        problems = list(window_problems(written))
        for path, message in problems:
            reader.report(("time_intervals", name, *path), message)
        usable = () if problems else tuple(written)
        found[name] = TimeInterval(written=usable, calendar=windows(usable))
    return found


def window_problems(written: Sequence[Any]) -> Iterator[tuple[KeyPath, str]]:
    """A place and a sentence for each of these windows that cannot be read; names among them are left out."""
    for index, entry in enumerate(written):
        if isinstance(entry, str):
            continue
        try:
            windows([entry])
        except ValueError as error:
            found = re.match(r"(days|hours|dates|timezone): (.*)", str(error), re.DOTALL)
            yield ((index, found[1]), found[2]) if found else ((index,), str(error))


def unknown_interval(name: str, known: NamedIntervals) -> str:
    """What to say of a name that no time interval has."""
    if not known:
        return f"there is no time interval `{name[:60]}`: the configuration has no `time_intervals`"
    return f"there is no time interval `{name[:60]}`{did_you_mean(name, list(known), all_of_them=True)}"


def with_windows(written: Sequence[Any], known: NamedIntervals) -> list[Any]:
    """Windows with those of each known name in its place; an unknown name is left out."""
    found: list[Any] = []
    for entry in written:
        found += (known[entry].written if entry in known else ()) if isinstance(entry, str) else (entry,)
    return found
