"""Which requests are allowed, decided before anything else reads a request: no body is read before its token was.

A web page in a browser on this machine must not be able to use a local engine: a name that was pointed at this machine
(DNS rebinding) fails on `Host`, a page of another origin on `Origin`, and a form cannot send JSON. The forms that are accepted, the
forms of our own pages, carry a secret as well (see `access.forms`). What a foreign page can load without
an `Origin` (an image, a script, a frame, a link) fails on what the browser says about it, see `engine.web.foreign_pages`. Who asks is
found out here (`access.gate`) and put into the scope; whether their role is enough is decided where the route is known (`access.roles`).
Read `AccessCheck` first.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.core.access import Caller
from engine.core.hosts import is_loopback
from engine.errors import NotSignedIn, RollcallError
from engine.web.access import forwarded
from engine.web.access.cookies import secrets_of
from engine.web.access.forms import BASE, HEADER, SESSION, is_own
from engine.web.access.gate import Access
from engine.web.access.roles import CALLER, is_public
from engine.web.access.settings import HttpSettings
from engine.web.foreign_pages import is_foreign
from engine.web.problems import problem, status_of
from engine.web.refusals import CROSS_SITE, FOREIGN_HOST, FOREIGN_PAGE, INVALID, MEDIA_TYPE, UNAUTHORIZED, Refusals

WRITE_TYPES = frozenset({"application/json", "application/x-ndjson"})
FORM_TYPES = frozenset({"application/x-www-form-urlencoded"})
INTERFACE = ("/v1/", "/metrics", "/healthz", "/readyz", "/openapi.json")
"""How the addresses for programs begin: what is written there is JSON. All others are opened in a browser, and forms are sent there."""

FOLLOWED = "/events"
"""Where a page gets its updates from. It asks by itself, so nobody need sit before it."""

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
    """Lets a request through to the application when its host, its origin, its caller and its content type are allowed."""

    def __init__(
        self,
        app: ASGIApp,
        http: HttpSettings,
        access: Access,
        refusals: Refusals,
        has_route: Callable[[Scope], bool] = lambda scope: True,
    ) -> None:
        """`has_route`: does the application have a route for a request?"""
        self._app, self._access, self._refusals, self._has_route = app, access, refusals, has_route
        self._external = urlsplit(http.external_url.lower())
        self._names = served_names(http.host) | set(http.hosts)
        self._names |= {self._external.hostname} if self._external.hostname else set()
        # A service that listens on every address does not know the machine's addresses; a page cannot forge a numeric one.
        self._any_address = http.host in WILDCARDS
        self._proxies = http.trusted_proxies
        self._prefix = urlsplit(http.external_url).path.rstrip("/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it on to the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope = self._as_sent(scope)
        headers = dict(scope["headers"])
        refused = self._refuse_unknown(scope, headers)
        if refused is None:
            try:
                caller, session = await self._caller(scope, headers)
            except RollcallError as error:
                refused = _Refused(status_of(error), UNAUTHORIZED, str(error))
            else:
                scope[CALLER] = caller
                if session:
                    scope[SESSION] = session
                refused = self._refuse(scope, headers)
                if session and refused is None:
                    receive, send = self._while_it_goes_on(session, scope, receive, send)
        if refused is not None:
            self._refusals.count(refused.reason, f"{_sender(scope)}: {refused.title}")
            await _answer(refused, scope, headers)(scope, receive, send)
            return
        await self._app(_prepared(scope), receive, send)

    def _as_sent(self, scope: Scope) -> Scope:
        """The request as our own paths and the sender's own address have it, whatever proxies are between."""
        scope, prefix = forwarded.as_sent(scope, self._proxies)
        base = prefix or self._prefix
        changed: Scope = {**scope, BASE: base}
        changed["scheme"] = "https" if self._is_encrypted(scope) else scope.get("scheme", "http")
        path = forwarded.below(scope["path"], base)
        if path is not None:
            changed["path"] = path
            raw = forwarded.below((scope.get("raw_path") or b"").decode("latin-1"), base)
            changed["raw_path"] = path.encode() if raw is None else raw.encode("latin-1")
        return changed

    def _is_encrypted(self, scope: Scope) -> bool:
        """Does the browser speak TLS, with us or with a proxy?"""
        host = next((value for name, value in scope["headers"] if name == b"host"), b"")
        is_external = bool(self._external.netloc) and host.decode("latin-1").lower() == self._external.netloc
        return scope.get("scheme") == "https" or (is_external and self._external.scheme == "https")

    def _refuse_unknown(self, scope: Scope, headers: Mapping[bytes, bytes]) -> _Refused | None:
        """What is refused whoever asks."""
        if len(scope.get("raw_path") or b"") > MAX_PATH_BYTES:
            return _Refused(414, INVALID, f"the path is longer than {MAX_PATH_BYTES} bytes")
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if not self._serves(host):
            return _Refused(403, FOREIGN_HOST, f"the Host header {host[:200]!r} does not name this service")
        origin = headers.get(b"origin")
        if origin is not None and not self._is_ours(origin.decode("latin-1"), host):
            return _Refused(403, FOREIGN_PAGE, "requests from pages of other origins are refused")
        return None

    async def _caller(self, scope: Scope, headers: Mapping[bytes, bytes]) -> tuple[Caller | None, str]:
        """Who asks, and the secret of their session if they came with its cookie."""
        access, address, path = self._access, _sender(scope), scope["path"]
        if b"authorization" in headers:
            found = access.caller_of_headers(headers, path, address)
            # Where nobody has to show anything, what a script still sends is not held against it.
            return found or access.anybody(address), ""
        for secret in secrets_of(headers.get(b"cookie", b""), is_secure=scope["scheme"] == "https"):
            found = await access.caller_of_cookie(secret, address, is_asked=path != FOLLOWED)
            if found is not None:
                return found, secret
        return access.anybody(address), ""

    def _refuse(self, scope: Scope, headers: Mapping[bytes, bytes]) -> _Refused | None:
        """What is refused to this caller."""
        if scope[CALLER] is None and not is_public(scope["path"]):
            return _Refused(401, UNAUTHORIZED, "sign in, or send a bearer token")
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if is_foreign(scope, headers, lambda referrer: self._is_ours(referrer, host)):
            return _Refused(403, FOREIGN_PAGE, "requests from pages of other sites are refused")
        if scope["method"] in READS:
            return None
        is_page = not scope["path"].startswith(INTERFACE)
        kinds = FORM_TYPES if is_page else WRITE_TYPES
        wrong = _wrong_type(headers.get(b"content-type", b"").decode("latin-1"), kinds)
        # Where there is no such route, the application says so, and reads no body.
        if wrong is not None and self._has_route(_prepared(scope)):
            return _Refused(415, MEDIA_TYPE, wrong)
        given = headers.get(HEADER.encode(), b"").decode("latin-1")
        if not is_page and SESSION in scope and not is_own(scope, given):
            title = "the header X-CSRF-Token is missing or of another session: a browser sends it with every change"
            return _Refused(403, CROSS_SITE, title)
        return None

    def _while_it_goes_on(self, secret: str, scope: Scope, receive: Receive, send: Send) -> tuple[Receive, Send]:
        """Sends an answer that goes on for long only for as long as its session does; then its reader is gone for the application."""
        goes_on_for_long = False
        is_over = asyncio.Event()

        async def sending(message: Message) -> None:
            nonlocal goes_on_for_long
            if is_over.is_set():
                return
            if message["type"] == "http.response.start":
                kinds = [value for name, value in message.get("headers", ()) if name.lower() == b"content-type"]
                goes_on_for_long = any(kind.startswith(b"text/event-stream") for kind in kinds)
            elif goes_on_for_long and await self._access.caller_of_cookie(secret, "", is_asked=False) is None:
                is_over.set()
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            await send(message)

        async def receiving() -> Message:
            received, ended = asyncio.ensure_future(receive()), asyncio.ensure_future(is_over.wait())
            try:
                await asyncio.wait((received, ended), return_when=asyncio.FIRST_COMPLETED)
                return {"type": "http.disconnect"} if is_over.is_set() else received.result()
            finally:
                received.cancel()
                ended.cancel()

        return (receiving if scope["method"] in READS else receive), sending

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


def _answer(refused: _Refused, scope: Scope, headers: Mapping[bytes, bytes]) -> Response:
    """The response to a refused request. A body is not waited for: the connection is closed."""
    more = {} if scope["method"] in READS else {"Connection": "close"}
    if refused.status != 401:
        return problem(refused.status, refused.title, headers=more)
    path = scope["path"]
    is_page = not path.startswith(INTERFACE) and b"authorization" not in headers
    if is_page and b"text/event-stream" not in headers.get(b"accept", b""):
        login = f"{scope[BASE]}/login"
        if b"hx-request" in headers:  # a part of a page: the whole page goes there
            more["HX-Redirect"] = login
        else:
            wanted = path + ("?" + scope["query_string"].decode("latin-1") if scope.get("query_string") else "")
            back = f"?next={quote(wanted, safe='')}" if scope["method"] in READS and wanted != "/" else ""
            return RedirectResponse(login + back, 303, more)
    return problem(401, refused.title, NotSignedIn.code, more | {"WWW-Authenticate": "Bearer"})


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
