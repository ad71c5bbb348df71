"""Where the action `notify` goes when its receiver is a route: decided once, at the firing, and kept for all that follows.

A route is chosen by what fires and when; a reminder or a recovery hours later goes to the same people, whatever the time is then and
however the configuration was edited. What was chosen is kept by the id of the notification, which firing and recovery
share. Read `Routing.addressed`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from engine.core.presence.client_state import split_id
from engine.core.rules import Action, Rule, actions_of, tells_recovery

if TYPE_CHECKING:
    from engine.core.alerting.open_alerts import OpenAlerts
    from engine.core.alerting.planned_delivery import PlannedDelivery

NOTIFY: Final = "notify"
"""The kind of the action."""

NOTED_NOWHERE: Final = frozenset({"recovery", "acknowledged", "summary"})
"""Phases after which a receiver has not got what would have to be taken back."""

NOBODY: Final = ""
"""What is chosen when no route takes a firing."""

DEEPEST: Final = 100
"""Routes that may lead to one another; the configuration refuses cycles, and this ends one all the same."""

KEPT_MS: Final = 86_400_000
"""How long a choice is kept at least after its last use; and as long as its alert or group is open."""


class ReceiverRoute(Protocol):
    """One entry of a receiver that is a route; the shell knows patterns and time zones."""

    @property
    def to(self) -> str:
        """The receiver that it leads to, perhaps another route."""
        ...

    def holds(self, rule: Rule, group: str, at_ms: int) -> bool:
        """Does a firing of the rule at this instant go here? `group`: of the clients that it is about, "" when they have none in common."""
        ...


class Routed:
    """What was chosen for one notification; a store keeps its three fields until it is over."""

    __slots__ = ("choices", "id", "is_over", "used_ms")

    def __init__(self, id: str, choices: dict[str, str], used_ms: int) -> None:
        self.id: Final = id  # of the notification
        self.choices = choices  # route -> receiver
        self.used_ms = used_ms
        self.is_over = False


class Routing:
    """The routes in force, and what was chosen for each notification that is not over."""

    def __init__(self, alerts: OpenAlerts) -> None:
        self.routes: Mapping[str, Sequence[ReceiverRoute]] = {}
        self.chosen: dict[str, Routed] = {}
        self.target_of: Callable[[Action], str] = no_target
        self.exists: Callable[[str], bool] = always
        self._alerts = alerts

    def addressed(self, planned: PlannedDelivery) -> Action:
        """The action with the receiver that gets it: `receiver` of its spec, with the route as `via` when it was one."""
        action = planned.action
        name: str = action.spec["receiver"]
        kept = self.chosen.get(planned.alert)
        receiver = kept.choices.get(name) if kept is not None else None
        if name in self.routes:
            if receiver is None or receiver == name:  # it was no route until now
                receiver = self.choose(name, planned.rule, group_of(planned), planned.at_ms)
        elif receiver is None:
            if planned.phase in NOTED_NOWHERE or not tells_recovery(planned.rule):
                return action
            receiver = name
        if kept is None:
            kept = self.chosen[planned.alert] = Routed(planned.alert, {}, planned.at_ms)
        kept.choices[name] = receiver
        kept.used_ms = planned.at_ms
        self._alerts.out.routed[planned.alert] = kept
        if receiver == name:
            return action
        return Action(kind=NOTIFY, spec={**action.spec, "receiver": receiver, "via": name})

    def choose(self, name: str, rule: Rule, group: str, at_ms: int) -> str:
        """The receiver that a firing at this instant goes to; `NOBODY` when no route takes it."""
        for _ in range(DEEPEST):
            if name not in self.routes:
                return name
            name = next((route.to for route in self.routes[name] if route.holds(rule, group, at_ms)), NOBODY)
        return NOBODY

    def every_address(self, action: Action) -> list[Action]:
        """The action as it is written and, if its receiver is a route, to each receiver that it may lead to."""
        found = [action]
        if action.kind == NOTIFY and action.spec["receiver"] in self.routes:
            names: dict[str, None] = {}
            to_follow: list[str] = [action.spec["receiver"]]
            while to_follow:
                for route in self.routes.get(to_follow.pop(), ()):
                    if route.to not in names:
                        names[route.to] = None
                        to_follow.append(route.to)
            found += [Action(kind=NOTIFY, spec={**action.spec, "receiver": name}) for name in names]
        return found

    def left_out(self, id: str, rule: Rule) -> list[str]:
        """Receivers that got a notification, exist, and are named by its rule no more: an edit has replaced them meanwhile."""
        kept = self.chosen.get(id)
        if kept is None:
            return []
        named: set[str] = set()
        for action in actions_of(rule):
            if action.kind == NOTIFY:
                name: str = action.spec["receiver"]
                named.add(kept.choices.get(name, name))
                named.update([one.spec["receiver"] for one in self.every_address(action)])
        got = dict.fromkeys(kept.choices.values())
        return [name for name in got if name and name not in named and self.exists(name)]

    def got(self, id: str, receiver: str) -> bool:
        """Did a receiver get a notification?"""
        kept = self.chosen.get(id)
        return kept is not None and receiver in kept.choices.values()

    def purge(self, open_groups: Collection[str], now_ms: int) -> None:
        """Forget what was chosen for notifications that are over: a day after the last word on what is not open any more."""
        old = [one for one in self.chosen.values() if one.used_ms + KEPT_MS <= now_ms]
        if not old:
            return
        in_use = set(open_groups)
        for alert in self._alerts:
            in_use.add(alert.notification_id or alert.id)
        for one in old:
            if one.id in in_use:
                one.used_ms = now_ms  # it is looked at again a day later
            else:
                one.is_over = True
                del self.chosen[one.id]
            self._alerts.out.routed[one.id] = one

    def restore(self, routed: Iterable[Routed]) -> None:
        """Start again with what a store holds."""
        self.chosen = {one.id: one for one in routed}


def always(receiver: str) -> bool:
    """Every receiver exists, where nothing is known of them."""
    return True


def no_target(action: Action) -> str:
    """Nothing is known of where actions lead: the shell knows, where something is sent."""
    return ""


def group_of(planned: PlannedDelivery) -> str:
    """The MQTT group that a delivery is about; "" when it is about several, or about none."""
    if planned.client is not None:
        return split_id(planned.client)[0]
    key = planned.group_key
    if key is not None and "group" in key:
        return key["group"]
    groups = {split_id(client)[0] for client in planned.clients or ()}
    return groups.pop() if len(groups) == 1 else ""
