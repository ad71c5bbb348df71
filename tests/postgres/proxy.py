"""A network between a replica and the database that tests can break: packets wait, are lost, or connections end.

`Network` listens on a port of the loopback and forwards to another. `hold()` keeps everything that is sent from now on, in both
directions, until `release()`: packets that are late. `at_commit` says what happens to the first COMMIT that is seen after it was set.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from enum import Enum


class AtCommit(Enum):
    """What the network does to a COMMIT; the client's side of the connection ends each time."""

    LOSE_ANSWER = "it arrives, and its answer is lost"
    LOSE = "it is lost, and the server hears nothing of the end"
    LATE = "it arrives when `release` says so, after the client has given up"


class Network:
    """One way to a server, for any number of connections."""

    def __init__(self, port: int) -> None:
        """`port`: where the server listens."""
        self._to = port
        self.at_commit: AtCommit | None = None
        self.then: Callable[[], object] = lambda: None  # what else happens then, before the client hears anything
        self.is_refusing = False  # no new connections
        self._open = threading.Event()
        self._open.set()
        self._late = threading.Event()
        self._ended = False
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self) -> None:
        """From now on nothing arrives; connections stay as they are."""
        self._open.clear()

    def release(self) -> None:
        """What was held arrives, in its order, and so does a late COMMIT."""
        self._open.set()
        self._late.set()

    def cut(self) -> None:
        """End every connection, on both sides."""
        sockets, self._sockets = self._sockets, []
        for one in sockets:
            _end(one)

    def close(self) -> None:
        """End it."""
        self._ended = True
        _end(self._listener)
        self.release()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                if self.is_refusing:
                    raise OSError("refused")
                far = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                near.close()
                continue
            self._sockets += [near, far]
            if self._ended:
                self.cut()
            threading.Thread(target=self._forward, args=(near, far, True), daemon=True).start()
            threading.Thread(target=self._forward, args=(far, near, False), daemon=True).start()

    def _forward(self, source: socket.socket, to: socket.socket, is_from_client: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._open.wait()
                if is_from_client and self.at_commit is not None and b"COMMIT" in data:
                    what, self.at_commit = self.at_commit, None
                    self._lose(what, data, source, to)
                    return
                to.sendall(data)
        _end(to)

    def _lose(self, what: AtCommit, data: bytes, client: socket.socket, server: socket.socket) -> None:
        """Do to a COMMIT what was asked for; the server's side stays open."""
        self._late.clear()
        if what is AtCommit.LOSE_ANSWER:
            client.shutdown(socket.SHUT_WR)  # the answer has no way any more
            server.sendall(data)
        self.then()
        _end(client)
        if what is AtCommit.LATE:
            self._late.wait()
            server.sendall(data)


def _end(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
