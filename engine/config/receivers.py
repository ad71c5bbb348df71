"""The section `receivers`: named destinations, each with its service, its keys and its secrets; or a route to others.

A secret is `{env: NAME}` or `{file: PATH}`. One that is written as a text works, with a warning: the file can be read by more people
than a secret should have. Read `Receiver` first; routes are in `routes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from engine.config.addresses import is_address
from engine.config.connection import CONNECTION_KEYS, DIRECT, ConnectionConfig, read_connection
from engine.config.endpoints import url_problem
from engine.config.matchers import as_tuple
from engine.config.named_intervals import NamedIntervals
from engine.config.packages import missing_package
from engine.config.reader import ConfigReader
from engine.config.receiver_secrets import SECRETS
from engine.config.routes import WrittenRoute, read_routes, route_problems
from engine.config.secret import Secret
from engine.config.time_zones import zone
from engine.config.yamlfile import KeyPath
from engine.errors import Problem, RollcallError

ROUTE: Final = "route"
EMAIL: Final = "email"
WEBHOOK: Final = "webhook"
APPRISE: Final = "apprise"

KEEPS_INCIDENTS: Final = frozenset({"pagerduty", "opsgenie"})
"""Services that keep an incident open until they get its recovery."""

PACKAGES: Final = {APPRISE: "apprise"}
"""The packages that some services need, by the extra that installs them."""

DEFAULT_TIMEOUT_MS: Final = 10_000
MAX_TIMEOUT_MS: Final = 300_000

OPEN_SECRETS: Final = frozenset({("ntfy", "topic"), ("webhook", "url")})
"""Of `SECRETS`, the ones that often are no secret: written as a text, they are no warning unless they hold a password."""

_NOT_SETTINGS: Final = frozenset({"type", "title", "text", "timezone", "timeout", "routes", *CONNECTION_KEYS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """One named destination. `values`: its keys that are no secrets; `secrets`: where the others are, `headers.NAME` for a header's."""

    name: str
    type: str
    title: str | None = None  # a template; None: the default title
    text: str | None = None
    timezone: str = "UTC"
    timeout_ms: int = DEFAULT_TIMEOUT_MS
    connection: ConnectionConfig = DIRECT
    values: Mapping[str, Any] = field(default_factory=dict)
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    routes: tuple[WrittenRoute, ...] = ()  # of a route

    def problem(self) -> str | None:
        """Why it cannot be used now: a secret that cannot be read. None: it can."""
        for key, secret in self.secrets.items():
            if (problem := secret.problem()) is not None:
                return f"the receiver {self.name} has no `{key}`: {problem}"
        return None

    def settings(self) -> dict[str, Any]:
        """Its keys with the secrets revealed, for memory only. Raises RollcallError when one cannot be read."""
        found: dict[str, Any] = dict(self.values)
        if "headers" in found:
            found["headers"] = dict(found["headers"])
        for key, secret in self.secrets.items():
            try:
                value = secret.reveal()
            except RollcallError as error:
                raise RollcallError(f"the receiver {self.name} has no `{key}`: {error}") from error
            if key.startswith("headers."):
                found.setdefault("headers", {})[key.removeprefix("headers.")] = value
            else:
                found[key] = value
        return found


def read_receivers(
    reader: ConfigReader, intervals: NamedIntervals, webhooks: ConnectionConfig = DIRECT
) -> dict[str, Receiver]:
    """The section: receivers by name.

    `intervals`: those of `time_intervals`, which routes may name. `webhooks`: how webhooks connect, which receivers inherit.
    """
    raw = reader.raw.get("receivers") or {}
    found = {name: _read(reader, name, written, intervals, webhooks) for name, written in raw.items()}
    route_problems(reader, {name: one.routes for name, one in found.items() if one.type == ROUTE}, list(found))
    return found


def with_intervals(receivers: Mapping[str, Receiver], intervals: NamedIntervals) -> dict[str, Receiver]:
    """The same receivers, with routes that go by edited time intervals."""
    return {
        name: replace(one, routes=tuple(route.with_intervals(intervals) for route in one.routes)) if one.routes else one
        for name, one in receivers.items()
    }


def _read(
    reader: ConfigReader,
    name: str,
    raw: Mapping[str, Any],
    intervals: NamedIntervals,
    webhooks: ConnectionConfig,
) -> Receiver:
    at: KeyPath = ("receivers", name)
    kind = raw["type"]
    if kind == ROUTE:
        return Receiver(name=name, type=ROUTE, routes=read_routes(reader, (*at, "routes"), raw["routes"], intervals))
    values = {key: value for key, value in raw.items() if key not in _NOT_SETTINGS}
    secrets: dict[str, Secret] = {}
    for key in SECRETS.get(kind, ()):
        if key in values:
            secrets[key] = _secret(reader, (*at, key), values.pop(key), kind, key)
    if "headers" in values:
        values["headers"] = _headers(reader, (*at, "headers"), values["headers"], secrets)
    for key in ("to", "cc"):
        if kind == EMAIL and key in values:
            values[key] = _addresses(reader, (*at, key), values[key])
    _check(reader, at, kind, raw)
    timeout_ms = reader.duration_ms((*at, "timeout"), raw["timeout"]) if "timeout" in raw else DEFAULT_TIMEOUT_MS
    if timeout_ms > MAX_TIMEOUT_MS:
        reader.report((*at, "timeout"), f"must be at most {MAX_TIMEOUT_MS // 60_000}m")
    return Receiver(
        name=name,
        type=kind,
        title=raw.get("title"),
        text=raw.get("text"),
        timezone=_timezone(reader, at, raw),
        timeout_ms=timeout_ms,
        connection=read_connection(reader, at, raw, webhooks),
        values=values,
        secrets=secrets,
    )


def _secret(reader: ConfigReader, at: KeyPath, written: Any, kind: str, key: str) -> Secret:
    if isinstance(written, Mapping):
        found = reader.secret(at, written)
        problem = None if found.problem() is not None or key != "url" else _url_problem(kind, found.reveal())
        if problem is not None:
            reader.report(at, f"the value that it names {problem}")
        return found
    text = str(written)
    if key == "url":
        problem = _url_problem(kind, text)
        if problem is not None:
            reader.report(at, problem)
    if (kind, key) not in OPEN_SECRETS:
        message = "is a secret, and stands in this file: write {env: NAME} or {file: PATH} instead"
        reader.report(at, message, warning=True)
    return Secret("text", text)


def _url_problem(kind: str, url: str) -> str | None:
    """Why an address cannot be used, without repeating it; Apprise has schemes of its own."""
    if kind == APPRISE:
        return None
    return url_problem(url.strip())


def _headers(
    reader: ConfigReader, at: KeyPath, written: Mapping[str, Any], secrets: dict[str, Secret]
) -> dict[str, str]:
    plain = {}
    for name, value in written.items():
        if isinstance(value, Mapping):
            secrets[f"headers.{name}"] = reader.secret((*at, name), value)
        else:
            plain[name] = value
    return plain


def _addresses(reader: ConfigReader, at: KeyPath, written: str | list[str]) -> list[str]:
    found = list(as_tuple(written))
    for index, address in enumerate(found):
        if not is_address(address):
            place = at if isinstance(written, str) else (*at, index)
            reader.report(place, f"`{address[:80]}` is not an e-mail address such as ops@example.com")
    return found


def _timezone(reader: ConfigReader, at: KeyPath, raw: Mapping[str, Any]) -> str:
    name = raw.get("timezone", "UTC")
    try:
        zone(name)
    except ValueError as error:
        reader.report((*at, "timezone"), str(error))
        return "UTC"
    return str(name)


def _check(reader: ConfigReader, at: KeyPath, kind: str, raw: Mapping[str, Any]) -> None:
    """Report what does not go together."""
    if kind == EMAIL and reader.raw.get("smtp") is None and "sources" in reader.raw:
        message = "needs a mail server: set `smtp: {host: ..., from: ...}` in the configuration"
        reader.report((*at, "type"), message)
    if kind == "ntfy" and ("username" in raw) != ("password" in raw):
        reader.report(at, "`username` and `password` belong together: one of them is missing")


def missing_packages(reader: ConfigReader) -> list[Problem]:
    """The problem of each receiver whose package is not installed here; empty when nothing is missing."""
    found = []
    for name, written in (reader.raw.get("receivers") or {}).items():
        if (missing := missing_package(PACKAGES, written["type"])) is not None:
            found.append(reader.document.problem(("receivers", name, "type"), missing))
    return found


def missing_secrets(receivers: Mapping[str, Receiver]) -> list[str]:
    """A sentence for each receiver that cannot be used now, because a secret of it cannot be read."""
    return [problem for one in receivers.values() if (problem := one.problem()) is not None]
