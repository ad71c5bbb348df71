"""The connections to the HTTP server: bounded in number, in time and in what they may send.

Anybody who can reach the listener can open connections, so everything about them has a bound that needs no token. A connection is in
one of four phases: it waits for the head of a request, reads its body, answers, or leaves. When there is no room for another one, the
longest waiting one makes room: whoever sends its request promptly gets in, however many others never finish theirs. When all are busy,
a few more may still ask for the health. Read `Connections`, then `Connection`.

The parser is h11, driven by uvicorn's protocol for it; `Connection` adds the bounds around it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import resource
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from engine.core.foreign_text import foreign_text
from engine.core.hosts import is_loopback
from engine.telemetry import library_errors
from engine.web.refusals import INVALID, NO_ROOM, SLOW_BODY, SLOW_HEAD, UNREAD, Refusals

MAX_CONNECTIONS: Final = 512
"""Connections at one time, if the process may open enough files."""

MIN_CONNECTIONS: Final = 16
"""Connections at one time, however few files the process may open."""

EXTRA_CONNECTIONS: Final = 32
"""Connections beyond the bound, which may ask for the health and nothing else."""

RESERVED_FOR_LOOPBACK: Final = 16
"""Connections within the bound that only this machine may use."""

PROBLEM: Final = b"application/problem+json"
HEALTH: Final = frozenset({"/healthz", "/readyz"})

MAX_HEAD_BYTES: Final = 16 * 1024
"""Bytes of a request line and its headers, and of a chunk's extension or of all trailers."""

FREE_CHUNKS: Final = 4_096
LEAST_CHUNK_BYTES: Final = 16
"""A chunked body may have so many chunks of any size; beyond, they must hold at least so many bytes on average."""

MAX_LEAVING_BYTES: Final = 32 * 1024 * 1024
"""Bytes that are thrown away after an answer, so that a sender in the middle of its body gets to read the answer."""

MAX_DRAINED_BYTES: Final = 64 * 1024
"""Bytes of a body that may still arrive after the answer without ending the connection."""

WAITING, READING, ANSWERING, LEAVING = range(4)
"""The phases of a connection: for the head of a request, its body, with its answer, after a refusal."""

_library_log = library_errors("uvicorn.error.connection")  # what strangers can cause is counted, see `Refusals`


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """How many connections there may be, and how long they may take."""

    connections: int = MAX_CONNECTIONS
    of_one_address: int = MAX_CONNECTIONS // 2
    head_s: float = 10.0  # from the start of the connection, or the end of the last answer, to a complete head
    extra_head_s: float = 2.0  # the same for a connection beyond the bound
    body_grace_s: float = 10.0  # what any body may take
    body_bytes_per_s: int = 32 * 1024  # a larger body may take longer, at this rate
    body_s: float = 120.0  # what no body may exceed
    young_body_s: float = 2.0  # a body younger than this never makes room for another connection
    answer_s: float = 60.0  # until a complete answer has been read
    unread_s: float = 2.0  # who has not read its answers for longer makes room for another connection
    leaving_s: float = 2.0  # after a refusal, for the sender to read it
    every_s: float = 1.0  # between two looks at all connections


def limits_of_this_process() -> ConnectionLimits:
    """The limits here: half of the files that this process may open stay for the store, the sources and the senders."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MAX_CONNECTIONS
    if files != resource.RLIM_INFINITY:
        most = max(MIN_CONNECTIONS, min(most, files // 2 - EXTRA_CONNECTIONS))
    return ConnectionLimits(connections=most, of_one_address=max(MIN_CONNECTIONS // 2, most // 2))


class Connections:
    """All connections of one server, by phase; the longest in its phase first."""

    def __init__(self, limits: ConnectionLimits, refusals: Refusals) -> None:
        self.limits, self.refusals = limits, refusals
        self._phases: tuple[dict[Connection, None], ...] = ({}, {}, {}, {})
        self._extra: dict[Connection, None] = {}
        self._by_address: Counter[str] = Counter()
        self._count = 0

    def __iter__(self) -> Iterator[Connection]:
        """Every connection, also those beyond the bound."""
        for phase in self._phases:
            yield from phase

    def __len__(self) -> int:
        """How many connections count against the bound."""
        return self._count

    def enter(self, one: Connection) -> None:
        """A new connection. Another one may have to go; without room it becomes an extra one."""
        if self._has_room(one):
            self._count += 1
            self._by_address[one.address] += 1
        else:
            one.only_health()
            self._extra[one] = None
            if len(self._extra) > EXTRA_CONNECTIONS:
                next((old for old in self._extra if old.phase != ANSWERING), one).make_room()
        if not one.has_left:
            self._phases[one.phase][one] = None

    def _has_room(self, one: Connection) -> bool:
        if self._by_address[one.address] >= self.limits.of_one_address and not self._make_room(one.address):
            return False
        reserved = 0 if one.is_local else min(RESERVED_FOR_LOOPBACK, self.limits.connections // 4)
        return self._count < self.limits.connections - reserved or self._make_room(None)

    def _make_room(self, address: str | None) -> bool:
        """End the connection that has made no progress for the longest, of one address or of all; False: all are at work.

        Who does not read its answers is not at work.
        """
        for phase in (LEAVING, WAITING, READING):
            for old in self._phases[phase]:
                if old not in self._extra and address in (None, old.address):
                    if phase == READING and old.age_s() < self.limits.young_body_s:
                        return False  # those behind it are younger
                    old.make_room()
                    return True
        for old in self._phases[ANSWERING]:
            if old not in self._extra and address in (None, old.address) and old.unread_s() > self.limits.unread_s:
                old.make_room()
                return True
        return False

    def move(self, one: Connection, phase: int) -> None:
        """The connection enters another phase."""
        self._phases[one.phase].pop(one, None)
        self._phases[phase][one] = None

    def leave(self, one: Connection) -> None:
        """The connection has ended, or is about to."""
        self._phases[one.phase].pop(one, None)
        if one in self._extra:
            del self._extra[one]
            return
        self._count -= 1
        self._by_address[one.address] -= 1
        if not self._by_address[one.address]:
            del self._by_address[one.address]

    def check(self) -> None:
        """End the connections that have taken too long."""
        for one in list(self):
            one.check()
        self.refusals.say()


class _CountedParser(h11.Connection):
    """The parser, refusing bodies that consist of framing."""

    chunks = 0
    body_bytes = 0  # of this request, without framing

    def next_event(self) -> Any:
        event = super().next_event()
        if type(event) is h11.Data:
            self.body_bytes += len(event.data)
            self.chunks += event.chunk_start
            if (self.chunks - FREE_CHUNKS) * LEAST_CHUNK_BYTES > self.body_bytes:
                raise h11.RemoteProtocolError("the chunks of the body are too small")
        return event

    def start_next_cycle(self) -> None:
        super().start_next_cycle()
        self.chunks = self.body_bytes = 0


class _Transport(asyncio.Transport):
    """The transport as uvicorn sees it: closing it while a body is arriving lets the sender read the answer first."""

    def __init__(self, real: asyncio.Transport, close: Callable[[], None]) -> None:
        self._close = close
        self.get_extra_info = real.get_extra_info  # type: ignore[method-assign]
        self.write = real.write  # type: ignore[method-assign]
        self.is_closing = real.is_closing  # type: ignore[method-assign]
        self.pause_reading = real.pause_reading  # type: ignore[method-assign]
        self.resume_reading = real.resume_reading  # type: ignore[method-assign]

    def close(self) -> None:
        self._close()


class Connection(H11Protocol):
    """One connection."""

    def __init__(
        self,
        connections: Connections,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.conn: _CountedParser = _CountedParser(h11.SERVER, MAX_HEAD_BYTES)
        self.logger = _library_log
        self.phase = WAITING
        self.since_s = 0.0  # when the phase began
        self.address = ""  # of the other side, or its network
        self.is_local = False
        self.has_left = False
        self._connections = connections
        self._limits = connections.limits
        self._real: asyncio.Transport  # given by `connection_made`
        self._is_extra = False
        self._has_begun = False  # are there bytes of a head?
        self._answered_at_bytes = 0  # so much of the body had arrived when the answer was complete
        self._left_bytes = 0
        self._unread_since_s: float | None = None

    def age_s(self) -> float:
        """Seconds since the phase began."""
        return self.loop.time() - self.since_s

    def unread_s(self) -> float:
        """For how many seconds the other side has left something of an answer unread; 0: it has all of it."""
        return 0.0 if self._unread_since_s is None else self.loop.time() - self._unread_since_s

    # What the event loop calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A new connection: it may have to go at once."""
        self._real = transport
        self.since_s = self.loop.time()
        peer = transport.get_extra_info("peername")
        self.address, self.is_local = _network(str(peer[0])) if isinstance(peer, tuple) else ("", True)
        super().connection_made(_Transport(transport, self._close))
        self._connections.enter(self)

    def data_received(self, data: bytes) -> None:
        """Bytes of a request. Long ones in pieces while a head is missing, so that the parser's bound on heads holds."""
        while data and self.phase != LEAVING and not self._real.is_closing():
            piece = data
            if self.conn.their_state is h11.IDLE and len(data) > MAX_HEAD_BYTES:
                piece = data[: MAX_HEAD_BYTES + 1]
            data = data[len(piece) :]
            self._has_begun = True
            super().data_received(piece)
            self._enter_phase()
            unwanted = self.conn.body_bytes - self._answered_at_bytes
            if self.phase == READING and self.cycle.response_complete and unwanted > MAX_DRAINED_BYTES:
                self._leave()
        if data:
            self._left_bytes += len(data)
            if self._left_bytes > MAX_LEAVING_BYTES:
                self.turn_out()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended."""
        super().connection_lost(exc)
        self._leave_list()

    # What uvicorn calls

    def _should_upgrade(self) -> bool:
        return False  # an offer of another protocol may be ignored (RFC 9110), and is no reason for a line in the log

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP; called while the parser's error is handled."""
        error = sys.exception()
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        self._refuse(status or 400, f"the request is not valid HTTP: {foreign_text(str(error), 200)}", INVALID)

    def on_response_complete(self) -> None:
        """An answer is complete: the next request may come."""
        self._has_begun = False
        if self.phase != LEAVING:
            super().on_response_complete()
            self._enter_phase()
            if self.phase == READING:
                self.since_s, self._answered_at_bytes = self.loop.time(), self.conn.body_bytes

    def timeout_keep_alive_handler(self) -> None:
        """No further request came."""
        self._real.close()

    def shutdown(self) -> None:
        """The server stops: what is being answered is finished, what has not arrived is not waited for."""
        if self.phase == ANSWERING:
            super().shutdown()
        else:
            self._real.close()
            self.turn_out()

    # The bounds

    def _enter_phase(self) -> None:
        """Say in which phase the connection is now."""
        if self.phase == LEAVING or self._real.is_closing():
            return
        theirs = self.conn.their_state
        phase = WAITING if theirs is h11.IDLE else READING if theirs is h11.SEND_BODY else ANSWERING
        if phase != self.phase:
            self._connections.move(self, phase)
            self.phase, self.since_s = phase, self.loop.time()

    def only_health(self) -> None:
        """It is beyond the bound: every request but those for the health is refused."""
        app, self._is_extra = self.app, True

        async def refusing(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] in HEALTH:
                await app(scope, receive, send)
                return
            self._count(NO_ROOM, "all connections are busy")
            body = _problem(503, "too many connections at the same time; try again later")
            length = (b"content-length", str(len(body)).encode())
            headers = [(b"content-type", PROBLEM), length, (b"retry-after", b"1"), (b"connection", b"close")]
            await send({"type": "http.response.start", "status": 503, "headers": headers})
            await send({"type": "http.response.body", "body": body})

        self.app = refusing

    def check(self) -> None:
        """End the connection if it has taken too long."""
        now_s = self.loop.time()
        age_s, limits = now_s - self.since_s, self._limits
        if self.phase == LEAVING or (self.phase == READING and self.cycle.response_complete):
            if age_s > limits.leaving_s:
                self.turn_out()
        elif self.phase == WAITING:
            if age_s <= (limits.extra_head_s if self._is_extra else limits.head_s):
                pass
            elif self._has_begun:
                self._refuse(408, "the head of the request did not arrive in time", SLOW_HEAD)
            else:
                self.turn_out()  # browsers and load balancers open connections that they do not use
        elif self.phase == READING and not self.flow.read_paused:
            allowed_s = limits.body_grace_s + self.conn.body_bytes / limits.body_bytes_per_s
            if age_s > min(allowed_s, limits.body_s):
                slow = f"the body did not arrive in time: {self.conn.body_bytes} bytes in {age_s:.0f} s"
                self._refuse(408, slow, SLOW_BODY)
        if not self._real.get_write_buffer_size():
            self._unread_since_s = None
        elif self._unread_since_s is None:
            self._unread_since_s = now_s
        elif now_s - self._unread_since_s > limits.answer_s:
            self._count(UNREAD, "an answer was not read")
            self.turn_out()

    def _refuse(self, status: int, title: str, reason: str) -> None:
        """Answer in place of the application, and leave."""
        self._count(reason, title)
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.turn_out()  # there is an answer already
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # the application is told that there is nobody to answer
            self.cycle.message_event.set()
        self._real.write(_raw_problem(status, title))
        self._leave()

    def _close(self) -> None:
        """The server has answered and wants to close the connection."""
        if self.phase in (WAITING, READING) and not self._real.is_closing():
            self._leave()  # closed at once, the answer could be lost with what is still arriving
        elif self.phase != LEAVING:
            self._real.close()

    def _leave(self) -> None:
        """Let the sender read the answer; what it still sends is thrown away."""
        self._unset_keepalive_if_required()
        if not self._real.is_closing():
            self._connections.move(self, LEAVING)
            self.phase, self.since_s = LEAVING, self.loop.time()
            self.flow.resume_reading()
            if self._real.can_write_eof():
                self._real.write_eof()

    def make_room(self) -> None:
        """End the connection now, for another one."""
        self._count(NO_ROOM, "ended, to make room for another connection")
        self.turn_out()

    def turn_out(self) -> None:
        """End the connection now."""
        self._leave_list()
        self._unset_keepalive_if_required()
        self._real.abort()

    def _leave_list(self) -> None:
        if not self.has_left:
            self.has_left = True
            self._connections.leave(self)

    def _count(self, reason: str, why: str) -> None:
        self._connections.refusals.count(reason, f"{self.address or 'local'}: {why}")


def _network(host: str) -> tuple[str, bool]:
    """Whose connections are counted together: an IPv4 address, or an IPv6 network of one customer; is it this machine?"""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host, False
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None and not address.is_loopback:
            return str(ipaddress.ip_network((address, 64), strict=False)), False
        address = address.ipv4_mapped or address
    return str(address), is_loopback(str(address))


def _problem(status: int, title: str) -> bytes:
    return json.dumps({"type": "about:blank", "title": title, "status": status}).encode()


def _raw_problem(status: int, title: str) -> bytes:
    """A complete answer, for when there is no request that the application could answer."""
    body = _problem(status, title)
    head = b"HTTP/1.1 %d %b\r\ncontent-type: %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
    return head % (status, HTTPStatus(status).phrase.encode(), PROBLEM, len(body)) + body
