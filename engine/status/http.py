"""Addresses and responses of HTTP services, as both providers need them. Pure. Read `endpoint_of` first."""

from __future__ import annotations

import ipaddress
import json
import re
import socket
import ssl
from collections.abc import Iterable
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

SHOWN = 200
"""Characters of a service's message that are shown."""

TIMED_OUT = "timed out"

_HOST = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?)*\.?"
)


class Endpoint(NamedTuple):
    """Where a service listens; `host` without the brackets of an IPv6 address."""

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


DEFAULT_PORTS = {"http": 80, "https": 443}


def endpoint_of(text: str) -> Endpoint:
    """`http://h:p`, `https://h:p` or a bare `h[:p]`: https, but http for an address of the loopback. ValueError, with a sentence."""
    told = f"`endpoint` must be HOST, HOST:PORT, http://HOST:PORT or https://HOST:PORT, not {_shown(text)!r}"
    scheme, mark, rest = text.partition("://")
    if not text.isprintable() or " " in text or (mark and scheme.lower() not in DEFAULT_PORTS):
        raise ValueError(told)
    try:
        parts = urlsplit(f"//{rest if mark else text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(told) from None
    if "@" in parts.netloc:
        raise ValueError("`endpoint` holds a user name or password; keys belong in `access_key` and `secret`")
    if parts.path not in ("", "/") or "?" in text or "#" in text:
        raise ValueError(f"{told}: no path and no query")
    if host is None or port == 0 or not _is_host(host, "[" in parts.netloc):
        raise ValueError(told)
    chosen = scheme.lower() if mark else ("http" if is_loopback(host) else "https")
    return Endpoint(chosen, host, port or DEFAULT_PORTS[chosen])


def _shown(text: str) -> str:
    return text if "@" not in text else f"***@{text.rpartition('@')[2]}"


def _is_host(host: str, bracketed: bool) -> bool:
    if not bracketed:
        return _HOST.fullmatch(host) is not None
    try:
        return ipaddress.ip_address(host).version == 6 and "%" not in host
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Does the name mean this machine only?"""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def safe_message(text: object, hidden: Iterable[str]) -> str:
    """A message of a service, fit to be shown: short, on one line, without the `hidden` texts, however they are encoded."""
    found = str(text)
    for word in hidden:
        for form in {word, quote(word, safe=""), quote(word)}:
            if form:
                found = found.replace(form, "***")
    found = " ".join("".join(c if c.isprintable() else " " for c in found).split())
    return found if len(found) <= SHOWN else f"{found[:SHOWN]}…"


def json_object(body: bytes) -> dict[str, Any] | None:
    """The JSON object of a response; None when the body is anything else."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def root_cause(error: BaseException) -> str:
    """What went wrong below an HTTP library, in the words of the operating system."""
    seen: BaseException | None = error
    found = "the connection ended"
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return f"certificate verify failed: {seen.verify_message}"
        if isinstance(seen, ssl.SSLError):
            return seen.reason or "the handshake failed"
        if isinstance(seen, socket.gaierror):
            return f"its name cannot be resolved ({seen.strerror})"
        if isinstance(seen, TimeoutError):
            return TIMED_OUT
        if isinstance(seen, OSError) and seen.strerror:
            found = seen.strerror.lower()
        inner = getattr(seen, "reason", None) or (seen.args[0] if seen.args else None)
        seen = inner if isinstance(inner, BaseException) else seen.__cause__ or seen.__context__
    return found
