"""Just enough of an HTTP/1.1 server for the stand-in: keep-alive, thousands of requests a second, answers late or never.

It runs in a thread of its own. One request at a time on a connection, as clients of this kind send them.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from urllib.parse import parse_qsl, urlsplit

LARGEST = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a client sent: header names in lower case, the query as it was decoded."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    at_s: float  # monotonic: when it had arrived


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What is sent back `after_s` seconds. `cut`: only so many bytes of it, and the connection ends; `never`: nothing."""

    status: int = 200
    body: bytes = b""
    kind: str = "application/json;charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)
    after_s: float = 0.0
    cut: int | None = None
    never: bool = False

    def encoded(self, now_s: float) -> bytes:
        """The bytes of it, dated `now_s` (seconds since the epoch)."""
        reason = HTTPStatus(self.status).phrase
        told = {
            "Date": formatdate(now_s, usegmt=True),
            "Content-Type": self.kind,
            "Content-Length": str(len(self.body)),
        }
        lines = [f"{name}: {value}" for name, value in {**told, **self.headers}.items()]
        return "\r\n".join([f"HTTP/1.1 {self.status} {reason}", *lines, "", ""]).encode() + self.body


class _Connection(asyncio.Protocol):
    def __init__(self, server: Server) -> None:
        self._server = server
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.connections.add(transport)

    def connection_lost(self, _: Exception | None) -> None:
        assert self._transport is not None
        self._server.connections.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        first, *lines = self._buffer[:end].decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0"))
        if len(self._buffer) < end + 4 + length:
            assert len(self._buffer) < LARGEST
            return
        body = self._buffer[end + 4 : end + 4 + length]
        self._buffer = self._buffer[end + 4 + length :]
        method, target, _ = first.split(" ")
        parts = urlsplit(target)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        request = Request(
            method=method, path=parts.path, query=query, headers=headers, body=body, at_s=time.monotonic()
        )
        reply = self._server.answer(request)
        if reply.never:
            return
        if reply.after_s:
            asyncio.get_running_loop().call_later(reply.after_s, self._send, reply)
        else:
            self._send(reply)

    def _send(self, reply: Reply) -> None:
        assert self._transport is not None
        if self._transport.is_closing():
            return
        sent = reply.encoded(self._server.now_s())
        self._transport.write(sent if reply.cut is None else sent[: reply.cut])
        if reply.cut is not None:
            self._transport.close()


class Server:
    """Listens on the loopback from `start` until `stop`; every request is answered by `answer`, in the server's thread."""

    def __init__(
        self,
        answer: Callable[[Request], Reply],
        now_s: Callable[[], float],
        *,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.answer = answer
        self.now_s = now_s
        self.port = port
        self.connections: set[asyncio.Transport] = set()
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="stand-in", daemon=True)
        self._listening = threading.Event()
        self._failed: OSError | None = None

    def start(self) -> None:
        """Returns when it listens; OSError when the port cannot be had."""
        self._thread.start()
        self._listening.wait()
        if self._failed is not None:
            raise self._failed

    def stop(self) -> None:
        """Be gone: whoever waits for an answer is cut off."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            made = self._loop.run_until_complete(
                self._loop.create_server(lambda: _Connection(self), "127.0.0.1", self.port, ssl=self._tls, backlog=512)
            )
        except OSError as error:
            self._failed = error
            self._loop.close()
            self._listening.set()
            return
        self.port = made.sockets[0].getsockname()[1]
        self._listening.set()
        self._loop.run_forever()
        made.close()
        for connection in list(self.connections):
            connection.abort()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()
