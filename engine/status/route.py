"""The signed `GET /route/clientId/get`: one client a call, exact, with its number of connections.

Every response that is not an answer becomes QueryFailed, with a sentence that says what to mend. Read `_Response.connections`,
which holds the whole table of responses.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlencode

from engine.config.endpoints import endpoint_of
from engine.core.retry_after import http_date_s, retry_after_s
from engine.status.base import QueryFailed, require_encodable
from engine.status.http import json_object, safe_message
from engine.status.session import fetch, plain_session

PATH: Final = "/route/clientId/get"
CLOCK_TOLERANCE_S: Final = 300
"""The service refuses timestamps that differ by more from its own clock."""

MAX_CONNECTIONS: Final = 1_000_000
"""A larger number of connections of one client is not believed."""

UNKNOWN: Final = -1


def string_to_sign(parameters: Mapping[str, str]) -> str:
    """The parameters as they are, sorted by name, joined with `&`: the text that is signed."""
    return "&".join(f"{name}={parameters[name]}" for name in sorted(parameters))


def signature(secret: str, parameters: Mapping[str, str]) -> str:
    """Base64 of HMAC-SHA1 over `accessKey`, `instanceId`, `resource` and `timestamp`; to be URL-encoded only afterwards."""
    digest = hmac.new(secret.encode(), string_to_sign(parameters).encode(), hashlib.sha1).digest()
    return base64.b64encode(digest).decode()


class RouteProvider:
    """Queries the signed route; see `Provider`. Thread-safe.

    `access_key` and `secret` are called for every query, so that a rotated key works at once. `now_ms`: epoch milliseconds.
    `timeout_s` limits the whole of a query. `ca`: certificates to trust instead of the public ones.
    Raises ValueError for an invalid endpoint.
    """

    batch_size = 1

    def __init__(
        self,
        endpoint: str,
        instance: str,
        access_key: Callable[[], str],
        secret: Callable[[], str],
        now_ms: Callable[[], int],
        timeout_s: float = 5.0,
        *,
        ca: Path | None = None,
    ) -> None:
        self._endpoint = endpoint_of(endpoint)
        self._instance = instance
        self._access_key = access_key
        self._secret = secret
        self._now_ms = now_ms
        self._timeout_s = timeout_s
        self._session = plain_session(ca)

    def query(self, client: str) -> int | None:
        """The client's number of connections; None: the service does not know. Raises QueryFailed."""
        require_encodable(client)
        secret = self._secret()
        asked_ms = self._now_ms()
        given = {
            "accessKey": self._access_key(),
            "instanceId": self._instance,
            "resource": client,
            "timestamp": str(asked_ms),
        }
        signed = signature(secret, given)
        url = f"{self._endpoint}{PATH}?{urlencode(given | {'signature': signed}, quote_via=quote, safe='')}"
        where = f"the status query at {self._endpoint}"
        status, headers, body = fetch(self._session, url, where, self._timeout_s)
        now_s = (asked_ms + self._now_ms()) / 2000
        return _Response(status, headers, body, where, self._instance, [secret, signed], now_s).connections()

    def query_many(self, clients: Sequence[str]) -> Mapping[str, int | None]:
        """The same for one: this service has no batches. Raises QueryFailed, ValueError for any other number."""
        if len(clients) != self.batch_size:
            raise ValueError(f"the signed route answers for one client per call, not {len(clients)}")
        return {clients[0]: self.query(clients[0])}

    def close(self) -> None:
        """Close connections."""
        self._session.close()


class _Response:
    """A response and its meaning.

    `where`: the service, as the first words of a sentence; `hidden`: texts that are never shown; `now_s`: our clock halfway
    between request and response.
    """

    def __init__(
        self,
        status: int,
        headers: Mapping[str, str],
        body: bytes,
        where: str,
        instance: str,
        hidden: Sequence[str],
        now_s: float,
    ) -> None:
        self._status, self._headers, self._body = status, headers, body
        self._where, self._instance, self._hidden, self._now_s = where, instance, hidden, now_s
        self._object = json_object(body)
        message = None if self._object is None else self._object.get("message")
        self._message = f" ({safe_message(message, hidden)})" if message else ""

    def connections(self) -> int | None:
        """The number of connections, None for -1. Raises QueryFailed for everything else."""
        status, code = self._status, None if self._object is None else self._object.get("code")
        if status == 429 or (status == 503 and "Retry-After" in self._headers):
            raise self._throttled()
        if 300 <= status < 400:
            raise self._failure(
                "answered with a redirect, which is not followed: check `endpoint`, and whether a proxy is in between",
                True,
            )
        if status >= 500:
            raise self._failure(f"answered with HTTP status {status}: the service has an internal problem")
        if type(code) is int and 1 <= code <= 4:
            raise self._refusal(code)
        if status == 403:
            raise self._failure(
                f"answered with HTTP status 403{self._message}: check the access key and its permissions; an IP address that sent too many"
                " calls also gets this answer",
                True,
            )
        if status != 200:
            raise self._failure(
                f"answered with HTTP status {status}{self._message}: check `endpoint` and `instance`",
                status not in (408, 425),
            )
        return self._number(code)

    def _number(self, code: object) -> int | None:
        """The number of connections in a body whose status was 200."""
        if self._object is None:
            is_page = self._body.lstrip()[:1] == b"<"
            raise self._failure(
                "answered with a web page, not JSON: check `endpoint`, and whether a proxy is in between"
                if is_page
                else "did not answer with a complete JSON object"
            )
        if type(code) is not int or code != 0 or self._object.get("success", True) is not True:
            raise self._failure(f"reported a failure, code {safe_message(code, self._hidden)}{self._message}")
        online = self._object.get("online")
        if type(online) is not int or not UNKNOWN <= online <= MAX_CONNECTIONS:
            shown = safe_message(online, self._hidden)
            raise self._failure(f"answered with something other than a number of connections: {shown}")
        return None if online == UNKNOWN else online

    def _failure(self, what: str, lasting: bool = False) -> QueryFailed:
        return QueryFailed(f"{self._where} {what}", lasting=lasting)

    def _throttled(self) -> QueryFailed:
        dated_s = http_date_s(self._headers.get("Date"))
        pause_s = retry_after_s(self._headers.get("Retry-After"), self._now_s if dated_s is None else dated_s)
        wait = "" if pause_s is None else f": retry after {pause_s:g} s"
        return QueryFailed(
            f"{self._where} limited the rate of calls (HTTP status {self._status}){wait}",
            throttled=True,
            retry_after_s=pause_s,
        )

    def _refusal(self, code: int) -> QueryFailed:
        """What the service's codes 1 to 4 mean."""
        if code == 1:
            return self._failure(f"reported a missing parameter{self._message}: set `instance` and `access_key`", True)
        if code == 2:
            return self._failure(
                f"refused the signature{self._message}: `secret` does not belong to `access_key`", True
            )
        if code == 3:
            return self._failure(
                f"denied access to instance {self._instance}{self._message}: check the permissions of the access key",
                True,
            )
        return self._expired()

    def _expired(self) -> QueryFailed:
        """Code 4: our timestamp is expired. The response's `Date` says how far our clock is off."""
        expired = f"refused the timestamp as expired{self._message}"
        dated_s = http_date_s(self._headers.get("Date"))
        if dated_s is None:
            return self._failure(f"{expired}: this machine's clock is off by more than {CLOCK_TOLERANCE_S} s", True)
        off_s = round(self._now_s - dated_s)
        if abs(off_s) < CLOCK_TOLERANCE_S:
            return self._failure(f"{expired}, although the clocks differ by only {off_s} s")
        direction = "ahead" if off_s > 0 else "behind"
        return self._failure(f"{expired}: this machine's clock is off by {abs(off_s)} s ({direction})", True)
