"""A scenario that cannot fail is no test: it is refused with a sentence instead of passing."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from engine.cli import main

RULES = "version: 1\nrules: [{name: a, trigger: offline, actions: [{log: {message: x}}]}]\n"
SCHEDULED = (
    "version: 1\nrules: [{name: a, trigger: schedule, schedule: {cron: '0 * * * *'}, actions: [{log: {message: x}}]}]\n"
)
EVENTS = "events: [0s G@@@a connect A]"


def outcome_of(folder: Path, tests: str, rules: str = RULES, *more: str) -> tuple[int, str]:
    (folder / "r.yaml").write_text(rules)
    (folder / "a.test.yaml").write_text(f"version: 1\nrules: r.yaml\ntests: {tests}\n")
    done = CliRunner().invoke(main, ["test", str(folder / "a.test.yaml"), *more])
    return done.exit_code, done.output


@pytest.mark.parametrize(
    ("tests", "words"),
    [
        (f"[{{name: x, {EVENTS}}}]", "a.test.yaml:3: expects nothing, so it would always pass"),
        (f"[{{name: x, {EVENTS}, until: 1h}}]", "add `expect` or `alerts` (`expect: []`: no delivery)"),
        ("[{name: x, expect: []}]", "a.test.yaml:3: has no events, so nothing would happen in it"),
        ("[{name: x, events: [], expect: []}]", "has no events"),
        ("[{name: x, until: 1h, alerts: []}]", "has no events"),
        ("[]", "tests: must not be an empty list"),
    ],
)
def test_a_test_that_cannot_fail_is_refused(tests: str, words: str, tmp_path: Path) -> None:
    code, said = outcome_of(tmp_path, tests)
    assert code == 1 and words in said


def test_what_happened_is_shown_all_the_same(tmp_path: Path) -> None:
    events = "events: [0s G@@@a connect A, 1s G@@@a tcpclean A]"
    code, said = outcome_of(tmp_path, f"[{{name: x, {events}}}]")
    assert code == 1 and "31s" in said and "1 failed" in said


@pytest.mark.parametrize("key", ["expect: []", "alerts: []"])
def test_expecting_nothing_in_so_many_words_is_fine(key: str, tmp_path: Path) -> None:
    assert outcome_of(tmp_path, f"[{{name: x, {EVENTS}, {key}}}]")[0] == 0


def test_a_schedule_needs_no_events_but_an_end(tmp_path: Path) -> None:
    assert outcome_of(tmp_path, "[{name: x, until: 2h, expect: []}]", SCHEDULED)[0] == 0
    code, said = outcome_of(tmp_path, "[{name: x, expect: []}]", SCHEDULED)
    assert code == 1 and "(a schedule needs `until`)" in said


def test_a_pattern_that_selects_no_test_is_wrong_use(tmp_path: Path) -> None:
    code, said = outcome_of(tmp_path, f"[{{name: x, {EVENTS}, expect: []}}]", RULES, "--run", "nothing")
    assert code == 2 and "no test has a name that matches 'nothing'" in said
