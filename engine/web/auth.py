"""Which requests are allowed, decided before anything else reads a request.

A web page in a browser on this machine must not be able to use a local engine: a name that was pointed at this machine
(DNS rebinding) fails on `Host`, a page of another origin on `Origin`, and a form cannot send JSON. Where a token is
configured, everything but `/healthz` needs it. Read `AccessCheck` first.
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

from engine.core.hosts import is_loopback
from engine.web.problems import problem

WRITE_TYPES = frozenset({"application/json", "application/x-ndjson"})
READS = frozenset({"GET", "HEAD", "OPTIONS"})
WILDCARDS = frozenset({"0.0.0.0", "::"})
CLIENTS = b"/v1/clients/"


def served_names(listen_host: str) -> frozenset[str]:
    """The host names that a service listening there accepts, besides those of the loopback."""
    names = {listen_host.lower()}
    if listen_host in WILDCARDS:
        names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
    return frozenset(names)


class AccessCheck:
    """Lets a request through to the application when its host, its origin, its token and its content type are allowed."""

    def __init__(self, app: ASGIApp, listen_host: str, token: str | None) -> None:
        self._app = app
        self._names = served_names(listen_host)
        # A service that listens on every address does not know the machine's addresses; a page cannot forge a numeric one.
        self._any_address = listen_host in WILDCARDS
        self._token = token.encode() if token is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it on to the application."""
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
            return problem(403, f"the Host header {host[:200]!r} does not name this service")
        origin = headers.get(b"origin")
        if origin is not None and not _is_same(origin.decode("latin-1"), host):
            return problem(403, "requests from pages of other origins are refused")
        if self._token is not None and scope["path"] != "/healthz" and not self._has_token(headers):
            scheme = 'Basic realm="Rollcall", charset="UTF-8"' if scope["path"] == "/" else "Bearer"
            return problem(401, "a bearer token is required", headers={"WWW-Authenticate": scheme})
        if scope["method"] not in READS:
            kind = headers.get(b"content-type", b"").decode("latin-1").split(";")[0].strip().lower()
            if kind not in WRITE_TYPES:
                return problem(415, "the Content-Type must be application/json or application/x-ndjson")
        return None

    def _serves(self, host: str) -> bool:
        """Is it a host of this service? Any port is accepted: it may be forwarded, and a page cannot choose the name that goes with it."""
        name, _, port = host.rpartition(":") if not host.endswith("]") and ":" in host else (host, "", "")
        if port and not port.isdigit():
            return False
        if name.startswith("[") and name.endswith("]"):
            name = name[1:-1]
        if name in self._names or is_loopback(name):
            return True
        return self._any_address and _is_address(name)

    def _has_token(self, headers: dict[bytes, bytes]) -> bool:
        """Does the request carry the token: as a bearer token, or as the password that a browser asked its user for?"""
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
    """Does the request come from a page of this service?"""
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
    """HEAD becomes GET (the server leaves the body out); a client id keeps its slashes encoded until a route reads it."""
    changed: dict[str, Any] = {}
    if scope["method"] == "HEAD":
        changed["method"] = "GET"
    raw: bytes = scope.get("raw_path") or b""
    if raw.startswith(CLIENTS):
        changed["path"] = raw.decode("latin-1")
    return {**scope, **changed} if changed else scope
