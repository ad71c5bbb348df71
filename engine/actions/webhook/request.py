"""Sends webhooks: one HTTP request for each delivery, over connections that stay open.

Read `WebhookSender.send` and `judge` first. Redirects are never followed and no proxy is taken from the environment: a
delivery goes only where its rule says. Addresses in `network.deny` are refused after name resolution, so a host name
cannot bypass it. Headers: `Idempotency-Key` (the delivery's key, the same at every attempt), `User-Agent`,
`Content-Type`, and `X-Rollcall-Signature` when the rule asks for it (`engine.actions.webhook.signing`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from socket import AddressFamily
from typing import Any

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult
from multidict import CIMultiDict
from yarl import URL

from engine.actions.base import Answer, Delivered, OutboxItem, Rejected, RetryLater
from engine.actions.webhook.signing import (
    SIGNATURE_HEADER,
    MissingSecret,
    Scrubber,
    find,
    reveal,
    reveal_in_url,
    signature,
)
from engine.core.retry_after import retry_after_s

USER_AGENT = "rollcall/0.1.0"

TIMEOUT_MS = 10_000
"""For the whole of one attempt, when the rule does not say."""

EXCERPT_BYTES = 4096
"""Read of an answer's body at most: a long error page must not cost memory."""

EXCERPT_CHARS = 300
"""Of the answer's body, kept with a failed delivery."""

RETRIED_STATUSES = frozenset({408, 425, 429})
"""Beside 5xx: the statuses after which a target expects another attempt."""

TTL_DNS_S = 30

UNBROKEN = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
"""The characters that a header's value may have."""

Network = IPv4Network | IPv6Network


class Denied(OSError):
    """The target's address is one that configuration refuses."""

    def __init__(self, host: str, address: str) -> None:
        where = host if host == address else f"{host} ({address})"
        super().__init__(f"{where} is denied by network.deny")


class DenyList:
    """The addresses that no webhook may reach."""

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks: list[Network] = [ip_network(text, strict=False) for text in networks]
        self._denied_literal = lru_cache(maxsize=1024)(self._is_denied_literal)

    def check(self, host: str, address: str) -> None:
        """Raises Denied when `address` (of `host`) lies in one of the networks, also as an IPv4 address inside IPv6."""
        if self._networks and any(self._holds(form) for form in _forms(address)):
            raise Denied(host, address)

    def check_literal(self, host: str) -> None:
        """Raises Denied when `host` is itself an address (so it is never resolved) and is denied."""
        if self._networks and self._denied_literal(host):
            raise Denied(host, host)

    def _is_denied_literal(self, host: str) -> bool:
        try:
            forms = _forms(host)
        except ValueError:
            return False  # a name: its addresses are checked when it is resolved
        return any(map(self._holds, forms))

    def _holds(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address.version == network.version and address in network for network in self._networks)


def _forms(address: str) -> list[IPv4Address | IPv6Address]:
    """An address and the IPv4 addresses that it stands for (mapped, 6to4, NAT64)."""
    parsed = ip_address(address.partition("%")[0])
    if isinstance(parsed, IPv4Address):
        # A deny list may name the mapped form; then it means this one too.
        return [parsed, IPv6Address(f"::ffff:{parsed}")]
    forms: list[IPv4Address | IPv6Address] = [parsed]
    forms += [inner for inner in (parsed.ipv4_mapped, parsed.sixtofour) if inner is not None]
    if parsed in NAT64:
        forms.append(IPv4Address(int(parsed) & 0xFFFFFFFF))
    return forms


NAT64 = IPv6Network("64:ff9b::/96")


class CheckedResolver(AbstractResolver):
    """The system's resolver, refusing a name of which any address is denied."""

    def __init__(self, deny: DenyList) -> None:
        self._deny = deny
        self._resolver = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: AddressFamily = AddressFamily.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of `host`. Raises Denied, or OSError when there is no such name."""
        found = await self._resolver.resolve(host, port, family)
        for result in found:
            self._deny.check(host, result["host"])
        return found

    async def close(self) -> None:
        """Close the resolver."""
        await self._resolver.close()


class WebhookSender:
    """Sends webhooks from the event loop it is used on.

    `secrets`: name to value. `deny`: networks (CIDR) that are refused. Nothing of a secret appears in an answer.
    """

    def __init__(self, secrets: Mapping[str, str], deny: Sequence[str] = (), user_agent: str = USER_AGENT) -> None:
        self._secrets = dict(secrets)
        self._scrub = Scrubber(self._secrets)
        self._deny = DenyList(deny)
        self._user_agent = user_agent
        self._session: aiohttp.ClientSession | None = None

    async def send(self, item: OutboxItem) -> Answer:
        """Try once, within the request's timeout; whatever a target does becomes an answer, never an exception."""
        return await self.post(item.key, item.request)

    async def post(self, key: str, request: Mapping[str, Any]) -> Answer:
        """As `send`, for the key and request of an item."""
        try:
            method, url, headers, body = self._prepare(key, request)
        except MissingSecret as missing:
            return RetryLater(reason=str(missing), our_fault=True)
        except (ValueError, TypeError, KeyError) as broken:
            return Rejected(reason=self._scrub(f"the request is not valid: {broken}"))
        timeout = request.get("timeout_ms") or TIMEOUT_MS
        return await self._attempt(method, url, headers, body, timeout, request.get("ok") or ())

    def _prepare(self, key: str, request: Mapping[str, Any]) -> tuple[str, URL, CIMultiDict[str], bytes]:
        url = _parsed(reveal_in_url(request["url"], self._secrets))
        headers = CIMultiDict({"User-Agent": self._user_agent})
        for name, value in (request.get("headers") or {}).items():
            headers[name] = value = reveal(value, self._secrets)
            if not UNBROKEN.fullmatch(value):
                raise ValueError(f"the header {name} has a line break or another control character")
        if "json" in request and request["json"] is not None:
            body = msgspec.json.encode(request["json"])
            headers.setdefault("Content-Type", "application/json")
        else:
            body = (request.get("body") or "").encode()
        headers["Idempotency-Key"] = key
        if request.get("sign"):
            secret = find(self._secrets, request["sign"])
            headers[SIGNATURE_HEADER] = signature(secret, body, int(time.time()))
        return request.get("method") or "POST", url, headers, body

    async def _attempt(
        self, method: str, url: URL, headers: CIMultiDict[str], body: bytes, timeout_ms: int, ok: Collection[int]
    ) -> Answer:
        session = self._session or self._open()
        try:
            self._deny.check_literal(url.host or "")
            async with session.request(
                method, url, data=body, headers=headers, allow_redirects=False, timeout=_limits(timeout_ms)
            ) as response:
                status = response.status
                if status < 300 and not ok and response.content.at_eof():
                    return DELIVERED
                text = await self._excerpt(response)
                return judge(status, response.headers.get("Retry-After"), text, ok, time.time())
        except (Denied, aiohttp.ClientConnectorError) as error:
            cause = getattr(error, "os_error", error)
            if isinstance(cause, Denied):
                return Rejected(reason=self._scrub(str(cause)))
            return RetryLater(reason=self._scrub(f"no connection: {cause}"))
        except aiohttp.ConnectionTimeoutError:
            return RetryLater(reason=f"no connection within {timeout_ms} ms")
        except TimeoutError:
            return RetryLater(reason=f"no answer within {timeout_ms} ms", may_have_arrived=True)
        except aiohttp.InvalidURL:
            # Its text is the URL, written in a way of its own that scrubbing might not recognize.
            return Rejected(reason="the request is not valid: the URL is invalid")
        except aiohttp.ClientResponseError as error:
            return RetryLater(
                reason=self._scrub(f"the answer is not valid HTTP: {error.message}"), may_have_arrived=True
            )
        except (ValueError, TypeError) as broken:
            return Rejected(reason=self._scrub(f"the request is not valid: {broken}"))
        except (aiohttp.ClientError, OSError) as error:
            # The connection was lost after the request was sent: it may have arrived.
            return RetryLater(reason=self._scrub(f"no answer: {error or type(error).__name__}"), may_have_arrived=True)

    async def _excerpt(self, response: aiohttp.ClientResponse) -> str:
        read = b""
        while len(read) < EXCERPT_BYTES and (more := await response.content.read(EXCERPT_BYTES - len(read))):
            read += more
        if not response.content.at_eof():
            response.close()  # the rest is not read, so the connection cannot be used again
        return self._scrub(read.decode("utf-8", "replace"))[:EXCERPT_CHARS].strip()

    def _open(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=TTL_DNS_S, resolver=CheckedResolver(self._deny))
        self._session = aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, auto_decompress=False
        )
        return self._session

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


DELIVERED = Delivered()


def judge(status: int, retry_after: str | None, text: str, ok: Collection[int], unix_seconds: float) -> Answer:
    """What an HTTP answer means. `ok`: the statuses that count as taken, empty for 2xx; `text`: the body's beginning."""
    if status in ok if ok else 200 <= status < 300:
        return DELIVERED
    reason = f"HTTP {status}" + (f": {text}" if text else "")
    if status in RETRIED_STATUSES or status >= 500:
        pause_s = retry_after_s(retry_after, unix_seconds)
        return RetryLater(reason=reason, retry_after_ms=None if pause_s is None else round(pause_s * 1000))
    if 300 <= status < 400:
        return Rejected(reason=f"HTTP {status}: redirects are not followed")
    return Rejected(reason=reason)


@lru_cache(maxsize=1024)
def _parsed(url: str) -> URL:
    """Parsed once for each text: most rules post to one URL."""
    parsed = URL(url)
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError("not an http or https URL")
    return parsed


@lru_cache(maxsize=256)
def _limits(timeout_ms: int) -> aiohttp.ClientTimeout:
    """Connecting ends a little before the whole, so that the two timeouts can be distinguished.

    They are not rounded to whole seconds, as aiohttp does with longer ones by default: rounded, they are often the same.
    """
    whole_s = timeout_ms / 1000
    return aiohttp.ClientTimeout(total=whole_s, connect=0.95 * whole_s, ceil_threshold=whole_s + 1)
