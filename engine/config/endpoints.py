"""Addresses of services as people write them, read the same way where they are checked and where they are used.

`endpoint_of` reads the address of an HTTP service, `host_and_port` that of a broker. Pure: no name is resolved.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from engine.core.hosts import is_loopback

DEFAULT_PORTS = {"http": 80, "https": 443}

MAX_HOST_CHARS: Final = 253
"""Of a whole host name, without a dot at its end."""

MAX_LABEL_CHARS: Final = 63
"""Of each part between the dots of a host name."""

_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?")
_HOST_AND_PORT = re.compile(r"(?:\[(?P<address>[0-9A-Fa-f:.]+)\]|(?P<name>[^\s:/@\[\]]+))(?::(?P<port>[0-9]{1,5}))?")


_ENDS_IN_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9A-Fa-f]*)\.?")


def host_problem(host: str) -> str | None:
    """Why a host (an IPv6 address without brackets) cannot be one, as a sentence without subject; None when it can.

    Programs read addresses such as `127.1`, `0x7f000001` or `010.0.0.1` in different ways, so only four plain numbers are taken.
    """
    shown = host[:80]
    if "://" in host:
        return f"must be a host without `{host.partition('://')[0][:20]}://`"
    if "@" in host:
        return "must not contain a user name or password"
    if ":" in host:
        return None if _is_host(host, bracketed=True) else f"`{shown}` is not an IPv6 address"
    return name_problem(host) or ipv4_problem(host)


def name_problem(host: str) -> str | None:
    """Why the name server could never find a host name, as a sentence without subject; None when it could (RFC 1035, RFC 5891)."""
    shown = host[:80]
    name = host.removesuffix(".")
    if len(name) > MAX_HOST_CHARS:
        return f"`{shown}…` is longer than a host name can be ({MAX_HOST_CHARS} characters)"
    for label in name.split("."):
        if not label and name:
            return f"`{shown}` is not a host name or address: it has an empty part beside a dot"
        if len(label) > MAX_LABEL_CHARS:
            return f"`{label[:80]}` is longer than a part of a host name can be ({MAX_LABEL_CHARS} characters)"
        if _LABEL.fullmatch(label) is None:
            return f"`{shown}` is not a host name or address{_in_ascii(host)}"
        if label[:4].lower() == "xn--" and not _is_international(label):
            return f"`{shown}` is not a host name: `{label}` stands for no name in other letters"
    return None


def _in_ascii(host: str) -> str:
    """How a name with letters beyond ASCII is written; empty for any other."""
    try:
        written = "" if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        return ""
    return f": write `{written}`" if written and name_problem(written) is None else ""


def _is_international(label: str) -> bool:
    """Whether a label such as `xn--bcher-kva` stands for a name in other letters."""
    try:
        name = label[4:].encode().decode("punycode")
    except (UnicodeError, ValueError, IndexError):
        return False
    return name.isprintable() and not name.isascii()


def ipv4_problem(host: str) -> str | None:
    """Why a host that ends in a number is no IPv4 address; None when it is one, or a name."""
    if _ENDS_IN_NUMBER.fullmatch(host) is None:
        return None
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return f"`{host[:80]}` is not an IPv4 address: write four numbers from 0 to 255, such as 127.0.0.1"
    return None


def url_problem(text: str) -> str | None:
    """Why an http or https URL cannot be requested as it is written, as a sentence without subject; None when it can."""
    if not text.isprintable() or " " in text:
        return "contains a space or a control character; write %20 for a space"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        return f"has an invalid host or port: {error}"
    if parts.scheme.lower() not in DEFAULT_PORTS:
        return "must begin with http:// or https://"
    if "@" in parts.netloc:
        return "must not contain a user name or password"
    if not parts.hostname:
        return "has no host"
    if port == 0 or parts.netloc.endswith(":"):
        return "has an invalid port: it must be 1 to 65535"
    return host_problem(parts.hostname)


def host_bits_problem(network: str) -> str | None:
    """What to say of a valid network whose address is not its first one (`10.1.2.3/16`); None when it is."""
    whole = ipaddress.ip_network(network, strict=False)
    if "/" not in network or network.partition("/")[0] == str(whole.network_address):
        return None
    if ipaddress.ip_address(network.partition("/")[0]) == whole.network_address:
        return None
    return f"`{network[:60]}` stands for the whole network {whole}: write that, or leave out `/{whole.prefixlen}` for one address"


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
    if host is None or port == 0 or parts.netloc.endswith(":") or not _is_host(host, bracketed="[" in parts.netloc):
        raise ValueError(wrong)
    if problem := host_problem(host):
        raise ValueError(f"`endpoint` {problem}")
    chosen = scheme.lower() if mark else ("http" if is_loopback(host) else "https")
    return Endpoint(chosen, host, port or DEFAULT_PORTS[chosen])


def host_and_port(text: str, default_port: int) -> tuple[str, int]:
    """Host and port of HOST or HOST:PORT, the host without brackets. Raises ValueError with a sentence."""
    if "://" in text:
        scheme = text.partition("://")[0][:20]
        raise ValueError(f"`{_without_login(text)[:80]}` is not HOST or HOST:PORT: leave out `{scheme}://`")
    if text.count(":") > 1 and "[" not in text and _is_host(text, bracketed=True):
        raise ValueError(f"`{text}` is an IPv6 address: put it in brackets, `[{text}]:{default_port}`")
    found = _HOST_AND_PORT.fullmatch(text)
    if found is None:
        raise ValueError(
            f"`{_without_login(text)[:80]}` is not HOST or HOST:PORT, such as broker.example.com:{default_port}"
        )
    if found["port"] and not 0 < int(found["port"]) <= 65535:
        raise ValueError(f"`{text[:80]}` is not HOST or HOST:PORT: a port is a number from 1 to 65535")
    host = found["name"] or found["address"]
    if problem := host_problem(host):
        raise ValueError(problem)
    return host, int(found["port"] or default_port)


def _without_login(text: str) -> str:
    return text if "@" not in text else f"***@{text.rpartition('@')[2]}"


def _is_host(host: str, *, bracketed: bool) -> bool:
    if not bracketed:
        return name_problem(host) is None
    try:
        return ipaddress.ip_address(host).version == 6 and "%" not in host
    except ValueError:
        return False
