"""What the documents and the examples say of scenarios is so: their files are run, and every key has its line."""

from __future__ import annotations

import re
import subprocess
import textwrap
from pathlib import Path

import pytest
import yaml

from engine.config.schema import load_schema
from tests.replay.writing import ROLLCALL, run

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "testing-rules.md"
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_the_example_of_the_page_passes(tmp_path: Path) -> None:
    rules, scenarios = BLOCKS
    (tmp_path / "pumps.yaml").write_text(rules)
    (tmp_path / "pumps.test.yaml").write_text(scenarios)
    done = run(tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.count("✓") == 2


def test_the_page_names_every_key() -> None:
    schema = load_schema("rule-test")
    test = schema["$defs"]["test"]["properties"]
    lines = [test[key]["items"]["properties"] for key in ("expect", "alerts")]
    wanted = {*schema["properties"], *schema["properties"]["config"]["properties"], *test, *lines[0], *lines[1]}
    text = PAGE.read_text()
    assert {key for key in wanted if f"`{key}`" not in text and f"\n{key}: " not in text} == set()


@pytest.mark.parametrize("folder", ["rules", "engine/cli/starter/rules"])
def test_the_scenarios_beside_the_example_rules_pass(folder: str) -> None:
    done = run(ROOT, folder)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "✓" in done.stdout


WITH_NEIGHBOURS = """
smtp: {host: 127.0.0.1, port: 2525, starttls: false, from: rollcall@waterworks.example}
mqtt: {endpoint: "127.0.0.1:1883", parent_topic: fleet}
status: {provider: route, endpoint: "http://127.0.0.1:8900", instance: i, access_key: {file: key}, secret: {file: key}}
receivers:
  team-chat: {type: slack, url: {file: address}}
  operations: {type: teams, url: {file: address}}
  hobby: {type: discord, url: {file: address}}
  field-team: {type: telegram, token: {file: key}, chat: "-1001234567890"}
  group: {type: dingtalk, url: {file: address}, secret: {file: key}}
  team: {type: feishu, url: {file: address}, secret: {file: key}}
  duty: {type: wecom, url: {file: address}}
  pager: {type: pagerduty, routing_key: {file: key}}
  on-call: {type: opsgenie, api_key: {file: key}, url: https://api.eu.opsgenie.com}
  phone: {type: ntfy, topic: {file: key}}
  hook: {type: webhook, url: https://hooks.example.com/rollcall, headers: {Authorization: {file: key}}}
  office: {type: email, to: [office@waterworks.example], timezone: Europe/Berlin}
  signal: {type: apprise, url: {file: address}}
  day-chat: {type: slack, url: {file: address}}
  night-pager: {type: pagerduty, routing_key: {file: key}}
  on-duty: {type: route, routes: [{when: {active: office-hours}, to: day-chat}, {when: {severity: critical}, to: night-pager}, {to: day-chat}]}
time_intervals: {office-hours: [{days: [mon-fri], hours: "08:00-18:00", timezone: Europe/Berlin}]}
"""


def test_every_example_rule_loads_without_a_word_where_everything_is_configured(tmp_path: Path) -> None:
    rules = ROOT / "rules"
    folders = [str(path) for path in (rules, *sorted(rules.iterdir())) if path.is_dir()]
    (tmp_path / "key").write_text("none")
    (tmp_path / "address").write_text("https://hooks.example.com/x")
    config = {"version": 1, "rules": folders, "inventory": str(rules / "inventory.csv")}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config) + WITH_NEIGHBOURS)
    done = subprocess.run([ROLLCALL, "check"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("config.yaml: good, ")


def test_the_example_rules_use_every_trigger_key_and_action() -> None:
    schema = load_schema("rules")["$defs"]
    wanted = {*schema["rule"]["properties"], *schema["match"]["properties"], *schema["action"]["properties"]}
    wanted |= set(schema["trigger"]["enum"])
    said = "\n".join(path.read_text() for path in (ROOT / "rules").rglob("*.yaml") if ".test." not in path.name)
    words = set(re.findall(r"[a-z_]+", re.sub(r"#.*", "", said)))
    assert wanted - words == set()


def test_the_first_rule_of_the_readme_passes_its_story(tmp_path: Path) -> None:
    found = re.findall(r"^    version: 1\n(?:(?:    .*)?\n)*?(?=^\S)", (ROOT / "README.md").read_text(), re.MULTILINE)
    rule, story = map(textwrap.dedent, found)
    (tmp_path / "mine.yaml").write_text(rule)
    (tmp_path / "mine.test.yaml").write_text(story)
    done = run(tmp_path)
    assert (done.returncode, done.stderr, done.stdout.count("✓")) == (0, "", 2), done.stdout
