"""HTTP calls with one deadline over everything, and an answer of bounded size, whatever the service sends. Read `attempt`.

`requests` limits each wait for bytes, not the call: a service that sends a byte a second, or "100 Continue" without end, keeps a
thread for ever, the latter at full speed. So connections are made here, name included, and read through `_BoundedRaw`, which knows
what is left of the attempt of its thread. Outside an attempt it limits nothing.
"""

from __future__ import annotations

import errno
import http.client
import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from engine.lookup import LookupTimeout, addresses

LONGEST_ANSWER: Final = 192 * 1024
"""Bytes of one answer as they come over the wire: interim answers, headers, chunks, everything. Bodies are far smaller."""

INTERIM_ANSWERS: Final = 16
"""Answers of status 1xx before the real one: services send one or two."""

TOO_LONG: Final = "the answer has no end"

NO_LIMIT: Final = 1e9


class AnswerTooLong(OSError):
    """More came than any answer has."""

    def __init__(self) -> None:
        super().__init__(errno.EMSGSIZE, TOO_LONG)


class _Attempt(threading.local):
    """What is left of the attempt that this thread makes."""

    until_s = NO_LIMIT
    bytes_left: float = NO_LIMIT

    def left_s(self) -> float:
        """Seconds. Raises TimeoutError when there are none."""
        if self.until_s == NO_LIMIT:
            return NO_LIMIT
        left_s = self.until_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        return left_s


_attempt: Final = _Attempt()


@contextmanager
def attempt(timeout_s: float) -> Iterator[None]:
    """Whatever this thread asks inside, over bounded connections, ends within `timeout_s`, and with `LONGEST_ANSWER`."""
    _attempt.until_s, _attempt.bytes_left = time.monotonic() + timeout_s, LONGEST_ANSWER
    try:
        yield
    finally:
        _attempt.until_s = _attempt.bytes_left = NO_LIMIT


def _limit(connection: socket.socket) -> None:
    left_s = _attempt.left_s()
    if left_s != NO_LIMIT:
        connection.settimeout(left_s)


class _BoundedRaw(io.RawIOBase):
    """The bytes of a connection, as long as its thread's attempt allows."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        # The socket counts it, and stays open until it is closed.
        self._raw = connection.makefile("rb", buffering=0)

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """The next bytes. Raises TimeoutError, AnswerTooLong."""
        if _attempt.bytes_left <= 0:
            raise AnswerTooLong
        _limit(self._connection)
        count = self._raw.readinto(buffer)
        _attempt.bytes_left -= count or 0
        return count

    def close(self) -> None:
        """Let the socket close."""
        if not self.closed:
            self._raw.close()
        super().close()


class _BoundedResponse(http.client.HTTPResponse):
    """An answer read through `_BoundedRaw`, after a bounded number of interim ones."""

    def __init__(self, sock: socket.socket, *arguments: Any, **more: Any) -> None:
        super().__init__(sock, *arguments, **more)
        self.fp.close()
        self.fp = io.BufferedReader(_BoundedRaw(sock))
        self._interim = 0

    def _read_status(self) -> tuple[str, int, str]:
        """The next status line. Every interim status is read as 100, the one that the library skips."""
        found: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
        if 100 <= found[1] < 200 and found[1] != http.client.SWITCHING_PROTOCOLS:
            self._interim += 1
            if self._interim > INTERIM_ANSWERS:
                raise AnswerTooLong
            return found[0], 100, found[2]
        return found


class _BoundedConnection(HTTPConnection):
    """A connection that is made and used within the attempt."""

    response_class = _BoundedResponse

    def send(self, data: Any) -> None:
        """Send within what is left."""
        if self.sock is not None:
            _limit(self.sock)
        super().send(data)

    def _new_conn(self) -> socket.socket:
        try:
            return self._connected()
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            raise ConnectTimeoutError(self, f"connecting to {self.host} timed out") from error
        except OSError as error:
            raise NewConnectionError(self, f"no connection: {error}") from error

    def _connected(self) -> socket.socket:
        """Connected to the first address of the name that takes it, each given what is left."""
        try:
            left_s = min(_attempt.left_s(), self.timeout if isinstance(self.timeout, int | float) else NO_LIMIT)
            found = addresses(self.host.rstrip("."), self.port, min(left_s, threading.TIMEOUT_MAX))
        except LookupTimeout as error:
            raise TimeoutError(str(error)) from error
        problem: OSError = OSError(f"the name {self.host} has no address")
        for family, kind, protocol, _, address in found:
            made = socket.socket(family, kind, protocol)
            try:
                for option in self.socket_options or ():
                    made.setsockopt(*option)
                made.settimeout(min(_attempt.left_s(), left_s))
                made.connect(address)
            except OSError as error:
                made.close()
                problem = error
            else:
                _limit(made)  # the handshake of TLS has the rest
                return made
        raise problem


class _BoundedSecureConnection(_BoundedConnection, HTTPSConnection):
    """The same over TLS."""


class _BoundedPool(HTTPConnectionPool):
    ConnectionCls = _BoundedConnection


class _BoundedSecurePool(HTTPSConnectionPool):
    ConnectionCls = _BoundedSecureConnection


def bound(adapter: HTTPAdapter) -> HTTPAdapter:
    """The same adapter, with bounded connections."""
    adapter.poolmanager.pool_classes_by_scheme = {"http": _BoundedPool, "https": _BoundedSecurePool}
    return adapter
