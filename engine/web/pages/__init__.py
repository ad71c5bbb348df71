"""The pages of the console: one file here and one template of the same name for each. `engine.web.console` serves `PAGES`."""

from __future__ import annotations

from typing import Final

from engine.web.pages import (
    about,
    alert,
    alerts,
    client,
    clients,
    deliveries,
    delivery,
    fleet,
    overview,
    rule,
    rules,
    silences,
    sources,
    sweeps,
    try_rules,
)
from engine.web.pages.base import Page

PAGES: Final[tuple[Page, ...]] = (
    overview.PAGE,
    fleet.PAGE,
    clients.PAGE,
    client.PAGE,
    alerts.PAGE,
    alert.PAGE,
    deliveries.PAGE,
    delivery.PAGE,
    silences.PAGE,
    rules.PAGE,
    rule.PAGE,
    try_rules.PAGE,
    sources.PAGE,
    sweeps.PAGE,
    about.PAGE,
)
"""Every page, in the order of the navigation."""
