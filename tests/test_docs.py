"""What the documents show works: every rule in them loads, and every link, path and key that they name exists."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from pathlib import Path

import pytest

from engine.config.loader import load_config
from engine.rulefiles.loader import load_rules
from engine.runtime.app import build
from engine.telemetry import Event
from engine.web.routes import create
from tests.status.certificates import made_certificate
from tests.web.test_starting import asked

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RULE_BLOCKS = BLOCK.findall((ROOT / "docs" / "rules.md").read_text())


@pytest.mark.parametrize("number", range(len(RULE_BLOCKS)))
def test_every_example_of_the_rules_reference_loads(number: int, tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text("version: 1\nrules:\n" + "".join(f"  {line}\n" for line in RULE_BLOCKS[number].splitlines()))
    loaded = load_rules([file])
    assert loaded.rules
    assert [str(problem) for problem in loaded.problems] == []


def test_the_rules_reference_names_every_key_of_a_rule() -> None:
    schema = json.loads((ROOT / "schemas" / "rules.schema.json").read_text())["$defs"]
    text = (ROOT / "docs" / "rules.md").read_text()
    actions = schema["action"]["properties"]
    webhook = [*actions["webhook"]["properties"], *actions["email"]["properties"]]
    wanted = [*schema["rule"]["properties"], *schema["match"]["properties"], *schema["trigger"]["enum"], *webhook]
    wanted += schema["action"]["properties"]["command"]["properties"]
    assert [
        name for name in wanted if f"`{name}`" not in text and f" {name}:" not in text and f"`{name}:" not in text
    ] == []


def test_the_example_configuration_loads_without_a_word() -> None:
    assert load_config(ROOT / "config.example.yaml").warnings == ()


SECRETS = ("ROLLCALL_TOKEN", "ROLLCALL_DB_PASSWORD", "ALIYUN_ACCESS_KEY", "ALIYUN_SECRET", "SMTP_PASSWORD", "PAGER_TOKEN", "TELEGRAM_TOKEN", "DINGTALK_SECRET",
           "FEISHU_SECRET", "PD_KEY", "OPSGENIE_KEY", "NTFY_TOPIC", "NTFY_TOKEN", "HOOK_AUTH", "HOOK_SECRET")  # fmt: skip

ADDRESSES = ("SLACK_URL", "TEAMS_URL", "DISCORD_URL", "DINGTALK_URL", "FEISHU_URL", "WECOM_URL", "APPRISE_URL")
"""Secrets that are addresses."""


@pytest.mark.parametrize(
    ("file", "mark", "sections"),
    [
        (
            "config.example.yaml",
            "#   ",
            {
                "http",
                "rules",
                "status",
                "reconcile",
                "smtp",
                "secrets",
                "receivers",
                "time_intervals",
                "mqtt",
                "heartbeat",
                "webhooks",
                "store",
                "cells",
            },
        ),
        ("engine/cli/starter/config.yaml", "# ", {"inventory", "status", "reconcile", "smtp", "mqtt", "secrets"}),
    ],
)
def test_the_sections_that_are_commented_out_load_once_they_are_not(
    file: str, mark: str, sections: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, "x")
    for name in ADDRESSES:
        monkeypatch.setenv(name, "https://chat.example.com/x")
    for name in ("aliyun", "hook"):
        (tmp_path / name).write_text("x")
    cert, key = made_certificate(tmp_path)
    shutil.copy(cert, tmp_path / "ca.pem")
    cert.rename(tmp_path / "rollcall.pem")
    key.rename(tmp_path / "rollcall.key")
    shutil.copytree(ROOT / "rules", tmp_path / "rules")
    text = (
        (ROOT / file).read_text().replace("/run/secrets/", "").replace("/etc/ssl/our-own-", "").replace("/etc/ssl/", "")
    )
    commented = re.findall(rf"^{mark}([a-z_]+:.*\n(?:{mark}  .*\n)*)", text, re.MULTILINE)
    found = {section.partition(":")[0]: re.sub(rf"^{mark}", "", section, flags=re.MULTILINE) for section in commented}
    assert set(found) == sections
    kept = re.sub(rf"^({'|'.join(sections)}):.*\n", "", text, flags=re.MULTILINE)
    (tmp_path / "config.yaml").write_text(kept + "".join(found.values()))
    config = load_config(tmp_path / "config.yaml")
    assert None not in (config.smtp, config.mqtt, config.status, config.reconcile)
    assert config.warnings == ()


def test_a_key_without_effect_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("version: 1\nfeed: {max_hold: 1m}\n")
    (warning,) = load_config(tmp_path / "config.yaml").warnings
    assert str(warning).endswith(
        "config.yaml:2:18: feed.max_hold: warning: has no effect without `status`: "
        "long holds are checked by querying the status provider"
    )


def test_the_page_about_http_names_every_path(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("version: 1\nsources: [{name: push, type: http}]\n")
    service = build(load_config(tmp_path / "config.yaml"))
    try:
        _, _, told = asyncio.run(asked(create(service), "GET", "/openapi.json"))
    finally:
        service.cells.first.store.close()
    paths = {re.sub(r"{(?!rule}/)[a-z_]+}", "{id}", path) for path in told["paths"]}
    text = (ROOT / "docs" / "http.md").read_text()
    named = set(re.findall(r"/[a-z0-9/{}-]+", text))
    assert {path for path in paths if path not in named and f"/{path.rpartition('/')[2]}" not in named} == set()


PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def anchors_of(page: Path) -> set[str]:
    """The anchors that a forge makes of a page's headings."""
    headings = re.findall(
        r"^#{1,6} +(.+)$", re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL), re.MULTILINE
    )
    plain = (re.sub(r"[^\w\- ]", "", heading.replace("`", "").strip().lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


def links_of(page: Path) -> list[str]:
    """The relative links and images of a page."""
    links: list[str] = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    return [link for link in links if not re.match(r"[a-z]+:", link)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    broken = []
    for link in links_of(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            broken.append(link)
    assert broken == []


def test_every_page_is_linked_from_the_readme() -> None:
    linked = {link.partition("#")[0] for link in links_of(ROOT / "README.md")}
    assert {page.name for page in (ROOT / "docs").glob("*.md") if f"docs/{page.name}" not in linked} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_and_module_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text()
    paths = set(re.findall(r"\b(?:engine|schemas|tests)/[A-Za-z0-9_./-]*[A-Za-z0-9_/]", text))
    modules = {name.replace(".", "/") for name in re.findall(r"\bengine(?:\.[a-z_]+)+\b", text)}
    missing = {path for path in paths if not (ROOT / path).exists()}
    missing |= {path for path in modules if not (ROOT / path).is_dir() and not (ROOT / f"{path}.py").is_file()}
    assert missing == set()


def test_the_page_about_the_architecture_names_every_folder_and_only_those() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    engine = ROOT / "engine"
    folders = {f"engine/{path.name}/" for path in engine.iterdir() if path.is_dir() and (path / "__init__.py").exists()}
    assert {folder for folder in folders if f"| `{folder}` |" not in text} == set()
    # Files of the pipeline are named without their folder.
    alerting = {path.name for path in (engine / "core" / "alerting").rglob("*.py")}
    section = text.partition("## The alert pipeline")[2].partition("\n## ")[0]
    assert set(re.findall(r"`([a-z_]+\.py)`", section)) - alerting == set()


def test_the_log_events_that_the_page_about_deployment_explains_exist() -> None:
    section = (ROOT / "docs" / "deployment.md").read_text().partition("### The log")[2].partition("\n## ")[0]
    named = re.findall(r"^\| `([a-z_.]+)`", section, re.MULTILINE)
    assert len(named) > 5
    assert set(named) <= {str(event) for event in Event}


def test_no_text_names_a_stranger_on_the_package_index() -> None:
    """`rollcall` on the package index is another program: the distribution is `rollcall-presence`."""
    bare = re.compile(r"(?:pip|pipx|uv)\b[^\n]*\binstall\b[^\n]*\brollcall(?!-presence)\b(?![/.])")
    files = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "config.example.yaml", ROOT / "Makefile"]
    for folder in ("docs", "engine", "rules", "schemas"):
        files += [file for file in (ROOT / folder).rglob("*") if file.suffix in {".md", ".py", ".yaml", ".json"}]
    assert [(file.name, found[0]) for file in files for found in bare.finditer(file.read_text("utf-8"))] == []
    assert 'name = "rollcall-presence"' in (ROOT / "pyproject.toml").read_text()


def test_the_docs_say_that_a_disconnect_alone_makes_no_client_offline() -> None:
    for file in (ROOT / "README.md", ROOT / "docs" / "rules.md", ROOT / "docs" / "glossary.md"):
        assert re.search(r"`disconnect`(?: event)? alone never makes a (?:client|device) offline", file.read_text()), (
            file
        )
