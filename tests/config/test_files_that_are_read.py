"""Only regular files are read, of a bounded size, and what rules name lies in the rules folder: tried with `rollcall check` itself."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from engine.cli import main

SECRET = "PAGER_TOKEN: s3cr3t-line-of-another-file"

MAIL_RULE = """
version: 1
rules:
  - name: a
    trigger: offline
    actions: [{email: {to: ops@example.com, subject: x, template: %s}}]
"""

RULE = "version: 1\nrules: [{name: a, trigger: offline, actions: [{log: {message: x}}]}]\n"


def check(folder: Path, *arguments: str, command: str = "check") -> tuple[int, str]:
    """Exit code and all output of a command in a folder. With the fault, a FIFO hangs it, and a deep file ends the process."""
    with contextlib.chdir(folder):
        done = CliRunner().invoke(main, [command, *arguments])
    assert "internal error" not in done.output, done.output
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A configuration with mail, a rules folder, and a file beside it that rules have no business with."""
    inside = tmp_path / "etc"
    (inside / "rules").mkdir(parents=True)
    (inside / "config.yaml").write_text("version: 1\nrules: rules/\nsmtp: {host: localhost, from: a@b.c}\n")
    (tmp_path / "other.yaml").write_text(f"{SECRET}\n")
    (tmp_path / "other.j2").write_text(SECRET)
    return inside


# What rules name


@pytest.mark.parametrize("name", ["link.j2", "../../other.j2", "sub/../../../other.j2", "{absolute}", "up/other.j2"])
def test_a_rule_names_no_template_outside_the_rules_folder(folder: Path, name: str) -> None:
    rules = folder / "rules"
    (rules / "sub").mkdir()
    (rules / "link.j2").symlink_to("../../other.j2")
    (rules / "up").symlink_to(folder.parent)
    named = name.replace("{absolute}", str(folder.parent / "other.j2"))
    (rules / "a.yaml").write_text(MAIL_RULE % named)
    code, output = check(folder)
    assert code == 1
    assert "a.yaml:6" in output and "leads outside of" in output
    assert "s3cr3t" not in output


def test_the_environment_of_the_process_is_no_template(folder: Path) -> None:
    (folder / "rules" / "x.j2").symlink_to("/proc/self/environ")
    (folder / "rules" / "a.yaml").write_text(MAIL_RULE % "x.j2")
    code, output = check(folder)
    assert code == 1
    assert "x.j2 leads outside of" in output


@pytest.mark.parametrize("explicit", [False, True])
def test_a_linked_rule_file_shows_no_line_of_the_file_it_leads_to(folder: Path, explicit: bool) -> None:
    (folder / "rules" / "a.yaml").symlink_to("../../other.yaml")
    code, output = check(folder, *(["rules/a.yaml"] if explicit else []))
    assert code == 1
    assert "a.yaml:1:1: leads outside of" in output
    assert "s3cr3t" not in output and "PAGER_TOKEN" not in output


def test_a_mounted_config_map_loads(folder: Path) -> None:
    """Kubernetes: each file is a link to `..data/file`, and `..data` is a link to the folder of this version."""
    rules = folder / "rules"
    version = rules / "..2026_01_01"
    version.mkdir()
    (rules / "..data").symlink_to("..2026_01_01")
    (version / "a.yaml").write_text(MAIL_RULE % "x.j2")
    (version / "x.j2").write_text("{{ client.id }}")
    for name in ("a.yaml", "x.j2"):
        (rules / name).symlink_to(f"..data/{name}")
    code, output = check(folder)
    assert (code, "good, 1 rule" in output) == (0, True), output


def test_the_rules_folder_may_be_a_link_itself(folder: Path) -> None:
    (folder / "rules").rename(folder.parent / "real")
    (folder / "rules").symlink_to("../real")
    (folder.parent / "real" / "sub").mkdir()
    (folder.parent / "real" / "sub" / "x.j2").write_text("{{ client.id }}")
    (folder.parent / "real" / "a.yaml").write_text(MAIL_RULE % "sub/x.j2")
    code, output = check(folder)
    assert code == 0, output


def test_a_template_may_lie_in_another_folder_of_the_configuration(folder: Path) -> None:
    (folder / "more").mkdir()
    (folder / "more" / "a.yaml").write_text(MAIL_RULE % "../rules/x.j2")
    (folder / "rules" / "x.j2").write_text("{{ client.id }}")
    (folder / "rules" / "b.yaml").write_text(RULE.replace("name: a", "name: b"))
    (folder / "config.yaml").write_text("version: 1\nrules: [rules, more]\nsmtp: {host: localhost, from: a@b.c}\n")
    code, output = check(folder)
    assert code == 0, output


# What is no regular file

Make = Callable[[Path], object]

NO_FILES: dict[str, Make] = {
    "a FIFO": os.mkfifo,
    "a folder": lambda path: path.mkdir(),
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a link to itself": lambda path: path.symlink_to(path.name),
}


@pytest.mark.parametrize("kind", list(NO_FILES))
@pytest.mark.parametrize("role", ["configuration", "rules", "rule file", "template", "inventory", "secret", "scenario"])
def test_what_is_no_regular_file_is_named_and_never_waited_for(folder: Path, role: str, kind: str) -> None:
    base = "version: 1\nsmtp: {host: localhost, from: a@b.c}\n"
    names = {
        "configuration": "other.cfg",
        "rules": "named.yaml",
        "rule file": "rules/named.yaml",
        "template": "rules/named.j2",
        "inventory": "named.csv",
        "secret": "named",
        "scenario": "named.test.yaml",
    }
    made = folder / names[role]
    NO_FILES[kind](made)
    (folder / "rules" / "a.yaml").write_text(MAIL_RULE % "named.j2" if role == "template" else RULE)
    keys = {
        "rules": "rules: named.yaml\n",
        "inventory": "inventory: named.csv\n",
        "secret": "secrets: {x: {file: named}}\n",
    }
    (folder / "config.yaml").write_text(base + keys.get(role, ""))
    if role == "scenario":
        code, output = check(folder, made.name, command="test")
        if kind == "a folder":
            assert (code, "no scenario file" in output) == (2, True)  # a folder of scenarios: there is none in it
            return
        if kind == "a link to itself":
            assert code == 2
            return
    else:
        code, output = check(folder, *(["-c", made.name] if role == "configuration" else []))
    is_warning = role == "secret" or (role in {"rule file", "rules"} and kind == "a folder")
    assert code == (0 if is_warning else 1), output
    assert made.name in output
    wanted = {
        "a FIFO": "is a FIFO",
        "a folder": "folder",
        "a device": "is a device",
        "a link to itself": "",
    }
    assert wanted[kind] in output or (role == "rules" and "no rule file" in output), output


def test_a_secret_file_that_is_too_large_is_not_cut(folder: Path) -> None:
    (folder / "key").write_text("x" * 70_000)
    (folder / "rules" / "a.yaml").write_text(RULE)
    (folder / "config.yaml").write_text("version: 1\nsecrets: {x: {file: key}}\n")
    code, output = check(folder)
    assert (code, "is larger than 64 KiB" in output) == (0, True), output


# What libraries cannot take

DEEP = 40_000


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("inventory.yaml", "[" * DEEP),
        ("inventory.yaml", "- " * DEEP),
        ("inventory.yaml", "{a: " * DEEP),
        ("inventory.yaml", "[client: " * DEEP),
        ("inventory.yaml", "%TAG !a! b\n" * 200_000 + "--- []"),
        ("inventory.yaml", "- {client: a}\n---\n" * 50_000),
        (
            "inventory.yaml",
            "- &a [x]\n" + "".join(f"- &a{n} [*a{n - 1 or ''}, *a{n - 1 or ''}]\n" for n in range(1, 64)),
        ),
        ("inventory.csv", "client,site\nG@@@a,\0"),
        ("inventory.csv", "client,site\nG@@@a," + "x" * 200_000),
        ("inventory.csv", "client,site,site\nG@@@a,x,y"),
        ("inventory.csv", 'client,site\n"G@@@a,x'),
        ("inventory.csv", "client;site\nG@@@a;x"),
        ("inventory.json", '[{"client": "G@@@a"}]'),
        ("inventory.csv", "client,site\nG@@@\x07,x"),
    ],
)
def test_an_inventory_that_cannot_be_read_is_a_problem_with_its_line(folder: Path, name: str, content: str) -> None:
    (folder / name).write_text(content)
    (folder / "rules" / "a.yaml").write_text(RULE)
    (folder / "config.yaml").write_text(f"version: 1\ninventory: {name}\n")
    code, output = check(folder)
    assert code == 1, output[:1000]
    assert f"{name}:" in output and len(output) < 20_000


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_an_inventory_with_a_byte_order_mark_loads_or_is_named(folder: Path, encoding: str) -> None:
    (folder / "inventory.csv").write_text("client,site\nG@@@a,x\n", encoding=encoding)
    (folder / "rules" / "a.yaml").write_text(RULE)
    (folder / "config.yaml").write_text("version: 1\ninventory: inventory.csv\n")
    code, output = check(folder)
    assert (code, "UTF-16" in output) == ((1, True) if encoding == "utf-16" else (0, False)), output


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "latin-1"])
@pytest.mark.parametrize("name", ["m.j2", "a.yaml", "../config.yaml"])
def test_a_text_in_another_encoding_is_named_with_its_file(folder: Path, name: str, encoding: str) -> None:
    rules = folder / "rules"
    (rules / "a.yaml").write_text((MAIL_RULE % "m.j2").replace("name: a", "name: a\n    description: q"))
    (rules / "m.j2").write_text("{{ client.id }} is offline\n")
    path = rules / name
    path.write_bytes((path.read_text() + ("# é\n" if encoding == "latin-1" else "")).encode(encoding))
    code, output = check(folder)
    assert code == 1 and path.name in output and "save it as UTF-8" in output, output


def test_a_rule_file_with_an_ending_in_capitals_is_read(folder: Path) -> None:
    (folder / "rules/A.YAML").write_text(RULE)
    assert check(folder) == (0, "config.yaml: good, 1 rule\n")
