"""Senders that misbehave towards the HTTP listener. Each behaviour uses a connection to do its worst; `BEHAVIOURS` names all of them.

None of them needs a token. Read `Sender`.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Self

PATIENCE_S = 60.0
MIB = 1 << 20

HOST = b"Host: localhost\r\n"
POST = b"POST /v1/events HTTP/1.1\r\n" + HOST + b"Content-Type: application/x-ndjson\r\n"
LARGE = b"Content-Length: %d\r\n\r\n" % (16 * MIB)
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


class Sender:
    """One connection to a listener on the loopback."""

    def __init__(self, port: int, headers: bytes = b"") -> None:
        """`headers` are sent in every request, such as a token."""
        self.headers = headers
        self.connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def say(self, *parts: bytes) -> Self:
        """Send; the other side may have had enough."""
        with suppress(OSError):
            for part in parts:
                self.connection.sendall(part)
        return self

    def post(self, *parts: bytes) -> Self:
        """The beginning of a request with events, and what follows."""
        return self.say(POST + self.headers, *parts)

    def answer(self) -> bytes:
        """Everything that comes until the other side closes the connection; fails when it never does."""
        parts = []
        try:
            while part := self.connection.recv(64 * 1024):
                parts.append(part)
        except ConnectionError:
            pass  # closed while we were talking
        return b"".join(parts)

    def first(self) -> bytes:
        """What comes first; empty when the connection was closed instead."""
        try:
            return self.connection.recv(64 * 1024)
        except ConnectionError:
            return b""

    def is_open(self) -> bool:
        """Is the connection open, as far as can be said at once?"""
        self.connection.setblocking(False)
        try:
            return bool(self.connection.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            self.connection.settimeout(PATIENCE_S)

    def close(self) -> None:
        """Hang up, with a reset if something was not read."""
        self.connection.close()

    def __del__(self) -> None:
        """A sender that nobody holds any more has hung up."""
        self.connection.close()


def silent(sender: Sender) -> None:
    """Says nothing."""


def half_head(sender: Sender) -> None:
    """Begins a head and never ends it."""
    sender.say(POST)


def half_body(sender: Sender) -> None:
    """Announces a large body and sends a little of it."""
    sender.post(LARGE, b"x\n")


def half_chunk(sender: Sender) -> None:
    """Begins a chunk and never ends it."""
    sender.post(CHUNKED, b"ffff\r\nx\n")


def large_head(sender: Sender) -> None:
    """A head of a megabyte."""
    sender.say(POST, b"X-Much: " + b"a" * MIB + b"\r\n\r\n")


def many_headers(sender: Sender) -> None:
    """A hundred thousand headers."""
    sender.say(POST, b"".join(b"X-%d: a\r\n" % n for n in range(100_000)), b"\r\n")


def long_target(sender: Sender) -> None:
    """An address of a megabyte."""
    sender.say(b"GET /" + b"a" * MIB + b" HTTP/1.1\r\n" + HOST + b"\r\n")


def not_http(sender: Sender) -> None:
    """The beginning of TLS, and noise."""
    sender.say(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) + b"\r\n\r\n")


def bad_length(sender: Sender) -> None:
    """Two lengths that contradict each other."""
    sender.post(b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nx\n\n\n")


def bad_chunk(sender: Sender) -> None:
    """A chunk whose size is no number."""
    sender.post(CHUNKED, b"zz\r\nx\n\r\n0\r\n\r\n")


def tiny_chunks(sender: Sender) -> None:
    """A body of chunks of one byte."""
    sender.post(CHUNKED, *(b"1\r\nx\r\n" * 100_000 for _ in range(10)))


def long_extension(sender: Sender) -> None:
    """A chunk with an extension without end."""
    sender.post(CHUNKED, b"1;", b"a" * MIB)


def endless_trailers(sender: Sender) -> None:
    """A chunked body whose trailers never end."""
    sender.post(CHUNKED, b"1\r\nx\r\n0\r\n", *(b"X-%d: a\r\n" % n for n in range(10_000)))


def oversized(sender: Sender) -> None:
    """A body of one megabyte more than is allowed."""
    sender.post(b"Content-Length: %d\r\n\r\n" % (17 * MIB), *(b"x" * MIB for _ in range(17)))


def both_lengths(sender: Sender) -> None:
    """A length and chunks: what one server reads as a body another one reads as the next request."""
    sender.post(b"Content-Length: 4\r\n", CHUNKED, b"0\r\n\r\nGET /v1/clients HTTP/1.1\r\n\r\n")


BEHAVIOURS: dict[str, Callable[[Sender], None]] = {
    found.__name__: found
    for found in (
        silent,
        half_head,
        half_body,
        half_chunk,
        large_head,
        many_headers,
        long_target,
        not_http,
        bad_length,
        bad_chunk,
        tiny_chunks,
        long_extension,
        endless_trailers,
        oversized,
        both_lengths,
    )
}


def misbehave(port: int, behaviour: str, headers: bytes = b"") -> Sender:
    """A connection that behaves in this way."""
    sender = Sender(port, headers)
    BEHAVIOURS[behaviour](sender)
    return sender
