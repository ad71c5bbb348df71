"""Who may speak to the engine, decided before anything else looks at a request.

A web page that somebody visits must not be able to speak to a local engine: a name that was pointed at this machine
(DNS rebinding) fails on `Host`, a page of another origin on `Origin`, and a form cannot send JSON. Where a token is
configured, everything but `/healthz` needs it. Read `Guard` first.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import socket
from typing import Any
from urllib.parse import urlsplit

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.web.problems import problem

WRITE_TYPES = frozenset({"application/json", "application/x-ndjson"})
READS = frozenset({"GET", "HEAD", "OPTIONS"})
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
WILDCARDS = frozenset({"0.0.0.0", "::"})
CLIENTS = b"/v1/clients/"


def served_names(listen_host: str) -> frozenset[str]:
    """The names under which a service that listens there may be spoken to."""
    names = LOOPBACK | {listen_host.lower()}
    if listen_host in WILDCARDS:
        names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
    return frozenset(names)


class Guard:
    """Known hosts, no foreign pages, the token where one is set, JSON for writes; then the application."""

    def __init__(self, app: ASGIApp, listen_host: str, token: str | None) -> None:
        self._app = app
        self._names = served_names(listen_host)
        # Where it listens on every address, the machine's own are not known beforehand; a page cannot forge one.
        self._any_address = listen_host in WILDCARDS
        self._token = token.encode() if token is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or hand on."""
        if scope["type"] == "http":
            refused = self._refuse(scope)
            if refused is not None:
                await refused(scope, receive, send)
                return
            scope = _prepared(scope)
        await self._app(scope, receive, send)

    def _refuse(self, scope: Scope) -> Response | None:
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if not self._serves(host):
            return problem(403, f"the host {host[:200]!r} is not served here")
        origin = headers.get(b"origin")
        if origin is not None and not _is_same(origin.decode("latin-1"), host):
            return problem(403, "pages of other origins may not speak to this engine")
        if self._token is not None and scope["path"] != "/healthz" and not self._knows(headers):
            asked = 'Basic realm="Rollcall", charset="UTF-8"' if scope["path"] == "/" else "Bearer"
            return problem(401, "a bearer token is required", {"WWW-Authenticate": asked})
        if scope["method"] not in READS:
            kind = headers.get(b"content-type", b"").decode("latin-1").split(";")[0].strip().lower()
            if kind not in WRITE_TYPES:
                return problem(415, "writes need the content type application/json or application/x-ndjson")
        return None

    def _serves(self, host: str) -> bool:
        """Any port will do: it may have been forwarded, and no page can choose the name that goes with it."""
        name, _, port = host.rpartition(":") if not host.endswith("]") and ":" in host else (host, "", "")
        if port and not port.isdigit():
            return False
        if name.startswith("[") and name.endswith("]"):
            name = name[1:-1]
        if name in self._names:
            return True
        return self._any_address and _is_address(name)

    def _knows(self, headers: dict[bytes, bytes]) -> bool:
        """Is the token given: as a bearer, or as the password a browser asked its user for?"""
        assert self._token is not None
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        given = given.strip()
        if scheme.lower() == b"basic":
            try:
                given = base64.b64decode(given, validate=True).partition(b":")[2]
            except binascii.Error:
                return False
        elif scheme.lower() != b"bearer":
            return False
        return hmac.compare_digest(given, self._token)


def _is_same(origin: str, host: str) -> bool:
    """Is the page that sends this request our own?"""
    try:
        parts = urlsplit(origin.lower())
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and parts.netloc == host


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _prepared(scope: Scope) -> Scope:
    """HEAD asks what GET would say (the server leaves the body out); a client id keeps its encoded slashes until it is read."""
    changed: dict[str, Any] = {}
    if scope["method"] == "HEAD":
        changed["method"] = "GET"
    raw: bytes = scope.get("raw_path") or b""
    if raw.startswith(CLIENTS):
        changed["path"] = raw.decode("latin-1")
    return {**scope, **changed} if changed else scope
