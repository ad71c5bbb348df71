"""From a planned delivery to the request that every attempt sends: templates, sandboxed and escaped by destination.

Everything that a device controls is data and never becomes structure. Templates run in a sandbox without a clock, without files
and with limited output. A template that fails never loses the page: a plain default is sent and says so.
Read `Renderer.planned`; each kind of action has a module of its own.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from engine.config.receivers import Receiver
from engine.core.alerting.planned_delivery import PlannedDelivery
from engine.core.alerting.routing import NOTIFY
from engine.core.rules import Action, Rule, actions_of
from engine.templates.command import CommandRoutes, render_command
from engine.templates.compiler import Compiler, TemplateProblem, names_in
from engine.templates.defaults import default_text
from engine.templates.rendered import KindRenderer, Rendered
from engine.templates.text import CONTROL, error_text
from engine.templates.webhook import render_webhook

_encode = msgspec.json.Encoder().encode


class Renderer:
    """Renders the actions of all rules.

    `kinds`: renderers of further kinds of action, by kind. `commands`: where commands to devices are sent.
    """

    def __init__(self, kinds: Mapping[str, KindRenderer] | None = None, commands: CommandRoutes | None = None) -> None:
        self._kinds = dict(kinds or {})
        self._commands = commands or CommandRoutes()
        self._compiler = Compiler()

    def planned(self, planned: PlannedDelivery) -> Rendered:
        """The request of a planned delivery. Never raises for what a template or a value does."""
        kind = self._kinds.get(planned.action.kind)
        return kind(planned) if kind is not None else self.render(planned.action, planned.variables)

    def render(self, action: Action, variables: Mapping[str, Any]) -> Rendered:
        """The request of one action. Never raises for what a template or a value does."""
        if action.kind == "log":
            return self._log(action.spec, variables)
        if action.kind == "command":
            return render_command(action.spec, variables, self._commands, self._compiler)
        return render_webhook(self._compiler, action.spec, variables)

    def _log(self, spec: Mapping[str, Any], variables: Mapping[str, Any]) -> Rendered:
        try:
            message, problem = self._compiler.text(spec["message"])(variables), None
        except Exception as error:  # noqa: BLE001  # a default is logged instead, and says so
            message, problem = default_text(variables), error_text(error)
        return Rendered(request={"message": CONTROL.sub(_escaped, message)}, target="log", problem=problem)


def _escaped(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape").decode()


def templates_of(actions: Iterable[Action]) -> Iterable[str]:
    """Every text in the mappings of some actions."""

    def inside(value: Any) -> Iterable[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            for entry in value.values():
                yield from inside(entry)
        elif isinstance(value, (list, tuple)):
            for entry in value:
                yield from inside(entry)

    for action in actions:
        yield from inside(action.spec)


def names_used(rule: Rule, receivers: Mapping[str, Receiver] | None = None) -> frozenset[str]:
    """The top-level names that any template of a rule reads. Values that are costly to make are made only for these.

    `receivers`: those of the configuration, whose texts count for a rule with `notify`.
    """
    found: set[str] = set()
    actions = actions_of(rule)
    for source in templates_of(actions):
        if "{" in source:
            found |= names_in(source)
    if receivers and any(action.kind == NOTIFY for action in actions):
        for source in [text for one in receivers.values() for text in (one.title, one.text) if text is not None]:
            with contextlib.suppress(TemplateProblem):
                found |= names_in(source)
    return frozenset(found)


def to_json(request: Mapping[str, Any]) -> str:
    """The request as it is stored."""
    return _encode(request).decode()
