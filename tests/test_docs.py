"""What the documents show works: every rule in them loads, and what they name exists."""

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
from engine.web.routes import create
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


SECRETS = ("ROLLCALL_TOKEN", "ALIYUN_ACCESS_KEY", "ALIYUN_SECRET", "SMTP_PASSWORD", "PAGER_TOKEN")


@pytest.mark.parametrize(
    ("file", "mark", "sections"),
    [
        (
            "config.example.yaml",
            "#   ",
            {"http", "rules", "status", "reconcile", "smtp", "secrets", "mqtt", "heartbeat"},
        ),
        ("engine/cli/starter/config.yaml", "# ", {"inventory", "status", "reconcile", "smtp", "mqtt", "secrets"}),
    ],
)
def test_the_sections_that_are_commented_out_load_once_they_are_not(
    file: str, mark: str, sections: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, "x")
    for name in ("aliyun", "hook", "ca.pem"):
        (tmp_path / name).write_text("x")
    shutil.copytree(ROOT / "rules", tmp_path / "rules")
    text = (ROOT / file).read_text().replace("/run/secrets/", "").replace("/etc/ssl/our-own-", "")
    commented = re.findall(rf"^{mark}([a-z]+:.*\n(?:{mark}  .*\n)*)", text, re.MULTILINE)
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
        service.store.close()
    paths = {re.sub(r"{(?!rule}/)[a-z_]+}", "{id}", path) for path in told["paths"]}
    text = (ROOT / "docs" / "http.md").read_text()
    named = set(re.findall(r"/[a-z0-9/{}-]+", text))
    assert {path for path in paths if path not in named and f"/{path.rpartition('/')[2]}" not in named} == set()
