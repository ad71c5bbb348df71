"""The sections `deliveries`, `network` and `heartbeat`: how requests leave, and where they may go."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from engine.config.endpoints import host_bits_problem, url_problem
from engine.config.reader import ConfigReader

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

DEFAULT_DENY = ("169.254.0.0/16", "fe80::/10", "100.100.100.200/32")
"""Addresses of cloud metadata services: never a target of a webhook."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveriesConfig:
    """How deliveries leave."""

    max_age_ms: int = 86_400_000  # retries stop this long after the decision
    burst: int = 1_000  # deliveries a rule may make in a minute
    per_target: int = 16  # requests in flight to one target


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """The networks that webhooks may not reach, checked after name resolution."""

    deny: tuple[Network, ...] = tuple(ipaddress.ip_network(text) for text in DEFAULT_DENY)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatConfig:
    """A dead man's switch elsewhere that is pinged while status is up to date."""

    url: str
    every_ms: int = 60_000


def read_deliveries(reader: ConfigReader) -> DeliveriesConfig:
    """The section `deliveries`."""
    return DeliveriesConfig(**reader.durations("deliveries", plain=("burst", "per_target")))


def read_network(reader: ConfigReader) -> NetworkConfig:
    """The section `network`; a written `deny` replaces the default one."""
    raw = reader.raw.get("network") or {}
    if "deny" not in raw:
        return NetworkConfig()
    found = []
    for index, text in enumerate(raw["deny"]):
        at = ("network", "deny", index)
        try:
            network = ipaddress.ip_network(text, strict=False)
        except ValueError:
            reader.report(at, f"`{text[:60]}` is not a network such as 169.254.0.0/16 or fe80::/10")
            continue
        found.append(network)
        if network.prefixlen == 0:
            message = f"denies every IPv{network.version} address, so no webhook to one can leave"
            reader.report(at, message, warning=True)
        elif problem := host_bits_problem(text):
            reader.report(at, problem, warning=True)
    return NetworkConfig(deny=tuple(found))


def read_heartbeat(reader: ConfigReader) -> HeartbeatConfig | None:
    """The section `heartbeat`; None: nothing is pinged."""
    raw = reader.raw.get("heartbeat")
    if raw is None:
        return None
    if problem := url_problem(raw["url"]):
        reader.report(("heartbeat", "url"), problem)
    return HeartbeatConfig(url=raw["url"], every_ms=reader.duration_ms(("heartbeat", "every"), raw.get("every", "1m")))
