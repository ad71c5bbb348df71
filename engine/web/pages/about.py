"""The service itself: whether it is ready, its parts, what it does not take. Read `collect`."""

from __future__ import annotations

from typing import Final

from engine.web import serializers
from engine.web.pages.base import Page, Shown, Wanted
from engine.web.service import Service


async def collect(service: Service, wanted: Wanted) -> Shown:
    """What the page shows."""
    return {
        "degraded": service.degraded(),
        "refused_edits": service.refused_edits,
        "parts": [serializers.part_object(part) for part in service.parts()],
        "cells": [serializers.cell_object(cell) for cell in service.cell_states()],
    }


PAGE: Final = Page(
    path="/about", template="about.html", collect=collect, section="about", words="About", needs_states=False
)
