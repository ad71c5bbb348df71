"""Reads the action `notify` of a rule: one action for each receiver that it names; and warns of incidents that nothing closes.

Read `read_notify`, then `check_recoveries`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from engine.config.matchers import as_tuple
from engine.config.receivers import KEEPS_INCIDENTS, ROUTE, Receiver
from engine.config.schema import did_you_mean
from engine.config.yamlfile import KeyPath
from engine.core.alerting.routing import NOTIFY
from engine.core.rules import AT_ONCE, Action
from engine.rulefiles.context import RuleContext


def read_notify(context: RuleContext, written: str | Sequence[str], at: KeyPath) -> Iterator[Action]:
    """One action for each receiver. A name that the configuration does not have is reported."""
    receivers = context.receivers
    for index, name in enumerate(as_tuple(written)):
        if receivers is not None and name not in receivers:
            place = at if isinstance(written, str) else (*at, index)
            hint = did_you_mean(name, list(receivers), all_of_them=True) or "; add it to `receivers`"
            context.report(place, f"the configuration has no receiver `{name[:100]}`{hint}")
        yield Action(kind=NOTIFY, spec={"receiver": name})


def reached(names: Sequence[str], receivers: Mapping[str, Receiver]) -> set[str]:
    """The receivers that may get what is sent to these: the names themselves, and all that their routes lead to."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            one = receivers.get(name)
            if one is not None and one.type == ROUTE:
                waiting += [route.to for route in one.routes]
    return found


def check_recoveries(
    context: RuleContext,
    entry: Mapping[str, Any],
    at: KeyPath,
    actions: Sequence[Action],
    on_recovery: Sequence[Action],
) -> None:
    """Warn of receivers that keep an incident open and are never sent its end. `at`: where the actions stand."""
    receivers = context.receivers
    if not receivers:
        return
    told = reached([action.spec["receiver"] for action in actions if action.kind == NOTIFY], receivers)
    ended = reached([action.spec["receiver"] for action in on_recovery if action.kind == NOTIFY], receivers)
    keeping = {name for name in told if name in receivers and receivers[name].type in KEEPS_INCIDENTS}
    resolves = not set(as_tuple(entry["trigger"])) <= AT_ONCE
    for name in sorted(keeping if not resolves else keeping - ended):
        why = f"add `notify: {name}` to `on_recovery`" if resolves else "an alert of this trigger has no recovery"
        message = f"`{name}` ({receivers[name].type}) keeps an incident open that is never closed: {why}"
        context.report(at, message, warning=True)
