"""Scenario files that cannot be: every mistake at once, with its place and what was probably meant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.config.schema import load_schema
from engine.errors import InvalidFiles
from engine.replay.scenarios.event_line import FORM, parse_event_line
from engine.replay.scenarios.file import load_scenarios
from engine.replay.scenarios.scenario import Scenario, ScenarioFile
from tests.replay.writing import PUMP_RULE, passing, write

START_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z
MAX_FUTURE_MS = 60_000


def problems(file: Path) -> list[str]:
    """What is said of a file, without the folder."""
    try:
        load_scenarios(file)
    except InvalidFiles as error:
        return [str(problem).replace(f"{file.parent}/", "") for problem in error.problems]
    return []


def problem(file: Path) -> str:
    """The only thing that is said of a file: path and message."""
    (said,) = problems(file)
    return said.split(": ", 1)[1]


def loaded(folder: Path, *tests: dict[str, Any], **more: Any) -> ScenarioFile:
    return load_scenarios(write(folder, *tests, **more))


def only(folder: Path, **test: Any) -> Scenario:
    return loaded(folder, {"name": "x", **test}).scenarios[0]


# Rows


@pytest.mark.parametrize(
    ("text", "occurred", "received", "fields"),
    [
        ("0s G@@@p1 connect A", 0, 0, ("G@@@p1", "connect", "A", "")),
        ("60s/62s G@@@p1 tcpclean A", 60_000, 62_000, ("G@@@p1", "tcpclean", "A", "")),
        ("62s/60s p1 disconnect A 10.0.0.1:4711", 62_000, 60_000, ("p1", "disconnect", "A", "10.0.0.1:4711")),
        ("6m2s500ms  p1\tconnect   A", 362_500, 362_500, ("p1", "connect", "A", "")),
        ("-1h/0s p1 connect A", -3_600_000, 0, ("p1", "connect", "A", "")),
        ('0s "G@@@my pump" connect "the \\"A\\""', 0, 0, ("G@@@my pump", "connect", 'the "A"', "")),
        ('0s G@@@p"1" connect A', 0, 0, ('G@@@p"1"', "connect", "A", "")),
        ("0s connect connect connect connect", 0, 0, ("connect", "connect", "connect", "connect")),
        ("0s/1m p1 connect A", 0, 60_000, ("p1", "connect", "A", "")),
        ("1m/0s p1 connect A", 60_000, 0, ("p1", "connect", "A", "")),  # as far ahead as is accepted
    ],
)
def test_a_row_says_an_event(text: str, occurred: int, received: int, fields: tuple[str, ...]) -> None:
    row = parse_event_line(text, START_MS, MAX_FUTURE_MS)
    event = row.event
    assert (event.client, event.type, event.channel, event.ip) == fields
    assert (event.occurred_at_ms - START_MS, row.received_at_ms - START_MS) == (occurred, received)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must be OFFSET"),
        ("0s", "must be OFFSET"),
        ("0s p1 connect", "must be OFFSET"),
        ("0s p1 connect A 1.2.3.4:5 more", "must be OFFSET"),
        ("0 p1 connect A", "OFFSET must be a duration"),
        ("+0s p1 connect A", "OFFSET must be a duration"),
        ("1s/ p1 connect A", "RECEIVED must be a duration"),
        ("1s/x p1 connect A", "RECEIVED must be a duration"),
        ("99999d p1 connect A", "OFFSET `99999d` is longer than ten years"),
        ("-5s p1 connect A", "occurs before the start: add when it is received, such as -5s/0s"),
        ("-5s/-1s p1 connect A", "RECEIVED must be a duration"),
        ("0s p1 Connect A", "not `Connect`; did you mean `connect`?"),
        ("0s p1 conect A", "did you mean `connect`?"),
        ("0s p1 offline A", "the broker sends `tcpclean`"),
        ("0s p1 online A", "the broker sends `connect`"),
        ("0s connect p1 A", "the client must come before the type"),
        ("0s G@@@my pump connect A", "needs double quotes"),
        ('0s "G@@@my pump connect A', "word 2 has no closing quote"),
        ('0s "\\x" connect A', "word 2 has no closing quote, or is not valid JSON text"),
        ("61s/0s p1 connect A", "occurs 1m1s after it is received: the engine accepts at most 1m"),
        (f"0s {'x' * 257} connect A", "would not be accepted: clientId is 257 bytes long, 256 are allowed"),
        (f"0s p1 connect {'x' * 65}", "would not be accepted: channelId is 65 bytes long"),
        (f"0s p1 connect A {'1' * 65}", "would not be accepted: clientIp is 65 bytes long"),
        ('0s "" connect A', "would not be accepted: clientId is empty"),
        ('0s "p\\u0007" connect A', "would not be accepted: clientId holds a control character"),
        ('0s "p\\ud800" connect A', "would not be accepted"),
    ],
)
def test_a_row_that_cannot_be_is_refused_with_a_sentence(text: str, said: str) -> None:
    with pytest.raises(ValueError) as refused:
        parse_event_line(text, START_MS, MAX_FUTURE_MS)
    assert said in str(refused.value)


# Files


def test_every_problem_is_reported_at_once_in_its_place(tmp_path: Path) -> None:
    file = write(tmp_path)
    file.write_text(
        "version: 2\n"
        "rules: [pumps.yaml, nowhere.yaml]\n"
        "config: {debounce: {ofline: 30s}, sources: []}\n"
        "inventory: [{site: north}]\n"
        "tests:\n"
        "  - {name: a, events: [0s p connect A, 0s p], until: 1x}\n"
        "  - {name: a, events: [0s p connect], alerts: [{rule: who-knows}]}\n"
        "  - {name: b, untill: 5m}\n"
    )
    assert problems(file) == [
        "pumps.test.yaml:1:10: version: must be 1, not `2`",
        "pumps.test.yaml:2:21: rules[1]: nowhere.yaml does not exist",
        "pumps.test.yaml:3:21: config.debounce.ofline: unknown key `ofline`; did you mean `offline`?",
        "pumps.test.yaml:3:35: config.sources: unknown key `sources`; a scenario has no sources: write the events under `events` of each test",
        "pumps.test.yaml:4:13: inventory[0]: `client` is missing",
        "pumps.test.yaml:6:54: tests[0].until: must be a duration such as 500ms, 30s, 5m, 2h or 6m2s, not `1x`",
        "pumps.test.yaml:7:12: tests[1].name: there is already a test with this name, on line 6",
        f"pumps.test.yaml:7:24: tests[1].events[0]: must be {FORM}, such as `60s/62s G@@@p1 tcpclean A`",
        "pumps.test.yaml:8:15: tests[2].untill: unknown key `untill`; did you mean `until`?",
    ]


@pytest.mark.parametrize(
    ("test", "said"),
    [
        ({"start": "2026-03-06T08:00:00"}, "start: must be an instant such as"),
        ({"start": "1969-12-31T23:59:59Z"}, "start: must be in the years 1970"),
        ({"start": "9999-01-01T00:00:00Z"}, "start: must be in the years 1970"),
        ({"events": [5]}, "events[0]: must be text"),
        ({"events": ["6m p connect A"], "until": "5m"}, "events[0]: is after `until` (5m), so it would never happen"),
        ({"expect": [{"at": "5m1s"}], "until": "5m"}, "expect[0].at: is after `until` (5m)"),
        ({"expect": [{"at": 300}]}, "expect[0].at: must be an offset from the start such as 6m2s, or an instant"),
        ({"expect": [{"at": "soon"}]}, "expect[0].at: must be a duration"),
        ({"expect": [{"at": "2026-13-01T00:00:00Z"}]}, "expect[0].at: must be an instant"),
        ({"expect": [{"at": "2025-12-31T00:00:00Z"}]}, "expect[0].at: is before the start"),
        ({"expect": [{}]}, "expect[0]: must not be empty"),
        ({"expect": [{"time": "5m"}]}, "unknown key `time`; write `at`"),
        ({"expect": [{"url": "x"}]}, "unknown key `url`; write it under `request`"),
        ({"expect": [{"action": "webhok"}]}, "did you mean `webhook`?"),
        ({"expect": {}}, "expect: must be a list"),
        ({"alerts": [{"state": "pending"}]}, "pending lines are never compared"),
        ({"expect": [{"rule": "pump-ofline"}]}, "there is no rule `pump-ofline`; did you mean `pump-offline`?"),
        ({"alerts": [{"rule": "nope"}]}, "there is no rule `nope` (known: pump-offline)"),
        ({"event": []}, "unknown key `event`; write `events`"),
        ({"answers": [{"at": "1m", "client": "p", "connections": -2}]}, "connections: must be at least -1"),
        ({"answers": [{"at": "1m", "client": "p", "online": True}]}, "`online`; write `connections`: 1 is online"),
        ({"answers": [{"at": "1m", "client": "p", "connections": True}]}, "connections: must be a whole number"),
    ],
)
def test_a_test_that_cannot_be_says_why(tmp_path: Path, test: dict[str, Any], said: str) -> None:
    assert any(said in line for line in problems(write(tmp_path, {"name": "x", **test})))


def test_problems_of_rules_and_inventory_are_reported_with_their_own_places(tmp_path: Path) -> None:
    file = write(tmp_path, passing(), rules=[{**PUMP_RULE, "trigger": "ofline"}], inventory="devices.csv")
    (tmp_path / "devices.csv").write_text("klient,site\n")
    assert [line.split(":")[0] for line in problems(file)] == ["devices.csv", "pumps.yaml"]


def test_the_configuration_is_checked_as_the_service_checks_it(tmp_path: Path) -> None:
    assert problem(write(tmp_path, passing(), config={"flapping": {"start": 2, "stop": 3}})) == (
        "config.flapping: `start` (2) must be more than `stop` (3)"
    )
    overrides = [{"match": {"group": "re:("}, "offline": "5s"}]
    assert "config.debounce.overrides[0].match.group" in problem(
        write(tmp_path, passing(), config={"debounce": {"overrides": overrides}})
    )


def test_the_configuration_of_a_scenario_is_described_as_that_of_the_service() -> None:
    ours, theirs = load_schema("rule-test"), load_schema("config")
    sections = ours["properties"]["config"]["properties"]
    assert set(sections) == {"resolver", "debounce", "flapping", "feed", "deliveries", "time_intervals", "receivers"}
    assert {name: theirs["properties"][name] for name in sections} == sections
    shared = ("duration", "match", "patterns", "window")
    assert {name: ours["$defs"][name] for name in shared} == {name: theirs["$defs"][name] for name in shared}


def test_configuration_and_inventory_decide(tmp_path: Path) -> None:
    overrides = [{"match": {"attributes": {"site": "north"}}, "offline": "7s"}]
    file = loaded(
        tmp_path,
        passing(),
        config={"debounce": {"offline": "2m", "overrides": overrides}, "resolver": {"clock_skew": "3s"}},
        inventory=[{"client": "G@@@p*", "site": "north", "number": 7, "new": True, "owner": None}],
    )
    assert (file.policy.offline_ms, file.policy.clock_skew_ms) == (120_000, 3_000)
    assert (file.policy.hold_ms("G@@@p1", 1), file.policy.hold_ms("G@@@x", 1)) == (7_000, 120_000)
    assert dict(file.inventory.attributes("G@@@p1")) == {"site": "north", "number": "7", "new": "true", "owner": ""}


def test_rows_need_not_have_every_value_that_rules_ask_for_but_its_columns(tmp_path: Path) -> None:
    rules = [
        {**PUMP_RULE, "match": {"attributes": {"site": "north"}}},
        {**PUMP_RULE, "name": "other", "match": {"attributes": {"site": "south"}}},
    ]
    file = write(tmp_path, {"name": "x"}, rules=rules, inventory=[{"client": "*", "site": "north"}])
    assert [rule.name for rule in load_scenarios(file).rules] == ["pump-offline", "other"]
    file = write(tmp_path, {"name": "x"}, rules=rules, inventory=[{"client": "*", "kind": "pump"}])
    assert len([line for line in problems(file) if "the inventory has no column `site`" in line]) == 2
    (tmp_path / "devices.csv").write_text("client,site\n*,north\n")
    file = write(tmp_path, {"name": "x"}, rules=rules, inventory="devices.csv")
    assert "no row of the inventory has `south` in the column `site`" in problem(
        file
    )  # a whole inventory ought to have it


def test_rules_may_be_a_list_of_files_and_folders(tmp_path: Path) -> None:
    write(tmp_path / "more", rules=[{**PUMP_RULE, "name": "deep"}])
    write(tmp_path)
    path = tmp_path / "both.test.yaml"
    path.write_text(json.dumps({"version": 1, "rules": ["pumps.yaml", "more"], "tests": [{"name": "x"}]}))
    assert [rule.name for rule in load_scenarios(path).rules] == ["pump-offline", "deep"]


def test_what_is_not_written_is_not_looked_at(tmp_path: Path) -> None:
    found = only(tmp_path)
    assert (found.start_ms, found.until_ms, found.expect, found.alerts) == (START_MS, None, None, None)
    found = only(tmp_path, start="2026-03-06T08:00:00+01:00", until="20m", expect=[], alerts=[])
    assert (found.start_ms, found.until_ms) == (1_772_780_400_000, 1_772_781_600_000)
    assert (found.expect, found.alerts) == ((), ())


@pytest.mark.parametrize("content", ["", "[]", "7", "version: 1\n", "version: [1", "a: &a [*a]", "\x00"])
def test_what_is_not_a_scenario_file_is_reported(tmp_path: Path, content: str) -> None:
    file = tmp_path / "x.test.yaml"
    file.write_text(content)
    assert problems(file)
    assert "cannot be read" in problem(tmp_path / "missing.test.yaml")
