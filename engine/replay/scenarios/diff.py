"""Compares what was expected with what happened: which lines belong together, and which keys differ.

Both lists must agree in length and order. To show what differs, they are aligned as a text diff aligns lines: most lines that
agree first, then those that are similar; the rest stay alone. Pure. Read `compare` first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.core.times import duration_text
from engine.replay.scenarios.scenario import Expected

MAX_COMPARISONS = 1_000_000
"""Most pairs for one alignment; longer lists are paired by their places alone."""

MAX_SHOWN = 160
"""Most characters of a value inside a sentence."""

_AGREES = 1_000_000
"""Weight of a pair that agrees: more than any number of pairs that are only similar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEntry:
    """One thing that happened in a run: its instant, and its line as `replay` prints it."""

    at_ms: int
    line: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """An expectation and the place of a timeline entry; one of them may be missing. `why` is empty when they agree."""

    expected: Expected | None
    seen: int | None
    why: tuple[str, ...] = ()


def compare(expected: Sequence[Expected], seen: Sequence[TimelineEntry], start_ms: int) -> list[Comparison]:
    """Every expectation and every entry in order, each once. All agree when no comparison has a `why`."""
    found = []
    for left, right in _aligned(expected, seen):
        if left is None:
            found.append(Comparison(expected=None, seen=right, why=("this was not expected",)))
        elif right is None:
            found.append(Comparison(expected=expected[left], seen=None, why=("this did not happen",)))
        else:
            why = tuple(_differences(expected[left], seen[right], start_ms))
            found.append(Comparison(expected=expected[left], seen=right, why=why))
    return found


def _aligned(expected: Sequence[Expected], seen: Sequence[TimelineEntry]) -> Iterator[tuple[int | None, int | None]]:
    """Pairs of places with the greatest total weight (a weighted longest common subsequence)."""
    rows, columns = len(expected), len(seen)
    if rows * columns > MAX_COMPARISONS:
        common = min(rows, columns)
        yield from ((place, place) for place in range(common))
        yield from ((place, None) for place in range(common, rows))
        yield from ((None, place) for place in range(common, columns))
        return
    weights = [[_weight(left, right) for right in seen] for left in expected]
    best = [[0] * (columns + 1) for _ in range(rows + 1)]
    for row in range(rows - 1, -1, -1):
        for column in range(columns - 1, -1, -1):
            paired = weights[row][column] + best[row + 1][column + 1]
            best[row][column] = max(paired, best[row + 1][column], best[row][column + 1])
    row = column = 0
    while row < rows or column < columns:
        may_pair = row < rows and column < columns and weights[row][column] > 0
        if may_pair and best[row][column] == weights[row][column] + best[row + 1][column + 1]:
            yield row, column
            row, column = row + 1, column + 1
        elif row < rows and (column == columns or best[row][column] == best[row + 1][column]):
            yield row, None
            row += 1
        else:
            yield None, column
            column += 1


def _weight(expected: Expected, seen: TimelineEntry) -> int:
    """How similar they are; 0: not at all."""
    total = agreeing = 0
    if expected.at_ms is not None:
        total, agreeing = 1, int(expected.at_ms == seen.at_ms)
    for key, wanted in expected.keys.items():
        total += 2
        agreeing += 0 if any(_unequal(key, wanted, value_of(key, wanted, seen.line))) else 2
    return _AGREES if agreeing == total else agreeing


def value_of(key: str, wanted: Any, line: Mapping[str, Any]) -> Any:
    """The value of a line under a key of an expectation; None when there is none.

    A delivery's `key` is its idempotency key, and as a mapping what the delivery is about.
    """
    if key == "key" and line["type"] == "delivery" and not isinstance(wanted, str):
        return line.get("group_key")
    return line.get(key)


def _differences(expected: Expected, seen: TimelineEntry, start_ms: int) -> Iterator[str]:
    if expected.at_ms is not None and expected.at_ms != seen.at_ms:
        wanted, got = (offset(at_ms - start_ms) for at_ms in (expected.at_ms, seen.at_ms))
        yield f"at: expected {wanted}, saw {got}"
    for key, wanted in expected.keys.items():
        yield from _unequal(key, wanted, value_of(key, wanted, seen.line))


def _unequal(path: str, wanted: Any, got: Any) -> Iterator[str]:
    """How a value differs from the expected one; in mappings only the expected keys are compared."""
    if path == "clients" and isinstance(wanted, list) and isinstance(got, list):
        wanted, got = sorted(wanted), sorted(map(str, got))
    if isinstance(wanted, dict) and isinstance(got, dict):
        for key, inner in wanted.items():
            if key not in got and inner is not None:
                yield f"{path}.{key}: expected {_shown(inner)}, there is none"
            else:
                yield from _unequal(f"{path}.{key}", inner, got.get(key))
    elif isinstance(wanted, list) and isinstance(got, list) and len(wanted) == len(got):
        for place, (left, right) in enumerate(zip(wanted, got, strict=True)):
            yield from _unequal(f"{path}[{place}]", left, right)
    elif isinstance(wanted, bool) != isinstance(got, bool) or wanted != got:
        yield (
            f"{path}: expected {_shown(wanted)}, saw {_shown(got)}"
            if got is not None
            else (f"{path}: expected {_shown(wanted)}, there is none")
        )


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def offset(span_ms: int) -> str:
    """A time since the start as people write it; negative before the start."""
    return f"-{duration_text(-span_ms)}" if span_ms < 0 else duration_text(span_ms)
