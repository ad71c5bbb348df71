"""`rollcall test` as people and CI systems use it: a process."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.replay.writing import GONE, PAGED, failing, passing, run, write

ESC = "\x1b"

CONTRACT = """\
version: 1
rules: pumps.yaml                       # a path or a list, relative to this file
config: {debounce: {offline: 30s}}      # optional: resolver, debounce, flapping, feed, deliveries
inventory: [{client: "G@@@p*", site: north}]   # optional: rows, or a path
tests:
  - name: five minutes dark pages once
    start: 2026-03-06T08:00:00+01:00    # optional, for windows and schedules
    events:                             # OFFSET[/RECEIVED] CLIENT TYPE CHANNEL [IP]
      - 0s G@@@p1 connect A
      - 60s/62s G@@@p1 tcpclean A
    until: 20m                          # optional: how far the clock runs (default: as replay)
    expect:                             # every delivery, in order; each key given must match (request too); [] is nothing
      - {at: 6m2s, rule: pump-offline, client: G@@@p1, action: webhook}
    alerts: [{at: 6m2s, rule: pump-offline, client: G@@@p1, state: firing}]   # optional: every alert line but pending ones
"""


def test_the_example_of_the_contract_passes(tmp_path: Path) -> None:
    write(tmp_path).write_text(CONTRACT)
    done = run(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[:2] == ["pumps.test.yaml", "  ✓ five minutes dark pages once"]
    assert done.stdout.splitlines()[2].startswith("1 passed (")


def test_a_failing_test_shows_what_it_saw_beside_what_was_expected_and_which_key_differs(tmp_path: Path) -> None:
    file = write(tmp_path, passing(), failing("a second too late"))
    done = run(tmp_path, str(file))
    assert done.returncode == 1
    told = done.stdout.splitlines()
    assert "  ✗ a second too late" in told
    timeline = [" ".join(line.split()) for line in told]
    assert "0s event G@@@p1 connect A |" in timeline
    assert "1m2s event G@@@p1 tcpclean A (occurred at 1m) |" in timeline
    assert "1m32s G@@@p1 is offline |" in timeline
    (marked,) = [line for line in timeline if line.startswith("! ")]
    seen, _, expected = marked.partition(" | ")
    assert seen == "! 6m2s webhook pump-offline G@@@p1 firing: POST https://pager.example.com/events"
    assert expected == "6m3s webhook pump-offline G@@@p1"
    (why,) = [line.strip() for line in told if "expect[0]" in line]
    number = 1 + next(n for n, line in enumerate(file.read_text().splitlines()) if "at: 6m3s" in line)
    assert why == f"{file}:{number}: expect[0]: at: expected 6m3s, saw 6m2s"
    assert told[-1].startswith("1 passed, 1 failed (")


def test_what_was_not_expected_and_what_never_came_are_both_reported(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"name": "nothing at all", "events": GONE, "expect": []},
        {"name": "never gone", "events": GONE[:1], "expect": [PAGED], "alerts": [{"state": "firing"}]},
    )
    done = run(tmp_path)
    assert done.returncode == 1
    assert "POST https://pager.example.com/events: this was not expected" in done.stdout
    assert "expect[0]: this did not happen" in done.stdout
    assert "alerts[0]: this did not happen" in done.stdout


def test_tests_with_fitting_expectations_pass(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"name": "too short to fire", "events": GONE, "until": "6m1s", "expect": [], "alerts": []},
        {"name": "just long enough", "events": GONE, "until": "6m2s", "expect": [{"at": "6m2s"}]},
        {"name": "an instant", "events": GONE, "expect": [{"at": "2026-01-01T01:06:02+01:00"}]},
        passing("the request", expect=[{"request": {"json": {"summary": "G@@@p1"}, "method": "POST"}}]),
        {"name": "the alerts only", "events": GONE, "alerts": [{"at": "6m2s", "state": "firing", "reason": None}]},
    )
    done = run(tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.count("✓") == 5


def test_run_chooses_tests_by_name(tmp_path: Path) -> None:
    write(tmp_path, passing("pages once"), failing("pages late"), passing("another"))
    assert run(tmp_path, "--run", "^pages o|other").stdout.count("✓") == 2
    chosen = run(tmp_path, "--run", "late")
    assert (chosen.returncode, chosen.stdout.count("✗"), chosen.stdout.count("✓")) == (1, 1, 0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--run", "nobody"), "no test has a name that matches 'nobody'"),
        (("--run", "("), "is not a regular expression"),
        (("missing.test.yaml",), "does not exist"),
        (("empty",), "no scenario file (*.test.yaml) in empty"),
        (("--colour",), "No such option"),
    ],
)
def test_wrong_use_is_reported_in_a_sentence(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    write(tmp_path, passing())
    (tmp_path / "empty").mkdir()
    done = run(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_without_a_word_it_takes_the_rules_beside_the_configuration_else_all_below(tmp_path: Path) -> None:
    write(tmp_path / "house" / "rules" / "deep", passing("in the rules"))
    write(tmp_path / "house", passing("beside"))
    write(tmp_path / "house" / ".venv", passing("somebody else's"))
    assert "in the rules" in run(tmp_path / "house").stdout
    assert "beside" not in run(tmp_path / "house").stdout
    told = run(tmp_path, "-c", "house/config.yaml").stdout
    assert ("in the rules" in told, "beside" in told) == (True, False)
    told = run(tmp_path).stdout
    assert ("in the rules" in told, "beside" in told, "somebody" in told) == (True, True, False)
    told = run(tmp_path, "house/rules", "house/pumps.test.yaml", "house").stdout
    assert (told.count("in the rules"), told.count("beside")) == (1, 1)


def test_a_file_that_does_not_load_is_reported_and_the_others_are_run(tmp_path: Path) -> None:
    write(tmp_path / "good", passing())
    write(tmp_path / "bad", {**passing(), "expcet": []}, {"name": "typo", "events": ["0s G@@@p1 conect A"]})
    done = run(tmp_path, "--junit", "results.xml")
    assert done.returncode == 1
    assert "✓" in done.stdout
    assert "1 passed, 1 file does not load" in done.stdout
    assert len(done.stderr.splitlines()) == 2
    assert "tests[0].expcet: unknown key `expcet`; did you mean `expect`?" in done.stderr
    assert "tests[1].events[0]: the type must be one of connect, disconnect, tcpclean" in done.stderr
    suites = ElementTree.parse(tmp_path / "results.xml").getroot()
    assert [(suite.get("tests"), suite.get("errors")) for suite in suites] == [("1", "1"), ("1", "0")]
    error = suites.find(".//error")
    assert error is not None
    assert "expcet" in str(error.text)


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ("version: 1\nrules: [{name: a, trigger: ofline, actions: [{log: {message: x}}]}]\n", "ofline"),
        ("version: 1\nrules: [", "pumps.yaml:"),
        (None, "pumps.yaml"),
    ],
)
def test_rules_that_do_not_load_are_the_answer_no(tmp_path: Path, rules: str | None, said: str) -> None:
    file = write(tmp_path, passing())
    if rules is None:
        (tmp_path / "pumps.yaml").unlink()
    else:
        (tmp_path / "pumps.yaml").write_text(rules)
    done = run(tmp_path, str(file))
    assert (done.returncode, said in done.stderr) == (1, True), done.stderr
    assert run(tmp_path, str(file), "--format", "jsonl").returncode == 1


ORDERS = [
    {
        "name": "wake",
        "trigger": "first_seen",
        "actions": [{"command": {"to": "{{ client.id }}", "payload": {"do": "wake"}}}],
    },
]


def test_commands_and_why_one_is_dead_are_reported_in_words(tmp_path: Path) -> None:
    write(tmp_path, {"name": "x", "events": ["0s G@@@p1 connect A", "1s G@@@p/1 connect A"]}, rules=ORDERS)
    told = run(tmp_path, "-v").stdout
    assert 'command wake G@@@p1 firing: to G@@@p1: {"do": "wake"}' in told
    assert "command wake G@@@p/1 firing (dead: `to` is no client id: it holds `/`): to G@@@p/1" in told


def test_junit_has_a_suite_a_file_and_a_case_a_test(tmp_path: Path) -> None:
    write(tmp_path / "a", passing("good"), failing("late <&>"))
    write(tmp_path / "b", passing("also good"))
    done = run(tmp_path, "--junit", "results.xml")
    assert done.returncode == 1
    root = ElementTree.parse(tmp_path / "results.xml").getroot()
    assert (root.tag, root.get("tests"), root.get("failures"), root.get("errors")) == ("testsuites", "3", "1", "0")
    assert [suite.get("name") for suite in root] == ["a/pumps.test.yaml", "b/pumps.test.yaml"]
    cases = root.findall("./testsuite/testcase")
    assert [(case.get("classname"), case.get("name")) for case in cases] == [
        ("a/pumps.test.yaml", "good"),
        ("a/pumps.test.yaml", "late <&>"),
        ("b/pumps.test.yaml", "also good"),
    ]
    assert all(float(str(case.get("time"))) >= 0 for case in cases)
    (failure,) = root.iter("failure")
    assert "at: expected 6m3s, saw 6m2s" in str(failure.get("message"))
    assert "event G@@@p1 connect A" in str(failure.text)


def test_jsonl_has_an_object_a_test_with_the_timeline_of_failing_ones(tmp_path: Path) -> None:
    write(tmp_path, passing("good"), failing("late"))
    write(tmp_path / "bad", {"name": "x", "start": "yesterday"})
    done = run(tmp_path, "--format", "jsonl")
    told = {line.get("name", line["type"]): line for line in map(json.loads, done.stdout.splitlines())}
    assert set(told) == {"problem", "good", "late", "summary"}
    problem, good, late, summary = (told[name] for name in ("problem", "good", "late", "summary"))
    assert problem["path"] == "tests[0].start"
    assert (good["type"], good["name"], good["passed"], good["differences"]) == ("test", "good", True, [])
    assert "timeline" not in good
    assert (late["passed"], len(late["differences"])) == (False, 1)
    kinds = [line["type"] for line in late["timeline"]]
    assert kinds == ["event", "transition", "event", "transition", "alert", "alert", "delivery"]
    assert late["timeline"][-1]["at"] == "2026-01-01T00:06:02.000Z"
    assert summary == {"type": "summary", "files": 2, "broken": 1, "passed": 1, "failed": 1}


def test_verbose_shows_the_timeline_of_a_passing_test(tmp_path: Path) -> None:
    write(tmp_path, passing())
    assert "event G@@@p1 connect A" not in run(tmp_path).stdout
    assert "event G@@@p1 connect A" in run(tmp_path, "-v").stdout


def test_what_a_scenario_holds_does_not_steer_the_terminal_or_break_the_xml(tmp_path: Path) -> None:
    rules = [{"name": "gone", "trigger": "offline", "actions": [{"log": {"message": f"{ESC}[31m{{{{ client.id }}}}"}}]}]
    events = ['0s "G@@@a\u202eb \ufffe" connect A', '1m "G@@@a\u202eb \ufffe" tcpclean A']
    wanted = {"client": f"{ESC}[2J", "request": {"message": f"{ESC}]0;x\x07"}}
    write(tmp_path, {"name": f"{ESC}[1mbold", "events": events, "expect": [wanted]}, rules=rules)
    done = run(tmp_path, "--junit", "results.xml")
    assert done.returncode == 1
    assert ESC not in done.stdout + done.stderr
    assert "\u202e" not in done.stdout
    assert "\\x1b[1mbold" in done.stdout
    assert ElementTree.parse(tmp_path / "results.xml").getroot().get("failures") == "1"


def test_a_long_timeline_shows_only_what_lies_near_a_difference(tmp_path: Path) -> None:
    events = [f"{n}s G@@@d{n} connect A" for n in range(300)] + [f"{n + 300}s G@@@d{n} tcpclean A" for n in range(300)]
    expect = [{"client": f"G@@@d{n}"} for n in range(300) if n != 150]
    write(tmp_path, {"name": "long", "events": events, "expect": expect})
    told = run(tmp_path).stdout
    assert "G@@@d150" in told
    assert "G@@@d10 " not in told
    assert "…" in told
    assert len(told.splitlines()) < 60


def test_a_hundred_tests_of_one_file_are_one_load(tmp_path: Path) -> None:
    write(tmp_path, *(passing(f"test {n}") for n in range(100)))
    done = run(tmp_path)
    assert done.returncode == 0
    assert done.stdout.count("✓") == 100


def test_a_terminal_without_ticks_gets_letters(tmp_path: Path) -> None:
    write(tmp_path, passing("grün €"), failing("late"))
    for encoding in ("latin-1", "cp437"):
        done = run(tmp_path, PYTHONIOENCODING=encoding)
        assert (done.returncode, done.stderr) == (1, "")
        assert "ok gr" in done.stdout
        assert "FAILED late" in done.stdout
