"""The section `http`: where the HTTP API, the console and the metrics listen."""

from __future__ import annotations

import re
from dataclasses import dataclass

from engine.config.reader import ConfigReader
from engine.config.secret import Secret, secret_from
from engine.core.hosts import is_loopback


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpConfig:
    """Where the API, the console and the metrics listen. `token` None: no login is needed.

    `external_url`: how people reach them, without a slash at its end; empty when that is not known.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    token: Secret | None = None
    external_url: str = ""


def read_http(reader: ConfigReader) -> HttpConfig | None:
    """The section, None when it is `null`: nothing listens. Reachable from outside, it needs a token."""
    raw = reader.raw.get("http", {})
    if raw is None:
        return None
    listen = raw.get("listen", "127.0.0.1:8080")
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    if not host or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
        reader.report(("http", "listen"), f"`{listen}` is not ADDRESS:PORT, such as 127.0.0.1:8080")
        return None
    token = secret_from(raw["token"], reader.folder) if "token" in raw else None
    if token is None and not is_loopback(host):
        reader.report(("http", "listen"), f"{host} is reachable from outside, so `http.token` is required")
    if token is not None and (problem := token.problem()):
        reader.report(("http", "token"), problem, warning=True)
    external = (raw.get("external_url") or "").rstrip("/")
    return HttpConfig(host=host, port=int(port), token=token, external_url=external)
