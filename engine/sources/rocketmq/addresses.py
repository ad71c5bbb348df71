"""Where the name servers are: their names become addresses here, because the native library ends its process for a name that is none.

The library is given numbers only, and so never asks for a name itself. Read `NameServers.look_up`.
"""

from __future__ import annotations

import http.client
import socket
import time
import urllib.error
import urllib.request
from typing import Final, NamedTuple

from engine.core.foreign_text import foreign_text
from engine.sources.rocketmq.pipe import MAX_REASON_CHARS, ClusterAccess

MAX_NAMES: Final = 32
"""Name servers of one cluster; further ones are not used."""

MAX_ADDRESSES: Final = 64
"""Addresses of all of them together."""

LIST_S: Final = 5.0
MAX_LIST_BYTES: Final = 16 * 1024
"""How long a server may take to send the list of name servers, and how long that may be."""


class Found(NamedTuple):
    """`host:port`, with the host as a number, and a sentence about what has none; empty when all have one."""

    addresses: tuple[str, ...]
    unresolved: str


class NameServers:
    """The name servers of one connection."""

    def __init__(self, connection: ClusterAccess) -> None:
        """Nothing is asked yet."""
        self._listed = tuple(filter(None, connection.name_servers.split(";")))
        self._list_url = connection.name_server_domain

    def look_up(self) -> Found:
        """Their addresses now; blocks as long as the system's resolver does."""
        names = self._listed
        if self._list_url:
            try:
                names = _fetch_list(self._list_url)
            except (OSError, ValueError, http.client.HTTPException) as error:
                return Found((), f"cannot read the list of name servers from {self._list_url}: {_reason(error)}")
            if not names:
                return Found((), f"{self._list_url} lists no name server")
        addresses: dict[str, None] = {}
        bad: list[str] = []
        for name in names[:MAX_NAMES]:
            host, _, port = name.rpartition(":")
            found = _addresses(host)
            addresses |= dict.fromkeys(f"{address}:{port}" for address in found if _is_port(port))
            if not found or not _is_port(port):
                bad.append(foreign_text(host if not found else name, 100))
        return Found(tuple(addresses)[:MAX_ADDRESSES], f"cannot resolve {', '.join(bad)}" if bad else "")


def _addresses(host: str) -> list[str]:
    """The IPv4 addresses of a host; the library knows no others. None when it has none."""
    try:
        found = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)
    except (OSError, UnicodeError, ValueError):
        return []
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 5 and 0 < int(text) < 65536


def _fetch_list(url: str) -> tuple[str, ...]:
    """The names that a server lists. OSError, ValueError or HTTPException when it cannot be read."""
    until_s = time.monotonic() + LIST_S
    if not url.startswith(("http://", "https://")):
        raise ValueError("it is no http:// or https:// address")
    text = b""
    with urllib.request.urlopen(url, timeout=LIST_S) as response:
        while data := response.read1(MAX_LIST_BYTES):
            text += data
            if len(text) > MAX_LIST_BYTES:
                raise ValueError(f"it is longer than {MAX_LIST_BYTES} bytes")
            if time.monotonic() > until_s:
                raise TimeoutError(f"it was not complete within {LIST_S:g} s")
    return tuple(name for part in text.decode("ascii", "backslashreplace").split(";") if (name := part.strip()))


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, socket.gaierror):
        return "its name does not resolve"
    return foreign_text(str(error), MAX_REASON_CHARS // 2)
