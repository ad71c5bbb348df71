"""Whatever a rule file makes a library raise is a problem with a file and a line: in `check`, in an edit, at a start, over HTTP."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from engine.cli import main
from engine.errors import InvalidFiles, Problem
from engine.rulefiles import loader
from engine.rulefiles.loader import load_rules
from tests.acceptance.service import Service, eventually, offline_rule, service, sink

RULE = "{name: a%d, trigger: offline, %s, actions: [{log: {message: x}}]}"


def rules(*lines: str) -> str:
    return "version: 1\nrules:\n" + "".join(f"  - {line}\n" for line in lines)


def message(text: str) -> str:
    return rules(f'{{name: a, trigger: offline, actions: [{{log: {{message: "{text}"}}}}]}}')


BROKEN: dict[str, tuple[str, int]] = {
    "a number of 5,000 digits": (message("{{ " + "1" * 5_000 + " }}"), 3),
    "a keyword twice": (message("{{ client.id|replace(old='a', old='b') }}"), 3),
    "an expression too large for the automaton": (rules(RULE % (0, r"match: {device: 're:\pL{1000}'}")), 3),
    "expressions too large together": (
        rules(*(RULE % (n, rf"match: {{device: 're:\pL{{1{n:02}}}'}}") for n in range(20))),
        17,
    ),
    "150 broken rules": (rules(*(f"{{name: a{n}, trigge: offline, actions: []}}" for n in range(150))), 3),
    "3,000 rules with two mistakes each": (rules(*(f"{{name: a{n}, x: {{}}}}" for n in range(3_000))), 3),
    "nesting of templates": (message("{{ " + "(" * 3_000 + "1" + ")" * 3_000 + " }}"), 3),
    "a long sum": (message("{{ " + "+".join("1" * 1) + "+1" * 4_000 + " }}"), 3),
    "tabs": ("version: 1\nrules:\n\t- a", 3),
    "recursion": ("version: 1\nrules: &x [*x]", 2),
    "a merge key": ("version: 1\nrules:\n  - <<: {name: a}\n", 3),
    "a tag": ("version: 1\nrules: !!python/object/apply:os.system [x]\n", 2),
    "a date out of range": (
        message("{{ occurred_at }}").replace("offline,", "offline, mute: [{days: [2026-99-99]}],"),
        3,
    ),
    "half a surrogate pair": (message("\\ud83d"), 3),
    "a NUL": ("version: 1\nrules: [\0]", 2),
    "two documents": ("version: 1\n---\nrules: []\n", 2),
    "a list": ("- 1\n", 1),
    "nothing": ("", 1),
}


@pytest.mark.parametrize("case", list(BROKEN))
def test_check_names_the_line(case: str, tmp_path: Path) -> None:
    text, line = BROKEN[case]
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "r.yaml").write_text(text)
    (tmp_path / "config.yaml").write_text("version: 1\n")
    with contextlib.chdir(tmp_path):
        done = CliRunner().invoke(main, ["check"])
    assert done.exit_code == 1, done.output
    assert "internal error" not in done.output
    assert re.search(rf"r\.yaml:{line}:\d+: ", done.output), done.output[:1_000]


@pytest.mark.parametrize("name", [b"a\xff.yaml", b"a\x1b[31m\n.yaml", "ä\u202e.yaml".encode()])
def test_a_file_name_is_shown_so_that_every_output_can_hold_it(name: bytes, tmp_path: Path) -> None:
    path = Path(str(tmp_path), name.decode("utf-8", "surrogateescape"))
    path.write_text(rules("{name: a}"))
    with pytest.raises(InvalidFiles) as caught:
        load_rules([tmp_path])
    shown = str(caught.value)
    assert shown.encode().decode().isprintable()
    assert "trigger" in shown
    path.write_text(message("x"))
    (rule,) = load_rules([tmp_path]).rules
    assert rule.file.encode().decode().isprintable()


@pytest.mark.parametrize(
    "error", [KeyError("x"), RecursionError(), MemoryError(), RuntimeError("a\nb"), AssertionError()]
)
def test_any_exception_while_a_rule_is_read_is_a_problem_of_that_rule(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(loader, "read_rule", fails)  # nothing else can stand for what nobody knows yet
    (tmp_path / "r.yaml").write_text(rules("{name: a, trigger: offline}", "{name: b, trigger: offline}"))
    with pytest.raises(InvalidFiles) as caught:
        load_rules([tmp_path])
    found: list[tuple[int, str]] = [(problem.line, problem.path) for problem in caught.value.problems]
    assert found == [(3, "rules[0]"), (4, "rules[1]")]


def vanish(folder: Path) -> None:
    (folder / "gone.yaml").symlink_to("nothing")


def forbid(folder: Path) -> None:
    (folder / "gone.yaml").symlink_to("gone.yaml")  # also for a root user, who may read everything


@pytest.mark.parametrize("how", [vanish, forbid])
def test_a_rule_file_that_cannot_be_read_is_not_left_out(how: Callable[[Path], None], tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(message("x"))
    how(tmp_path)
    with pytest.raises(InvalidFiles) as caught:
        load_rules([tmp_path])
    (problem,) = caught.value.problems
    assert isinstance(problem, Problem) and problem.file.endswith("gone.yaml") and "cannot be read" in problem.message


# The running service


def is_broken(running: Service, broken: bool) -> None:
    eventually(lambda: running.metric("rollcall_rules_broken"), lambda found: found == broken)


def test_whatever_an_edit_holds_the_running_rules_stay_and_a_start_falls_back_on_them(tmp_path: Path) -> None:
    file = tmp_path / "rules" / "other.yaml"
    with sink() as target, service(tmp_path) as running:
        running.rules(offline_rule(target.url))
        running.start()
        for case in (
            "a number of 5,000 digits",
            "a keyword twice",
            "150 broken rules",
            "expressions too large together",
        ):
            text, line = BROKEN[case]
            file.write_text(text)
            is_broken(running, True)
            assert f"other.yaml:{line}:" in running.get("/v1/rules")["problem"], case
            file.unlink()
            is_broken(running, False)
        for pattern in (r"re:\pL{1000}", r"re:\pL{100}", "re:(", "re:" + "(" * 900):
            answer = running.send("GET", f"/v1/clients?match=device%3D{pattern}".replace("+", "%2B"))
            assert answer.status_code == 400, answer.text
        file.write_text(BROKEN["a keyword twice"][0])
        is_broken(running, True)
        assert running.terminate() == 0
        running.start()
        is_broken(running, True)
        assert [rule["name"] for rule in running.get("/v1/rules")["items"]] == ["gone"]
        assert not running.log_lines("task.failed") and not running.log_lines("http.failed")


def test_a_webhook_goes_to_no_abbreviated_address(tmp_path: Path) -> None:
    urls = ("http://127.1/x", "http://0x7f.0.0.1/", "http://2130706433/", "http://010.0.0.1/", "http://1.2.3.4.5/")
    lines = [
        f"{{name: a{n}, trigger: offline, actions: [{{webhook: {{url: '{url}'}}}}]}}" for n, url in enumerate(urls)
    ]
    (tmp_path / "r.yaml").write_text(rules(*lines))
    with pytest.raises(InvalidFiles) as caught:
        load_rules([tmp_path])
    assert [problem.path for problem in caught.value.problems] == [
        f"rules[{n}].actions[0].webhook.url" for n in range(5)
    ]
    assert all("is not an IPv4 address" in problem.message for problem in caught.value.problems)


def test_check_reports_the_rules_too_when_the_inventory_does_not_load(tmp_path: Path) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "r.yaml").write_text(rules("{name: a}"))
    (tmp_path / "inventory.csv").write_text("x\n")
    (tmp_path / "config.yaml").write_text("version: 1\ninventory: inventory.csv\n")
    with contextlib.chdir(tmp_path):
        done = CliRunner().invoke(main, ["check"])
    assert done.exit_code == 1 and "inventory.csv:1" in done.output and "r.yaml:3" in done.output
