"""What decides the outcome of a replay, out of a configuration. Read `settings_of`."""

from __future__ import annotations

from engine.config.inventory import Inventory
from engine.config.loader import Config
from engine.core.rules import Rule
from engine.replay.runner import ReplaySettings
from engine.runtime.fleet_factory import command_routes, mail_route, policy_of


def settings_of(config: Config, inventory: Inventory, rules: tuple[Rule, ...]) -> ReplaySettings:
    """The settings for these rules."""
    return ReplaySettings(
        policy=policy_of(config),
        rules=rules,
        inventory=inventory,
        max_future_ms=config.events.max_future_ms,
        commands=command_routes(config),
        mail=mail_route(config),
        burst=config.deliveries.burst,
        receivers=config.receivers,
        external_url=config.http.external_url if config.http is not None else "",
    )
