"""The library call for other processes: is this device online, now? Read `StatusClient.online`.

The broker is queried first. When it does not answer, does not know, or cannot be queried now (no free call within the rate, or
it failed recently), the status that a running rollcall believes is returned, with its age. Without a provider of its own the
client has the service query the broker. Failures of the world are part of the answer and never raised.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, Self
from urllib.parse import quote

from engine.config.endpoints import endpoint_of
from engine.errors import RollcallError
from engine.status.base import Provider, QueryFailed
from engine.status.budget import Budget
from engine.status.http import json_object, safe_message
from engine.status.route import RouteProvider
from engine.status.session import fetch, plain_session
from engine.status.shared_breaker import SharedBreaker

MAX_CLIENT_BYTES: Final = 256
"""As for events: a client id is never longer."""

MAX_RATE: Final = 300
"""Calls a second from one address; above, the vendor blocks the address."""

DEFAULT_PAUSE_S: Final = 1.0
"""The pause after a throttled call when the service does not say how long to wait."""

NO_PROVIDER_S: Final = 60.0
"""How long a service that has no provider is not asked again to query the broker."""

Secret = str | Callable[[], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlineStatus:
    """What is known about one client. True in a condition only when it is known to be online."""

    client: str
    online: bool | None
    """None: unknown; `problem` says why."""
    connections: int | None
    """How many the query found; with more than one, several devices may use this id."""
    source: Literal["query", "belief"]
    """`query`: the broker answered just now; `belief`: the status that the service believes."""
    asked_at: datetime | None
    """When the broker was queried; None for a belief that comes from events alone."""
    age: float | None
    """Seconds since the query was sent, or since the service has believed this status."""
    problem: str | None
    """Why there is no answer of the broker; None when there is one, or when there is no status provider."""

    def __bool__(self) -> bool:
        """Known to be online."""
        return self.online is True


class _NoProvider(QueryFailed):
    """The service has no status provider."""


class StatusClient:
    """Queries statuses from any number of threads. Make one a process: it holds the connections and the budget.

    The query: `endpoint`, `instance`, `access_key` and `secret` of the signed route, or a `provider` such as `OpenApiProvider`.
    The belief: `service`, the address of a running rollcall, and its `token` if it has one. One of the two is enough: `service`
    alone is asked to query the broker, with `?verify=true`. `rate`: calls a second, at most 300 together with all other
    processes at this address. `timeout_s`: how long a query may take, and a belief; half as long is waited for a free call
    within the rate. Keys and token are texts, or functions that are called each time, for keys that change. `ca`: certificates
    to trust instead of the public ones.

    Raises ValueError or TypeError for invalid arguments.
    """

    def __init__(
        self,
        *,
        endpoint: str | None = None,
        instance: str | None = None,
        access_key: Secret | None = None,
        secret: Secret | None = None,
        service: str | None = None,
        token: Secret | None = None,
        rate: int = 100,
        timeout_s: float = 2.0,
        provider: Provider | None = None,
        ca: Path | None = None,
    ) -> None:
        if not 1 <= rate <= MAX_RATE:
            raise ValueError(f"`rate` must be from 1 to {MAX_RATE} calls a second, not {rate}")
        if not timeout_s > 0:
            raise ValueError("`timeout_s` must be more than 0")
        self._timeout_s = timeout_s
        if endpoint is not None and instance is not None and access_key is not None and secret is not None:
            if provider is not None:
                raise ValueError("give `provider`, or `endpoint` and its keys, not both")
            keys = _called(access_key), _called(secret)
            provider = RouteProvider(endpoint, instance, *keys, _now_ms, timeout_s, ca=ca)
        elif any(given is not None for given in (endpoint, instance, access_key, secret)):
            raise ValueError("the query needs `endpoint`, `instance`, `access_key` and `secret`, all four")
        if provider is None and service is None:
            raise ValueError("no status provider: give `endpoint` and its keys, a `provider`, or `service`")
        self._provider = provider
        self._budget = Budget(rate)
        self._breaker = SharedBreaker()
        self._service = None if service is None else endpoint_of(service)
        self._token = None if token is None else _called(token)
        self._session = plain_session(ca)
        self._no_provider_until_s = 0.0  # until when the service is not asked to query the broker

    def online(self, client_id: str) -> OnlineStatus:
        """Is the client online? Network and service failures are in `problem`; raises ValueError or TypeError for an invalid id."""
        _check(client_id)
        if self._provider is None:
            return self._queried_by_service(client_id)
        found = self._queried(self._provider, client_id)
        if found.online is not None or self._service is None:
            return found
        return self._believed(client_id, found.problem)

    def close(self) -> None:
        """Close connections."""
        self._session.close()
        if self._provider is not None:
            self._provider.close()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closed."""
        self.close()

    # The query

    def _queried(self, provider: Provider, client: str) -> OnlineStatus:
        unknown = _unknown(client, "query")
        if not self._breaker.may_call():
            return replace(unknown, problem=self._next_attempt())
        if not self._budget.take(self._timeout_s / 2):
            self._breaker.not_tried()
            rate = self._budget.rate
            return replace(unknown, problem=f"no free slot within the rate limit of {rate} calls a second")
        asked_ms, started_s = _now_ms(), time.monotonic()
        answered = False
        failure: str | None = "the query ended with an unexpected error"
        try:
            connections = provider.query(client)
            answered, failure = True, None
        except QueryFailed as error:
            answered, failure = error.answered, None if error.throttled else str(error)
            if error.throttled:
                self._budget.pause(DEFAULT_PAUSE_S if error.retry_after_s is None else error.retry_after_s)
            return replace(unknown, problem=str(error))
        except (RollcallError, OSError) as error:
            failure = f"the query cannot be sent: {error}"
            return replace(unknown, problem=failure)
        finally:
            self._budget.done(answered=answered)
            if failure is None:
                self._breaker.succeeded()
            else:
                self._breaker.failed(failure)
        if connections is None:
            return replace(unknown, problem="the broker answered that it does not know")
        return replace(
            unknown,
            online=connections > 0,
            connections=connections,
            asked_at=datetime.fromtimestamp(asked_ms / 1000, UTC),
            age=time.monotonic() - started_s,
        )

    def _queried_by_service(self, client: str) -> OnlineStatus:
        """The service queries the broker, within its own rate; when that fails, the status that it believes."""
        problem = None
        if not self._breaker.may_call():
            problem = self._next_attempt()
        elif time.monotonic() < self._no_provider_until_s:
            self._breaker.not_tried()
        else:
            try:
                found = self._ask_service(client, verify=True)
            except _NoProvider:
                self._breaker.not_tried()
                self._no_provider_until_s = time.monotonic() + NO_PROVIDER_S
            except (RollcallError, OSError) as error:
                problem = str(error)
                self._breaker.failed(problem)
            else:
                self._breaker.succeeded()
                if found.source == "query":
                    return found
                return replace(
                    found, problem=found.problem or "the service did not get an answer from the broker in time"
                )
        return self._believed(client, problem)

    def _next_attempt(self) -> str:
        return f"status queries failed recently; the next attempt is in {self._breaker.wait_s():.0f} s"

    # The belief

    def _believed(self, client: str, problem: str | None) -> OnlineStatus:
        try:
            found = self._ask_service(client)
        except (RollcallError, OSError) as error:
            found = replace(_unknown(client, "belief"), problem=str(error))
        problems = dict.fromkeys(text for text in (problem, found.problem) if text is not None)
        return replace(found, problem="; ".join(problems) or None)

    def _ask_service(self, client: str, *, verify: bool = False) -> OnlineStatus:
        where = f"the service at {self._service}"
        if client in (".", ".."):
            raise QueryFailed(f"{where} cannot be queried for a client with this id")
        token = None if self._token is None else self._token()
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        url = f"{self._service}/v1/clients/{quote(client, safe='')}/status{'?verify=true' if verify else ''}"
        status, _, body = fetch(self._session, url, where, self._timeout_s, headers)
        answer = json_object(body)
        if status == 404:
            raise QueryFailed(f"{where} does not know this client")
        if status == 501 and verify:
            raise _NoProvider(f"{where} has no status provider")
        if status != 200:
            title = None if answer is None else answer.get("title")
            reason = "" if title is None else f": {safe_message(title, [token or ''])}"
            raise QueryFailed(f"{where} answered with HTTP status {status}{reason}")
        found = None if answer is None else _read(client, answer)
        if found is None:
            raise QueryFailed(f"{where} answered with something other than a status: is it a Rollcall service?")
        return found


def _unknown(client: str, source: Literal["query", "belief"]) -> OnlineStatus:
    return OnlineStatus(
        client=client, online=None, connections=None, source=source, asked_at=None, age=None, problem=None
    )


def _read(client: str, answer: dict[str, object]) -> OnlineStatus | None:
    """The service's answer as a status; None when it is no status."""
    online, connections, asked_at, age = (answer.get(name) for name in ("online", "connections", "asked_at", "age"))
    if "online" not in answer or not (online is None or isinstance(online, bool)):
        return None
    if type(age) not in (int, float, type(None)) or type(connections) not in (int, type(None)):
        return None
    try:
        asked = None if asked_at is None else datetime.fromisoformat(str(asked_at))
    except ValueError:
        return None
    return replace(
        _unknown(client, "query" if answer.get("source") == "query" else "belief"),
        online=online,
        connections=connections if isinstance(connections, int) else None,
        asked_at=asked,
        age=float(age) if isinstance(age, int | float) else None,
        problem="the service has no status for this client yet" if online is None else None,
    )


def _called(secret: Secret) -> Callable[[], str]:
    if callable(secret):
        return secret
    if not isinstance(secret, str):
        raise TypeError("a key must be a str, or a function that returns one")
    return lambda: secret


def _check(client: str) -> None:
    if not isinstance(client, str):
        raise TypeError(f"a client id must be a str, not {type(client).__name__}")
    try:
        size = len(client.encode())
    except UnicodeEncodeError:
        raise ValueError("the client id is not valid Unicode text") from None
    if not 1 <= size <= MAX_CLIENT_BYTES:
        raise ValueError(f"a client id must have 1 to {MAX_CLIENT_BYTES} bytes, not {size}")
    if any(ord(c) < 32 or 127 <= ord(c) < 160 for c in client):
        raise ValueError("a client id must not have control characters")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
