"""The section `http`: where the HTTP API, the console and the metrics listen."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

from engine.config.endpoints import host_bits_problem, host_problem, url_problem
from engine.config.reader import ConfigReader
from engine.config.secret import Secret
from engine.core.hosts import is_loopback


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpConfig:
    """Where the API, the console and the metrics listen. `token`: one that may do everything.

    `external_url`: how people reach them, without a slash at its end; empty when that is not known. `hosts`: further names of this
    service, such as a reverse proxy gives. `trusted_proxies`: whose `X-Forwarded-*` headers are believed.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    token: Secret | None = None
    external_url: str = ""
    hosts: tuple[str, ...] = ()
    trusted_proxies: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()

    @property
    def is_local(self) -> bool:
        """Can only this machine reach it?"""
        return is_loopback(self.host)


def read_http(reader: ConfigReader) -> HttpConfig | None:
    """The section, None when it is `null`: nothing listens."""
    raw = reader.raw.get("http", {})
    if raw is None:
        return None
    listen = raw.get("listen", "127.0.0.1:8080")
    token = reader.secret(("http", "token"), raw["token"]) if "token" in raw else None
    host, port, problem = _address(listen)
    if problem is not None:
        reader.report(("http", "listen"), problem)
        return None
    external = (raw.get("external_url") or "").rstrip("/")
    if external and (problem := url_problem(external)) is not None:
        reader.report(("http", "external_url"), problem)
    return HttpConfig(
        host=host,
        port=port,
        token=token,
        external_url=external,
        hosts=_hosts(reader, raw.get("hosts") or ()),
        trusted_proxies=_networks(reader, raw.get("trusted_proxies") or ()),
    )


def _hosts(reader: ConfigReader, names: Sequence[str]) -> tuple[str, ...]:
    for index, name in enumerate(names):
        if problem := host_problem(name.removeprefix("[").removesuffix("]")):
            reader.report(("http", "hosts", index), problem)
    return tuple(name.lower().removeprefix("[").removesuffix("]") for name in names)


def _networks(reader: ConfigReader, texts: Sequence[str]) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    found = []
    for index, text in enumerate(texts):
        try:
            network = ipaddress.ip_network(text, strict=False)
        except ValueError:
            reader.report(
                ("http", "trusted_proxies", index), f"`{text[:80]}` is not an address or a network such as 10.0.0.0/8"
            )
            continue
        if problem := host_bits_problem(text):
            reader.report(("http", "trusted_proxies", index), problem)
        elif network.prefixlen == 0:
            reader.report(
                ("http", "trusted_proxies", index),
                f"{network} is every address: then any sender could claim any address; name those of your proxies",
            )
        found.append(network)
    return tuple(found)


def _address(listen: str) -> tuple[str, int, str | None]:
    """Host and port to listen on, and why they cannot be used (None when they can)."""
    example = "such as 127.0.0.1:8080"
    if "://" in listen:
        return "", 0, f"must be ADDRESS:PORT, {example}, without `{listen.partition('://')[0][:20]}://`"
    host, _, port = listen.rpartition(":")
    if host in ("", "*") and port.isdecimal():
        everywhere = f"write 127.0.0.1:{port[:5]} for this machine only, or 0.0.0.0:{port[:5]} for every address"
        return "", 0, f"`{listen[:80]}` names no address: {everywhere}"
    if not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
        return "", 0, f"`{listen[:80]}` is not ADDRESS:PORT, {example}"
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        return "", 0, f"`{listen[:80]}` is not ADDRESS:PORT: put an IPv6 address in brackets, such as [::1]:8080"
    host = host.removeprefix("[").removesuffix("]")
    return host, int(port), host_problem(host)
