"""The section `smtp`: the server that takes e-mails."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.config.addresses import mailbox_problem
from engine.config.endpoints import host_problem
from engine.config.reader import ConfigReader
from engine.config.secret import Secret
from engine.core.hosts import is_loopback


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpConfig:
    """The server that takes e-mails. `security`: `starttls`, `tls` (from the first byte) or `plain`."""

    host: str
    port: int
    sender: str  # as it stands in `From`
    security: str = "starttls"
    username: str | None = None
    password: Secret | None = None
    ca: Path | None = None  # trusted instead of the system's certificates
    timeout_ms: int = 30_000  # of one attempt
    helo: str | None = None  # our name in EHLO; None: the name of this machine

    @property
    def target(self) -> str:
        """What concurrency and the circuit breaker are counted by."""
        return f"smtp://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def read_smtp(reader: ConfigReader) -> SmtpConfig | None:
    """The section; None: no e-mail can be sent."""
    raw = reader.raw.get("smtp")
    if raw is None:
        return None
    _check_host(reader, raw)
    security = _security(reader, raw)
    if ("username" in raw) != ("password" in raw):
        reader.report(("smtp",), "`username` and `password` belong together: one of them is missing")
    if problem := mailbox_problem(raw["from"]):
        reader.report(("smtp", "from"), problem)
    ca = reader.certificates(("smtp", "ca"), raw["ca"]) if "ca" in raw else None
    return SmtpConfig(
        host=raw["host"],
        port=raw.get("port", 465 if security == "tls" else 587),
        sender=raw["from"],
        security=security,
        username=raw.get("username"),
        password=reader.secret(("smtp", "password"), raw["password"]) if "password" in raw else None,
        ca=ca,
        timeout_ms=reader.duration_ms(("smtp", "timeout"), raw.get("timeout", "30s")),
        helo=_helo(reader, raw.get("helo")),
    )


def _check_host(reader: ConfigReader, raw: Mapping[str, Any]) -> None:
    """Report a host that cannot be one, and a port that belongs to the other kind of encryption."""
    host = raw["host"]
    name, colon, port = host.rpartition(":")
    if colon and ":" not in name and port.isdecimal():
        message = f"must be the host alone: write `host: {name[:80]}` and `port: {port[:5]}`"
        reader.report(("smtp", "host"), message)
    elif host.startswith("[") and host_problem(host.strip("[]")) is None:
        reader.report(("smtp", "host"), f"write an IPv6 address without brackets here: {host.strip('[]')}")
    elif problem := host_problem(host):
        reader.report(("smtp", "host"), problem)
    port_number, tls = raw.get("port"), raw.get("tls", False)
    if port_number == 465 and not tls:
        message = "servers expect encryption from the first byte on port 465: set `tls: true`, or use port 587"
        reader.report(("smtp", "port"), message, warning=True)
    elif port_number in (25, 587) and tls:
        message = (
            f"servers do not expect encryption from the first byte on port {port_number}: remove `tls`, or use port 465"
        )
        reader.report(("smtp", "port"), message, warning=True)


def _helo(reader: ConfigReader, helo: str | None) -> str | None:
    """Our own name for EHLO: a host name, or an address, which RFC 5321 wants in brackets."""
    if helo is None:
        return None
    bare = helo.removeprefix("[").removesuffix("]")
    address = bare.removeprefix("IPv6:")
    try:
        version = ipaddress.ip_address(address).version
    except ValueError:
        if problem := host_problem(helo):
            reader.report(("smtp", "helo"), problem)
        return helo
    written = f"[IPv6:{address}]" if version == 6 else f"[{address}]"
    if helo != written:
        reader.report(("smtp", "helo"), f"write an address as `{written}`")
    return written


def _security(reader: ConfigReader, raw: Mapping[str, Any]) -> str:
    tls, starttls = raw.get("tls", False), raw.get("starttls", not raw.get("tls", False))
    if tls and starttls:
        message = "cannot be combined with `tls: true`, which encrypts from the first byte"
        reader.report(("smtp", "starttls"), message)
    if not (tls or starttls or is_loopback(raw["host"])):
        where = ("smtp", "starttls" if "starttls" in raw else "tls")
        reader.report(where, "e-mails and the password would leave this machine unencrypted", warning=True)
    return "tls" if tls else "starttls" if starttls else "plain"
