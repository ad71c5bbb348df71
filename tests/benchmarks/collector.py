"""A webhook target that costs next to nothing: answers 200 to every POST and remembers each key's first arrival.

Inside the benchmark for latencies (`Collector`, one clock), as a process of its own for throughput (`CollectorProcess`).
Speaks just enough HTTP/1.1 for well-behaved clients that keep connections open and send a Content-Length.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import subprocess
import sys
import time
from typing import Any, Self

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
KEY = re.compile(rb"\r\nidempotency-key: *([^\r\n]+)", re.IGNORECASE)


class Collector:
    """What has arrived: key -> monotonic instant (s) of its first arrival, and how many requests in all."""

    def __init__(self) -> None:
        self.arrived: dict[bytes, float] = {}
        self.requests = 0
        self._server: asyncio.Server | None = None
        self._waiting: asyncio.Future[None] | None = None

    async def listen(self) -> str:
        """Start on an ephemeral loopback port; returns the URL."""
        self._server = await asyncio.get_running_loop().create_server(lambda: _Connection(self), "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/hook"

    async def next_arrival(self, after: int, within_s: float) -> None:
        """Wait until more than `after` keys have arrived. Raises TimeoutError."""
        async with asyncio.timeout(within_s):
            while len(self.arrived) <= after:
                self._waiting = asyncio.get_running_loop().create_future()
                await self._waiting

    def take(self, head: bytes, body: bytes) -> bytes:
        """Remember one request; returns the answer to send."""
        if head.startswith(b"GET"):
            return _as_json({"requests": self.requests, "keys": len(self.arrived), "last": self._last()})
        self.requests += 1
        found = KEY.search(head)
        key = found[1] if found else b"%d" % self.requests
        if key not in self.arrived:
            self.arrived[key] = time.monotonic()
            if self._waiting is not None and not self._waiting.done():
                self._waiting.set_result(None)
        return ANSWER

    def _last(self) -> float:
        return next(reversed(self.arrived.values())) if self.arrived else 0.0

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()


def _as_json(value: Any) -> bytes:
    body = json.dumps(value).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


class _Connection(asyncio.Protocol):
    """One kept-alive connection; a request may come in pieces, and several in one piece."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (ends := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:ends]
            found = LENGTH.search(head)
            until = ends + 4 + (int(found[1]) if found else 0)
            if len(self._buffer) < until:
                return
            answer = self._collector.take(head, self._buffer[ends + 4 : until])
            self._buffer = self._buffer[until:]
            self._transport.write(answer)


class CollectorProcess:
    """A collector in a process of its own, so that it takes no time from what is measured. A context manager."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.collector"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().decode().strip()
        return self

    def __exit__(self, *_: object) -> None:
        # Its standard input ends, and so does it.
        self._process.communicate()

    def seen(self) -> tuple[int, int, float]:
        """Requests, different keys, and the monotonic instant (s) at which the newest key arrived."""
        host = self.url.split("/")[2]
        connection = http.client.HTTPConnection(host, timeout=10)
        try:
            connection.request("GET", "/")
            answer = json.loads(connection.getresponse().read())
            return answer["requests"], answer["keys"], answer["last"]
        finally:
            connection.close()


async def _serve() -> None:
    print(await Collector().listen(), flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve())
