"""Sends e-mails: one SMTP transaction for each delivery, over a few connections that stay open.

Read `MailSender.send` first. What an answer means:

* 2yz to the message: Delivered (`replies`: the first digit decides). When some recipients are refused for good (5xx), `detail` names them.
* 5xx to the sender, to all recipients or to the message: Rejected, it is about this message.
* Everything else is RetryLater: no connection, no TLS, a login that is refused (a wrong password must cost no page), 4xx. From
  `DATA` on a lost connection, a timeout or a reply that is neither yes nor no `may_have_arrived`. Recipients put off with 4xx are tried again alone; the others
  are remembered as done, while this process lives.

Certificates are always verified, and a server that offers no STARTTLS where it is asked for is not used. A message is made of
the stored request alone and encoded as quoted-printable, so every attempt sends the same bytes and no line of it can end it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import aiosmtplib

from engine.actions.base import (
    Answer,
    Attempted,
    Delivered,
    MaySend,
    NothingMayLeave,
    OutboxItem,
    Rejected,
    RetryLater,
    Untried,
    always,
)
from engine.actions.email.connections import Line, SmtpLines, Trouble, drop
from engine.actions.email.message import message_of
from engine.actions.email.replies import is_refusal
from engine.config.addresses import mailbox
from engine.errors import RollcallError
from engine.telemetry import Event, logger

log = logger(__name__)

MAX_CONNECTIONS = 4
"""To the server at once: servers count them, and one connection carries many messages a second."""

MAX_REMEMBERED = 1_000
"""Deliveries of which some recipients are done and others are not."""

MAX_DETAIL_CHARACTERS = 4_000
"""Of what a server says about the recipients of one message, all together."""

DELIVERED = Delivered()


@dataclass(slots=True)
class _Responses:
    """The recipients of one attempt: refused for good and deferred, each with the server's response, and accepted."""

    refused: dict[str, aiosmtplib.SMTPResponse] = field(default_factory=dict)
    put_off: dict[str, aiosmtplib.SMTPResponse] = field(default_factory=dict)
    taken: list[str] = field(default_factory=list)
    sent: bool = False  # those in `taken` have the message


class MailSender:
    """Sends e-mails by one server, from the event loop it is used on.

    `security`: `starttls`, `tls` or `plain`. `password` is read for each connection, so a new one is used at once; it
    raises RollcallError when there is none. `ca`: a PEM file to trust instead of the system's certificates. `helo`:
    our name in EHLO; None: the name of this machine.
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
        helo: str | None = None,
        may_send: MaySend = always,
    ) -> None:
        self._lines = SmtpLines(
            host=host,
            port=port,
            security=security,
            username=username,
            password=password,
            ca=ca,
            timeout_s=timeout_s,
            helo=helo,
            may_send=may_send,
        )
        self._timeout_s = timeout_s
        self._places = asyncio.Semaphore(MAX_CONNECTIONS)
        self._done: OrderedDict[str, set[str]] = OrderedDict()  # by delivery, the recipients that have it
        self._refused: dict[str, dict[str, str]] = {}  # and those that never will, with what the server said

    async def send(self, item: OutboxItem) -> Attempted:
        """Try once, within the timeout; whatever the server does becomes an answer, never an exception."""
        try:
            message = message_of(item.request, item.rule)
            sender = mailbox(item.request["from"])[1]
            everyone = [*item.request["to"], *item.request["cc"]]
        except Exception as broken:  # noqa: BLE001  # the library raises many kinds; a retry would fail in the same way
            return Rejected(reason=f"the request is not a valid e-mail: {broken}")
        done = self._done.get(item.key, set()) | set(self._refused.get(item.key, ()))
        async with self._places:
            answer, responses = await self._attempt(sender, [one for one in everyone if one not in done], message)
        if isinstance(answer, Untried):
            return answer
        return self._remembered(item, answer, responses)

    def _remembered(self, item: OutboxItem, answer: Answer, responses: _Responses) -> Answer:
        """The answer, given the results of earlier attempts at the same delivery."""
        key = item.key
        refused = {
            **self._refused.get(key, {}),
            **{one: self._said(responses.refused[one]) for one in responses.refused},
        }
        reached = responses.sent or key in self._done
        if isinstance(answer, RetryLater) and responses.sent:
            # The message went to some: they must not get it again.
            self._done[key] = self._done.get(key, set()) | set(responses.taken)
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
        detail = "; ".join(f"not to {one}: {text}" for one, text in refused.items())[:MAX_DETAIL_CHARACTERS]
        log.warning(Event.EMAIL_PARTLY_REFUSED, rule=item.rule, delivery=item.id, refused=detail)
        return Delivered(detail=detail)

    async def _attempt(self, sender: str, recipients: Sequence[str], message: bytes) -> tuple[Attempted, _Responses]:
        responses, sent = _Responses(), False
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        line: Line | None = None
        try:
            async with asyncio.timeout_at(deadline):
                line, refusal = await self._lines.begin(sender)
                if refusal is not None:
                    return self._judged(refusal, "the sender"), responses
                await self._add_recipients(line.client, recipients, responses)
                if not responses.taken:
                    return self._none_accepted(responses), responses
                sent = True
                await line.client.data(message)
            responses.sent = True
            line.messages += 1
            self._lines.keep(line)
            line = None
            return (self._put_off(responses) if responses.put_off else DELIVERED), responses
        except NothingMayLeave:
            assert line is not None
            drop(line.client)  # the server waits for the message, and discards the transaction
            line = None
            return Untried(), responses
        except aiosmtplib.SMTPDataError as error:
            return self._judged(aiosmtplib.SMTPResponse(error.code, error.message), "the message"), responses
        except aiosmtplib.SMTPResponseException as error:
            reason = self._said(aiosmtplib.SMTPResponse(error.code, error.message))
            return RetryLater(reason=reason, may_have_arrived=sent), responses
        except (Trouble, RollcallError) as trouble:
            ours = isinstance(trouble, RollcallError)
            return RetryLater(reason=str(trouble), our_fault=ours), responses
        except TimeoutError:
            if line is not None:
                drop(line.client)  # a late answer must not be taken for one to something else
            what = "no answer to the message" if sent else "no answer"
            return RetryLater(reason=f"{what} within {self._timeout_s:g} s", may_have_arrived=sent), responses
        except ssl.SSLError as error:
            reason = f"no encrypted connection: {self._lines.shown(str(error))}"
            return RetryLater(reason=reason, may_have_arrived=sent), responses
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            what = "the connection was lost" if line is not None else "no connection"
            return RetryLater(reason=f"{what}: {self._lines.shown(str(error))}", may_have_arrived=sent), responses
        finally:
            if line is not None:
                await self._lines.put_back(line)

    async def _add_recipients(self, client: aiosmtplib.SMTP, recipients: Sequence[str], responses: _Responses) -> None:
        for recipient in recipients:
            try:
                await client.rcpt(recipient)
            except aiosmtplib.SMTPResponseException as error:
                if error.code == 421 or not is_refusal(error.code):
                    raise  # it is not about this recipient
                where = responses.put_off if 400 <= error.code < 500 else responses.refused
                where[recipient] = aiosmtplib.SMTPResponse(error.code, error.message)
            else:
                responses.taken.append(recipient)

    async def close(self) -> None:
        """Close all connections."""
        await self._lines.close()

    # Answers

    def _none_accepted(self, responses: _Responses) -> Answer:
        """The answer when the server accepted no recipient."""
        if responses.put_off:
            return self._put_off(responses)
        return Rejected(reason=self._reasons(responses.refused))

    def _put_off(self, responses: _Responses) -> RetryLater:
        """Some recipients are tried again. The server works, so this does not count as its failure."""
        return RetryLater(reason=self._reasons(responses.put_off), our_fault=True)

    def _reasons(self, responses: dict[str, aiosmtplib.SMTPResponse]) -> str:
        reasons = (f"{one}: {self._said(response)}" for one, response in responses.items())
        return "; ".join(reasons)[:MAX_DETAIL_CHARACTERS]

    def _said(self, response: aiosmtplib.SMTPResponse) -> str:
        """A server's answer, for people. What is no answer gets no code."""
        shown = self._lines.shown(response.message)
        return f"{response.code} {shown}".strip() if 100 <= response.code < 1000 else f"it is no mail server: {shown}"

    def _judged(self, response: aiosmtplib.SMTPResponse, what: str) -> Answer:
        """The answer to a refusal of the sender or of the message."""
        verdict = "was refused" if is_refusal(response.code) else "got a reply that is neither yes nor no"
        reason = f"{what} {verdict}: {self._said(response)}"
        return (
            Rejected(reason=reason)
            if 500 <= response.code < 600 and response.code != 530
            else RetryLater(reason=reason)
        )
