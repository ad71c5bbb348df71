"""Reads the actions of one rule: `notify`, `log`, `webhook`, `email` and `command`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.config.yamlfile import KeyPath
from engine.core.alerting.routing import NOTIFY
from engine.core.rules import Action
from engine.rulefiles.command import command_spec
from engine.rulefiles.context import RuleContext
from engine.rulefiles.email import MailReader
from engine.rulefiles.notify import read_notify
from engine.rulefiles.template_checks import TemplateChecks
from engine.rulefiles.webhook import webhook_spec
from engine.templates.breakouts import JSON, PLAIN, syntax_of


def read_actions(
    context: RuleContext, entry: Mapping[str, Any], at: KeyPath, mails: MailReader, templates: TemplateChecks
) -> tuple[Action, ...]:
    """The actions at `at`, whose last key is `actions` or `on_recovery`, of a rule or of a step; mistakes are reported."""
    found: list[Action] = []
    for index, written in enumerate(entry.get(str(at[-1]), ())):
        kind, spec = next(iter(written.items()))
        if kind == NOTIFY:
            found += read_notify(context, spec, (*at, index, kind))
            continue
        found.append(Action(kind=kind, spec=_spec(context, kind, spec, (*at, index, kind), mails, templates)))
    return tuple(found)


def _spec(
    context: RuleContext,
    kind: str,
    written: Mapping[str, Any],
    at: KeyPath,
    mails: MailReader,
    templates: TemplateChecks,
) -> dict[str, Any]:
    """The mapping of one action as rendering takes it."""
    if kind == "log":
        templates.check(written["message"], (*at, "message"), syntax=_of_line(written["message"]))
        return dict(written)
    if kind == "command":
        templates.check(written["to"], (*at, "to"))
        if isinstance(payload := written["payload"], str):
            templates.check(payload, (*at, "payload"), syntax=syntax_of(payload))
        else:
            templates.check_tree(payload, (*at, "payload"))
        return command_spec(context, written, at)
    if kind == "email":
        return mails.read(written, at, templates.names)
    return webhook_spec(context, written, at, templates)


def _of_line(message: str) -> str:
    """The syntax of a line of the log: JSON where it seems to be, else one in which `name=value` may stand."""
    return JSON if syntax_of(message) == JSON and message.rstrip().endswith(("}", "]")) else PLAIN
