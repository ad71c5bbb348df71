"""Pairs of versions: who goes first, what a ratio says, and where a version is looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.engine_process import BenchmarkError
from tests.benchmarks.load import Load
from tests.benchmarks.pairs import Pair, command_of, measure, table

COMMANDS = {"old": Path("/old/rollcall"), "new": Path("/new/rollcall")}


@pytest.mark.parametrize(("newer_first", "order"), [(False, ["old", "new"]), (True, ["new", "old"])])
def test_each_version_works_in_an_empty_folder_and_in_the_order_asked_for(
    newer_first: bool, order: list[str], tmp_path: Path
) -> None:
    done: list[str] = []

    def work(load: Load, folder: Path, rollcall: Path) -> dict[str, float]:
        assert list(folder.iterdir()) == []
        (folder / "left over").touch()
        done.append(rollcall.parent.name)
        return {"events/s": 200.0 if rollcall == COMMANDS["old"] else 300.0}

    day = Load(path=tmp_path / "day", events=1, clients=1, size_bytes=1)
    assert measure(work, day, tmp_path, COMMANDS, newer_first=newer_first).ratio == 1.5
    assert done == order


def test_the_table_shows_the_median_of_the_ratios_and_marks_a_loss() -> None:
    shown = table({"day": [Pair(old=100, new=90), Pair(old=100, new=96), Pair(old=50, new=100)], "replay": []})
    assert "0.960" in shown
    assert "below" in shown
    assert "0.900 0.960 2.000" in shown
    assert "replay" not in shown


def test_a_checkout_without_an_installed_command_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"no \.venv/bin/rollcall"):
        command_of(tmp_path)
