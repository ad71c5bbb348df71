"""Addresses of clients, as brokers print them: read `address`, then `network_of` and `network`.

| as printed | address |
|---|---|
| `10.0.0.1:4711`, `/10.0.0.1:4711`, `host.example/10.0.0.1:4711` | `10.0.0.1` |
| `[2001:db8::1]:4711`, `/2001:db8:0:0:0:0:0:1:4711` | `2001:db8::1`, `2001:db8:0:0:0:0:0:1` |
| `2001:db8::1:4711` | `2001:db8::1`: a last group of four or five decimal digits is the port of a client |
| `2001:db8::1:22` | as it is: no client has so low a port |
| `[fe80::1%eth0]:4711` | `fe80::1%eth0`; its networks are those of `fe80::1` |
"""

from __future__ import annotations

import ipaddress
from typing import Final

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_CLIENT_PORT_DIGITS: Final = 4
"""Fewest digits of a port that a client may have: systems give out ports from 1024 on."""

_MAPPED_BITS: Final = 96
"""Bits before the IPv4 address in an IPv6 address that stands for one (`::ffff:10.0.0.1`)."""

_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")


def address(ip_port: str) -> str:
    """The address without the port, see above; a text that is none stays as it is."""
    text = ip_port
    if "/" in text:
        last = text.rpartition("/")[2]
        text = last if "." in last or ":" in last else text
    if text.startswith("["):
        return text[1:].partition("]")[0]
    colons = text.count(":")
    if colons > 1:
        return _six_without_port(text)
    return text.partition(":")[0] if colons else text


def _six_without_port(text: str) -> str:
    """An IPv6 address without brackets, without the port that may follow it."""
    if "%" in text:
        host, _, zone = text.partition("%")
        return f"{host}%{zone.partition(':')[0]}"
    head, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdecimal()) or len(port) > 5 or not _is_six(head):
        return text
    return head if len(port) >= _CLIENT_PORT_DIGITS or not _is_six(text) else text


def _is_six(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def network_of(text: str, length: str) -> str:
    """The network of an address: ("10.1.2.3", "24") -> "10.1.2.0/24"; "" for what is no address, or has no such length.

    An IPv4 address that is written as IPv6 (`::ffff:10.1.2.3`) is in the network of the IPv4 address.
    """
    host = text.partition("%")[0]
    try:
        if ":" in host:
            mapped = ipaddress.IPv6Address(host).ipv4_mapped
            host = host if mapped is None else str(mapped)
        return str(ipaddress.ip_network(f"{host}/{length}", strict=False)) if host else ""
    except ValueError:
        return ""  # a device may claim anything


def network(text: str) -> Network:
    """A network as people write it; one of IPv4 addresses that are written as IPv6 is that of the IPv4 addresses.

    Raises ValueError for a text that is none.
    """
    found = ipaddress.ip_network(text, strict=False)
    if isinstance(found, ipaddress.IPv6Network) and found.subnet_of(_MAPPED):
        start = found.network_address.ipv4_mapped
        return ipaddress.IPv4Network(f"{start}/{found.prefixlen - _MAPPED_BITS}")
    return found
