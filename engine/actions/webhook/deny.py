"""`network.deny`: addresses that no webhook may reach, in whatever form they are written. Read `forms`.

An address is checked when its name has been resolved and again when the socket for it is made, so nothing can be exchanged in between.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

THIS_HOST: Final[tuple[Address, ...]] = (IPv4Address("127.0.0.1"), IPv6Address("::1"))
"""Where the system connects to when it is told `0.0.0.0` or `::`."""

EMBEDDING: Final = tuple(
    map(
        IPv6Network,
        (
            "::/96",  # IPv4-compatible
            "::ffff:0:0/96",  # IPv4-mapped
            "::ffff:0:0:0/96",  # IPv4-translated (SIIT)
            "64:ff9b::/96",  # NAT64
            "64:ff9b:1::/48",  # NAT64 of one network
        ),
    )
)
"""Networks whose addresses hold an IPv4 address in their last 32 bits."""

ISATAP: Final = frozenset({0x00005EFE, 0x02005EFE})
"""The third quarter of an IPv6 address whose last quarter is an IPv4 address."""


class Denied(OSError):
    """The target's address is one that configuration refuses."""

    def __init__(self, host: str, address: str) -> None:
        where = host if host == address else f"{host} ({address})"
        super().__init__(f"{where} is denied by network.deny")


class DenyList:
    """The addresses that no webhook may reach."""

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks: list[Network] = [ip_network(text, strict=False) for text in networks]
        self._denied = lru_cache(maxsize=1024)(self._is_denied)

    @property
    def denies_any(self) -> bool:
        """Is any address denied?"""
        return bool(self._networks)

    def check(self, host: str, address: str) -> None:
        """Raises Denied when `address` (of `host`), or any address that it stands for, lies in one of the networks."""
        if self._networks and self._denied(address):
            raise Denied(host, address)

    def check_literal(self, host: str) -> None:
        """Raises Denied when `host` is itself an address (so it is never resolved) and is denied."""
        try:
            self.check(host, host)
        except ValueError:
            return  # a name: its addresses are checked when it is resolved

    def _is_denied(self, address: str) -> bool:
        return any(
            form.version == network.version and form in network for form in forms(address) for network in self._networks
        )


def forms(address: str) -> frozenset[Address]:
    """An address and every address that it stands for. Raises ValueError when it is none."""
    found: set[Address] = set()
    waiting: list[Address] = [_parsed(address.partition("%")[0])]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += _stands_for(one)
    # A deny list may name the mapped form; then it means the IPv4 address too.
    return frozenset(found | {IPv6Address(f"::ffff:{one}") for one in found if isinstance(one, IPv4Address)})


def _parsed(text: str) -> Address:
    """An address as people write it, or as the system would read it: `2130706433`, `127.1` and `0x7f.1` are 127.0.0.1."""
    try:
        return ip_address(text)
    except ValueError:
        if ":" in text:
            raise
    try:
        return IPv4Address(socket.inet_aton(text.removesuffix(".")))
    except OSError as error:
        raise ValueError(f"{text} is no address") from error


def _stands_for(address: Address) -> Iterator[Address]:
    if address.is_unspecified:
        yield from THIS_HOST
    if isinstance(address, IPv4Address):
        return
    value = int(address)
    last = IPv4Address(value & 0xFFFFFFFF)
    # `::` and `::1` are what they are, not 0.0.0.0 and 0.0.0.1.
    if value > 1 and (any(address in network for network in EMBEDDING) or (value >> 32) & 0xFFFFFFFF in ISATAP):
        yield last
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
