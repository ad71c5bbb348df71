"""The names that rotation gives to earlier files. Read `rotated_names`.

Of `events.jsonl` these are earlier files: `events.jsonl.1`, `events.jsonl.2026-01-01`, `events.jsonl-20260101`, `events.jsonl.old`,
`events.jsonl.bak`, `events.jsonl~`, and with the number or date before the ending `events.1.jsonl`, `events-2026-01-01.jsonl`. Each
may be compressed (`.gz`).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple

_STAMP: Final = r"[.-][0-9][0-9T_.:-]*"
_AFTER: Final = re.compile(rf"(?:(?P<stamp>{_STAMP})|[.](?:old|bak|prev|save)|~)(?P<gz>[.]gz)?")
_WITHIN: Final = re.compile(rf"(?P<stamp>{_STAMP})")
_COUNT: Final = re.compile(r"[.-]([0-9]{1,4})")  # log.1 is newer than log.2; longer numbers are dates


class RotatedName(NamedTuple):
    """A name beside the path of a source that an earlier file may have.

    `is_within`: the number or date stands before the ending. Other logs may have such names, as in `events-2.jsonl`, so nobody may
    rely on the name alone. `number`: the newest is the one with the smallest; None in names with a date or a word.
    """

    path: Path
    is_within: bool
    is_compressed: bool
    number: int | None


def rotated_names(path: Path) -> list[RotatedName]:
    """The names that exist beside `path`, in no order."""
    try:
        beside = list(path.parent.iterdir())
    except OSError:
        return []
    return [found for one in beside if (found := _rotated_name(path, one)) is not None]


def _rotated_name(path: Path, one: Path) -> RotatedName | None:
    if one.name == path.name:
        return None
    if one.name.startswith(path.name) and (found := _AFTER.fullmatch(one.name[len(path.name) :])) is not None:
        return RotatedName(one, False, found["gz"] is not None, _number(found["stamp"]))
    name = one.name.removesuffix(".gz")
    if path.suffix and name.endswith(path.suffix) and name.startswith(path.stem):
        found = _WITHIN.fullmatch(name[len(path.stem) : -len(path.suffix)])
        if found is not None:
            return RotatedName(one, True, name != one.name, _number(found["stamp"]))
    return None


def _number(stamp: str | None) -> int | None:
    found = _COUNT.fullmatch(stamp or "")
    return int(found[1]) if found else None
