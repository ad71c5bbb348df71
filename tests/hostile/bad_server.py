"""Servers that misbehave, on real sockets: `BadServer` does to every connection what its behaviour says.

A behaviour is a function of a connection; it may be changed while the server runs, and `relay` makes it a good one.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

Behaviour = Callable[[socket.socket], None]

DRIP_S: Final = 0.05


class BadServer:
    """Listens on loopback and does to every connection what `behaviour` says. `accepted` counts them."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.accepted = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._open: set[socket.socket] = set()
        self._closed = False
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"127.0.0.1:{self.port}"

    def change(self, behaviour: Behaviour) -> None:
        """Behave otherwise from now on; open connections are cut."""
        self.behaviour = behaviour
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        while not self._closed:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            self._open.add(connection)
            threading.Thread(target=self._one, args=(connection, self.behaviour), daemon=True).start()

    def _one(self, connection: socket.socket, behaviour: Behaviour) -> None:
        with suppress(OSError, EOFError), connection:
            behaviour(connection)
        self._open.discard(connection)

    def close(self) -> None:
        """Listen no longer, and cut every connection."""
        self._closed = True
        self._listener.close()
        self.change(self.behaviour)


@contextmanager
def bad_server(behaviour: Behaviour) -> Iterator[BadServer]:
    """A server that runs as long as the block."""
    server = BadServer(behaviour)
    try:
        yield server
    finally:
        server.close()


# What every kind of server can do


def closes(connection: socket.socket) -> None:
    """Close at once."""


def hangs_up(connection: socket.socket) -> None:
    """Close in the middle."""
    connection.shutdown(socket.SHUT_RDWR)


def resets(connection: socket.socket) -> None:
    """Reset at once."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def says_nothing(connection: socket.socket) -> None:
    """Take what comes, and never answer."""
    while connection.recv(2**16):
        pass


def garbage(connection: socket.socket) -> None:
    """Bytes that mean nothing, without end."""
    while True:
        connection.sendall(bytes(range(255, -1, -1)) * 64)


def web_server(connection: socket.socket) -> None:
    """Another protocol."""
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    says_nothing(connection)


def relay(port: int) -> Behaviour:
    """Be what listens on another port."""

    def behave(connection: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", port)) as good:
            back = threading.Thread(target=_copy, args=(good, connection), daemon=True)
            back.start()
            _copy(connection, good)
            back.join()

    return behave


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(2**16):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


def exactly(connection: socket.socket, size: int) -> bytes:
    """So many bytes. EOFError when the other side has closed."""
    found = b""
    while len(found) < size:
        more = connection.recv(size - len(found))
        if not more:
            raise EOFError
        found += more
    return found


def after(*said: bytes, forever: bool = False, drip: bool = False) -> Behaviour:
    """Send these, perhaps without end or byte by byte, and then nothing."""
    talk = says(*said, forever=forever, drip=drip)

    def behave(connection: socket.socket) -> None:
        talk(connection)
        says_nothing(connection)

    return behave


def says(*said: bytes, forever: bool = False, drip: bool = False) -> Behaviour:
    """Send these, perhaps without end or byte by byte."""

    def behave(connection: socket.socket) -> None:
        for data in said:
            if drip:
                for byte in data:
                    connection.sendall(bytes((byte,)))
                    time.sleep(DRIP_S)
            connection.sendall(b"" if drip else data)
        while forever:
            connection.sendall(said[-1])

    return behave
