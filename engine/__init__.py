"""Rollcall: which MQTT devices are really online, and what to do about it."""

__version__ = "0.1.0"
