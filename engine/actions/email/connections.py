"""Connections to one SMTP server: made, encrypted, logged in, kept for a while and used again. Read `SmtpLines.begin` first."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import aiosmtplib

from engine.actions.base import MaySend, always
from engine.actions.email.replies import Client, is_refusal
from engine.config.scrubber import Scrubber
from engine.lookup import addresses_soon

MAX_MESSAGES = 100
"""Over one connection: many servers end it after about as many."""

MAX_IDLE_S = 20.0
"""A connection that did nothing for longer is not trusted any more."""


ANSWER_BYTES = 256 * 1024
"""What a server may send while one message is handed over: about ten answers."""

LONGEST_ANSWER_BYTES = 32 * 1024
"""Of one answer: the library takes no longer one."""

REASON_CHARS = 300
"""Of what a server says, kept with a delivery."""


class Trouble(Exception):
    """The server cannot be used as configured; the message says why."""


@dataclass(slots=True)
class Line:
    """One connection, and what it has carried."""

    client: aiosmtplib.SMTP
    meter: AnswerMeter
    messages: int = 0
    idle_since: float = 0.0


class AnswerMeter(asyncio.Protocol):
    """Stands between a connection and the library. Passes on one whole answer at a time, and cuts a connection on which more comes.

    More is an answer without end, one that nobody has asked for (and that would be taken for the answer to the next command), or
    anything at all while nothing is under way.
    """

    def __init__(self, inner: asyncio.Protocol, transport: asyncio.Transport) -> None:
        self._inner = inner
        self._transport = transport
        self._left = ANSWER_BYTES
        self._answer = b""
        self.lost = asyncio.Event()

    def begins(self) -> None:
        """A message is handed over."""
        self._left = ANSWER_BYTES

    def idles(self) -> None:
        """Nothing is asked any more: a server that says something now is about to close the connection, or should be."""
        self._left = 0

    def data_received(self, data: bytes) -> None:
        """Pass on the answer when it is whole, or when it is too long to be one."""
        self._left -= len(data)
        if self._left < 0:
            self._transport.abort()
            return
        self._answer += data
        length = _answer_length(self._answer)
        if not length and len(self._answer) <= LONGEST_ANSWER_BYTES:
            return
        answer, rest = self._answer[: length or None], self._answer[length:] if length else b""
        self._answer = b""
        self._inner.data_received(answer)
        if rest or not length:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Pass it on: the connection is encrypted from now on."""
        self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass it on."""
        self.lost.set()
        self._inner.connection_lost(exc)

    def eof_received(self) -> bool | None:
        """Pass it on."""
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        """Pass it on."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._inner.resume_writing()


def _answer_length(data: bytes) -> int:
    """Bytes of the answer that `data` begins with; 0 when it is not complete."""
    at = 0
    while (end := data.find(b"\n", at)) >= 0:
        if data[at + 3 : at + 4] != b"-":
            return end + 1
        at = end + 1
    return 0


def metered(client: aiosmtplib.SMTP) -> AnswerMeter:
    """Puts a meter between the client's present transport and its protocol."""
    # Not by `isinstance`: the transports of uvloop have classes of their own.
    transport, protocol = (
        cast(asyncio.Transport | None, client.transport),
        cast(asyncio.Protocol | None, client.protocol),
    )
    if transport is None or protocol is None:
        raise aiosmtplib.SMTPServerDisconnected("the connection was closed")
    meter = AnswerMeter(protocol, transport)
    transport.set_protocol(meter)
    return meter


class SmtpLines:
    """Connections of one event loop. The arguments are those of `engine.actions.email.sender.MailSender`."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        security: str,
        username: str | None,
        password: Callable[[], str] | None,
        ca: str | None,
        timeout_s: float,
        helo: str | None = None,
        may_send: MaySend = always,
    ) -> None:
        self._may_send = may_send
        self._host = host
        self._port = port
        self._security = security
        self._username = username
        self._password = password
        self._scrub = Scrubber(())  # of the password used last
        self._ca = ca
        self._timeout_s = timeout_s
        self._helo = helo or _own_name()
        self._idle: list[Line] = []

    def shown(self, said: bytes | str) -> str:
        """What a server or the library says, without the password, as one line that can be stored."""
        raw = said.encode("utf-8", "surrogateescape") if isinstance(said, str) and _holds_bytes(said) else said
        return self._scrub.shown(raw, REASON_CHARS)

    async def begin(self, sender: str) -> tuple[Line, aiosmtplib.SMTPResponse | None]:
        """A connection on which a transaction has begun, and the server's refusal if it refuses the sender.

        A connection that was kept may have been ended by the server meanwhile, which says nothing about it.
        """
        while True:
            line = self._kept()
            used = line is not None
            if line is None:
                line = await self._connected()
            line.meter.begins()
            try:
                await line.client.mail(sender)
            except aiosmtplib.SMTPResponseException as error:
                if used and error.code == 421:
                    drop(line.client)
                    continue
                return line, aiosmtplib.SMTPResponse(error.code, error.message)
            except (aiosmtplib.SMTPServerDisconnected, ConnectionError):
                drop(line.client)
                if used:
                    continue
                raise
            except BaseException:
                drop(line.client)
                raise
            return line, None

    async def _connected(self) -> Line:
        """A new connection, encrypted and logged in as configured."""
        password = self._password() if self._password is not None else None
        self._scrub = Scrubber([password] if password is not None else ())
        client = Client(
            hostname=self._host,
            local_hostname=self._helo,
            timeout=self._timeout_s,
            use_tls=self._security == "tls",
            start_tls=False,
            tls_context=self._tls() if self._security != "plain" else None,
            sock=await self._socket(),
        )
        client.may_send = self._may_send
        try:
            await client.connect()
            meter = metered(client)
            await client.ehlo()
            if self._security == "starttls":
                if not client.supports_extension("starttls"):
                    raise Trouble("the server offers no STARTTLS, so nothing was sent")
                await client.starttls()
                meter = metered(client)
                await client.ehlo()  # what it offered in the clear counts no more
            if self._username is not None and password is not None:
                await self._log_in(client, self._username, password)
        except BaseException as error:
            drop(client)
            if isinstance(error, aiosmtplib.SMTPConnectError) and error.__cause__ is not None:
                raise error.__cause__ from None  # it says what went wrong, and the library's own words name no port
            raise
        return Line(client, meter)

    async def _socket(self) -> socket.socket:
        """Connected to the first of the server's addresses that takes it. Raises OSError with what the last one said."""
        loop = asyncio.get_running_loop()
        problem: OSError = OSError(f"the name {self._host} has no address")
        for family, kind, protocol, _, address in await addresses_soon(self._host, self._port):
            made = socket.socket(family, kind, protocol)
            made.setblocking(False)
            try:
                await loop.sock_connect(made, address)
            except OSError as error:
                made.close()
                problem = error
            except BaseException:
                made.close()
                raise
            else:
                # Another descriptor for the same connection: uvloop does not give up the one that it has connected at once.
                with made:
                    return made.dup()
        raise problem

    async def _log_in(self, client: aiosmtplib.SMTP, username: str, password: str) -> None:
        """Log in. Nothing that a server says about a login is kept: it may repeat the password in any form."""
        if not client.supports_extension("auth"):
            raise Trouble("the server does not support a login")
        code = 0
        try:
            await client.login(username, password)
        except aiosmtplib.SMTPAuthenticationError as error:
            code = error.code
        except aiosmtplib.SMTPNotSupported:
            raise Trouble("the server offers no supported login method") from None
        except (aiosmtplib.SMTPServerDisconnected, aiosmtplib.SMTPTimeoutError):
            raise Trouble("the connection was lost during the login") from None
        except aiosmtplib.SMTPResponseException as error:
            code = error.code
        except (aiosmtplib.SMTPException, ValueError):
            raise Trouble("the server does not log in as servers do") from None
        if code and not 200 <= code < 300:  # a yes before the last step is a yes
            raise Trouble(
                f"the login was refused: {code} (check `username` and `password`)"
                if is_refusal(code)
                else "the server answers the login with something that is no answer"
            )

    def _tls(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self._ca)
        except (OSError, ssl.SSLError) as error:
            raise Trouble(f"the certificates in {self._ca} cannot be used: {error}") from error

    def _kept(self) -> Line | None:
        """The connection used last, if any can still be trusted."""
        now = time.monotonic()
        while self._idle:
            line = self._idle.pop()
            if line.client.is_connected and now - line.idle_since < MAX_IDLE_S:
                return line
            drop(line.client)
        return None

    def keep(self, line: Line) -> None:
        """Have a connection at hand for the next message."""
        if line.messages >= MAX_MESSAGES or not line.client.is_connected:
            drop(line.client)
            return
        line.idle_since = time.monotonic()
        line.meter.idles()
        self._idle.append(line)

    async def put_back(self, line: Line) -> None:
        """After a transaction that came to nothing: begin anew, or end it."""
        try:
            line.meter.begins()
            async with asyncio.timeout(1.0):
                await line.client.rset()
        except (aiosmtplib.SMTPException, OSError, TimeoutError):
            drop(line.client)
        else:
            self.keep(line)

    async def close(self) -> None:
        """Close all connections."""
        lines, self._idle = self._idle, []
        for line in lines:
            line.meter.begins()
            with contextlib.suppress(aiosmtplib.SMTPException, OSError, TimeoutError):
                async with asyncio.timeout(1.0):
                    await line.client.quit()
            drop(line.client)
        for line in lines:
            # What encrypts ends in several steps, on a loop that may end now.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await line.meter.lost.wait()
        await asyncio.sleep(0)


def drop(client: aiosmtplib.SMTP) -> None:
    """End a connection at once. Closing an encrypted one would wait for the server, on a loop that may end now."""
    transport = cast(asyncio.Transport | None, client.transport)
    if transport is not None:
        transport.abort()
    client.close()


def _holds_bytes(text: str) -> bool:
    """Whether the library has put bytes that are no UTF-8 into a text."""
    return any("\udc80" <= character <= "\udcff" for character in text)


def _own_name() -> str:
    """What we call ourselves in EHLO: this machine's name, where it can be one."""
    name = socket.gethostname()
    return name if name.isascii() and name.replace("-", "").replace(".", "").isalnum() else "localhost"
