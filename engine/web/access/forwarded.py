"""What a reverse proxy says about a request: believed only of the proxies that the configuration names. Read `as_sent`."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Any, Final

from starlette.types import Scope

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_HOPS: Final = 20
"""Addresses of X-Forwarded-For that are looked at, from its end."""

_PREFIX: Final = re.compile(r"(/[A-Za-z0-9._~-]+)+")
_FORWARDED: Final = frozenset(
    {b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-prefix", b"forwarded"}
)


def as_sent(scope: Scope, proxies: Sequence[Network]) -> tuple[Scope, str]:
    """The request as its sender sent it to the outermost proxy, and the path below which that serves us ("" for none).

    Who is no trusted proxy cannot say anything: its `X-Forwarded-*` headers are left out.
    """
    found = [(name, value) for name, value in scope["headers"] if name in _FORWARDED]
    if not found:
        return scope, ""
    headers = [pair for pair in scope["headers"] if pair[0] not in _FORWARDED]
    client = scope.get("client")
    if client is None or not _is_one_of(str(client[0]), proxies):
        return {**scope, "headers": headers}, ""
    changed: dict[str, Any] = {"headers": headers}
    hops = _list(found, b"x-forwarded-for")
    if hops:
        changed["client"] = (_sender(hops, proxies) or str(client[0]), 0)
    # The proxy next to us has the last word: what stands before may come from anybody.
    scheme = _last(found, b"x-forwarded-proto").lower()
    if scheme in ("http", "https"):
        changed["scheme"] = scheme
    host = _last(found, b"x-forwarded-host")
    if host:
        changed["headers"] = [pair for pair in headers if pair[0] != b"host"] + [(b"host", host.encode("latin-1"))]
    prefix = _last(found, b"x-forwarded-prefix").rstrip("/")
    return {**scope, **changed}, prefix if _PREFIX.fullmatch(prefix) and ".." not in prefix else ""


def below(path: str, prefix: str) -> str | None:
    """The path of ours that an address below a prefix stands for; None when it does not lie below it."""
    if not prefix or not path.startswith(prefix):
        return None
    rest = path[len(prefix) :]
    return rest if rest.startswith("/") else ("/" if not rest else None)


def _is_one_of(address: str, networks: Sequence[Network]) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return any(found in network for network in networks)


def _sender(hops: Sequence[str], proxies: Sequence[Network]) -> str | None:
    """The nearest address that is no proxy of ours; None when the list says nothing that can be believed."""
    nearest = None
    for hop in list(reversed(hops))[:MAX_HOPS]:
        text = hop.strip().strip('"')
        if text.startswith("["):
            text = text[1:].partition("]")[0]
        elif text.count(":") == 1:
            text = text.partition(":")[0]
        try:
            nearest = str(ipaddress.ip_address(text))
        except ValueError:
            return nearest
        if not _is_one_of(nearest, proxies):
            return nearest
    return nearest


def _list(found: Sequence[tuple[bytes, bytes]], name: bytes) -> list[str]:
    return [
        part.strip()
        for key, value in found
        if key == name
        for part in value.decode("latin-1").split(",")
        if part.strip()
    ]


def _last(found: Sequence[tuple[bytes, bytes]], name: bytes) -> str:
    values = _list(found, name)
    return values[-1] if values else ""
