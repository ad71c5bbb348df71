"""From a configuration to an empty fleet that works by it: what the service, `replay` and commands have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial

from engine.config.inventory import Inventory
from engine.config.inventory_file import load_inventory
from engine.config.loader import Config
from engine.config.patterns import compile_patterns
from engine.config.receivers import ROUTE, Receiver
from engine.core.alerting.routing import NOTIFY, ReceiverRoute
from engine.core.fleet import Fleet
from engine.core.matching import Matcher, MatchSet
from engine.core.presence.debounce import Policy
from engine.core.rules import Action, Rule
from engine.runtime.cell_filter import listing_of
from engine.templates.command import CommandRoutes
from engine.templates.email import MailRenderer, MailRoute
from engine.templates.evidence_text import evidence_variable
from engine.templates.notify import NotifyRenderer, target_of_receiver
from engine.templates.renderer import Renderer, names_used
from engine.templates.webhook import target_of as webhook_target

MAX_REMEMBERED = 100_000
"""Clients whose own holds are remembered, where the configuration has overrides."""


def policy_of(config: Config, inventory: Inventory | None = None) -> Policy:
    """The configuration's knobs of resolving and settling, overrides compiled; `inventory` stands in for the configured one."""
    debounce = config.debounce
    holds_of = None
    if debounce.overrides:
        inventory = inventory or inventory_of(config)
        matches = MatchSet([entry.match for entry in debounce.overrides], inventory.attributes, compile_patterns)
        pairs = [(entry.offline_ms, entry.online_ms) for entry in debounce.overrides]

        def holds_of(client: str) -> tuple[int, int]:
            """What the overrides decide under the inventory as it is now."""
            return decided(client, inventory.version)

        @lru_cache(maxsize=MAX_REMEMBERED)
        def decided(client: str, version: int) -> tuple[int, int]:
            """The first override that matches and sets a hold decides it."""
            mask = matches.mask(client, "")
            offline = online = None
            for index, (wanted_offline, wanted_online) in enumerate(pairs):
                if mask >> index & 1:
                    offline = wanted_offline if offline is None else offline
                    online = wanted_online if online is None else online
            return (
                debounce.offline_ms if offline is None else offline,
                debounce.online_ms if online is None else online,
            )

    return Policy(
        clock_skew_ms=config.resolver.clock_skew_ms,
        offline_ms=debounce.offline_ms,
        online_ms=debounce.online_ms,
        holds_of=holds_of,
        flapping_start=config.flapping.start,
        flapping_stop=config.flapping.stop,
        flapping_window_ms=config.flapping.window_ms,
        asks=config.status is not None,
        confirm_after_ms=config.status.confirm_after_ms if config.status is not None else 5_000,
        max_hold_ms=config.feed.max_hold_ms,
    )


def inventory_of(config: Config) -> Inventory:
    """The configured inventory; InvalidFiles when it does not load."""
    return load_inventory(config.inventory) if config.inventory is not None else Inventory((), ())


def fleet_of(config: Config, rules: Sequence[Rule], inventory: Inventory) -> Fleet:
    """An empty fleet that works by these rules."""
    matcher = Matcher(rules, inventory.attributes, compile_patterns)
    fleet = Fleet(
        policy_of(config, inventory),
        matcher,
        inventory.attributes,
        partial(names_used, receivers=config.receivers),
        burst=config.deliveries.burst,
        evidence_variable=evidence_variable,
        listing=listing_of(config, inventory),
    )
    fleet.tombstone_ms = config.clients.tombstone_ms
    fleet.alerts.routing.routes = routes_of(config.receivers)
    fleet.alerts.routing.target_of = partial(target_of, config)
    fleet.alerts.routing.exists = config.receivers.__contains__
    if config.http is not None:
        fleet.alerts.variables.external_url = config.http.external_url
    return fleet


def command_routes(config: Config) -> CommandRoutes:
    """Where commands to devices are sent."""
    mqtt = config.mqtt
    if mqtt is None:
        return CommandRoutes()
    rocketmq = mqtt.rocketmq.address if mqtt.rocketmq is not None else ""
    return CommandRoutes(parent_topic=mqtt.parent_topic, mqtt=mqtt.address, rocketmq=rocketmq)


def mail_route(config: Config) -> MailRoute | None:
    """The sender and the server of e-mails; None: no server is configured."""
    return MailRoute(sender=config.smtp.sender, target=config.smtp.target) if config.smtp is not None else None


def routes_of(receivers: Mapping[str, Receiver]) -> dict[str, Sequence[ReceiverRoute]]:
    """Of the receivers that are routes, where each leads."""
    return {name: one.routes for name, one in receivers.items() if one.type == ROUTE}


def target_of(config: Config, action: Action) -> str:
    """The target of an action's deliveries, as the outbox names it."""
    if action.kind == NOTIFY:
        return target_of_receiver(action.spec["receiver"])
    if action.kind == "webhook":
        return webhook_target(action.spec["url"])
    if action.kind == "email":
        return config.smtp.target if config.smtp is not None else ""
    if action.kind == "command":
        routes = command_routes(config)
        return routes.target(action.spec.get("via") or routes.default)
    return action.kind


def renderer_of(
    mail: MailRoute | None = None,
    commands: CommandRoutes | None = None,
    receivers: Mapping[str, Receiver] | None = None,
) -> Renderer:
    """What turns planned actions into requests. `receivers`: None where they are not known."""
    return Renderer({"email": MailRenderer(mail), NOTIFY: NotifyRenderer(receivers)}, commands)
