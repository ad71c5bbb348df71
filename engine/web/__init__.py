"""The HTTP interface. `create(service)` makes the application."""

from engine.web.routes import create

__all__ = ["create"]
