"""Every mistake of a rule file in one run: what does not fit the schema, and beside it what only a closer look shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config.inventory import Inventory
from engine.errors import InvalidFiles
from engine.rulefiles.loader import load_rules

EVERYTHING = """version: 1
default: {}
rules:
  - name: a
    triger: offline
    severity: bad
    active: [{days: mon}, {hours: 8-9}, {day: sun}, {hours: "08:00-18:00", timezone: CEST}]
    match: {device: [7, "!x"], grop: G}
    condition: clint.id == 3
    inhibited_by: nobody
    for: 5
    actions:
      - {webhok: {url: x}}
      - {webhook: {url: "ftp://x", header: {a: b}, json: {t: "{{ status.x }}"}}}
      - {log: {}}
      - {log: {message: "{{ rule.labels.team }} {{ nothing }}"}}
      - {email: {to: "no address"}}
    labels: {team: 7}
  - name: b
    trigger: outge
    outage: {by: sit, at_least: 0}
    repeat: 10ms
    actions: [{log: {message: "{{ alert.key.site }}"}}]
  - name: c
    trigger: offline
    actions: [{log: {message: "{{ nothing }}"}}]
"""

WANTED = [
    "2:1: default: unknown key `default`; write `defaults`",
    "4:5: rules[0]: `trigger` is missing",
    "5:5: rules[0].triger: unknown key `triger`; did you mean `trigger`?",
    "6:15: rules[0].severity: must be one of info, warning, critical, not `bad`",
    "7:35: rules[0].active[1].hours: `8-9` is not a range of hours",
    "7:42: rules[0].active[2].day: unknown key `day`; write `days`",
    "7:86: rules[0].active[3].timezone: `CEST` is not a time zone such as Europe/Berlin or UTC; did you mean `Europe/Berlin`?",
    "8:22: rules[0].match.device[0]: must be text, not `7`; put it in quotes",
    "8:25: rules[0].match.device[1]: `!` does not exclude anything in a pattern",
    "8:32: rules[0].match.grop: unknown key `grop`; did you mean `group`?",
    "9:16: rules[0].condition: `clint` does not exist; did you mean `client`?",
    "10:19: rules[0].inhibited_by: there is no rule `nobody`",
    "11:10: rules[0].for: must be a duration such as 500ms",
    "13:10: rules[0].actions[0].webhok: unknown key `webhok`; did you mean `webhook`?",
    "14:25: rules[0].actions[1].webhook.url: `ftp` is not supported: use http:// or https://",
    "14:36: rules[0].actions[1].webhook.header: unknown key `header`; did you mean `headers`?",
    "14:62: rules[0].actions[1].webhook.json.t: `status` is text and has no `x`",
    "15:15: rules[0].actions[2].log: `message` is missing",
    "16:25: rules[0].actions[3].log.message: `nothing` does not exist",
    "17:22: rules[0].actions[4].email.to: `no address` is not an e-mail address",
    "18:20: rules[0].labels.team: must be text, not `7`",
    "20:14: rules[1].trigger: must be one of",
    "21:18: rules[1].outage.by: `sit` is not one of",
    "21:33: rules[1].outage.at_least: must be at least",
    "22:13: rules[1].repeat: must be at least 1s",
    "26:31: rules[2].actions[0].log.message: `nothing` does not exist",
]


def problems(folder: Path, text: str) -> list[str]:
    """What is told of a rule file, without its name."""
    (folder / "rules.yaml").write_text(text)
    with pytest.raises(InvalidFiles) as error:
        load_rules([folder / "rules.yaml"], inventory=Inventory(("site",), []))
    return [str(problem).removeprefix(f"{folder}/rules.yaml:") for problem in error.value.problems]


def test_what_does_not_fit_the_schema_hides_no_other_mistake(tmp_path: Path) -> None:
    told = problems(tmp_path, EVERYTHING)
    missed = [wanted for wanted in WANTED if not any(one.startswith(wanted) for one in told)]
    invented = [one for one in told if not any(one.startswith(wanted) for wanted in WANTED)]
    assert (missed, invented) == ([], [])


GOOD = """version: 1
defaults: {severity: critical, labels: {team: water}}
rules:
  - name: a
    trigger: outage
    outage: {by: [site], at_least: 3}
    active: [{days: [mon-fri], hours: "08:00-18:00"}]
    throttle: {max: 3, per: 1h, by: [site]}
    verify: false
    actions:
      - {log: {message: "{{ alert.key.site }} {{ alert.total }} {{ rule.labels.team }}"}}
      - {webhook: {url: "https://a.test/", json: {a: ["{{ alert.count }}"]}}}
    on_recovery: [{log: {message: "{{ alert.back }}"}}]
  - {name: b, trigger: offline, inhibited_by: [a], verify: true, verify_failure: hold, actions: [{log: {message: x}}]}
"""
WORDS = sorted(set(re.findall(r"\b[a-z_]+\b", GOOD)))


@given(st.sampled_from(WORDS), st.sampled_from(["zz", "7", "[]", "{}", "~"]))
def test_of_one_mistake_nothing_else_is_told_than_what_names_the_word(
    tmp_path_factory: pytest.TempPathFactory, word: str, instead: str
) -> None:
    """A word of a good file is replaced. What is told stands on its line, or is about the word."""
    place = re.search(rf"\b{word}\b", GOOD)
    assert place is not None
    line = GOOD.count("\n", 0, place.start()) + 1
    file = tmp_path_factory.mktemp("rules") / "rules.yaml"
    file.write_text(GOOD[: place.start()] + instead + GOOD[place.end() :])
    try:
        load_rules([file], inventory=Inventory(("site",), []))
    except InvalidFiles as error:
        told = [problem for problem in error.problems if not problem.warning]
        others = [problem for problem in told if problem.line != line and word not in problem.message]
        assert [problem for problem in others if word != "name" or "there is no rule" not in problem.message] == []
