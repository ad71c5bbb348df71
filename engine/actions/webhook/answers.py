"""Connections for HTTP requests whose answers are bounded: in size before they are parsed, and in time by whoever asks.

A receiver may answer without end: with 1xx, headers, chunks, extensions of chunks, trailers. The library would read all of it, and every
other connection of the process would wait meanwhile. So what a connection delivers is counted before the library sees it, in
small portions, and a connection that delivers too much is cut. Read `BoundedAnswers.data_received`, then `CheckedConnector`.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from functools import partial
from socket import AddressFamily
from typing import Any, Final

import aiohttp
from aiohttp import AddrInfoType
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection

from engine.actions.base import MaySend, NothingMayLeave, always
from engine.actions.webhook.deny import DenyList
from engine.lookup import addresses_soon

HEAD_BYTES: Final = 64 * 1024
"""Of one answer, up to the end of its headers; interim answers (1xx) count."""

BODY_BYTES: Final = 256 * 1024
"""Of one answer's body as it comes over the wire, with chunk sizes, extensions and trailers. Nobody reads more than a few KiB of it."""

INTERIM_ANSWERS: Final = 16
"""Answers of status 1xx before the real one: servers send one or two."""

PORTION_BYTES: Final = 4 * 1024
"""What is given to the parser at a time before the headers are complete, so that it never parses thousands of answers at once."""

_BLANK_LINE: Final = re.compile(rb"\n\r?\n")
_BLANK_LINE_BYTES: Final = 3

TTL_DNS_S: Final = 30


class Endless(aiohttp.ClientError):
    """The answer is longer than any useful one; the message says in what way."""


class BoundedAnswers(ResponseHandler):
    """One connection. Counts what belongs to the answer of the present request."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._left = HEAD_BYTES  # bytes that may still come
        self._interim = 0
        self._in_head = True
        self._before = b""  # the last bytes of a head that is not complete

    def set_response_params(self, **params: Any) -> None:
        """A request begins."""
        self._left, self._interim, self._in_head = HEAD_BYTES, 0, True
        self._before = b""
        super().set_response_params(**params)

    def feed_data(self, data: Any, size: int = 0) -> None:
        """A head is complete."""
        if self._in_head:
            status = data[0].code
            if 100 <= status < 200 and status != 101:
                self._interim += 1
            else:
                self._in_head, self._left = False, BODY_BYTES
        super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        """Pass on what comes, up to the limits; cut the connection beyond them.

        Each head is passed on by itself, so that what is wrong with a body does not take the status along.
        """
        if (
            self._in_head
            and not self._before
            and len(data) <= PORTION_BYTES
            and data.find(b"\r\n\r\n") == len(data) - 4
        ):
            # One whole head and nothing else: most answers.
            self._left -= len(data)
            super().data_received(data)
            if self._interim > INTERIM_ANSWERS:
                self._cut(f"more than {INTERIM_ANSWERS} interim answers (1xx)")
            return
        at = 0
        while at < len(data):
            if self.transport is None or self.exception() is not None:
                return  # it has been cut, or what came is no HTTP
            portion = self._of_head(data, at) if self._in_head else data[at:] if at else data
            at += len(portion)
            in_head = self._in_head
            if not in_head and (self._payload is None or self._payload.is_eof()):
                self._cut("more after its end")
                return
            self._left -= len(portion)
            if self._left < 0:
                self._cut(f"headers of more than {HEAD_BYTES // 1024} KiB" if in_head else "a body without end")
                return
            super().data_received(portion)
            if self._interim > INTERIM_ANSWERS:
                self._cut(f"more than {INTERIM_ANSWERS} interim answers (1xx)")
        if not data:
            super().data_received(data)
        problem, payload = self.exception(), self._payload
        if problem is not None and payload is not None and not payload.is_eof() and payload.exception() is None:
            payload.set_exception(problem)  # the parser has given it up without a word

    def _of_head(self, data: bytes, at: int) -> bytes:
        """The next bytes of a head, up to its end: a blank line, which may have begun in what came before."""
        portion = data[at : at + PORTION_BYTES]
        found = _BLANK_LINE.search(self._before + portion)
        if found is not None:
            portion = portion[: found.end() - len(self._before)]
        self._before = b"" if found is not None else (self._before + portion)[-_BLANK_LINE_BYTES + 1 :]
        return portion

    def close(self) -> None:
        """End the connection. What of a request was not written yet is dropped: a server that does not read would keep the socket open."""
        transport = self.transport
        if transport is not None and transport.get_write_buffer_size():
            self.abort()
        else:
            super().close()

    def _cut(self, what: str) -> None:
        transport, payload = self.transport, self._payload
        problem = Endless(f"the answer has {what}")
        self.set_exception(problem)
        if payload is not None and not payload.is_eof():
            payload.set_exception(problem)
        if transport is not None:
            self.transport = None
            transport.abort()


class CheckedResolver(AbstractResolver):
    """The system's resolver, in threads of its own, refusing a name of which any address is denied."""

    def __init__(self, deny: DenyList) -> None:
        self._deny = deny

    async def resolve(
        self, host: str, port: int = 0, family: AddressFamily = AddressFamily.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of `host`. Raises Denied, or OSError when there is no such name."""
        found = [_result(host, *info) for info in await addresses_soon(host, port, family)]
        for result in found:
            self._deny.check(host, result["host"])
        return found

    async def close(self) -> None:
        """Nothing to close."""


def _result(host: str, family: int, kind: int, protocol: int, name: str, address: Any) -> ResolveResult:
    """An address as aiohttp wants it; a link-local one keeps its zone."""
    zone = f"%{address[3]}" if len(address) > 3 and address[3] and "%" not in address[0] else ""
    return ResolveResult(
        hostname=host,
        host=address[0] + zone,
        port=address[1],
        family=family,
        proto=protocol,
        flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    )


class CheckedConnector(aiohttp.TCPConnector):
    """Makes connections with bounded answers, to no denied address: checked by name, and again for each socket."""

    def __init__(self, deny: DenyList, tls: ssl.SSLContext | None = None, may_send: MaySend = always) -> None:
        """`tls`: whom to trust and what to show; None for the library's own. `may_send`: asked when a request has its connection."""
        self._may_send = may_send

        def checked_socket(info: AddrInfoType) -> socket.socket:
            address = str(info[4][0])
            deny.check(address, address)
            return socket.socket(info[0], info[1], info[2])

        super().__init__(
            limit=0,
            ttl_dns_cache=TTL_DNS_S,
            resolver=CheckedResolver(deny),
            socket_factory=checked_socket,
            ssl=True if tls is None else tls,
        )
        # The library has no other way to say what reads a connection; a test holds that it is used.
        self._factory = partial(BoundedAnswers, asyncio.get_running_loop())  # type: ignore[assignment]

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        """A connection for a request, which is sent next: it has waited for names, addresses, a handshake and a proxy. NothingMayLeave."""
        connection = await super().connect(req, traces, timeout)
        if not self._may_send():
            connection.release()
            raise NothingMayLeave
        return connection
