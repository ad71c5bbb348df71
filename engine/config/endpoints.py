"""Addresses of services as people write them, read the same way where they are checked and where they are used.

`endpoint_of` reads the address of an HTTP service, `host_and_port` that of a broker. Pure: no name is resolved.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple
from urllib.parse import urlsplit

from engine.core.hosts import is_loopback

DEFAULT_PORTS = {"http": 80, "https": 443}

_HOST = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?)*\.?"
)
_HOST_AND_PORT = re.compile(r"(?:\[(?P<address>[0-9A-Fa-f:.]+)\]|(?P<name>[^\s:/@\[\]]+))(?::(?P<port>[0-9]{1,5}))?")


class Endpoint(NamedTuple):
    """Where an HTTP service listens; `host` without the brackets of an IPv6 address."""

    scheme: str
    host: str
    port: int

    @property
    def netloc(self) -> str:
        """Host and port as they stand in a URL; the scheme's own port is left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        """`http://host:port`."""
        return f"{self.scheme}://{self.netloc}"


def endpoint_of(text: str) -> Endpoint:
    """The endpoint of `http://HOST:PORT`, `https://HOST:PORT` or `HOST[:PORT]`.

    Without a scheme it is https, or http for a loopback address. Raises ValueError with a sentence that begins with
    `endpoint` and never shows a password.
    """
    wrong = f"`endpoint` must be HOST, HOST:PORT, http://HOST:PORT or https://HOST:PORT, not {_without_login(text)!r}"
    scheme, mark, rest = text.partition("://")
    if not text.isprintable() or " " in text or (mark and scheme.lower() not in DEFAULT_PORTS):
        raise ValueError(wrong)
    try:
        parts = urlsplit(f"//{rest if mark else text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(wrong) from None
    if "@" in parts.netloc:
        raise ValueError("`endpoint` contains a user name or password; keys belong in `access_key` and `secret`")
    if parts.path not in ("", "/") or "?" in text or "#" in text:
        raise ValueError(f"{wrong}: a path or query is not allowed")
    if host is None or port == 0 or not _is_host(host, bracketed="[" in parts.netloc):
        raise ValueError(wrong)
    chosen = scheme.lower() if mark else ("http" if is_loopback(host) else "https")
    return Endpoint(chosen, host, port or DEFAULT_PORTS[chosen])


def host_and_port(text: str, default_port: int) -> tuple[str, int]:
    """Host and port of HOST or HOST:PORT, the host without brackets. Raises ValueError with a sentence."""
    found = _HOST_AND_PORT.fullmatch(text)
    if found is None or (found["port"] and not 0 < int(found["port"]) <= 65535):
        raise ValueError(f"`{text}` is not HOST or HOST:PORT, such as broker.example.com:5672")
    return found["name"] or found["address"], int(found["port"] or default_port)


def _without_login(text: str) -> str:
    return text if "@" not in text else f"***@{text.rpartition('@')[2]}"


def _is_host(host: str, *, bracketed: bool) -> bool:
    if not bracketed:
        return _HOST.fullmatch(host) is not None
    try:
        return ipaddress.ip_address(host).version == 6 and "%" not in host
    except ValueError:
        return False
