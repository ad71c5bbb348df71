"""Rollcall: which MQTT devices are really online, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.status.client import OnlineStatus, StatusClient

__version__ = "0.1.0"
__all__ = ["OnlineStatus", "StatusClient", "__version__"]


def __getattr__(name: str) -> object:
    """`from engine import StatusClient`, loaded when it is asked for: everything else starts without it."""
    if name in ("OnlineStatus", "StatusClient"):
        from engine.status import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
