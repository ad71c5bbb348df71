"""Reads `escalate` of a rule: its steps. Read `read_steps`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from engine.config.yamlfile import KeyPath
from engine.core.rules import AT_ONCE, Action, EscalationStep
from engine.core.times import duration_text
from engine.rulefiles.actions import read_actions
from engine.rulefiles.context import RuleContext
from engine.rulefiles.email import MailReader
from engine.rulefiles.notify import check_recoveries
from engine.rulefiles.template_checks import TemplateChecks


def read_steps(
    context: RuleContext,
    entry: Mapping[str, Any],
    triggers: Sequence[str],
    on_recovery: Sequence[Action],
    mails: MailReader,
    templates: TemplateChecks,
) -> tuple[EscalationStep, ...]:
    """The steps of a rule, in their order; `on_recovery`: what the rule itself does at a recovery. Mistakes are reported."""
    if "escalate" not in entry:
        return ()
    momentary = [trigger for trigger in triggers if trigger in AT_ONCE]
    if momentary:
        message = f"cannot be used with the trigger `{momentary[0]}`: its alerts resolve immediately, so nothing is left to escalate"
        context.report(("escalate",), message, at_key=True)
    found: list[EscalationStep] = []
    for at, written in steps_in(entry):
        after_ms = context.duration_ms(written, "after", at)
        _check_after(context, (*at, "after"), after_ms, found[-1].after_ms if found else 0)
        actions = read_actions(context, written, (*at, "actions"), mails, templates)
        ends = read_actions(context, written, (*at, "on_recovery"), mails, templates)
        check_recoveries(context, entry, (*at, "actions"), actions, (*on_recovery, *ends))
        found.append(EscalationStep(after_ms=after_ms, actions=actions, on_recovery=ends))
    return tuple(found)


def _check_after(context: RuleContext, at: KeyPath, after_ms: int, before_ms: int) -> None:
    if after_ms <= 0:
        context.report(at, "must be longer than 0: what is sent when the alert fires stands in `actions`")
    elif after_ms <= before_ms:
        context.report(at, f"must be later than the step before it, which is after {duration_text(before_ms)}")


def steps_in(entry: Mapping[str, Any]) -> Iterator[tuple[KeyPath, Mapping[str, Any]]]:
    """The steps that a rule's mapping has, each with its place."""
    for index, step in enumerate(entry.get("escalate", ())):
        yield ("escalate", index), step
