"""Every mistake of a configuration in one run, tabs, and rules that are checked although the configuration does not load."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from engine.cli import main
from engine.config.loader import load_config
from engine.config.yamlfile import parse_document
from engine.errors import InvalidFiles, Problem

CONFIG = """version: 1
htp: {}
deliveries: {burst: -1}
time_intervals: {a: [{hours: 8-9}], b: [{day: x}]}
heartbeat: {url: "ftp://x", every: 1m}
secrets: {x: {env: $FOO}}
sources: [{name: a, type: htp}]
debounce: {overrides: [{match: {device: "!x"}, offline: 1m}]}
"""


def test_what_does_not_fit_the_schema_hides_no_other_section(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG)
    with pytest.raises(InvalidFiles) as error:
        load_config(tmp_path / "config.yaml")
    assert [(problem.line, problem.path) for problem in error.value.problems] == [
        (2, "htp"),
        (3, "deliveries.burst"),
        (4, "time_intervals.a[0].hours"),
        (4, "time_intervals.b[0].day"),
        (5, "heartbeat.url"),
        (6, "secrets.x.env"),
        (7, "sources[0].type"),
        (8, "debounce.overrides[0].match.device"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "version: 1\nhttp: {listen: '0.0.0.0:1', token: 7}\n",  # that the token is missing follows from what is wrong with it
        "version: 1\nreconcile: {cron: '0 0 * * *'}\nstatus: 7\n",
        "version: 7\n",
        "[]\n",
    ],
)
def test_of_one_mistake_one_thing_is_told(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(InvalidFiles) as error:
        load_config(tmp_path / "config.yaml")
    assert len({problem.path for problem in error.value.problems}) == 1


def test_rules_are_checked_although_the_configuration_does_not_load(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("version: 1\nlog: {level: loud}\n")
    (tmp_path / "rules").mkdir()
    rule = "{name: a, trigger: offline, active: office, condition: clint, actions: [{log: {message: x}}]}"
    (tmp_path / "rules" / "a.yaml").write_text(f"version: 1\nrules: [{rule}]\n")
    result = CliRunner().invoke(main, ["check", "-c", str(tmp_path / "config.yaml")])
    assert result.exit_code == 1
    assert "log.level: must be one of" in result.output and "`clint` does not exist" in result.output
    assert "office" not in result.output  # time intervals are not known


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a:\n\tb: 1\n", (2, 1)),
        ("a:\n  b: 1\n  \tc: 2\n", (3, 3)),
        ("a:\n  - b: 1\n\t  c: 2\n", (3, 1)),
        ("- a\n-\tb: 1\n", (2, 2)),
        ("a: |\n  text\n\tmore\n", (3, 1)),
    ],
)
def test_a_tab_is_named_with_its_place(text: str, place: tuple[int, int]) -> None:
    problems: list[Problem] = []
    parse_document(Path("file.yaml"), text.encode(), problems)
    (problem,) = problems
    assert (problem.line, problem.column) == place
    assert problem.message == "a tab stands where only spaces may: indent with spaces, not with tabs"


def test_a_tab_between_a_key_and_its_value_is_allowed() -> None:
    problems: list[Problem] = []
    document = parse_document(Path("file.yaml"), b"a:\tb\nc: [1,\n\t2]\n", problems)
    assert problems == [] and document is not None and document.value == {"a": "b", "c": [1, 2]}
