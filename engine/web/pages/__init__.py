"""The pages of the console: one file here and one template of the same name for each. `engine.web.console` serves `PAGES`."""

from __future__ import annotations

from typing import Final

from engine.web.pages import about, alert, alerts, client, clients, overview
from engine.web.pages.base import Page

PAGES: Final[tuple[Page, ...]] = (
    overview.PAGE,
    clients.PAGE,
    client.PAGE,
    alerts.PAGE,
    alert.PAGE,
    about.PAGE,
)
"""Every page, in the order of the navigation."""
