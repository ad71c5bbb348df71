"""What the documents and the examples say of scenarios is so: their files are run, and every key has its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from engine.schema import load_schema
from tests.scenarios.writing import run

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


@pytest.mark.parametrize("folder", ["rules", "engine/starter/rules"])
def test_the_scenarios_beside_the_example_rules_pass(folder: str) -> None:
    done = run(ROOT, folder)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "✓" in done.stdout
