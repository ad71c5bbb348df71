"""`escalate` in a rule file: what it becomes, and what is told of mistakes in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.core.rules import EscalationStep
from engine.rulefiles.loader import load_rules, rule_from_definition
from tests.rulefiles.test_rule_keys import problem, problems, rule_of

LOG = "[{log: {message: x}}]"


def test_steps_are_read_with_their_actions(tmp_path: Path) -> None:
    keys = "escalate: [{after: 15m, actions: [{log: {message: chat}}]}, {after: 1h, actions: [{log: {message: call}}], on_recovery: [{log: {message: end}}]}]"
    rule = rule_of(tmp_path, keys)
    first, second = rule.escalate
    assert [(step.after_ms, len(step.actions), len(step.on_recovery)) for step in (first, second)] == [
        (900_000, 1, 0),
        (3_600_000, 1, 1),
    ]
    assert isinstance(first, EscalationStep) and second.on_recovery[0].spec == {"message": "end"}
    assert rule_from_definition(rule.definition).escalate == rule.escalate, "a restart reads it from the store"


def test_what_is_beyond_a_throttle_is_held_unless_it_is_to_be_dropped(tmp_path: Path) -> None:
    for written, wanted in (("", "hold"), (", excess: hold", "hold"), (", excess: drop", "drop")):
        throttle = rule_of(tmp_path, f"throttle: {{max: 1, per: 1m{written}}}").throttle
        assert throttle is not None and throttle.excess == wanted


@pytest.mark.parametrize(
    ("steps", "wanted"),
    [
        (f"[{{after: 0s, actions: {LOG}}}]", "must be longer than 0: what is sent when the alert fires stands in `actions`"),
        (f"[{{after: 5m, actions: {LOG}}}, {{after: 5m, actions: {LOG}}}]", "must be later than the step before it, which is after 5m"),
        (f"[{{after: 5m, actions: {LOG}}}, {{after: 1m, actions: {LOG}}}]", "must be later than the step before it, which is after 5m"),
        ("[{after: 5m, actions: []}]", "must not be an empty list"),
        ("[{after: 5m}]", "`actions` is missing"),
        (f"[{{actions: {LOG}}}]", "`after` is missing"),
        (f"[{{after: soon, actions: {LOG}}}]", "must be a duration such as 500ms"),
        ("[{after: 5m, actions: [{log: {message: \"{{ client.idd }}\"}}]}]", "`client.idd` does not exist; did you mean `id`?"),
        (f"[{{after: 5m, actions: {LOG}, on_recovery: [{{log: {{message: \"{{{{ nothing }}}}\"}}}}]}}]", "`nothing` does not exist"),
        ("[]", "must be a list of steps, such as [{after: 15m, actions: [...]}]"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_step_is_reported_at_its_place(tmp_path: Path, steps: str, wanted: str) -> None:
    told = problem(tmp_path, f"escalate: {steps}")
    assert told.startswith("rules[0].escalate") and wanted in told


@pytest.mark.parametrize("trigger", ["first_seen", "stable", "[offline, first_seen]"])
def test_what_resolves_immediately_cannot_escalate_and_the_error_says_why(tmp_path: Path, trigger: str) -> None:
    told = problem(tmp_path, f"escalate: [{{after: 5m, actions: {LOG}}}]", trigger)
    assert "its alerts resolve immediately, so nothing is left to escalate" in told


def test_the_steps_of_the_defaults_are_left_out_where_they_cannot_be(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(
        f"version: 1\ndefaults: {{actions: {LOG}, escalate: [{{after: 5m, actions: {LOG}}}]}}\n"
        "rules: [{name: a, trigger: offline}, {name: b, trigger: first_seen}]\n"
    )

    first, second = load_rules([file]).rules
    assert (len(first.escalate), len(second.escalate)) == (1, 0)


def test_a_mistaken_key_of_a_step_has_a_hint(tmp_path: Path) -> None:
    told = problems(tmp_path, f"name: a, trigger: offline, actions: {LOG}, escalate: [{{for: 5m, actions: {LOG}}}]")
    assert any("unknown key `for`; write `after`" in line for line in told)
