"""How requests connect: through a proxy or not, whom they trust, what certificate they show. Read `OutgoingConnections.open`.

With a proxy, `network.deny` holds for the target all the same: its name is resolved here and every address of it is checked, then
the proxy is asked for the name, and resolves it again. So a name that cannot be resolved here is not asked for, unless nothing is denied. The proxy itself
is named by the configuration and may lie in a denied network. Over https the certificate must fit the name, whatever the proxy connects to.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
from yarl import URL

from engine.actions.base import MaySend, always
from engine.actions.webhook.answers import CheckedConnector, CheckedResolver
from engine.actions.webhook.connection_setup import DEFAULT_CONNECTION, ConnectionSetup
from engine.actions.webhook.deny import Denied, DenyList
from engine.config.certificates import EncryptedKey, load_pair, ssl_words
from engine.config.regular_file import shown_path

NO_DENY: Final = DenyList(())

LONGEST_REQUEST_S: Final = 320.0
"""No request takes longer: the longest timeout that a rule can set, and a little more."""

DIRECTLY: Final = ConnectionSetup()

Stamp = tuple[tuple[int, int] | None, ...]
"""When each of the files of a connection was written, and its size: another one means that it was renewed."""


class Unconnectable(Exception):
    """Nothing can be sent over this connection as it is configured; the message says why and holds no secret."""


@dataclass(frozen=True, slots=True)
class Way:
    """How one request goes: over which session, and through which proxy."""

    session: aiohttp.ClientSession
    proxy: URL | None = None
    login: Mapping[str, str] | None = None  # headers for the proxy alone
    cert: str | None = None  # the file of the certificate that is shown to servers that ask for one


class OutgoingConnections:
    """The connections of one event loop, by name. Those that are set up alike share their sockets."""

    def __init__(self, setups: Mapping[str, ConnectionSetup], deny: DenyList, may_send: MaySend = always) -> None:
        self._may_send = may_send
        self._setups = dict(setups)
        self._deny = deny
        self._resolver = CheckedResolver(deny)
        self._sessions: dict[tuple[ConnectionSetup, bool], tuple[Stamp, aiohttp.ClientSession]] = {}
        self._plain: dict[str, Way] = {}  # by name: ways of connections that need no proxy and no file
        self._retired: list[aiohttp.ClientSession] = []
        self._closing: set[asyncio.Future[None]] = set()
        self._is_closed = False

    def plain(self, name: str, url: URL) -> Way | None:
        """The way to `url` over a connection that was opened before and has nothing to decide, as most have; else None, for `open` to say.

        Raises Denied for a target that `network.deny` names.
        """
        found = self._plain.get(name)
        if found is not None and self._deny.denies_any:
            self._deny.check_literal(url.host or "")
        return found

    async def open(self, name: str, url: URL) -> Way:
        """How a request to `url` goes over the connection of that name; one that is not configured is the default.

        Raises Denied for a target that `network.deny` names, OSError when its name has to be resolved here and cannot be,
        and Unconnectable.
        """
        if self._is_closed:
            raise Unconnectable("no connection is opened any more: the service stops")
        host = url.host or ""
        self._deny.check_literal(host)
        setup = self._setups.get(name) or self._setups.get(DEFAULT_CONNECTION) or DIRECTLY
        if setup.problem is not None:
            raise Unconnectable(setup.problem)
        proxy = setup.https_proxy if url.scheme == "https" else setup.http_proxy
        if not proxy or is_excepted(host, url.port or 0, setup.no_proxy):
            way = Way(self._session(setup, proxied=False), cert=setup.cert)
            if setup.is_plain and (name in self._setups or name == DEFAULT_CONNECTION):
                self._plain[name] = way
            return way
        if self._deny.denies_any:
            try:
                await self._resolver.resolve(host, url.port or 0)
            except Denied:
                raise
            except OSError as error:
                raise OSError(
                    f"the name {host} cannot be resolved here, which network.deny needs also with a proxy: {error}"
                ) from error
        return Way(self._session(setup, proxied=True), URL(proxy).with_user(None), _login(URL(proxy)), setup.cert)

    def _session(self, setup: ConnectionSetup, *, proxied: bool) -> aiohttp.ClientSession:
        stamp = _stamp(setup)
        found = self._sessions.get((setup, proxied))
        if found is not None:
            if found[0] == stamp:
                return found[1]
            self._retire(found[1])
        made = aiohttp.ClientSession(
            connector=CheckedConnector(NO_DENY if proxied else self._deny, tls_context(setup), self._may_send),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
        )
        self._sessions[setup, proxied] = stamp, made
        return made

    def _retire(self, session: aiohttp.ClientSession) -> None:
        """Its certificates were renewed: it is closed when what is under way has ended."""
        self._retired.append(session)

        def close() -> None:
            if session in self._retired:
                self._retired.remove(session)
                task = asyncio.ensure_future(session.close())
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)

        asyncio.get_running_loop().call_later(LONGEST_REQUEST_S, close)

    async def close(self) -> None:
        """Close all connections; from now on none is opened."""
        self._is_closed = True
        sessions = [session for _, session in self._sessions.values()] + self._retired
        self._sessions, self._plain, self._retired = {}, {}, []
        await asyncio.gather(*(session.close() for session in sessions))


def tls_context(setup: ConnectionSetup) -> ssl.SSLContext | None:
    """Whom to trust and what to show; None for the library's own. Raises Unconnectable for a file that cannot be used any more."""
    if setup.ca is None and setup.cert is None:
        return None
    try:
        context = ssl.create_default_context(cafile=setup.ca)
    except (OSError, ssl.SSLError) as error:
        raise Unconnectable(
            f"the certificates in {shown_path(setup.ca or '')} cannot be used: {ssl_words(error)}"
        ) from error
    if setup.cert is not None:
        try:
            load_pair(context, Path(setup.cert), None if setup.key is None else Path(setup.key))
        except (OSError, ssl.SSLError, EncryptedKey) as error:
            raise Unconnectable(
                f"the certificate {shown_path(setup.cert)} cannot be used: {ssl_words(error)}"
            ) from error
    return context


def _stamp(setup: ConnectionSetup) -> Stamp:
    return tuple(map(_written, (setup.ca, setup.cert, setup.key))) if setup.ca or setup.cert else ()


def _written(path: str | None) -> tuple[int, int] | None:
    try:
        found = os.stat(path) if path else None
    except OSError:
        return None
    return None if found is None else (found.st_mtime_ns, found.st_size)


def is_excepted(host: str, port: int, no_proxy: str) -> bool:
    """Whether NO_PROXY names a target: by name (also of a domain above it), address, network or `*`, each perhaps with a port."""
    host = host.rstrip(".").lower()
    for part in re.split(r"[\s,]+", no_proxy.lower()):
        if part == "*":
            return True
        name, colon, only = part.rpartition(":")
        if not colon or not only.isdecimal() or (":" in name and not name.endswith("]")):
            name, only = part, ""
        name = name.strip("[]").removeprefix("*").removeprefix(".").rstrip(".")
        if not name or (only and int(only) != port):
            continue
        if host == name or host.endswith(f".{name}") or _is_within(host, name):
            return True
    return False


def _is_within(host: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def _login(proxy: URL) -> dict[str, str] | None:
    """The header for the login in the URL of a proxy, which the library renames; None when it has none."""
    if proxy.user is None and proxy.password is None:
        return None
    login = f"{proxy.user or ''}:{proxy.password or ''}".encode()
    return {"Authorization": f"Basic {base64.b64encode(login).decode()}"}
