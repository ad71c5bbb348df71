"""What both providers need to know about addresses and answers of HTTP services; pure. Read `endpoint_of` first."""

from __future__ import annotations

import ipaddress
import json
import re
import socket
import ssl
from collections.abc import Iterable
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from engine.core.hosts import is_loopback

LONGEST_PAUSE_S = 3600.0
"""A service that wants us silent for longer is asked again after this: it may have meant something else."""

SHOWN = 200
"""Characters of a foreign message that people get to see."""

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


def instant_s(header: str | None) -> float | None:
    """Seconds since the epoch of an HTTP date; None when there is none that can be read."""
    if not header:
        return None
    try:
        found = parsedate_to_datetime(header)
        return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def retry_after_s(header: str | None, now_s: float) -> float | None:
    """Seconds that `Retry-After` asks for, at most an hour. `now_s`: the service's own clock, where it says."""
    if header is None:
        return None
    header = header.strip()
    if header.isascii() and header.isdigit():
        return min(float(header), LONGEST_PAUSE_S)
    until_s = instant_s(header)
    return None if until_s is None else min(max(until_s - now_s, 0.0), LONGEST_PAUSE_S)


def foreign(text: object, hidden: Iterable[str]) -> str:
    """A message that a service sent, short, on one line, without what must not be shown, whatever way it is encoded."""
    found = str(text)
    for word in hidden:
        for form in {word, quote(word, safe=""), quote(word)}:
            if form:
                found = found.replace(form, "***")
    found = " ".join("".join(c if c.isprintable() else " " for c in found).split())
    return found if len(found) <= SHOWN else f"{found[:SHOWN]}…"


def json_object(body: bytes) -> dict[str, Any] | None:
    """The object that an answer is; None when it is something else."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def beneath(error: BaseException) -> str:
    """What went wrong below the library, in the words of the operating system."""
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
