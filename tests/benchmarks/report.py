"""What the benchmarks print: medians, ratios to the peer, marks, and where the time goes. Pure: figures in, text out."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Figures = Mapping[str, float]
Rounds = Mapping[str, Sequence[Figures]]
"""What each work has measured, round by round; a work that failed in a round is missing there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One line of the table of targets: a figure of a work, alone or over a figure of another one."""

    text: str
    work: str
    figure: str
    least: float
    aim: float
    over: tuple[str, str] | None = None  # (work, figure) that it is divided by
    unit: str = ""
    less_is_better: bool = False

    def mark(self, value: float) -> str:
        """`aim`, `good` (what is asked for at least), `below`, or `-` when it was not measured."""
        if math.isnan(value):
            return "-"
        sign = -1 if self.less_is_better else 1
        return "aim" if sign * value >= sign * self.aim else "good" if sign * value >= sign * self.least else "below"


PEER = ("peer", "events/s")
TARGETS = (
    Target(
        text="a day from a file, durable", work="file", figure="events/s", over=PEER, least=1.0, aim=1.5, unit="x peer"
    ),
    Target(
        text="one event in ten a delivered webhook",
        work="webhooks",
        figure="events/s",
        over=PEER,
        least=0.5,
        aim=0.7,
        unit="x peer",
    ),
    Target(
        text="storm over a large fleet", work="storm", figure="events/s", over=PEER, least=0.7, aim=1.0, unit="x peer"
    ),
    Target(
        text="the same, over the peer in the same storm",
        work="storm",
        figure="events/s",
        over=("peer-storm", "events/s"),
        least=0.7,
        aim=1.0,
        unit="x peer",
    ),
    Target(
        text="memory at the storm's peak, all processes",
        work="storm",
        figure="peak_all_mib",
        least=1024,
        aim=600,
        unit="MiB",
        less_is_better=True,
    ),
    Target(
        text="restart after the storm until ready",
        work="storm",
        figure="restart_s",
        least=20,
        aim=10,
        unit="s",
        less_is_better=True,
    ),
    Target(
        text="from a RocketMQ broker, durable, over the bare push consumer into nothing",
        work="rocketmq",
        figure="events/s",
        over=("rocketmq", "bare push/s"),
        least=1.0,
        aim=1.5,
        unit="x push",
    ),
    Target(
        text="the same over the bare pull consumer, pulls as large",
        work="rocketmq",
        figure="events/s",
        over=("rocketmq", "bare pull of 1000/s"),
        least=0.4,
        aim=0.67,
        unit="x pull",
    ),
    Target(
        text="from the event's time to the state, 5,000 events/s from the broker, p99",
        work="rocketmq",
        figure="lag p99_ms",
        least=1000,
        aim=200,
        unit="ms",
        less_is_better=True,
    ),
    Target(
        text="one cell on PostgreSQL over the embedded store, a thousand events a transaction",
        work="postgres",
        figure="one cell events/s",
        over=("postgres", "sqlite events/s"),
        least=0.75,
        aim=0.85,
        unit="x SQLite",
    ),
    Target(
        text="two cells of two processes over the same",
        work="postgres",
        figure="two cells events/s",
        over=("postgres", "sqlite events/s"),
        least=1.3,
        aim=1.4,
        unit="x SQLite",
    ),
    Target(
        text="a large fleet loaded cold from PostgreSQL",
        work="postgres",
        figure="load_s",
        least=15,
        aim=10,
        unit="s",
        less_is_better=True,
    ),
    Target(text="replay of the day", work="replay", figure="events/s", over=PEER, least=2.0, aim=3.0, unit="x peer"),
    Target(
        text="a thousand rules against ten, slower by",
        work="rules",
        figure="slower %",
        least=10,
        aim=5,
        unit="%",
        less_is_better=True,
    ),
    Target(
        text="event sent to webhook arrived, p99",
        work="latency",
        figure="p99_ms",
        least=100,
        aim=20,
        unit="ms",
        less_is_better=True,
    ),
    Target(
        text="due webhooks to a loopback target",
        work="outbox",
        figure="webhooks/s",
        over=("outbox", "bare posts/s"),
        least=0.75,
        aim=0.9,
        unit="x aiohttp",
    ),
    Target(
        text="a sweep at 300 calls/s and 20 ms a call, of the rate",
        work="sweep",
        figure="of the rate %",
        least=95,
        aim=97,
        unit="%",
    ),
)

LADDER = (
    ("limits", "decode only", "decode"),
    ("limits", "decode and dict", "decode, last status of each client in a dict"),
    ("limits", "journal only", "rows in SQLite, durable, nothing else"),
    ("replay", "events/s", "replay: decode, resolve, settle, rules; one process, no store"),
    ("peer", "events/s", "the peer: decode, last arrival wins, hold; in memory"),
    ("file", "events/s", "the engine: everything, durable"),
    ("webhooks", "events/s", "the engine: the same with webhooks arriving"),
)


def values(rounds: Rounds, work: str, figure: str) -> list[float]:
    """A figure in every round that has it."""
    return [figures[figure] for figures in rounds.get(work, ()) if figure in figures]


def median(rounds: Rounds, work: str, figure: str) -> float:
    """The median over the rounds, not-a-number when it was never measured."""
    found = values(rounds, work, figure)
    return statistics.median(found) if found else math.nan


def number(value: float) -> str:
    """For people: thousands separated when large, two decimals when small."""
    if math.isnan(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns, the first to the left and the others to the right."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]

    def line(row: Sequence[str]) -> str:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        return "  ".join(cells).rstrip()

    return "\n".join([line(head), "  ".join("-" * width for width in widths), *map(line, rows)])


def figures_table(rounds: Rounds) -> str:
    """Every figure of every work: median, smallest and largest."""
    rows = []
    for work in rounds:
        names = dict.fromkeys(name for figures in rounds[work] for name in figures if not name.startswith("cpu "))
        for name in names:
            found = values(rounds, work, name)
            rows.append((f"{work}: {name}", number(statistics.median(found)), number(min(found)), number(max(found))))
    return table(("figure", "median", "smallest", "largest"), rows)


def targets_table(rounds: Rounds) -> str:
    """What was asked for beside what was measured."""
    rows = []
    for target in TARGETS:
        value = median(rounds, target.work, target.figure)
        if target.over is not None:
            value /= median(rounds, *target.over)
        asked = "<=" if target.less_is_better else ">="
        limits = (f"{asked} {number(target.least)}", f"{asked} {number(target.aim)}")
        rows.append((target.text, f"{number(value)} {target.unit}", *limits, target.mark(value)))
    return table(("work", "measured", "at least", "aim", "mark"), rows)


def time_table(rounds: Rounds) -> str:
    """Where the time goes: microseconds an event, stage by stage, and CPU time by process and thread."""
    rows = []
    for work, figure, text in LADDER:
        rate = median(rounds, work, figure)
        rows.append((text, number(1e6 / rate if rate else math.nan)))
    for work in ("file", "webhooks"):
        names = dict.fromkeys(name for figures in rounds.get(work, ()) for name in figures if name.startswith("cpu "))
        rows += [(f"{work}: CPU of {name[4:-3]}", number(median(rounds, work, name))) for name in names]
    return table(("stage", "us an event"), rows)
