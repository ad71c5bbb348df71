"""The tables of the benchmarks say what the figures say."""

from __future__ import annotations

import math

import pytest

from tests.benchmarks.report import TARGETS, Target, figures_table, median, targets_table, time_table

RATE = Target(text="rate", work="w", figure="f", least=1.0, aim=1.5)
DELAY = Target(text="delay", work="w", figure="f", least=100, aim=20, less_is_better=True)


@pytest.mark.parametrize(
    ("target", "value", "mark"),
    [
        (RATE, 1.5, "aim"),
        (RATE, 1.49, "good"),
        (RATE, 1.0, "good"),
        (RATE, 0.99, "below"),
        (DELAY, 20, "aim"),
        (DELAY, 20.1, "good"),
        (DELAY, 100, "good"),
        (DELAY, 100.1, "below"),
        (RATE, math.nan, "-"),
    ],
)
def test_a_mark_says_which_limit_is_reached(target: Target, value: float, mark: str) -> None:
    assert target.mark(value) == mark


def test_ratios_are_taken_between_medians() -> None:
    rounds = {
        "file": [{"events/s": 150.0}, {"events/s": 90.0}, {"events/s": 200.0}],
        "peer": [{"events/s": 100.0}, {"events/s": 1.0}, {"events/s": 300.0}],
    }
    line = next(line for line in targets_table(rounds).splitlines() if line.startswith("a day from a file"))
    assert "1.50 x peer" in line
    assert line.endswith("aim")


def test_what_was_not_measured_is_a_dash_in_every_table() -> None:
    assert math.isnan(median({}, "file", "events/s"))
    assert all(line.endswith("-") for line in targets_table({}).splitlines()[2:])
    assert all(line.endswith("-") for line in time_table({}).splitlines()[2:])
    assert figures_table({"file": []}).splitlines()[0].startswith("figure")


def test_every_target_asks_more_of_its_aim_than_of_its_least() -> None:
    for target in TARGETS:
        assert (target.aim < target.least) == target.less_is_better
