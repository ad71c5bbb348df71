"""Hands messages to who sends them: e-mails to the mail server's sender, all others to the process that sends webhooks.

Read `NotifyDispatch.submit`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

from engine.actions.base import (
    ActionSender,
    Attempted,
    BatchSender,
    Done,
    OutboxItem,
    Outcome,
    Rejected,
    RetryLater,
)
from engine.actions.receivers import email
from engine.actions.receivers.base import Message
from engine.config.addresses import domain_of, mailbox
from engine.core.times import EPOCH


@dataclass(frozen=True, slots=True, kw_only=True)
class MailReceiver:
    """A receiver of type `email`: who gets it, and who it is from as it stands in `From`."""

    sender: str
    to: Sequence[str]
    cc: Sequence[str] = ()


class NotifyDispatch:
    """A `BatchSender` for the action `notify`. `http` has all receivers but those in `mails`, which `mail` sends to."""

    def __init__(self, http: BatchSender, mails: Mapping[str, MailReceiver], mail: ActionSender | None) -> None:
        self._http, self._mails, self._mail = http, mails, mail
        self.prefetch = http.prefetch
        self._tasks: set[asyncio.Task[None]] = set()

    def submit(self, items: Sequence[OutboxItem], done: Done) -> None:
        """Take items; returns at once."""
        others = []
        for item in items:
            receiver = self._mails.get(str(item.request.get("receiver")))
            if receiver is None:
                others.append(item)
                continue
            task = asyncio.get_running_loop().create_task(self._send(item, receiver, done))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if others:
            self._http.submit(others, done)

    async def _send(self, item: OutboxItem, receiver: MailReceiver, done: Done) -> None:
        began_ns = time.monotonic_ns()
        answer: Attempted
        try:
            answer = await self.mail(item, receiver)
        except Exception as error:  # noqa: BLE001  # whatever a sender raises costs its own deliveries only
            answer = RetryLater(reason=f"sending failed: {type(error).__name__}", may_have_arrived=True, our_fault=True)
        took_ms = (time.monotonic_ns() - began_ns) // 1_000_000
        done([Outcome(id=item.id, answer=answer, attempted_at_ms=time.time_ns() // 1_000_000, duration_ms=took_ms)])

    async def mail(self, item: OutboxItem, receiver: MailReceiver) -> Attempted:
        """Send one message as an e-mail."""
        if self._mail is None:
            return RetryLater(reason="the configuration has no mail server (`smtp`)", our_fault=True)
        try:
            request = mail_request(Message.of(item.request), item.key, receiver)
        except ValueError as broken:
            return Rejected(reason=f"the request is not valid: {broken}")
        return await self._mail.send(replace(item, request=request))

    async def close(self) -> None:
        """Nothing of its own to close: who sends is closed by who made it."""
        for task in self._tasks:
            task.cancel()


def mail_request(message: Message, key: str, receiver: MailReceiver) -> dict[str, Any]:
    """The message as an e-mail: the same bytes at every attempt. All e-mails of one incident are one thread."""
    domain = domain_of(mailbox(receiver.sender)[1])
    return {
        "from": receiver.sender,
        "to": list(receiver.to),
        "cc": list(receiver.cc),
        "subject": email.subject(message),
        "text": email.text(message),
        "message_id": f"<{key}@{domain}>",
        "date": format_datetime(EPOCH + timedelta(milliseconds=message.at_ms)),
        "in_reply_to": email.thread_id(message, domain),
    }
