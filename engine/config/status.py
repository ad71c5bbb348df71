"""The sections `status` and `reconcile`: the status provider that is queried, how fast, and when all clients are swept.

Read `read_status` and `read_reconcile`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from engine.config.cron import cron, every
from engine.config.endpoints import endpoint_of
from engine.config.packages import missing_package
from engine.config.reader import ConfigReader
from engine.config.secret import Secret
from engine.config.time_zones import zone
from engine.config.yamlfile import KeyPath
from engine.core.rules import Ticks
from engine.errors import Problem

PACKAGES = {"openapi": "alibabacloud_onsmqtt20200420"}
"""Providers that need a package which is not always installed. The extra that brings it has the name of the provider."""

TIMEOUT_MS = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusConfig:
    """The synchronous status query."""

    provider: str
    endpoint: str
    instance: str
    access_key: Secret
    secret: Secret
    rate: int = 100
    unknown_retries: int = 3
    confirm_after_ms: int = 5_000
    timeout_ms: int = TIMEOUT_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcileConfig:
    """When every client is queried: a sweep. `catches_up`: a sweep that was missed is made up for, once."""

    ticks: Ticks
    catches_up: bool = True


def read_status(reader: ConfigReader) -> StatusConfig | None:
    """The section `status`; None: no status provider is configured, so nothing is queried."""
    raw = reader.raw.get("status")
    if raw is None:
        return None
    try:
        endpoint_of(raw["endpoint"])
    except ValueError as error:
        reader.report(("status", "endpoint"), str(error).removeprefix("`endpoint` "))
    return StatusConfig(
        provider=raw["provider"],
        endpoint=raw["endpoint"],
        instance=raw["instance"],
        access_key=reader.secret(("status", "access_key"), raw["access_key"]),
        secret=reader.secret(("status", "secret"), raw["secret"]),
        rate=raw.get("rate", 100),
        unknown_retries=raw.get("unknown_retries", 3),
        confirm_after_ms=reader.duration_ms(("status", "confirm_after"), raw.get("confirm_after", "5s")),
        timeout_ms=reader.duration_ms(("status", "timeout"), raw.get("timeout", "5s")),
    )


def read_reconcile(reader: ConfigReader) -> ReconcileConfig | None:
    """The section `reconcile`; None: a sweep runs only when an operator starts one."""
    raw = reader.raw.get("reconcile")
    if raw is None:
        return None
    if reader.raw.get("status") is None:
        reader.report(("reconcile",), "no status provider is configured: set `status`, or remove `reconcile`")
    given = [key for key in ("cron", "every", "interval") if key in raw]
    if len(given) != 1:
        reader.report(("reconcile",), "needs either `cron` or `every`")
        return None
    (key,) = given
    if key != "cron":
        if "timezone" in raw:
            reader.report(
                ("reconcile", "timezone"), f"can be used only with `cron`: `{key}` does not depend on the time of day"
            )
        path = ("reconcile", key)
        return _reconcile(path, lambda: every(reader.duration_ms(path, raw[key])), raw, reader)
    timezone = raw.get("timezone", "UTC")
    try:
        zone(timezone)
    except ValueError as error:
        reader.report(("reconcile", "timezone"), str(error))
        timezone = "UTC"
    return _reconcile(("reconcile", "cron"), lambda: cron(raw["cron"], timezone), raw, reader)


def _reconcile(
    path: KeyPath, ticks: Callable[[], Ticks], raw: Mapping[str, Any], reader: ConfigReader
) -> ReconcileConfig | None:
    try:
        return ReconcileConfig(ticks=ticks(), catches_up=raw.get("catch_up", "once") == "once")
    except ValueError as error:
        reader.report(path, str(error))
        return None


def missing_packages(reader: ConfigReader) -> list[Problem]:
    """The problem of a provider whose package is not installed here; empty when nothing is missing."""
    raw = reader.raw.get("status")
    missing = missing_package(PACKAGES, raw["provider"]) if raw else None
    return [] if missing is None else [reader.document.problem(("status", "provider"), missing)]
