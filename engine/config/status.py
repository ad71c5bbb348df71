"""The keys `status` and `reconcile` of the configuration: whom to ask for a client's status, how often, and when everybody.

Read `read_status` and `read_reconcile`; both are given a document that fits the schema, and check what a schema cannot.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from engine.config.time_intervals import cron, every, zone
from engine.core.rules import Ticks
from engine.status.http import endpoint_of

At = tuple[str | int, ...]
S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)

EXTRAS = {"openapi": "alibabacloud_onsmqtt20200420"}
"""Providers that need a package which is not always installed, and that package; the extra has the provider's name."""

TIMEOUT_MS = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusConfig(Generic[S]):
    """The synchronous status query. `S` is how secrets are kept."""

    provider: str
    endpoint: str
    instance: str
    access_key: S
    secret: S
    rate: int = 100
    unknown_retries: int = 3
    confirm_after_ms: int = 5_000
    timeout_ms: int = TIMEOUT_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcileConfig:
    """When everybody is asked about. `catches_up`: a run that was missed is made up for, once."""

    ticks: Ticks
    catches_up: bool = True


class Reading(Protocol[S_co]):
    """What the reader of the whole configuration lends."""

    def say(self, path: At, message: str, *, warning: bool = False) -> None:
        """Tell a problem."""
        ...

    def ms(self, path: At, text: str) -> int:
        """A duration; one that cannot be is told."""
        ...

    def secret(self, path: At, raw: Mapping[str, str]) -> S_co:
        """A secret; one that is not there now is told as a warning."""
        ...


def read_status(raw: Mapping[str, Any] | None, reading: Reading[S]) -> StatusConfig[S] | None:
    """The key `status`, None: nobody can be asked."""
    if raw is None:
        return None
    try:
        endpoint_of(raw["endpoint"])
    except ValueError as error:
        reading.say(("status", "endpoint"), str(error).removeprefix("`endpoint` "))
    return StatusConfig(
        provider=raw["provider"],
        endpoint=raw["endpoint"],
        instance=raw["instance"],
        access_key=reading.secret(("status", "access_key"), raw["access_key"]),
        secret=reading.secret(("status", "secret"), raw["secret"]),
        rate=raw.get("rate", 100),
        unknown_retries=raw.get("unknown_retries", 3),
        confirm_after_ms=reading.ms(("status", "confirm_after"), raw.get("confirm_after", "5s")),
        timeout_ms=reading.ms(("status", "timeout"), raw.get("timeout", "5s")),
    )


def read_reconcile(raw: Mapping[str, Any] | None, status: object | None, reading: Reading[S]) -> ReconcileConfig | None:
    """The key `reconcile`, None: never on its own."""
    if raw is None:
        return None
    if status is None:
        reading.say(("reconcile",), "needs somebody to ask: write `status` too, or remove this")
    given = [key for key in ("cron", "every", "interval") if key in raw]
    if len(given) != 1:
        reading.say(("reconcile",), "needs either `cron` or `every`")
        return None
    (key,) = given
    if key != "cron":
        if "timezone" in raw:
            reading.say(("reconcile", "timezone"), f"belongs to `cron`; `{key}` knows no time of day")
        return _plan(("reconcile", key), lambda: every(reading.ms(("reconcile", key), raw[key])), raw, reading)
    timezone = raw.get("timezone", "UTC")
    try:
        zone(timezone)
    except ValueError as error:
        reading.say(("reconcile", "timezone"), str(error))
        timezone = "UTC"
    return _plan(("reconcile", "cron"), lambda: cron(raw["cron"], timezone), raw, reading)


def _plan(
    path: At, ticks: Callable[[], Ticks], raw: Mapping[str, Any], reading: Reading[Any]
) -> ReconcileConfig | None:
    try:
        return ReconcileConfig(ticks=ticks(), catches_up=raw.get("catch_up", "once") == "once")
    except ValueError as error:
        reading.say(path, str(error))
        return None


def lacking(raw: Mapping[str, Any] | None) -> str | None:
    """What this installation needs besides for the provider, in a sentence; None: nothing."""
    package = EXTRAS.get(raw["provider"]) if raw else None
    if raw is None or package is None or importlib.util.find_spec(package) is not None:
        return None
    return f"needs the package {package}: pip install 'rollcall[{raw['provider']}]'"
