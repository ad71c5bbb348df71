"""Connections to one SMTP server: made, encrypted, logged in, kept for a while and used again. Read `SmtpLines.begin` first."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass

import aiosmtplib

MAX_MESSAGES = 100
"""Over one connection: many servers end it after about as many."""

MAX_IDLE_S = 20.0
"""A connection that did nothing for longer is not trusted any more."""


class Trouble(Exception):
    """The server cannot be used as configured; the message says why."""


@dataclass(slots=True)
class Line:
    """One connection, and what it has carried."""

    client: aiosmtplib.SMTP
    messages: int = 0
    idle_since: float = 0.0


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
    ) -> None:
        self._host = host
        self._port = port
        self._security = security
        self._username = username
        self._password = password
        self._revealed: str | None = None  # the password used last
        self._ca = ca
        self._timeout_s = timeout_s
        self._idle: list[Line] = []

    def scrubbed(self, text: str) -> str:
        """The text without the password, in case a server repeats it."""
        return text.replace(self._revealed, "***") if self._revealed else text

    async def begin(self, sender: str) -> tuple[Line, aiosmtplib.SMTPResponse | None]:
        """A connection on which a transaction has begun, and the server's refusal if it refuses the sender.

        A connection that was kept may have been ended by the server meanwhile, which says nothing about it.
        """
        while True:
            line = self._kept()
            used = line is not None
            if line is None:
                line = Line(await self._connected())
            try:
                await line.client.mail(sender)
            except aiosmtplib.SMTPResponseException as error:
                if used and error.code == 421:
                    line.client.close()
                    continue
                return line, aiosmtplib.SMTPResponse(error.code, error.message)
            except (aiosmtplib.SMTPServerDisconnected, ConnectionError):
                line.client.close()
                if used:
                    continue
                raise
            except BaseException:
                line.client.close()
                raise
            return line, None

    async def _connected(self) -> aiosmtplib.SMTP:
        """A new connection, encrypted and logged in as configured."""
        password = self._revealed = self._password() if self._password is not None else None
        client = aiosmtplib.SMTP(
            hostname=self._host,
            port=self._port,
            local_hostname=_own_name(),
            timeout=self._timeout_s,
            use_tls=self._security == "tls",
            start_tls=False,
            tls_context=self._tls() if self._security != "plain" else None,
        )
        try:
            await client.connect()
            await client.ehlo()
            if self._security == "starttls":
                if not client.supports_extension("starttls"):
                    raise Trouble("the server offers no STARTTLS, so nothing was sent")
                await client.starttls()
                await client.ehlo()  # what it offered in the clear counts no more
            if self._username is not None and password is not None:
                await self._log_in(client, self._username, password)
        except BaseException:
            client.close()
            raise
        return client

    async def _log_in(self, client: aiosmtplib.SMTP, username: str, password: str) -> None:
        if not client.supports_extension("auth"):
            raise Trouble("the server does not support a login")
        try:
            await client.login(username, password)
        except aiosmtplib.SMTPAuthenticationError as error:
            raise Trouble(f"the login was refused: {error.code} {error.message}") from error
        except aiosmtplib.SMTPNotSupported as error:
            raise Trouble("the server offers no supported login method") from error

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
            line.client.close()
        return None

    def keep(self, line: Line) -> None:
        """Have a connection at hand for the next message."""
        if line.messages >= MAX_MESSAGES or not line.client.is_connected:
            line.client.close()
            return
        line.idle_since = time.monotonic()
        self._idle.append(line)

    async def put_back(self, line: Line) -> None:
        """After a transaction that came to nothing: begin anew, or end it."""
        try:
            async with asyncio.timeout(1.0):
                await line.client.rset()
        except (aiosmtplib.SMTPException, OSError, TimeoutError):
            line.client.close()
        else:
            self.keep(line)

    async def close(self) -> None:
        """Close all connections."""
        lines, self._idle = self._idle, []
        for line in lines:
            transport = line.client.transport
            with contextlib.suppress(aiosmtplib.SMTPException, OSError, TimeoutError):
                async with asyncio.timeout(1.0):
                    await line.client.quit()
            line.client.close()
            if isinstance(transport, asyncio.WriteTransport):
                transport.abort()  # an encrypted one would go on closing on a loop that may end now
        await asyncio.sleep(0)


def _own_name() -> str:
    """What we call ourselves in EHLO: this machine's name, where it can be one."""
    name = socket.gethostname()
    return name if name.isascii() and name.replace("-", "").replace(".", "").isalnum() else "localhost"
