"""Writes scenario files and runs `rollcall test` on them, as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.command_line import command

ROLLCALL = str(Path(sys.executable).with_name("rollcall"))

PUMP_RULE: dict[str, Any] = {
    "name": "pump-offline",
    "trigger": "offline",
    "for": "5m",
    "actions": [{"webhook": {"url": "https://pager.example.com/events", "json": {"summary": "{{ client.id }}"}}}],
}
GONE = ["0s G@@@p1 connect A", "60s/62s G@@@p1 tcpclean A"]
PAGED = {"at": "6m2s", "rule": "pump-offline", "client": "G@@@p1", "action": "webhook"}


def write(folder: Path, *tests: dict[str, Any], rules: list[dict[str, Any]] | None = None, **more: Any) -> Path:
    """`pumps.yaml` with the rules and `pumps.test.yaml` with the tests; returns the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pumps.yaml").write_text(yaml.safe_dump({"version": 1, "rules": [PUMP_RULE] if rules is None else rules}))
    file = folder / "pumps.test.yaml"
    content = {"version": 1, "rules": "pumps.yaml", **more, "tests": list(tests)}
    file.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    return file


def passing(name: str = "five minutes dark pages once", **more: Any) -> dict[str, Any]:
    """A test that passes."""
    return {"name": name, "events": GONE, "expect": [PAGED], **more}


def failing(name: str = "wrong", **more: Any) -> dict[str, Any]:
    """A test that fails: it is paged a second later than it says."""
    return {"name": name, "events": GONE, "expect": [{**PAGED, "at": "6m3s"}], **more}


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`rollcall test` in a folder, to its end."""
    if "PYTHONIOENCODING" not in environment:
        return command(folder, "test", *arguments, environment=environment)
    return subprocess.run(
        [ROLLCALL, "test", *arguments],
        cwd=folder,
        capture_output=True,
        encoding=environment.get("PYTHONIOENCODING", "utf-8"),
        timeout=60,
        check=False,
        env=os.environ | environment,
    )
