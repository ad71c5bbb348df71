"""A webhook target for tests and benchmarks: fast when it is good, and able to misbehave in the ways that targets do.

On the test's own event loop (`Sink`) or as a process of its own (`SinkProcess`), always on an ephemeral loopback port. The
path of a request says how it is answered: `/ok`, `/500`, `/404`, `/429` (Retry-After: 1), `/redirect`, `/hang` (never),
`/close` (the connection ends without an answer), `/long` (a body of a megabyte); `Sink.plan` overrides it for a key.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Self, cast

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
KEY = re.compile(rb"\r\nidempotency-key: *([^\r\n]+)", re.IGNORECASE)
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
ANSWERS = {
    "ok": GOOD,
    "500": b"HTTP/1.1 500 Oops\r\nContent-Length: 12\r\n\r\nout\x07of\norder",
    "404": b"HTTP/1.1 404 Not Found\r\nContent-Length: 7\r\n\r\nnot me!",
    "429": b"HTTP/1.1 429 Slow Down\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n",
    "redirect": b"HTTP/1.1 307 Over There\r\nLocation: /ok\r\nContent-Length: 0\r\n\r\n",
    "long": b"HTTP/1.1 503 Excuses\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1_000_000,
}


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came, with the monotonic instant (s) of its arrival."""

    key: str
    path: str
    head: bytes
    body: bytes
    at_s: float


class Sink:
    """A target on the running event loop. `requests` holds everything that came when `keep` is on, else only `count` grows."""

    def __init__(self, *, keep: bool = True) -> None:
        self.requests: list[Request] = []
        self.count = 0
        self.most_at_once = 0
        self.waiting = 0  # requests that hang
        self.plan: dict[str, list[str]] = {}  # key -> how to answer its next requests; afterwards as its path says
        self.url = ""
        self._keep = keep
        self._server: asyncio.Server | None = None
        self._changed = asyncio.Event()
        self._connections: set[_Connection] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.get_running_loop().create_server(lambda: _Connection(self), "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for connection in list(self._connections):
            connection.end()

    @property
    def keys(self) -> list[str]:
        """The keys that came, in the order of arrival."""
        return [request.key for request in self.requests]

    async def arrivals(self, count: int, within_s: float = 20) -> None:
        """Wait until `count` requests have come in all. Raises TimeoutError."""
        async with asyncio.timeout(within_s):
            while self.count < count:
                self._changed.clear()
                await self._changed.wait()

    def let_go(self) -> None:
        """Answer everything that hangs with 200, and hang no more."""
        self.plan.clear()
        for connection in list(self._connections):
            connection.answer_late()

    def take(self, head: bytes, body: bytes) -> str:
        """Note one request; says how to answer it."""
        self.count += 1
        if not self._keep:
            return "ok"
        found = KEY.search(head)
        key = found[1].decode() if found else ""
        path = head.split(b" ", 2)[1].decode()
        self.requests.append(Request(key, path, head, body, time.monotonic()))
        self._changed.set()
        planned = self.plan.get(key)
        return planned.pop(0) if planned else path.strip("/").split("/")[0].split("?")[0]

    def joined(self, connection: _Connection, there: bool) -> None:
        """A connection came or went."""
        if there:
            self._connections.add(connection)
        else:
            self._connections.discard(connection)
        self.most_at_once = max(self.most_at_once, len(self._connections))


class _Connection(asyncio.Protocol):
    """One kept-alive connection; a request may come in pieces, and several in one piece."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._buffer = b""
        self._hanging = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._sink.joined(self, True)

    def connection_lost(self, exc: Exception | None) -> None:
        self._sink.waiting -= self._hanging
        self._hanging = 0
        self._sink.joined(self, False)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (ends := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:ends]
            found = LENGTH.search(head)
            until = ends + 4 + (int(found[1]) if found else 0)
            if len(self._buffer) < until:
                return
            how = self._sink.take(head, self._buffer[ends + 4 : until])
            self._buffer = self._buffer[until:]
            self._answer(how)

    def _answer(self, how: str) -> None:
        if how == "hang":
            self._hanging += 1
            self._sink.waiting += 1
        elif how == "close":
            self._transport.abort()
        else:
            self._transport.write(ANSWERS.get(how, GOOD))

    def answer_late(self) -> None:
        """Answer what hangs here."""
        for _ in range(self._hanging):
            self._transport.write(GOOD)
        self._sink.waiting -= self._hanging
        self._hanging = 0

    def end(self) -> None:
        """Close at once."""
        self._transport.abort()


class SinkProcess:
    """A good target in a process of its own, so that it takes no time from what is measured. A context manager."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.sink"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().decode().strip()
        return self

    def __exit__(self, *_: object) -> None:
        # Its standard input ends, and so does it.
        self._process.communicate()


async def _serve() -> None:
    async with Sink(keep=False) as sink:
        print(sink.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)


def main() -> None:
    """Serve until standard input ends."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(_serve())
    else:
        uvloop.run(_serve())


if __name__ == "__main__":
    main()
