"""A server whose connections misbehave as a table says: in a process of its own, so that a flood costs the server's time and not the test's.

A module such as `tests.hostile.mail_server` ends in `serve(handlers)`; a test says `with running("tests.hostile.mail_server") as ports`.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

HELD_S = 60.0
"""How long a behaviour goes on at most: longer than any limit of the product, shorter than a forgotten process."""

FLOOD_BYTES = 32 * 1024
RESET = struct.pack("ii", 1, 0)  # closing sends a reset and discards what was not sent


class Line:
    """One connection, as a behaviour uses it. Whatever goes wrong ends it: the other side may have had enough."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.until_s = time.monotonic() + HELD_S

    def say(self, data: bytes) -> None:
        self.connection.sendall(data)

    def flood(self, unit: bytes) -> None:
        """The same again and again, as fast as it is taken."""
        block = unit * max(1, FLOOD_BYTES // len(unit))
        while time.monotonic() < self.until_s:
            self.connection.sendall(block)

    def drip(self, data: bytes, pause_s: float = 0.05) -> None:
        """The same without end, a byte at a time."""
        while time.monotonic() < self.until_s:
            for at in range(len(data)):
                self.connection.sendall(data[at : at + 1])
                if self.is_over(pause_s):
                    return

    def packets(self, unit: bytes) -> None:
        """The same again and again, each by itself: the other side meets it as one."""
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while not self.is_over(0.002):
            self.connection.sendall(unit)

    def is_over(self, within_s: float) -> bool:
        """Wait; whether the other side ended the connection meanwhile."""
        readable, _, _ = select.select([self.connection], [], [], within_s)
        return bool(readable) and not self.connection.recv(4096)

    def hold(self) -> None:
        """Say no more, until the other side has had enough."""
        while time.monotonic() < self.until_s and not self.is_over(self.until_s - time.monotonic()):
            pass

    def hold_unread(self) -> None:
        """Say no more and read nothing, until the connection is gone."""
        gone = select.poll()
        gone.register(self.connection, select.POLLHUP | select.POLLERR)
        gone.poll(1000 * (self.until_s - time.monotonic()))

    def reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.connection.close()


def serve(handlers: Mapping[str, Callable[[Line], None]]) -> None:
    """Serve each behaviour on a port of its own, each connection in a thread of its own; print the ports; end when standard input does."""
    listeners = {name: socket.create_server(("127.0.0.1", 0), backlog=512) for name in handlers}
    for name, listener in listeners.items():
        threading.Thread(target=_accept, args=(listener, handlers[name]), daemon=True).start()
    print(json.dumps({name: listener.getsockname()[1] for name, listener in listeners.items()}), flush=True)
    sys.stdin.read()
    os._exit(0)  # whatever still floods


def _accept(listener: socket.socket, handle: Callable[[Line], None]) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_one, args=(connection, handle), daemon=True).start()


def _one(connection: socket.socket, handle: Callable[[Line], None]) -> None:
    with connection, contextlib.suppress(OSError, ValueError):
        handle(Line(connection))


@contextmanager
def running(module: str, *arguments: str) -> Iterator[dict[str, int]]:
    """The server of a module, and the port of each behaviour."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()
