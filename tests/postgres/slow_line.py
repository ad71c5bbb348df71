"""A line between a replica and its database that a test cuts for a while: what was sent meanwhile arrives late, not never."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.acceptance.service import free_port


class SlowLine:
    """Passes bytes between its port and another one, while `flows`."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self._target = target
        self._flows = threading.Event()
        self._flows.set()
        self._listening = socket.create_server(("127.0.0.1", self.port))
        self._open: list[socket.socket] = [self._listening]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Hold back everything from now on, in both directions."""
        self._flows.clear()

    def mend(self) -> None:
        """Let what was held back arrive, and all that follows."""
        self._flows.set()

    def close(self) -> None:
        """Cut every connection for good."""
        self._flows.set()
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                self._flows.wait()
                try:
                    far = socket.create_connection(("127.0.0.1", self._target), 5)
                except OSError:
                    near.close()
                    continue
                self._open += [near, far]
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=(source, target), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(2**16):
                self._flows.wait()
                target.sendall(data)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@contextmanager
def slow_line(target: int) -> Iterator[SlowLine]:
    """A line to a port of this machine, for the block."""
    line = SlowLine(target)
    try:
        yield line
    finally:
        line.close()
