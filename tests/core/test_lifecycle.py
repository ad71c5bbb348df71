"""The table of an alert's states: every step that it names does what it says, every other one raises and changes nothing."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from engine.core.alerting import lifecycle
from engine.core.alerting.alert import DROPPED, FIRING, PENDING, RESOLVED, SUPPRESSED, Alert
from engine.core.alerting.lifecycle import (
    AWAIT_ANSWER,
    DROP,
    FIRE,
    RESOLVE,
    STEPS,
    SUPPRESS,
    TABLE,
    IllegalAlertTransition,
)

STATES = (PENDING, FIRING, SUPPRESSED, RESOLVED, DROPPED)
FIELDS = ("state", "reason", "fired_at_ms", "resolved_at_ms")
CORE = Path(__file__).parents[2] / "engine" / "core"


def alert(state: str, *, closed: bool = False) -> Alert:
    """An alert in a state, with every field that a step may change set to something."""
    return Alert(
        name="n",
        rule="r",
        client="c",
        source=None,
        trigger="offline",
        started_at_ms=1,
        due_at_ms=2,
        state=state,
        reason="mute" if state == SUPPRESSED else None,
        fired_at_ms=3 if state in (FIRING, RESOLVED) else None,
        resolved_at_ms=4 if closed else None,
    )


def take(one: Alert, step: str) -> None:
    """One step, at instant 9."""
    if step == FIRE:
        lifecycle.fire(one, 9)
    elif step == SUPPRESS:
        lifecycle.suppress(one, "silence")
    elif step == AWAIT_ANSWER:
        lifecycle.await_answer(one)
    elif step == RESOLVE:
        lifecycle.resolve(one, 9, "rule_removed")
    else:
        lifecycle.drop(one, 9)


def fields(one: Alert) -> tuple[object, ...]:
    return tuple(getattr(one, name) for name in FIELDS)


LEGAL = [(state, step) for state in STATES for step in STEPS if step in TABLE[state]]
ILLEGAL = [(state, step) for state in STATES for step in STEPS if step not in TABLE[state]]


def test_the_table_has_a_row_for_every_state_and_names_only_steps_and_states_that_exist() -> None:
    assert set(TABLE) == set(STATES)
    assert {step for row in TABLE.values() for step in row} <= set(STEPS)
    assert {after for row in TABLE.values() for after in row.values()} <= set(STATES)


@pytest.mark.parametrize(("state", "step"), ILLEGAL)
def test_a_step_that_the_table_does_not_name_raises_and_changes_nothing(state: str, step: str) -> None:
    one = alert(state)
    before = fields(one)
    with pytest.raises(IllegalAlertTransition, match=step):
        take(one, step)
    assert fields(one) == before


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("state", STATES)
def test_a_closed_alert_takes_no_step_at_all(state: str, step: str) -> None:
    one = alert(state, closed=True)
    before = fields(one)
    with pytest.raises(IllegalAlertTransition):
        take(one, step)
    assert fields(one) == before


@pytest.mark.parametrize(("state", "step"), LEGAL)
def test_a_step_that_the_table_names_leads_where_it_says(state: str, step: str) -> None:
    one = alert(state)
    take(one, step)
    assert one.state == TABLE[state][step]
    expected = {
        FIRE: (FIRING, None, 9, None),
        SUPPRESS: (SUPPRESSED, "silence", alert(state).fired_at_ms, None),
        AWAIT_ANSWER: (PENDING, None, None, None),
        RESOLVE: (RESOLVED, "rule_removed", 3, 9),
        DROP: (TABLE[state][step], alert(state).reason, alert(state).fired_at_ms, 9),
    }
    assert fields(one) == expected[step]


def test_only_another_reason_makes_a_suppression_news() -> None:
    one = alert(PENDING)
    assert [lifecycle.suppress(one, reason) for reason in ("mute", "mute", "silence")] == [True, False, True]


def assigned(tree: ast.Module) -> set[str]:
    """The names of attributes that a module assigns on anything but `self`."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            is_own = isinstance(node.value, ast.Name) and node.value.id == "self"
            found |= set() if is_own else {node.attr}
    return found


def test_nothing_but_the_lifecycle_changes_an_alerts_state() -> None:
    files = {file.name for file in sorted(CORE.rglob("*.py")) if assigned(ast.parse(file.read_text())) & set(FIELDS)}
    assert files == {"lifecycle.py"}
