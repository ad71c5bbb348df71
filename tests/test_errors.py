"""What keeps files from loading is told apart from what is only worth a look."""

from __future__ import annotations

from engine.errors import InvalidFiles, Problem


def test_the_first_mistake_is_no_warning_however_early_the_warning_stands() -> None:
    warning = Problem(
        file="rules.yaml",
        line=1,
        column=1,
        path="rules[0].match",
        message="no row of the inventory has it",
        warning=True,
    )
    mistake = Problem(file="rules.yaml", line=9, column=1, path="rules[0].trigger", message="must be one of")
    assert InvalidFiles([warning, mistake]).mistakes == [mistake]
    assert InvalidFiles([warning]).mistakes == [warning]
