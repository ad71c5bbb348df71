"""The comparison of versions makes what it says it makes, finds differences, and is not troubled by words for people."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from engine.cli import main
from tests.compare.__main__ import main as compare_versions
from tests.compare.cases import CHECK, CHECK_OTHERS, random_case
from tests.compare.coverage import REQUIRED, WRITTEN, Coverage, features
from tests.compare.differences import differences
from tests.compare.versions import HANGS


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_seed_always_writes_the_same_case_and_another_one_another(tmp_path: Path) -> None:
    for name, seed in (("a", 40), ("b", 40), ("c", 41)):
        (tmp_path / name).mkdir()
        random_case(seed, tmp_path / name)
    assert _files(tmp_path / "a") == _files(tmp_path / "b") != _files(tmp_path / "c")


@pytest.mark.parametrize("seed", range(8))
def test_rules_and_scenarios_of_a_seed_load(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random_case(seed, tmp_path)
    monkeypatch.chdir(tmp_path)
    for arguments in (CHECK, CHECK_OTHERS):
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 0, done.output
    shown = CliRunner().invoke(main, ["test", "--format", "jsonl", "scenarios/"])
    assert '"type": "problem"' not in shown.output


def test_every_feature_of_a_rule_has_a_line_in_the_table(tmp_path: Path) -> None:
    found: set[str] = set()
    for seed in range(60):
        (tmp_path / str(seed)).mkdir()
        for rule in random_case(seed, tmp_path / str(seed)).rules:
            found |= features(rule)
    unknown = {word for word in found - set(WRITTEN) if not word.startswith(("throttle by ip", "grouping by ip"))}
    assert unknown <= {"outage by ip/16"}
    assert len(set(WRITTEN) - found) < 5


def test_a_comparison_that_saw_nothing_lacks_everything() -> None:
    assert Coverage().lacking() == list(REQUIRED)


def _written(folder: Path, name: str, old: str, new: str) -> list[str]:
    (folder / f"old.{name}.out").write_text(old)
    (folder / f"new.{name}.out").write_text(new)
    return differences(folder, {name: 0}, {name: 0})


def test_one_byte_of_a_replay_is_a_difference(tmp_path: Path) -> None:
    assert _written(tmp_path, "jsonl", "a\nb\n", "a\nb\n") == []
    assert _written(tmp_path, "jsonl", "a\nb\n", "a\nc\n") == ["jsonl: line 2\n    old b\n    new c"]
    assert "no such line" in _written(tmp_path, "jsonl", "a\n", "a\nb\n")[0]
    assert len(_written(tmp_path, "jsonl", "a\n", "a")) == 1


def test_another_exit_code_and_a_command_that_hangs_are_differences(tmp_path: Path) -> None:
    assert len(differences(tmp_path, {"check": 0}, {"check": 1})) == 1
    assert len(differences(tmp_path, {"check": HANGS}, {"check": HANGS})) == 1


def _test_output(text: str, at: str, sentence: str, seconds: float) -> str:
    timeline = [{"type": "act", "text": text, "at": "t"}, {"type": "alert", "rule": "r", "state": "firing", "at": at}]
    told = {"type": "test", "name": "t", "passed": False, "seconds": seconds, "differences": [sentence]}
    return json.dumps({**told, "timeline": timeline}) + "\n"


def test_of_a_scenario_words_and_seconds_may_differ_and_results_may_not(tmp_path: Path) -> None:
    old = _test_output("ack r c", "0s", "expected 1s, saw 0s", 0.1)
    assert _written(tmp_path, "test", old, _test_output("acknowledge r c", "0s", "0s is not 1s", 0.2)) == []
    assert len(_written(tmp_path, "test", old, _test_output("ack r c", "1s", "expected 1s, saw 0s", 0.1))) == 1


def test_without_the_commands_the_comparison_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare_versions([str(tmp_path / "old"), str(tmp_path / "new"), "--seeds", "0-0"]) == 2
    assert "no command" in capsys.readouterr().out
