"""What `check` says of the receivers of a configuration with its rules: texts that can never be made, what has no use, what no rule has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from engine.config.loader import Config
from engine.config.receivers import ROUTE
from engine.config.routes import fits
from engine.config.schema import did_you_mean
from engine.config.yamlfile import Document, KeyPath, read_document
from engine.core.alerting.routing import NOTIFY
from engine.core.rules import Action, Rule, actions_of
from engine.errors import Problem
from engine.rulefiles.notify import reached
from engine.rulefiles.template_checks import compile_problem
from engine.templates.lint import template_problems
from engine.templates.names import names_of

ABOUT = ("", "group", "outage", "schedule")
"""What an alert can be about; a receiver's texts are used for all of them."""


def template_findings(config: Config, columns: tuple[str, ...] | None) -> Iterator[Problem]:
    """Every mistake in the `title` and `text` of receivers: a template that fails for every alert. `columns`: of the inventory."""
    document = _document(config)
    for name, receiver in config.receivers.items():
        for part, source in (("title", receiver.title), ("text", receiver.text)):
            if source is None or document is None:
                continue
            found = [
                list(template_problems(source, names_of(columns=columns, secrets=(), about_many=about)))
                for about in ABOUT
            ]
            messages = min(found, key=len)
            if not messages and (problem := compile_problem(source)) is not None:
                messages = [problem]
            for message in messages:
                yield document.problem(("receivers", name, part), message)


def unused_receivers(config: Config, rules: Sequence[Rule]) -> Iterator[Problem]:
    """A warning for each receiver that no rule notifies, neither by its name nor by a route."""
    document = _document(config)
    if document is None or not config.receivers:
        return
    named = [action.spec["receiver"] for rule in rules for action in notifications_of(rule)]
    used = reached(named, config.receivers)
    for name, receiver in config.receivers.items():
        if name not in used:
            how = "route" if receiver.type == ROUTE else "receiver"
            message = f"no rule uses this {how}: write `notify: {name}` in a rule, or remove it"
            yield document.problem(("receivers", name), message, at_key=True, warning=True)


def routes_of_no_rule(config: Config, rules: Sequence[Rule]) -> Iterator[Problem]:
    """A warning for each name of a rule, and each label, in `when` of a route that no rule has: probably a letter is wrong."""
    document = _document(config)
    if document is None:
        return
    for name, receiver in config.receivers.items():
        for index, route in enumerate(receiver.routes):
            at: KeyPath = ("receivers", name, "routes", index, "when")
            names = [rule.name for rule in rules]
            if route.rule and not any(fits(one, route.rule) for one in names):
                message = f"no rule has the name `{', '.join(route.rule)}`{did_you_mean(route.rule[0], names)}"
                yield document.problem((*at, "rule"), message, warning=True)
            for label, patterns in route.labels:
                values = sorted({rule.labels[label] for rule in rules if label in rule.labels})
                if any(fits(value, patterns) for value in values):
                    continue
                if values:
                    message = f"no rule has the label `{label}` with `{', '.join(patterns)}`{did_you_mean(patterns[0], values)}"
                else:
                    labels = sorted({each for rule in rules for each in rule.labels})
                    message = f"no rule has the label `{label}`{did_you_mean(label, labels)}"
                yield document.problem((*at, "labels", label), message, warning=True)


def notifications_of(rule: Rule) -> Iterator[Action]:
    """The actions `notify` of a rule."""
    yield from (action for action in actions_of(rule) if action.kind == NOTIFY)


def _document(config: Config) -> Document | None:
    return read_document(Path(config.path), []) if config.receivers else None
