"""Reads one rule that fits the schema, and checks in it what a schema cannot. Read `read_rule`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from engine.config.matchers import as_tuple, check_match, match_of
from engine.core.rules import ABOUT_SOURCES, UNDELIVERED, Rule
from engine.rulefiles.actions import read_actions
from engine.rulefiles.context import RuleContext
from engine.rulefiles.email import MailReader
from engine.rulefiles.escalate import read_steps
from engine.rulefiles.intervals import with_intervals
from engine.rulefiles.notify import check_recoveries
from engine.rulefiles.options import OptionsReader
from engine.rulefiles.sizes import is_oversized
from engine.rulefiles.template_checks import TemplateChecks, compiled_condition
from engine.rulefiles.triggers import ABOUT_MANY, ABOUT_NO_CLIENT, LASTING, WITHOUT_FOR
from engine.rulefiles.unknown_names import warn_of_unknown
from engine.templates.lint import template_problems
from engine.templates.names import Names, names_of

UNDELIVERED_FOR_MS: Final = 300_000
"""How long the deliveries to a target must have failed, unless the rule says otherwise."""


def read_rule(context: RuleContext, entry: Mapping[str, Any]) -> Rule | None:
    """The rule; None when a mistake in it was reported."""
    errors_before = context.error_count()
    if is_oversized(context, entry):
        return None
    mails = MailReader(context)
    entry = mails.with_files(entry)
    triggers = as_tuple(entry["trigger"])
    templates = TemplateChecks(context, _names(context, entry, triggers))
    _check_triggers(context, entry, triggers)
    if "match" in entry:
        before = context.error_count()
        check_match(entry["match"], context.place(("match",)), context.document, context.inventory, context.problems)
        if context.error_count() == before:
            warn_of_unknown(context, entry["match"])
    entry = with_intervals(context, entry)
    options = OptionsReader(context).read(entry, triggers)
    for_ms = context.duration_ms(entry, "for", (), UNDELIVERED_FOR_MS if UNDELIVERED in triggers else 0)
    _check_condition(context, entry, templates.names)
    actions = read_actions(context, entry, ("actions",), mails, templates)
    on_recovery = read_actions(context, entry, ("on_recovery",), mails, templates)
    check_recoveries(context, entry, ("actions",), actions, on_recovery)
    escalate = read_steps(context, entry, triggers, on_recovery, mails, templates)
    if context.error_count() > errors_before:
        return None
    condition = entry.get("condition", "")
    compiled, condition_names = compiled_condition(condition) if condition else (None, frozenset())
    return Rule(
        name=entry["name"],
        triggers=triggers,
        actions=actions,
        on_recovery=on_recovery,
        escalate=escalate,
        description=entry.get("description", ""),
        severity=entry.get("severity", "warning"),
        labels=dict(entry.get("labels", {})),
        for_ms=for_ms,
        match=match_of(entry.get("match", {})),
        condition=compiled,
        condition_text=condition,
        condition_names=condition_names,
        **options,
        flapping_skip=entry.get("flapping", "skip") == "skip",
        existing=entry.get("existing", False),
        shadow=entry.get("shadow", False),
        definition=json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False),
        file=context.document.file,
        line=context.document.place(context.at)[0],
    )


def _names(context: RuleContext, entry: Mapping[str, Any], triggers: Sequence[str]) -> Names:
    """What templates of this rule may read."""
    return names_of(
        columns=context.columns,
        labels=None if "labels" in context.lost else tuple(entry.get("labels", {})),
        secrets=context.secrets,
        any_trigger="trigger" in context.lost,
        feed_only=bool(triggers) and set(triggers) <= set(ABOUT_NO_CLIENT),
        about_many=triggers[0] if ABOUT_MANY & set(triggers) else "group" if "grouping" in entry else "",
        key=None if context.lost & {"grouping", "throttle", *ABOUT_MANY} else _key_names(entry, triggers),
        looks_back="schedule" in triggers and "over" in entry.get("schedule", {}),
    )


def _key_names(entry: Mapping[str, Any], triggers: Sequence[str]) -> tuple[str, ...]:
    """The names that `alert.key` may have: those of `by`, and `source` for feeds."""
    found: dict[str, None] = {}
    for key, default in (("grouping", "group"), ("outage", "group"), ("quorum", "group"), ("throttle", None)):
        if key in entry or key in triggers:
            by = entry.get(key, {}).get("by", default)
            found |= dict.fromkeys(as_tuple(by) if by is not None else ())
    if ABOUT_SOURCES & set(triggers):
        found["source"] = None
    if UNDELIVERED in triggers:
        found["target"] = None
    return tuple(found)


def _check_triggers(context: RuleContext, entry: Mapping[str, Any], triggers: Sequence[str]) -> None:
    """Report keys that cannot be used with the rule's triggers."""
    if not entry.get("actions") and "actions" not in context.lost:
        context.report(("actions",), "has no actions: alerts are recorded, nothing is sent", warning=True)
    if "trigger" in context.lost:
        return
    without_for = [trigger for trigger in triggers if trigger in WITHOUT_FOR]
    if "for" in entry and without_for:
        trigger = without_for[0]
        why = (
            "set `feed.max_lag` in the configuration instead"
            if trigger == "feed"
            else "it is an instant, not a status that can last"
        )
        context.report(("for",), f"cannot be used with the trigger `{trigger}`: {why}", at_key=True)
    for trigger, about in ABOUT_NO_CLIENT.items():
        for key in ("match", "existing") if trigger in triggers else ():
            if key in entry:
                message = (
                    f"cannot be used with the trigger `{trigger}`: its alerts are about {about}, not about clients"
                )
                context.report((key,), message, at_key=True)
    if "existing" in entry and entry["existing"] and not LASTING & set(triggers):
        context.report(("existing",), "needs the trigger `offline`, `online` or `quorum`", at_key=True)
    if "on_recovery" in entry and set(triggers) <= {"first_seen", "stable", "schedule"}:
        message = f"would never run: alerts of the trigger `{triggers[0]}` resolve immediately"
        context.report(("on_recovery",), message, at_key=True)


def _check_condition(context: RuleContext, entry: Mapping[str, Any], names: Names) -> None:
    if "condition" in entry:
        if "schedule" in as_tuple(entry["trigger"]):  # is asked for each client, though the alert is about all of them
            names = _names(context, entry, ("offline",))
        context.report_all(("condition",), template_problems(entry["condition"], names, expression=True))
