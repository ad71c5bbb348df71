"""A change of a rule file is tried: edited, checked as it is typed, run on the newest history. Read `collect`, then `web.trial_forms`."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from engine.web.pages.base import Page, Shown, Wanted
from engine.web.service import Service

DAYS: Final = (1, 2, 7, 14, 30)
DEFAULT_DAYS: Final = 7

STARTER: Final = """version: 1
rules:
  - name: my-rule
    trigger: offline
    for: 1m
    match: {device: "*"}
    actions: [{log: {message: "{{ client.id }} is offline"}}]
"""
"""What a new file begins with."""

NEW_FILE: Final = "new-rules.yaml"


async def collect(service: Service, wanted: Wanted) -> Shown:
    """What the page shows: the file of the rule that `rule` names, or of the name `file`; by default the first one."""
    return await asyncio.to_thread(_collected, service, wanted.get("rule"), wanted.get("file"))


def _collected(service: Service, rule: str, file: str) -> Shown:
    trial = service.rule_trial
    files = sorted(trial.files)
    of_rule = next((one for one in service.rules if one.name == rule), None)
    line = of_rule.line if of_rule is not None else 0
    if not file and of_rule is not None:
        file = of_rule.file.rpartition("/")[2]
    if not file and files:
        file = files[0]
    text = trial.text_of(file) if file in files else STARTER
    return {
        **nothing_tried(),
        "files": files,
        "file": file or NEW_FILE,
        "text": text,
        "line": line,
        "new_file": NEW_FILE,
    }


def nothing_tried() -> dict[str, Any]:
    """What the page shows of a trial before there was one."""
    return {
        "problems": [],
        "checked": False,
        "found": None,
        "failure": "",
        "days": DEFAULT_DAYS,
        "all_days": DAYS,
        "line": 0,
    }


PAGE: Final = Page(
    path="/try", template="try.html", collect=collect, parameters=("rule", "file"), section="rules", is_live=False
)
