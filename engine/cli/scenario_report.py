"""The outcome of a scenario as text: what was seen beside what was expected, and which key differed.

Ids, addresses and rendered texts come from the author of the scenario, who may have copied them from devices, so they must not
control the terminal. Read `shown` first.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.cli.replay_page import about, done, state_of
from engine.core.foreign_text import visible_text
from engine.replay.scenarios.diff import Comparison, TimelineEntry, offset
from engine.replay.scenarios.runner import ScenarioResult
from engine.replay.scenarios.scenario import Expected

WIDTH = 88
"""Width of the column of what was seen at most; a longer line moves the column beside it."""

MAX_TEXT = 300
"""Characters of one line at most: rendered texts may be pages long. `--format jsonl` has them complete."""

MAX_ROWS = 120
"""Rows of a timeline that are all shown; of a longer one only those near a difference are."""

AROUND = 5
"""Rows shown before and after a difference of a long timeline."""

DIFFERS = "!"


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of the two columns; a mark says that they differ."""

    mark: str
    at: str
    seen: str
    expected_at: str
    expected: str


def shown(outcome: ScenarioResult) -> Iterator[str]:
    """The timeline in two columns, every difference marked."""
    rows = list(_rows(outcome))
    heading = _Row("", "at", "seen", "at", "expected")
    at_width = max(len(row.at) for row in (heading, *rows))
    seen_width = min(WIDTH, max(len(row.seen) for row in (heading, *rows)))
    expected_width = max(len(row.expected_at) for row in (heading, *rows))
    for row in (heading, *_near(rows)):
        if row is None:
            yield "  …"
            continue
        left = f"{row.mark:1} {row.at:>{at_width}}  {row.seen:<{seen_width}}"
        right = f"{row.expected_at:>{expected_width}}  {row.expected}" if row.expected else ""
        yield f"{left} | {right}".rstrip()


def reasons(outcome: ScenarioResult, file: str) -> Iterator[str]:
    """Every difference in a sentence, with the place of what was expected; before them, why a test could not fail."""
    for why in outcome.pointless:
        yield visible_text(f"{file}:{outcome.scenario.line}: {why}")
    for pair in outcome.comparisons:
        for why in pair.why:
            if pair.expected is not None:
                yield visible_text(f"{file}:{pair.expected.line}: {pair.expected.where}: {why}")
            else:
                assert pair.seen is not None  # one of the two is always there
                seen = outcome.timeline[pair.seen]
                at = offset(seen.at_ms - outcome.scenario.start_ms)
                yield visible_text(f"{file}:{outcome.scenario.line}: {at}: {_text(seen)}: {why}")


def _near(rows: Sequence[_Row]) -> Iterable[_Row | None]:
    """The rows to show; None where some are left out."""
    if len(rows) <= MAX_ROWS:
        return rows
    wanted: set[int] = set()
    for place, row in enumerate(rows):
        if row.mark and len(wanted) < MAX_ROWS:
            wanted.update(range(max(0, place - AROUND), min(len(rows), place + AROUND + 1)))
    found: list[_Row | None] = []
    for place, row in enumerate(rows):
        if place in wanted:
            found.append(row)
        elif not found or found[-1] is not None:
            found.append(None)
    return found


def _rows(outcome: ScenarioResult) -> Iterator[_Row]:
    """What was seen with what belongs to it; what never came stands where it should have."""
    start_ms = outcome.scenario.start_ms
    beside = {pair.seen: pair for pair in outcome.comparisons if pair.seen is not None}
    missing = _missing(outcome.comparisons, outcome.timeline)
    for place, seen in enumerate(outcome.timeline):
        yield from (_absent(pair, start_ms) for pair in missing.pop(place, ()))
        pair = beside.get(place)
        at = offset(seen.at_ms - start_ms)
        if pair is None:
            yield _Row("", at, _line(_text(seen)), "", "")
        elif pair.expected is None:
            yield _Row(DIFFERS, at, _line(_text(seen)), "", "nothing")
        else:
            mark = DIFFERS if pair.why else ""
            yield _Row(mark, at, _line(_text(seen)), _at(pair.expected, start_ms), _line(_wanted(pair.expected)))
    for pairs in missing.values():
        yield from (_absent(pair, start_ms) for pair in pairs)


def _missing(pairs: Sequence[Comparison], timeline: Sequence[TimelineEntry]) -> dict[int, list[Comparison]]:
    """Before which place each expectation that never came is shown: at its instant, else after the one before it."""
    found: dict[int, list[Comparison]] = {}
    after = 0
    for pair in pairs:
        if pair.seen is not None:
            after = pair.seen + 1
        elif pair.expected is not None:
            at_ms = pair.expected.at_ms
            place = after
            if at_ms is not None:
                place = next((n for n, seen in enumerate(timeline) if seen.at_ms > at_ms), len(timeline))
            found.setdefault(place, []).append(pair)
    return found


def _absent(pair: Comparison, start_ms: int) -> _Row:
    assert pair.expected is not None
    return _Row(DIFFERS, "", "", _at(pair.expected, start_ms), _line(_wanted(pair.expected)))


def _at(expected: Expected, start_ms: int) -> str:
    return "" if expected.at_ms is None else offset(expected.at_ms - start_ms)


def _line(text: str) -> str:
    safe = visible_text(text)
    return safe if len(safe) <= MAX_TEXT else f"{safe[:MAX_TEXT]}…"


def _wanted(expected: Expected) -> str:
    """An expectation in the form of what is seen, followed by its other keys."""
    keys = dict(expected.keys)
    first = "alert" if expected.where.startswith("alerts") else str(keys.pop("action", "delivery"))
    words = [first, *(str(keys.pop(name)) for name in ("rule", "client", "state", "phase") if keys.get(name))]
    return " ".join([*words, *(f"{name}: {_value(value)}" for name, value in keys.items())])


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _text(seen: TimelineEntry) -> str:
    """One thing that happened, in words."""
    line = seen.line
    kind = line["type"]
    if kind == "event":
        when = "" if line["occurred"] == line["received"] else f" (occurred at {line['occurred']})"
        return f"event {line['text'].partition(' ')[2]}{when}"
    if kind == "transition":
        return _transition(line)
    if kind == "alert":
        reason = f" ({line['reason']})" if line.get("reason") else ""
        return f"alert {line['rule']} {about(dict(line))} {line['state']}{reason}"
    if kind == "delivery":
        what = f"{state_of(dict(line))}: {done(dict(line))}"
        return f"{line['action']} {line['rule']} {about(dict(line))} {line['phase']}{what}"
    return f"{kind} {line['text']}"


def _transition(line: Mapping[str, Any]) -> str:
    marks = [name for name in ("first_seen", "graceful") if line[name]]
    marks += [f"flaps: {line['flaps']}"] if line["flaps"] else []
    return f"{line['client']} is {line['status']}{' (' + ', '.join(marks) + ')' if marks else ''}"
