"""The signed `GET /route/clientId/get`: one client a call, exact, with the number of its connections.

Whatever comes back that is not an answer becomes AskingFailed with a sentence that says what to mend. Read `_reading`,
which holds the whole table of answers.
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
from engine.status.base import AskingFailed, must_be_text
from engine.status.http import foreign, instant_s, json_object, retry_after_s
from engine.status.session import fetch, plain_session

PATH: Final = "/route/clientId/get"
WINDOW_S: Final = 300
"""How far our clock may be off before the service refuses us."""

MOST: Final = 1_000_000
"""More connections of one client than this are no answer."""

UNKNOWN: Final = -1


def string_to_sign(parameters: Mapping[str, str]) -> str:
    """The parameters as they are, sorted by name, joined with `&`: what the service computes its signature over."""
    return "&".join(f"{name}={parameters[name]}" for name in sorted(parameters))


def signature(secret: str, parameters: Mapping[str, str]) -> str:
    """Base64 of HMAC-SHA1 over `accessKey`, `instanceId`, `resource` and `timestamp`; to be URL-encoded only afterwards."""
    digest = hmac.new(secret.encode(), string_to_sign(parameters).encode(), hashlib.sha1).digest()
    return base64.b64encode(digest).decode()


class RouteProvider:
    """Asks the signed route; see `Provider`. Thread-safe.

    `access_key` and `secret` are asked for at every call, so that a rotated key works at once. `now_ms`: epoch milliseconds.
    `timeout_s` bounds connecting and each wait for bytes. `ca`: certificates to trust instead of the public ones.
    Raises ValueError for an endpoint that cannot be.
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
        """How many connections the client has; None: the service does not know. Raises AskingFailed."""
        must_be_text(client)
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
        status, headers, body = fetch(self._session, url, f"the status query at {self._endpoint}", self._timeout_s)
        now_s = (asked_ms + self._now_ms()) / 2000
        return _Reading(str(self._endpoint), self._instance, [secret, signed], now_s).of(status, headers, body)

    def query_many(self, clients: Sequence[str]) -> Mapping[str, int | None]:
        """The same for one: this service has no batches. Raises AskingFailed, ValueError for any other number."""
        if len(clients) != self.batch_size:
            raise ValueError(f"the signed route answers for one client a call, not {len(clients)}")
        return {clients[0]: self.query(clients[0])}

    def close(self) -> None:
        """Give up connections."""
        self._session.close()


class _Reading:
    """What an answer means. `now_s`: our clock halfway between question and answer."""

    def __init__(self, endpoint: str, instance: str, hidden: Sequence[str], now_s: float) -> None:
        self._where = f"the status query at {endpoint}"
        self._instance = instance
        self._hidden = hidden
        self._now_s = now_s

    def of(self, status: int, headers: Mapping[str, str], body: bytes) -> int | None:
        """The number of connections, None for -1; AskingFailed for all else."""
        told = json_object(body)
        code = told.get("code") if told is not None else None
        said = "" if told is None or not told.get("message") else f" ({foreign(told['message'], self._hidden)})"
        is_known = type(code) is int and 1 <= code <= 4
        if status == 429 or (status == 503 and "Retry-After" in headers):
            raise self._throttled(status, headers)
        if 300 <= status < 400:
            raise self._fail(
                "answers with a redirect, which is not followed: `endpoint` is wrong, or a proxy stands between", True
            )
        if status >= 500:
            raise self._fail(f"answers with HTTP status {status}: the service has a fault")
        if is_known:
            raise self._refused(int(code or 0), said, headers)
        if status == 403:
            raise self._fail(
                f"answers 403, not permitted{said}: look at access key and rights; an address that asked too fast is refused too",
                True,
            )
        if status != 200:
            raise self._fail(
                f"answers with HTTP status {status}{said}: look at `endpoint` and `instance`", status not in (408, 425)
            )
        if told is None:
            page = body.lstrip()[:1] == b"<"
            kind = (
                "a web page, not JSON: is `endpoint` right, and no proxy between?"
                if page
                else "no complete JSON object"
            )
            raise self._fail(f"answers with {kind}")
        if type(code) is not int or code != 0 or told.get("success", True) is not True:
            raise self._fail(f"says that it failed, code {foreign(code, self._hidden)}{said}")
        online = told.get("online")
        if type(online) is not int or not UNKNOWN <= online <= MOST:
            raise self._fail(f"answers something else than a number of connections: {foreign(online, self._hidden)}")
        return None if online == UNKNOWN else online

    def _fail(self, words: str, lasting: bool = False) -> AskingFailed:
        return AskingFailed(f"{self._where} {words}", lasting=lasting)

    def _throttled(self, status: int, headers: Mapping[str, str]) -> AskingFailed:
        dated_s = instant_s(headers.get("Date"))
        pause_s = retry_after_s(headers.get("Retry-After"), self._now_s if dated_s is None else dated_s)
        wait = "" if pause_s is None else f", for {pause_s:g} s"
        return AskingFailed(
            f"{self._where} wants fewer calls (HTTP status {status}){wait}", throttled=True, retry_after_s=pause_s
        )

    def _refused(self, code: int, said: str, headers: Mapping[str, str]) -> AskingFailed:
        if code == 1:
            return self._fail(f"misses a parameter{said}: are `instance` and `access_key` set?", True)
        if code == 2:
            return self._fail(f"refuses the signature{said}: `secret` does not belong to `access_key`", True)
        if code == 3:
            return self._fail(
                f"grants no permission for instance {self._instance}{said}: look at the rights of the access key", True
            )
        dated_s = instant_s(headers.get("Date"))
        if dated_s is None:
            return self._fail(
                f"says that our timestamp is expired{said}: your clock is off by more than {WINDOW_S} s", True
            )
        off_s = round(self._now_s - dated_s)
        if abs(off_s) < WINDOW_S:
            return self._fail(f"says that our timestamp is expired{said}, although the clocks differ by {off_s} s only")
        which = "ahead" if off_s > 0 else "behind"
        return self._fail(
            f"says that our timestamp is expired{said}: your clock is off by {abs(off_s)} s ({which})", True
        )
