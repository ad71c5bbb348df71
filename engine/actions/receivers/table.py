"""Every service that a receiver can be, by its name in the configuration."""

from __future__ import annotations

from typing import Final

from engine.actions.receivers.base import Service

SERVICES: Final[dict[str, Service]] = {}
