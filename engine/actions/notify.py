"""Sends messages to receivers, each in its service's protocol: in the process that sends webhooks, and for `rollcall notify test`.

Read `ReceiverSender.send`. A service says what the request is and what the answer means (`engine.actions.receivers`); here are the pace, the connection, the
limits of time and size, and that no secret and no exception leaves.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from multidict import CIMultiDict

from engine.actions.base import Answer, Attempted, Delivered, Rejected, RetryLater, Untried
from engine.actions.pace import Pace
from engine.actions.receiver_setup import ReceiverSetup
from engine.actions.receivers import apprise
from engine.actions.receivers.base import HttpAnswer, HttpRequest, Message, ReceiverService
from engine.actions.receivers.table import SERVICES
from engine.actions.webhook.excerpt import readable
from engine.actions.webhook.http_client import Response
from engine.actions.webhook.pipe import USER_AGENT
from engine.actions.webhook.request import UNBROKEN, WebhookSender, parsed_url
from engine.actions.webhook.signing import SIGNATURE_HEADER, signature
from engine.config.receivers import APPRISE
from engine.telemetry import Event, logger

ANSWER_BYTES: Final = 64 * 1024
"""Of an answer's body: what a service says fits many times."""

LONGEST_WAIT_S: Final = 30.0
"""A service that asks for a longer pause gets no attempt meanwhile: the delivery goes back to the outbox."""

APPRISE_AT_ONCE: Final = 4
"""Threads that may wait for Apprise; the library has no timeout of its own for everything."""

EXCERPT_CHARS: Final = 300

NOT_APPLICABLE: Final = "the service has nothing to say in this phase"
"""The detail of a delivery that a service does not need, such as a reminder of an incident that it keeps open itself."""

log = logger(__name__)


class ReceiverSender:
    """Sends to the receivers of one configuration, from the event loop it is used on. `webhooks`: who makes the requests."""

    def __init__(
        self, receivers: Mapping[str, ReceiverSetup], webhooks: WebhookSender, user_agent: str = USER_AGENT
    ) -> None:
        self._receivers = receivers
        self._webhooks = webhooks
        self._user_agent = user_agent
        self._paces: dict[str, Pace] = {}
        self._threads = asyncio.Semaphore(APPRISE_AT_ONCE)
        self.said = ""  # the beginning of the newest answer, without secrets

    async def wait(self, request: Mapping[str, Any]) -> Answer | None:
        """Wait until the service allows one more message. An answer when that takes too long: no attempt is made then."""
        name = str(request.get("receiver"))
        pace = self._pace(name)
        if pace is None:
            return None
        now_s = time.monotonic()
        at_s = pace.reserve_s(now_s)
        if at_s > now_s:
            await asyncio.sleep(at_s - now_s)
        paused_s = pace.paused_s(time.monotonic())
        if paused_s > LONGEST_WAIT_S:
            reason = f"the service of the receiver {name} asked for a pause"
            return RetryLater(reason=reason, retry_after_ms=round(paused_s * 1000))
        if paused_s:
            await asyncio.sleep(paused_s)
        return None

    async def send(self, key: str, request: Mapping[str, Any]) -> Attempted:
        """Try once, within the receiver's timeout. `key`: the delivery's; `request`: the message as it is stored. Never raises."""
        answer: Attempted
        name = str(request.get("receiver"))
        self.said = ""
        try:
            message = Message.of(request)
        except ValueError as broken:
            return Rejected(reason=f"the request is not valid: {broken}")
        receiver = self._receivers.get(name)
        if receiver is None:
            return Rejected(reason=f"the configuration has no receiver {name}")
        if receiver.problem is not None:
            return RetryLater(reason=receiver.problem, our_fault=True)
        if receiver.service == APPRISE:
            answer = await self._by_apprise(message, receiver)
        else:
            answer = await self._by_http(SERVICES[receiver.service], message, key, receiver)
        if isinstance(answer, RetryLater) and answer.retry_after_ms and (pace := self._pace(name)) is not None:
            pace.pause(time.monotonic() + answer.retry_after_ms / 1000)
        return answer if isinstance(answer, Untried) else self._scrubbed(answer)

    async def _by_http(
        self, service: ReceiverService, message: Message, key: str, receiver: ReceiverSetup
    ) -> Attempted:
        try:
            request = service.request(message, receiver.settings, time.time())
        except Exception as error:  # noqa: BLE001  # its text may hold a secret
            log.error(Event.SENDER_FAILED, action="notify", rule=message.rule, error=type(error).__name__)
            return Rejected(reason=f"the request cannot be made: {type(error).__name__}")
        if request is None:
            return Delivered(detail=NOT_APPLICABLE)
        try:
            url, headers = parsed_url(request.url), self._headers(request, key, receiver)
        except (ValueError, TypeError) as broken:
            return Rejected(reason=f"the request is not valid: {self._webhooks.shown(broken)}")
        response = await self._webhooks.http.request(
            request.method, url, headers, request.body, timeout_ms=receiver.timeout_ms, connection=message.receiver
        )
        if not isinstance(response, Response):
            return response
        body = await response.body(ANSWER_BYTES, within_s=receiver.timeout_ms / 1000)
        self.said = self._webhooks.shown(f"HTTP {response.status} {readable(body[:4096], response.headers)}".strip())
        lower = {name.lower(): value for name, value in response.headers.items()}
        answer = HttpAnswer(status=response.status, headers=lower, body=body, now_s=time.time())
        try:
            return service.judge(message, answer)
        except Exception as error:  # a service must not lose a message, whatever it was answered
            log.error(Event.SENDER_FAILED, action="notify", rule=message.rule, exc_info=error)
            return RetryLater(reason=f"the answer cannot be read: {type(error).__name__}", may_have_arrived=True)

    def _headers(self, request: HttpRequest, key: str, receiver: ReceiverSetup) -> CIMultiDict[str]:
        headers = CIMultiDict({"User-Agent": self._user_agent, "Accept-Encoding": "identity"})
        for name, value in request.headers.items():
            if not UNBROKEN.fullmatch(value):
                raise ValueError(f"the header {name} has a line break or another control character")
            headers[name] = value
        headers["Idempotency-Key"] = key
        if "sign" in receiver.settings:
            headers[SIGNATURE_HEADER] = signature(receiver.settings["sign"], request.body, int(time.time()))
        return headers

    async def _by_apprise(self, message: Message, receiver: ReceiverSetup) -> Attempted:
        """In a thread, which goes on when it takes too long: nobody can stop it."""

        def sent() -> Attempted:
            return apprise.send(message, receiver.settings) if self._webhooks.may_send() else Untried()

        try:
            async with asyncio.timeout(receiver.timeout_ms / 1000), self._threads:
                return await asyncio.to_thread(sent)
        except TimeoutError:
            reason = f"Apprise has not answered within {receiver.timeout_ms} ms"
            return RetryLater(reason=reason, may_have_arrived=True)

    def _pace(self, name: str) -> Pace | None:
        receiver = self._receivers.get(name)
        if receiver is None:
            return None
        found = self._paces.get(name)
        if found is None:
            rate = apprise.rate if receiver.service == APPRISE else SERVICES[receiver.service].rate
            found = self._paces[name] = Pace(rate.messages, rate.per_s)
        return found

    def _scrubbed(self, answer: Answer) -> Answer:
        """The answer without secrets."""
        if isinstance(answer, Delivered):
            return replace(answer, detail=self._webhooks.shown(answer.detail)) if answer.detail else answer
        return replace(answer, reason=self._webhooks.shown(answer.reason))
