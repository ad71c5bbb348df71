"""One HTTP request within bounds of time, size and place: whatever a server or the network does becomes an answer. Read `HttpClient.request`.

It is used for webhooks and for every receiver that speaks HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final

import aiohttp
from yarl import URL

from engine.actions.base import NothingMayLeave, Rejected, RetryLater, Untried
from engine.actions.webhook.answers import Endless
from engine.actions.webhook.connecting import OutgoingConnections, Unconnectable, Way
from engine.actions.webhook.connection_setup import DEFAULT_CONNECTION
from engine.actions.webhook.deny import Denied
from engine.actions.webhook.tls_words import certificate_trouble, expired

BODY_S: Final = 1.0
"""How long an answer's body may take once its status is known, when it decides nothing: the connection can be used again when it has ended."""

LOGIN_WANTED: Final = 407
"""The status with which a proxy, and nobody else, asks for a login."""


class Response:
    """An answer whose head has arrived. Read the body, or at least call `body`: it gives the connection back."""

    __slots__ = ("_deadline_s", "_response", "headers", "status")

    def __init__(self, response: aiohttp.ClientResponse, deadline_s: float) -> None:
        """`deadline_s`: by the event loop's clock, the end of the attempt."""
        self._response = response
        self._deadline_s = deadline_s
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers

    @property
    def is_empty(self) -> bool:
        """Is the whole body here, and empty? Then there is nothing to read."""
        return self._response.content.at_eof()

    async def body(self, most: int, within_s: float = BODY_S) -> bytes:
        """The beginning of the body, as far as it is one and comes in time; `most` in bytes. What comes after is not read."""
        content, read = self._response.content, b""
        until_s = min(self._deadline_s, asyncio.get_running_loop().time() + within_s)
        try:
            async with asyncio.timeout_at(until_s):
                while len(read) < most and (more := await content.read(most - len(read))):
                    read += more
        except Exception:  # noqa: BLE001, S110  # the library raises many kinds; what came before is shown
            pass
        finally:
            if not content.at_eof():
                self._response.close()  # the rest is not read, so the connection cannot be used again
        return read


class HttpClient:
    """Makes requests from one event loop. `shown` makes a line without secrets of what the library or the system says."""

    def __init__(self, connections: OutgoingConnections, shown: Callable[[object], str]) -> None:
        self._connections = connections
        self._shown = shown

    async def request(
        self,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        body: bytes,
        *,
        timeout_ms: int,
        connection: str = DEFAULT_CONNECTION,
    ) -> Response | RetryLater | Rejected | Untried:
        """One request over the connection of that name, redirects not followed; never raises for what the other side does.

        Everything up to the head of the answer takes at most `timeout_ms`. Untried: nothing may leave now.
        """
        deadline_s = asyncio.get_running_loop().time() + timeout_ms / 1000
        way: Way | None = None
        try:
            async with asyncio.timeout_at(deadline_s):
                way = self._connections.plain(connection, url) or await self._connections.open(connection, url)
                response = await way.session.request(
                    method,
                    url,
                    data=body,
                    headers=headers,
                    allow_redirects=False,
                    timeout=_limits(timeout_ms),
                    proxy=way.proxy,
                    proxy_headers=way.login,
                )
        except NothingMayLeave:
            return Untried()
        except Exception as error:  # noqa: BLE001  # told apart there, and what is not known is raised again
            return self._answer_for(error, way, url, timeout_ms)
        if response.status == LOGIN_WANTED and way.proxy is not None:
            response.close()
            return _login_wanted(way.proxy)
        return Response(response, deadline_s)

    def _answer_for(self, error: Exception, way: Way | None, url: URL, timeout_ms: int) -> RetryLater | Rejected:
        """What an exception means for the delivery."""
        if isinstance(error, Denied):
            return Rejected(reason=self._shown(error))
        if isinstance(error, Unconnectable):
            return RetryLater(reason=self._shown(error), our_fault=True)
        if isinstance(error, aiohttp.ClientConnectorError):
            return self._unconnected(error, url, None if way is None else way.cert)
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return RetryLater(reason=f"no connection within {timeout_ms} ms")
        if isinstance(error, TimeoutError):
            if way is None:
                return RetryLater(reason=f"the name {url.host} was not resolved within {timeout_ms} ms")
            return RetryLater(reason=f"no answer within {timeout_ms} ms", may_have_arrived=True)
        if isinstance(error, aiohttp.InvalidURL):
            # Its text is the URL, written in a way of its own that scrubbing might not recognize.
            return Rejected(reason="the request is not valid: the URL is invalid")
        if isinstance(error, aiohttp.ClientHttpProxyError):
            assert way is not None and way.proxy is not None
            if error.status == LOGIN_WANTED:
                return _login_wanted(way.proxy)
            said = self._shown(error.message)
            return RetryLater(
                reason=f"the proxy {way.proxy.authority} does not connect: HTTP {error.status:03} {said}".rstrip()
            )
        if isinstance(error, aiohttp.ClientResponseError):
            reason = f"the answer is not valid HTTP: {self._shown(error.message)}"
            return RetryLater(reason=reason, may_have_arrived=True)
        if isinstance(error, Endless):
            return RetryLater(reason=f"{error}: it was not read to its end", may_have_arrived=True)
        if isinstance(error, ValueError | TypeError):
            return Rejected(reason=f"the request is not valid: {self._shown(error)}")
        if isinstance(error, aiohttp.ClientError | OSError):
            if way is None:
                return RetryLater(reason=f"no connection: {self._shown(error)}")
            if trouble := certificate_trouble(error, url.host or ""):
                return RetryLater(reason=trouble)
            if trouble := expired(way.cert, url):
                return RetryLater(reason=f"{trouble}: {self._shown(error)}", may_have_arrived=True)
            # The connection was lost after the request was sent: it may have arrived.
            return RetryLater(reason=f"no answer: {self._shown(error)}", may_have_arrived=True)
        raise error

    def _unconnected(self, error: aiohttp.ClientConnectorError, url: URL, cert: str | None) -> RetryLater | Rejected:
        """There was no connection, or nothing on it could be trusted."""
        cause = getattr(error, "os_error", error)
        if isinstance(cause, Denied):
            return Rejected(reason=self._shown(cause))
        if trouble := certificate_trouble(cause, url.host or ""):
            return RetryLater(reason=trouble)
        if isinstance(error, aiohttp.ClientProxyConnectionError):
            return RetryLater(reason=f"no connection to the proxy {error.host}:{error.port}: {self._shown(cause)}")
        if trouble := expired(cert, url):
            return RetryLater(reason=f"{trouble}: {self._shown(cause)}")
        return RetryLater(reason=f"no connection: {self._shown(cause)}")

    async def close(self) -> None:
        """Close all connections."""
        await self._connections.close()


def _login_wanted(proxy: URL) -> RetryLater:
    reason = f"the proxy {proxy.authority} does not accept the login in its URL, or wants one: HTTP {LOGIN_WANTED}"
    return RetryLater(reason=reason, our_fault=True)


@lru_cache(maxsize=256)
def _limits(timeout_ms: int) -> aiohttp.ClientTimeout:
    """Connecting ends a little before the whole, so that the two timeouts can be distinguished. The whole is not left to the library.

    It is not rounded to whole seconds, as aiohttp does with longer ones by default.
    """
    whole_s = timeout_ms / 1000
    return aiohttp.ClientTimeout(total=None, connect=0.95 * whole_s, ceil_threshold=whole_s + 1)
