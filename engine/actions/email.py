"""Sends e-mails: one SMTP transaction for each delivery, over a few connections that stay open.

Read `MailSender.send` first. What an answer means:

* 250 to the message: Delivered. A recipient that is refused for good (5xx) while others are not is told with it.
* 5xx to the sender, to all recipients or to the message: Rejected, it is about this message.
* Everything else is RetryLater: no connection, no TLS, a login that is refused (a wrong password must cost no page), 4xx. From
  `DATA` on a lost connection or a timeout `may_have_arrived`. Recipients put off with 4xx are tried again alone; the others
  are remembered as done, while this process lives.

Certificates are always verified, and a server that offers no STARTTLS where it is asked for is not used. A message is made of
the stored request alone and encoded as quoted-printable, so every attempt sends the same bytes and no line of it can end it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import parseaddr
from typing import Any

import aiosmtplib

from engine.actions.base import Answer, Delivered, OutboxItem, Rejected, RetryLater
from engine.errors import RollcallError

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 4
"""To the server at once: servers count them, and one connection carries many messages a second."""

MAX_MESSAGES = 100
"""Over one connection: many servers end it after about as many."""

MAX_IDLE_S = 20.0
"""A connection that did nothing for longer is not trusted any more."""

MAX_REMEMBERED = 1_000
"""Deliveries of which some recipients are done and others are not."""

POLICY = SMTP_POLICY.clone(cte_type="7bit", max_line_length=78)
DELIVERED = Delivered()


class _Trouble(Exception):
    """The server cannot be used as configured; the message says why."""


@dataclass(slots=True)
class _Line:
    """One connection, and what it has carried."""

    client: aiosmtplib.SMTP
    messages: int = 0
    idle_since: float = 0.0


@dataclass(slots=True)
class _Told:
    """What became of the recipients of one attempt: refused for good, and put off, with what the server said."""

    refused: dict[str, aiosmtplib.SMTPResponse] = field(default_factory=dict)
    put_off: dict[str, aiosmtplib.SMTPResponse] = field(default_factory=dict)
    taken: list[str] = field(default_factory=list)


class MailSender:
    """Sends e-mails by one server, from the event loop it is used on.

    `security`: `starttls`, `tls` or `plain`. `password` is asked for at each connection, so a new one counts at once; it
    raises RollcallError when there is none. `ca`: a PEM file to trust instead of the system's certificates.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        security: str = "starttls",
        username: str | None = None,
        password: Callable[[], str] | None = None,
        ca: str | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        self._host = host
        self._port = port
        self._security = security
        self._username = username
        self._password = password
        self._revealed: str | None = None  # the password used last
        self._ca = ca
        self._timeout_s = timeout_s
        self._idle: list[_Line] = []
        self._places = asyncio.Semaphore(MAX_CONNECTIONS)
        self._done: OrderedDict[str, set[str]] = OrderedDict()  # by delivery, the recipients that have it
        self._refused: dict[str, dict[str, str]] = {}  # and those that never will, with what the server said

    async def send(self, item: OutboxItem) -> Answer:
        """Try once, within the timeout; what the server does is an answer, never an exception."""
        try:
            message = message_of(item.request, item.rule)
            sender = parseaddr(item.request["from"])[1]
            everyone = [*item.request["to"], *item.request["cc"]]
        except (ValueError, TypeError, KeyError, LookupError) as broken:
            return Rejected(reason=f"no message can be made of this: {broken}")
        done = self._done.get(item.key, set()) | set(self._refused.get(item.key, ()))
        async with self._places:
            answer, told = await self._attempt(sender, [one for one in everyone if one not in done], message)
        return self._remembered(item.key, answer, told)

    def _remembered(self, key: str, answer: Answer, told: _Told) -> Answer:
        """The answer in the light of earlier attempts at the same delivery."""
        refused = {**self._refused.get(key, {}), **{one: _said(told.refused[one]) for one in told.refused}}
        reached = bool(self._done.get(key)) or (bool(told.taken) and not isinstance(answer, Rejected))
        if isinstance(answer, RetryLater) and not answer.may_have_arrived and told.put_off and told.taken:
            # The message went to some: they must not get it again.
            self._done[key] = self._done.get(key, set()) | set(told.taken)
            self._refused[key] = refused
            while len(self._done) > MAX_REMEMBERED:
                oldest, _ = self._done.popitem(last=False)
                self._refused.pop(oldest, None)
            return RetryLater(reason=answer.reason, may_have_arrived=True, our_fault=True)
        if isinstance(answer, RetryLater):
            return answer
        self._done.pop(key, None)
        self._refused.pop(key, None)
        if isinstance(answer, Rejected) and not reached:
            return answer
        if not refused:
            return answer if isinstance(answer, Delivered) else Delivered(detail=answer.reason)
        detail = self._scrubbed("; ".join(f"not to {one}: {text}" for one, text in refused.items()))
        log.warning("an e-mail was delivered, but %s", detail)
        return Delivered(detail=detail)

    async def _attempt(self, sender: str, recipients: Sequence[str], message: bytes) -> tuple[Answer, _Told]:
        told, sent = _Told(), False
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        line: _Line | None = None
        try:
            async with asyncio.timeout_at(deadline):
                line, refusal = await self._begin(sender)
                if refusal is not None:
                    return self._judged(refusal, "the sender"), told
                await self._name(line.client, recipients, told)
                if not told.taken:
                    return self._nobody(told), told
                sent = True
                await line.client.data(message)
            line.messages += 1
            self._keep(line)
            line = None
            return (self._put_off(told) if told.put_off else DELIVERED), told
        except aiosmtplib.SMTPDataError as error:
            return self._judged(aiosmtplib.SMTPResponse(error.code, error.message), "the message"), told
        except aiosmtplib.SMTPResponseException as error:
            return RetryLater(reason=self._scrubbed(_said(aiosmtplib.SMTPResponse(error.code, error.message)))), told
        except (_Trouble, RollcallError) as trouble:
            ours = isinstance(trouble, RollcallError)
            return RetryLater(reason=self._scrubbed(str(trouble)), our_fault=ours), told
        except TimeoutError:
            what = "no answer to the message" if sent else "no answer"
            return RetryLater(reason=f"{what} within {self._timeout_s:g} s", may_have_arrived=sent), told
        except ssl.SSLError as error:
            return RetryLater(reason=f"no encrypted connection: {error}", may_have_arrived=sent), told
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            what = "the connection was lost" if line is not None else "no connection"
            return RetryLater(reason=self._scrubbed(f"{what}: {error}"), may_have_arrived=sent), told
        finally:
            if line is not None:
                await self._put_back(line)

    async def _begin(self, sender: str) -> tuple[_Line, aiosmtplib.SMTPResponse | None]:
        """A connection on which a transaction has begun, and the server's refusal if it refuses the sender.

        A connection that was kept may have been ended by the server meanwhile, which says nothing about it.
        """
        while True:
            line = self._kept()
            used = line is not None
            if line is None:
                line = _Line(await self._connected())
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

    async def _name(self, client: aiosmtplib.SMTP, recipients: Sequence[str], told: _Told) -> None:
        for recipient in recipients:
            try:
                await client.rcpt(recipient)
            except aiosmtplib.SMTPResponseException as error:
                if error.code == 421:
                    raise
                where = told.put_off if 400 <= error.code < 500 else told.refused
                where[recipient] = aiosmtplib.SMTPResponse(error.code, error.message)
            else:
                told.taken.append(recipient)

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
                    raise _Trouble("the server offers no STARTTLS, and without it nothing is sent")
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
            raise _Trouble("the server offers no login")
        try:
            await client.login(username, password)
        except aiosmtplib.SMTPAuthenticationError as error:
            raise _Trouble(f"the login was refused: {error.code} {error.message}") from error
        except aiosmtplib.SMTPNotSupported as error:
            raise _Trouble("the server offers no kind of login that is known here") from error

    def _tls(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self._ca)
        except (OSError, ssl.SSLError) as error:
            raise _Trouble(f"the certificates in {self._ca} cannot be used: {error}") from error

    # Connections

    def _kept(self) -> _Line | None:
        """The connection used last, if any can still be trusted."""
        now = time.monotonic()
        while self._idle:
            line = self._idle.pop()
            if line.client.is_connected and now - line.idle_since < MAX_IDLE_S:
                return line
            line.client.close()
        return None

    def _keep(self, line: _Line) -> None:
        if line.messages >= MAX_MESSAGES or not line.client.is_connected:
            line.client.close()
            return
        line.idle_since = time.monotonic()
        self._idle.append(line)

    async def _put_back(self, line: _Line) -> None:
        """After a transaction that came to nothing: begin anew, or end it."""
        try:
            async with asyncio.timeout(1.0):
                await line.client.rset()
        except (aiosmtplib.SMTPException, OSError, TimeoutError):
            line.client.close()
        else:
            self._keep(line)

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
                transport.abort()  # an encrypted one would say goodbye on a loop that may end now
        await asyncio.sleep(0)

    # Answers

    def _nobody(self, told: _Told) -> Answer:
        """No recipient was taken."""
        if told.put_off:
            return self._put_off(told)
        reasons = [f"{one}: {_said(response)}" for one, response in told.refused.items()]
        return Rejected(reason=self._scrubbed("; ".join(reasons)))

    def _put_off(self, told: _Told) -> RetryLater:
        """Some recipients are to be tried again; the server itself is well, so this is nothing against it."""
        reasons = [f"{one}: {_said(response)}" for one, response in told.put_off.items()]
        return RetryLater(reason=self._scrubbed("; ".join(reasons)), our_fault=True)

    def _judged(self, response: aiosmtplib.SMTPResponse, what: str) -> Answer:
        """What a refusal of the sender or of the message means."""
        reason = self._scrubbed(f"{what} was refused: {_said(response)}")
        return (
            Rejected(reason=reason)
            if 500 <= response.code < 600 and response.code != 530
            else RetryLater(reason=reason)
        )

    def _scrubbed(self, text: str) -> str:
        """The text without the password, in case a server repeats it."""
        return text.replace(self._revealed, "***") if self._revealed else text


def _said(response: aiosmtplib.SMTPResponse) -> str:
    return f"{response.code} {' '.join(response.message.split())}"[:300]


def _own_name() -> str:
    """What we call ourselves in EHLO: this machine's name, where it can be one."""
    name = socket.gethostname()
    return name if name.isascii() and name.replace("-", "").replace(".", "").isalnum() else "localhost"


def message_of(request: Mapping[str, Any], rule: str) -> bytes:
    """The message of a request, ready for `DATA`: the same request always makes the same bytes.

    Raises ValueError (or KeyError) for a request that is none, such as an address with a line break.
    """
    message = EmailMessage(policy=POLICY)
    name, address = parseaddr(request["from"])
    message["From"] = Address(display_name=name, addr_spec=address)
    for header, key in (("To", "to"), ("Cc", "cc")):
        if request.get(key):
            message[header] = [Address(addr_spec=one) for one in request[key]]
    message["Subject"] = request["subject"]
    message["Date"] = request["date"]
    message["Message-ID"] = request["message_id"]
    if request.get("in_reply_to"):
        message["In-Reply-To"] = message["References"] = request["in_reply_to"]
    message["Auto-Submitted"] = "auto-generated"
    message["X-Rollcall-Rule"] = rule
    # Quoted-printable writes `=` as `=3D`, so no line of a part can be the boundary.
    message.set_content(request["text"], charset="utf-8", cte="quoted-printable")
    if request.get("html"):
        message.add_alternative(request["html"], subtype="html", charset="utf-8", cte="quoted-printable")
        message.set_boundary(f"=_{request['message_id'].strip('<>').partition('@')[0]}")
    return message.as_bytes()
