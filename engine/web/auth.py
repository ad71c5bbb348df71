"""Which requests are allowed, decided before anything else reads a request: no body is read before its token was.

A web page in a browser on this machine must not be able to use a local engine: a name that was pointed at this machine
(DNS rebinding) fails on `Host`, a page of another origin on `Origin`, and a form cannot send JSON. The forms that are accepted, the
console's, carry a secret as well (see `forms`). What a foreign page can load without
an `Origin` (an image, a script, a frame, a link) fails on what the browser says about it, see `engine.web.foreign_pages`. Where a token is
configured, everything but `/healthz` needs it. Read `AccessCheck` first.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import socket
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.core.hosts import is_loopback
from engine.web.foreign_pages import is_foreign
from engine.web.problems import problem
from engine.web.refusals import FOREIGN_HOST, FOREIGN_PAGE, INVALID, MEDIA_TYPE, UNAUTHORIZED, Refusals

WRITE_TYPES = frozenset({"application/json", "application/x-ndjson"})
FORM_TYPES = frozenset({"application/x-www-form-urlencoded"})
FORMS = "/act/"
"""Where the console sends its forms to: the beginning of their addresses."""

INTERFACE = ("/v1/", "/metrics", "/healthz", "/readyz", "/openapi.json")
"""How the addresses for programs begin. All others are opened in a browser, which can be asked for the token."""

UTF_8 = frozenset({"", "utf-8", "utf8", "us-ascii", "ascii"})
"""The names of the one encoding that JSON has, and of a part of it."""

MAX_PATH_BYTES = 4_096
"""Bytes of a path: several times what the longest client id needs."""

READS = frozenset({"GET", "HEAD", "OPTIONS"})
WILDCARDS = frozenset({"0.0.0.0", "::"})
CLIENTS = b"/v1/clients/"


def served_names(listen_host: str) -> frozenset[str]:
    """The host names that a service listening there accepts, besides those of the loopback."""
    names = {listen_host.lower()}
    if listen_host in WILDCARDS:
        names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
    return frozenset(names)


class _Refused(NamedTuple):
    """Why a request is refused."""

    status: int
    reason: str  # for the counter
    title: str


class AccessCheck:
    """Lets a request through to the application when its host, its origin, its token and its content type are allowed."""

    def __init__(
        self,
        app: ASGIApp,
        listen_host: str,
        token: str | None,
        refusals: Refusals,
        external_url: str = "",
        has_route: Callable[[Scope], bool] = lambda scope: True,
    ) -> None:
        """`external_url`: where people reach the service, perhaps through a proxy; empty when that is not known.

        `has_route`: does the application have a route for a request?
        """
        self._has_route = has_route
        self._app = app
        self._refusals = refusals
        self._external = urlsplit(external_url.lower())
        self._names = served_names(listen_host) | ({self._external.hostname} if self._external.hostname else set())
        # A service that listens on every address does not know the machine's addresses; a page cannot forge a numeric one.
        self._any_address = listen_host in WILDCARDS
        self._token = token.encode() if token is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it on to the application."""
        if scope["type"] == "http":
            refused = self._refuse(scope)
            if refused is not None:
                self._refusals.count(refused.reason, f"{_sender(scope)}: {refused.title}")
                await _answer(refused, scope)(scope, receive, send)
                return
            scope = _prepared(scope)
        await self._app(scope, receive, send)

    def _refuse(self, scope: Scope) -> _Refused | None:
        headers = dict(scope["headers"])
        if len(scope.get("raw_path") or b"") > MAX_PATH_BYTES:
            return _Refused(414, INVALID, f"the path is longer than {MAX_PATH_BYTES} bytes")
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if not self._serves(host):
            return _Refused(403, FOREIGN_HOST, f"the Host header {host[:200]!r} does not name this service")
        origin = headers.get(b"origin")
        if origin is not None and not self._is_ours(origin.decode("latin-1"), host):
            return _Refused(403, FOREIGN_PAGE, "requests from pages of other origins are refused")
        if self._token is not None and scope["path"] != "/healthz" and not self._has_token(headers):
            return _Refused(401, UNAUTHORIZED, "a bearer token is required")
        if is_foreign(scope, headers, lambda referrer: self._is_ours(referrer, host)):
            return _Refused(403, FOREIGN_PAGE, "requests from pages of other sites are refused")
        if scope["method"] not in READS:
            kinds = FORM_TYPES if scope["path"].startswith(FORMS) else WRITE_TYPES
            wrong = _wrong_type(headers.get(b"content-type", b"").decode("latin-1"), kinds)
            # Where there is no such route, the application says so, and reads no body.
            if wrong is not None and self._has_route(_prepared(scope)):
                return _Refused(415, MEDIA_TYPE, wrong)
        return None

    def _is_ours(self, origin: str, host: str) -> bool:
        """Does the request come from a page of this service? A proxy may have replaced the `Host` that the browser knows."""
        try:
            parts = urlsplit(origin.lower())
        except ValueError:
            return False
        if parts.scheme not in {"http", "https"}:
            return False
        is_external = bool(self._external.netloc) and parts[:2] == self._external[:2]
        return parts.netloc == host or is_external

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


def _answer(refused: _Refused, scope: Scope) -> Response:
    """The response to a refused request. A body is not waited for: the connection is closed."""
    headers = {} if scope["method"] in READS else {"Connection": "close"}
    if refused.status == 401:
        scheme = 'Basic realm="Rollcall", charset="UTF-8"' if not scope["path"].startswith(INTERFACE) else "Bearer"
        headers["WWW-Authenticate"] = scheme
    return problem(refused.status, refused.title, headers=headers)


def _sender(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else "local"


def _wrong_type(content_type: str, kinds: frozenset[str]) -> str | None:
    """Why the body cannot be what this service reads there, JSON or a form; None when it can."""
    kind, *parameters = content_type.lower().split(";")
    if kind.strip() not in kinds:
        return f"the Content-Type must be {' or '.join(sorted(kinds))}"
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip().strip("\"'") not in UTF_8:
            return f"the charset must be utf-8, not {value.strip()[:60]}"
    return None


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
