"""Sends webhooks: one HTTP request for each delivery, over connections that stay open.

Read `WebhookSender.send` and `judge` first. Redirects are never followed, and no proxy is taken from the environment unless the
configuration asks for it: a delivery goes only where its rule says. Addresses in `network.deny` are refused after name resolution, so a host name
cannot bypass it. Headers: `Idempotency-Key` (the delivery's key, the same at every attempt), `User-Agent`,
`Content-Type`, and `X-Rollcall-Signature` when the rule asks for it (`engine.actions.webhook.signing`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec
from multidict import CIMultiDict
from yarl import URL

from engine.actions.base import Answer, Attempted, Delivered, MaySend, OutboxItem, Rejected, RetryLater, always
from engine.actions.webhook.connecting import OutgoingConnections
from engine.actions.webhook.connection_setup import DEFAULT_CONNECTION, ConnectionSetup
from engine.actions.webhook.deny import DenyList
from engine.actions.webhook.excerpt import EXCERPT_BYTES, readable
from engine.actions.webhook.http_client import HttpClient, Response
from engine.actions.webhook.pipe import USER_AGENT
from engine.actions.webhook.signing import (
    SIGNATURE_HEADER,
    MissingSecret,
    find,
    reveal,
    reveal_in_url,
    reveal_inside,
    signature,
)
from engine.config.scrubber import Scrubber
from engine.core.retry_after import retry_after_s

TIMEOUT_MS = 10_000
"""For the whole of one attempt, when the rule does not say."""

EXCERPT_CHARS = 300
"""Of the answer's body, kept with a failed delivery."""

RETRIED_STATUSES = frozenset({408, 425, 429})
"""Beside 5xx: the statuses after which a target expects another attempt."""

UNBROKEN = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
"""The characters that a header's value may have."""


class WebhookSender:
    """Sends webhooks from the event loop it is used on.

    `secrets`: name to value. `deny`: networks (CIDR) that are refused. `connections`: how to connect, by the name that a request has under
    `connection`; see `engine.actions.webhook.connecting`. Nothing of a secret appears in an answer.
    """

    def __init__(
        self,
        secrets: Mapping[str, str],
        deny: Sequence[str] = (),
        user_agent: str = USER_AGENT,
        connections: Mapping[str, ConnectionSetup] | None = None,
        other_secrets: Iterable[str] = (),
        may_send: MaySend = always,
    ) -> None:
        """`other_secrets`: what must not appear in an answer either, such as the secrets of receivers."""
        self.may_send = may_send
        setups = connections or {}
        self._secrets = dict(secrets)
        logins = [secret for setup in setups.values() for secret in setup.secrets()]
        self._scrub = Scrubber([*self._secrets.values(), *logins, *other_secrets])
        self._user_agent = user_agent
        self.http = HttpClient(OutgoingConnections(setups, DenyList(deny), may_send), self.shown)

    async def send(self, item: OutboxItem) -> Attempted:
        """Try once, within the request's timeout; whatever a target does becomes an answer, never an exception."""
        return await self.post(item.key, item.request)

    async def post(self, key: str, request: Mapping[str, Any]) -> Attempted:
        """As `send`, for the key and request of an item."""
        try:
            method, url, headers, body = self._prepare(key, request)
        except MissingSecret as missing:
            return RetryLater(reason=str(missing), our_fault=True)
        except (ValueError, TypeError, KeyError) as broken:
            return Rejected(reason=f"the request is not valid: {self.shown(broken)}")
        timeout = request.get("timeout_ms") or TIMEOUT_MS
        connection = request.get("connection") or DEFAULT_CONNECTION
        answer = await self.http.request(method, url, headers, body, timeout_ms=timeout, connection=connection)
        if not isinstance(answer, Response):
            return answer
        ok = request.get("ok") or ()
        if not ok and answer.is_empty and 200 <= answer.status < 300:
            return DELIVERED  # most answers
        text = await answer.body(EXCERPT_BYTES)
        if is_taken(answer.status, ok):
            return DELIVERED
        shown = self._scrub.shown(readable(text, answer.headers), EXCERPT_CHARS)
        return judge(answer.status, answer.headers.get("Retry-After"), shown, ok, time.time())

    def _prepare(self, key: str, request: Mapping[str, Any]) -> tuple[str, URL, CIMultiDict[str], bytes]:
        url = parsed_url(reveal_in_url(request["url"], self._secrets))
        headers = CIMultiDict({"User-Agent": self._user_agent, "Accept-Encoding": "identity"})
        for name, value in (request.get("headers") or {}).items():
            headers[name] = value = reveal(value, self._secrets)
            if not UNBROKEN.fullmatch(value):
                raise ValueError(f"the header {name} has a line break or another control character")
        if "json" in request and request["json"] is not None:
            body = msgspec.json.encode(request["json"])
            if b"\\u0000" in body:
                body = msgspec.json.encode(reveal_inside(request["json"], self._secrets))
            headers.setdefault("Content-Type", "application/json")
        else:
            body = reveal(request.get("body") or "", self._secrets).encode()
        headers["Idempotency-Key"] = key
        if request.get("sign"):
            secret = find(self._secrets, request["sign"])
            headers[SIGNATURE_HEADER] = signature(secret, body, int(time.time()))
        return request.get("method") or "POST", url, headers, body

    def shown(self, error: object) -> str:
        """An error of the library or the system, without secrets."""
        return self._scrub.shown(str(error) or type(error).__name__, EXCERPT_CHARS)

    async def close(self) -> None:
        """Close all connections."""
        await self.http.close()


DELIVERED = Delivered()


def is_taken(status: int, ok: Collection[int]) -> bool:
    """Whether an HTTP status says that the target has it. `ok`: the statuses that do, empty for 2xx."""
    return status in ok if ok else 200 <= status < 300


def judge(status: int, retry_after: str | None, text: str, ok: Collection[int], unix_seconds: float) -> Answer:
    """What an HTTP answer means. `ok`: the statuses that count as taken, empty for 2xx; `text`: the body's beginning."""
    if is_taken(status, ok):
        return DELIVERED
    if status == 101:
        return RetryLater(
            reason="HTTP 101: it switches to another protocol, which was not asked for", may_have_arrived=True
        )
    if not 200 <= status < 600:
        return RetryLater(reason=f"HTTP {status:03}: that is no final status of HTTP", may_have_arrived=True)
    reason = f"HTTP {status}" + (f": {text}" if text else "")
    if status in RETRIED_STATUSES or status >= 500:
        pause_s = retry_after_s(retry_after, unix_seconds)
        return RetryLater(reason=reason, retry_after_ms=None if pause_s is None else round(pause_s * 1000))
    if 300 <= status < 400:
        return Rejected(reason=f"HTTP {status}: redirects are not followed")
    return Rejected(reason=reason)


@lru_cache(maxsize=1024)
def parsed_url(url: str) -> URL:
    """An http or https address; ValueError for anything else. Parsed once for each text: most rules post to one URL."""
    parsed = URL(url)
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError("not an http or https URL")
    return parsed
