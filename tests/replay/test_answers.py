"""What queries say in a scenario: the fleet asks as it would in life, and is answered at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.core.rules import Action, Rule
from engine.replay.scenarios.diff import offset
from engine.replay.scenarios.file import load_scenarios
from engine.replay.scenarios.runner import ScenarioRunner
from tests.replay.writing import run, write

GONE_RULE: dict[str, Any] = {"name": "gone", "trigger": "offline", "actions": [{"log": {"message": "gone"}}]}
SUPERSEDED = ["0s G@@@p1 connect A", "1m G@@@p1 connect B", "2m G@@@p1 tcpclean B"]  # A was never closed: doubtful
CUT = ["0s G@@@p1 connect A", "1m G@@@p1 tcpclean A"]
LOG = Action(kind="log", spec={"message": "x"})


def says(at: str, connections: int | None, client: str = "G@@@p1") -> dict[str, Any]:
    return {"at": at, "client": client, "connections": connections}


def told(folder: Path, *rules: Rule, inventory: Any = (), **test: Any) -> list[str]:
    """The answers, alerts and deliveries that a test saw, with their offsets; by other rules than the file's if given."""
    file = load_scenarios(write(folder, {"name": "x", **test}, rules=[GONE_RULE], inventory=list(inventory)))
    if rules:
        file = replace(file, rules=rules)
    outcome = ScenarioRunner(file).run(file.scenarios[0])
    found = []
    for seen in outcome.timeline:
        at, line = offset(seen.at_ms - outcome.scenario.start_ms), seen.line
        if line["type"] == "answer":
            found.append(f"{at} {line['text']}")
        elif line["type"] == "alert":
            found.append(f"{at} {line['rule']} {line['state']} {line.get('reason', '')}".strip())
        elif line["type"] == "delivery":
            found.append(f"{at} > {line['phase']}")
    return found


def test_a_doubtful_client_is_queried_before_it_settles_and_a_connection_keeps_it_online(tmp_path: Path) -> None:
    assert told(tmp_path, events=SUPERSEDED, answers=[says("0s", 1)]) == [
        "2m30s G@@@p1: 1 connection (query: doubt; unconfirmed)",
        "2m35s G@@@p1: 1 connection (query: confirm; corrected)",
    ]


def test_without_answers_a_doubtful_client_settles_as_in_a_replay(tmp_path: Path) -> None:
    assert told(tmp_path, events=SUPERSEDED) == ["2m30s gone firing", "2m30s > firing"]


@pytest.mark.parametrize("answers", [[], [says("0s", 1, "G@@@other")], [says("2m31s", 1)]])
def test_with_answers_a_client_without_an_entry_in_force_is_unknown(tmp_path: Path, answers: list[Any]) -> None:
    asked = "2m30s G@@@p1: unknown (query: doubt; unknown)"
    assert told(tmp_path, events=SUPERSEDED, answers=answers)[:3] == [asked, "2m30s gone firing", "2m30s > firing"]


def test_the_newest_entry_at_or_before_the_instant_counts(tmp_path: Path) -> None:
    answers = [says("3m", 0), says("0s", 1), says("2m30s", None)]
    found = told(tmp_path, events=SUPERSEDED, answers=answers)
    assert found == ["2m30s G@@@p1: unknown (query: doubt; unknown)", "2m30s gone firing", "2m30s > firing"]
    assert told(tmp_path, events=SUPERSEDED, answers=[says("0s", 1), says("2m32s", 0)]) == [
        "2m30s G@@@p1: 1 connection (query: doubt; unconfirmed)",
        "2m35s G@@@p1: 0 connections (query: confirm; agreed)",
        "2m35s gone firing",
        "2m35s > firing",
    ]


SURE = Rule(name="sure", triggers=("offline",), actions=(LOG,), verify=True, verify_within_ms=20_000)


@pytest.mark.parametrize(
    ("connections", "after"),
    [
        (0, ["1m30s G@@@p1: 0 connections (query: verify; agreed)", "1m30s sure firing", "1m30s > firing"]),
        (
            1,
            [
                "1m30s G@@@p1: 1 connection (query: verify; unconfirmed)",
                "1m30s sure suppressed verify",
                "1m35s G@@@p1: 1 connection (query: confirm; corrected)",
            ],
        ),
    ],
)
def test_a_rule_that_verifies_is_answered_in_the_instant_it_is_due(
    tmp_path: Path, connections: int, after: list[str]
) -> None:
    assert told(tmp_path, SURE, events=CUT, answers=[says("0s", connections)]) == after


def test_a_rule_that_verifies_waits_for_an_answer_as_long_as_it_says(tmp_path: Path) -> None:
    found = told(tmp_path, SURE, events=CUT, answers=[says("0s", -1)])
    assert found[0] == "1m30s G@@@p1: unknown (query: verify; unknown)"
    assert found[-2:] == ["1m50s sure firing", "1m50s > firing"]
    assert told(tmp_path, SURE, events=CUT, answers=[says("0s", 5, "G@@@other")]) == found
    found = told(tmp_path, SURE, events=CUT, answers=[says("0s", -1), says("1m40s", 0)])
    assert found[-2:] == ["1m40s sure firing", "1m40s > firing"]


def test_asking_in_vain_for_ever_ends_with_everything_else(tmp_path: Path) -> None:
    held = replace(SURE, verify_failure="hold")
    assert told(tmp_path, held, events=CUT, answers=[says("0s", -1)])[-1] == "1m50s sure suppressed verify"
    found = told(tmp_path, held, events=CUT, answers=[says("0s", -1), says("1h", 0)])
    assert found[-2:] == ["1h10s sure firing", "1h10s > firing"]


def test_reminders_do_not_keep_a_scenario_running_with_answers_either(tmp_path: Path) -> None:
    sticky = replace(SURE, repeat_ms=60_000, on_recovery=(LOG,))
    found = told(tmp_path, sticky, events=CUT, answers=[says("0s", 0)])
    assert found[-2:] == ["1m30s sure firing", "1m30s > firing"]
    found = told(tmp_path, sticky, events=[*CUT, "4m G@@@p1 connect B"], answers=[says("0s", 0)])
    assert found[-4:] == ["2m30s > reminder", "3m30s > reminder", "4m sure resolved", "4m > recovery"]


def test_rules_that_want_to_know_the_same_are_one_query(tmp_path: Path) -> None:
    rules = [replace(SURE, name=name, verify_failure="hold") for name in ("a", "b", "c")]
    found = told(tmp_path, *rules, events=CUT, answers=[says("0s", -1), says("10m", 0)])
    asked = [line for line in found if "query: verify" in line]
    assert len(asked) == len({line.split()[0] for line in asked})


def test_an_answer_that_is_older_than_what_the_engine_knows_is_asked_for_again(tmp_path: Path) -> None:
    events = ["0s G@@@p1 connect A", "1m/30s G@@@p1 tcpclean A"]  # a clock ahead of ours
    quick = replace(SURE, verify_within_ms=60_000)
    found = told(tmp_path, quick, events=[*events, "1m20s/50s G@@@p1 disconnect A"], answers=[says("0s", 0)])
    assert "1m G@@@p1: 0 connections (query: verify; stale)" in found
    assert found[-2:] == ["1m20s sure firing", "1m20s > firing"]


def test_a_client_that_only_the_inventory_names_is_queried_when_its_entry_begins(tmp_path: Path) -> None:
    absent = Rule(name="absent", triggers=("never_seen",), actions=(LOG,), on_recovery=(LOG,))
    roll = [{"client": "G@@@p1"}, {"client": "G@@@p2"}]
    found = told(tmp_path, absent, inventory=roll, events=["9m G@@@p1 connect A"], answers=[says("6m", 0)])
    assert found == [
        "6m G@@@p1: 0 connections (query: roll; agreed)",
        "6m absent firing",
        "6m > firing",
        "9m absent resolved",
        "9m > recovery",
    ]
    assert told(tmp_path, absent, inventory=roll, events=["5m G@@@p1 connect A"], answers=[says("6m", 0)]) == []
    assert told(tmp_path, absent, inventory=(), answers=[says("6m", 0)]) == []


def test_answers_are_shown_in_the_timeline(tmp_path: Path) -> None:
    test = {"name": "asked", "events": SUPERSEDED, "answers": [says("0s", 1)], "expect": [], "alerts": []}
    write(tmp_path, test, rules=[GONE_RULE])
    done = run(tmp_path, "-v")
    assert done.returncode == 0, done.stdout
    assert "answer G@@@p1: 1 connection (query: doubt; unconfirmed)" in done.stdout
