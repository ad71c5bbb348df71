"""Messages to receivers, from the stored request to the service and back: what goes out, what an answer means, and at which pace."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
import uvloop

from engine.actions.base import Attempted, Delivered, OutboxItem, Outcome, Rejected, RetryLater
from engine.actions.configured import receiver_setups
from engine.actions.email.message import message_of
from engine.actions.notify import ReceiverSender
from engine.actions.notify_dispatch import MailReceiver, NotifyDispatch, mail_request
from engine.actions.pace import Pace
from engine.actions.receiver_setup import ReceiverSetup
from engine.actions.receivers.base import Message
from engine.actions.webhook.request import WebhookSender
from engine.actions.webhook.sender import SenderProcess
from engine.config.receivers import Receiver
from engine.config.secret import Secret
from tests.benchmarks.sink import ANSWERS, Request, Sink

KEY = "0000000000000000000000000001"


def message(receiver: str, **changes: Any) -> dict[str, Any]:
    """A message as the outbox stores it."""
    found = Message(
        receiver=receiver,
        service="webhook",
        phase="firing",
        incident="i-1",
        severity="critical",
        rule="pump-offline",
        title="[critical] pump-offline: p1 is offline",
        text="G@@@p1 is offline since 10:00.",
        started_at_ms=1_767_225_600_000,
        at_ms=1_767_225_630_000,
        clients=("G@@@p1",),
        count=1,
    )
    return {**found.as_json(), "via": "oncall", **changes}


def setup(url: str, service: str = "webhook", **settings: Any) -> ReceiverSetup:
    """A receiver whose address is a secret."""
    return ReceiverSetup(service, {"url": url, **settings}, 10_000)


def send(
    path: str, service: str = "webhook", request: Mapping[str, Any] | None = None, **settings: Any
) -> tuple[Attempted, list[Request]]:
    """One message to a sink; the answer, and what arrived."""

    async def go() -> tuple[Attempted, list[Request]]:
        async with Sink() as sink:
            receivers = {"chat": setup(sink.url + path, service, **settings)}
            hidden = [secret for one in receivers.values() for secret in one.secrets()]
            webhooks = WebhookSender({}, other_secrets=hidden)
            answer = await ReceiverSender(receivers, webhooks).send(KEY, request or message("chat"))
            await webhooks.close()
            return answer, sink.requests

    return asyncio.run(go())


def test_a_message_goes_out_in_its_services_words_with_key_and_signature() -> None:
    answer, (request,) = send("/ok/secret-path", headers={"Authorization": "Bearer t0ken"}, sign="s3cret")
    assert answer == Delivered()
    head = request.head.decode()
    assert f"Idempotency-Key: {KEY}" in head and "Authorization: Bearer t0ken" in head
    assert "X-Rollcall-Signature: t=" in head and b'"incident": "i-1"' in request.body


def test_an_answer_that_repeats_a_secret_is_kept_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ANSWERS, "echo", b"HTTP/1.1 400 Bad\r\nContent-Length: 24\r\n\r\nno such token: t0ken-abc")
    answer, _ = send("/echo", headers={"Authorization": "t0ken-abc"})
    assert answer == Rejected(reason="HTTP 400: no such token: ***")


def test_what_cannot_be_sent_says_why_and_never_raises() -> None:
    unknown, none_sent = send("/ok", request=message("gone"))
    broken, _ = send("/ok", request={"receiver": "chat"})
    assert unknown == Rejected(reason="the configuration has no receiver gone") and not none_sent
    assert isinstance(broken, Rejected) and "not valid" in broken.reason


def test_a_receiver_without_its_secret_is_tried_again_and_is_no_fault_of_the_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("ROLLCALL_TEST_ABSENT", raising=False)
    receiver = Receiver(name="chat", type="slack", secrets={"url": Secret("env", "ROLLCALL_TEST_ABSENT")})
    setups = receiver_setups({"chat": receiver}, {})
    sender = ReceiverSender(setups, WebhookSender({}))
    answer = asyncio.run(sender.send(KEY, message("chat")))
    assert isinstance(answer, RetryLater) and answer.our_fault
    assert answer.reason == "the receiver chat has no `url`: the environment variable ROLLCALL_TEST_ABSENT is not set"


def test_messages_leave_at_the_pace_of_their_service_in_their_order() -> None:
    pace = Pace(messages=2, per_s=10)
    assert [pace.reserve_s(now_s) for now_s in (0.0, 1.0, 2.0, 3.0, 40.0)] == [0.0, 1.0, 10.0, 11.0, 40.0]
    pace.pause(50.0)
    assert pace.paused_s(45.0) == 5.0 and pace.paused_s(51.0) == 0.0


def test_a_long_pause_that_a_service_asked_for_costs_the_next_message_no_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(ANSWERS, "pause", b"HTTP/1.1 429 No\r\nRetry-After: 120\r\nContent-Length: 0\r\n\r\n")

    async def go() -> tuple[Attempted | None, Attempted, Attempted | None, int]:
        async with Sink() as sink:
            webhooks = WebhookSender({})
            sender = ReceiverSender({"chat": setup(f"{sink.url}/pause")}, webhooks)
            first = await sender.wait(message("chat"))
            answer = await sender.send(KEY, message("chat"))
            second = await sender.wait(message("chat"))
            await webhooks.close()
            return first, answer, second, sink.count

    first, answer, second, count = asyncio.run(go())
    assert first is None and answer == RetryLater(reason="HTTP 429", retry_after_ms=120_000)
    assert isinstance(second, RetryLater) and 110_000 < (second.retry_after_ms or 0) <= 120_000 and count == 1


def item(number: int, receiver: str) -> OutboxItem:
    """One delivery to a receiver."""
    return OutboxItem(
        id=number,
        key=KEY,
        rule="pump-offline",
        lane="l",
        action="notify",
        target=f"notify:{receiver}",
        request=message(receiver),
        attempts=0,
        decided_at_ms=0,
        phase="firing",
        alert="i-1",
    )


def test_the_process_that_sends_webhooks_sends_messages_and_mail_goes_to_the_mail_server() -> None:
    mailed: list[OutboxItem] = []

    class Mail:
        """A mail server that takes everything."""

        async def send(self, item: OutboxItem) -> Attempted:
            mailed.append(item)
            return Delivered()

        async def close(self) -> None:
            """Nothing to close."""

    async def go() -> tuple[list[Outcome], list[Request]]:
        async with Sink() as sink:
            process = SenderProcess({}, receivers={"chat": setup(f"{sink.url}/ok")})
            await process.start()
            mails = {"mail": MailReceiver(sender="Rollcall <rollcall@example.com>", to=["ops@example.com"])}
            dispatch = NotifyDispatch(process, mails, Mail())
            outcomes: list[Outcome] = []
            all_done = asyncio.Event()

            def done(some: Any) -> None:
                outcomes.extend(some)
                if len(outcomes) == 3:
                    all_done.set()

            dispatch.submit([item(1, "chat"), item(2, "mail"), item(3, "nobody")], done)
            async with asyncio.timeout(30):
                await all_done.wait()
            await process.close()
            return outcomes, sink.requests

    outcomes, requests = uvloop.run(go())
    answers = {outcome.id: outcome.answer for outcome in outcomes}
    assert answers[1] == answers[2] == Delivered()
    assert answers[3] == Rejected(reason="the configuration has no receiver nobody")
    assert len(requests) == 1 and b"pump-offline" in requests[0].body
    (mail,) = mailed
    assert mail.request["to"] == ["ops@example.com"] and mail.request["message_id"] == f"<{KEY}@example.com>"


def test_all_mails_of_one_incident_are_one_thread_and_each_has_an_id_of_its_own() -> None:
    receiver = MailReceiver(sender="Rollcall <rollcall@example.com>", to=["ops@example.com"])
    firing = mail_request(Message.of(message("mail")), KEY, receiver)
    recovery = mail_request(
        Message.of(message("mail", phase="recovery", title="[resolved] x\r\nBcc: a@b.c")), "2", receiver
    )
    assert firing["in_reply_to"] == recovery["in_reply_to"] and firing["message_id"] != recovery["message_id"]
    assert b"\r\nBcc:" not in message_of(recovery, "pump-offline")
