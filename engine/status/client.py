"""The library call of a business process: is this device online, now? Read `StatusClient.online`.

The broker is asked first. When it does not answer, does not know, or may not be asked (no budget, or it failed lately), the
belief of a running rollcall stands in, with its age. Without a provider of our own the service asks its own. What goes wrong
in the world is told in the answer and never raised.
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
from engine.status.base import AskingFailed, Provider
from engine.status.breaker import Breaker
from engine.status.budget import Budget
from engine.status.http import foreign, json_object
from engine.status.route import RouteProvider
from engine.status.session import fetch, plain_session

MAX_CLIENT_BYTES: Final = 256
"""As for events: longer ids are nobody's."""

LONGEST_RATE: Final = 300
"""Calls a second from one address; above, the vendor blocks it."""

UNSAID_PAUSE_S: Final = 1.0
"""How long nobody asks after an answer that wants fewer calls and does not say for how long."""

UNABLE_S: Final = 60.0
"""How long a service without a provider is only asked what it believes."""

Secret = str | Callable[[], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlineStatus:
    """What is known about one client. True in a condition only when it is known to be online."""

    client: str
    online: bool | None
    """None: nobody knows; `problem` says why."""
    connections: int | None
    """How many, by a query; more than one may be the same id used twice."""
    source: Literal["query", "belief"]
    """Asked the broker just now, or believed by the service."""
    asked_at: datetime | None
    """When the broker was asked; None for a belief that rests on events alone."""
    age: float | None
    """Seconds: since the question was sent, or since the belief has been held."""
    problem: str | None
    """Why the query did not answer; None when it did, or when there is none to be asked."""

    def __bool__(self) -> bool:
        """Known to be online."""
        return self.online is True


class _NobodyToAsk(AskingFailed):
    """The service has no provider."""


class StatusClient:
    """Asks for statuses, from any number of threads; make one a process, it holds connections and the budget.

    The query: `endpoint`, `instance`, `access_key` and `secret` of the signed route, or a `provider` such as
    `OpenApiProvider`. The belief: `service`, the address of a running rollcall, and its `token` if it has one. One of the two
    will do: `service` alone is asked to ask the broker, with `?verify=true`. `rate`: calls a second, at most 300 together with everybody else who asks from this address. `timeout_s`: how
    long a query may take, and a belief; a turn within the rate is waited for half as long. Keys and token are texts, or functions
    that are called each time, for keys that change. `ca`: certificates to trust instead of the public ones.

    Raises ValueError or TypeError for values that cannot be.
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
        if not 1 <= rate <= LONGEST_RATE:
            raise ValueError(f"`rate` must be from 1 to {LONGEST_RATE} calls a second, not {rate}")
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
            raise ValueError("nobody to ask: give `endpoint` and its keys, a `provider`, or `service`")
        self._provider = provider
        self._budget = Budget(rate)
        self._breaker = Breaker()
        self._service = None if service is None else endpoint_of(service)
        self._token = None if token is None else _called(token)
        self._session = plain_session(ca)
        self._unable_until_s = 0.0  # until when the service is not asked for queries, because it has no provider

    def online(self, client_id: str) -> OnlineStatus:
        """Is the client online? Never raises for what goes wrong in the world; ValueError or TypeError for an id that cannot be."""
        _check(client_id)
        if self._provider is None:
            return self._queried_by_service(client_id)
        found = self._queried(self._provider, client_id)
        if found.online is not None or self._service is None:
            return found
        return self._believed(client_id, found.problem)

    def close(self) -> None:
        """Give up connections."""
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
        nothing = _nothing(client, "query")
        if not self._breaker.may_try():
            return replace(
                nothing, problem=f"the query failed lately and is left alone for {self._breaker.wait_s():.0f} s"
            )
        if not self._budget.take(self._timeout_s / 2):
            self._breaker.untried()
            return replace(nothing, problem=f"no turn within the {self._budget.rate} calls a second")
        asked_ms, started_s = _now_ms(), time.monotonic()
        answered, worked = False, False
        try:
            connections = provider.query(client)
            answered = worked = True
        except AskingFailed as error:
            answered, worked = error.answered, error.throttled
            if error.throttled:
                self._budget.pause(UNSAID_PAUSE_S if error.retry_after_s is None else error.retry_after_s)
            return replace(nothing, problem=str(error))
        except (RollcallError, OSError) as error:
            return replace(nothing, problem=f"the query cannot be made: {error}")
        finally:
            self._budget.done(answered=answered)
            if worked:
                self._breaker.succeeded()
            else:
                self._breaker.failed()
        if connections is None:
            return replace(nothing, problem="the broker answered that it does not know")
        return replace(
            nothing,
            online=connections > 0,
            connections=connections,
            asked_at=datetime.fromtimestamp(asked_ms / 1000, UTC),
            age=time.monotonic() - started_s,
        )

    def _queried_by_service(self, client: str) -> OnlineStatus:
        """The service asks the broker for us, within its own rate; what it believes where it cannot say."""
        problem = None
        if not self._breaker.may_try():
            problem = f"the query failed lately and is left alone for {self._breaker.wait_s():.0f} s"
        elif time.monotonic() < self._unable_until_s:
            self._breaker.untried()
        else:
            try:
                found = self._ask_service(client, verify=True)
            except _NobodyToAsk:
                self._breaker.untried()
                self._unable_until_s = time.monotonic() + UNABLE_S
            except (RollcallError, OSError) as error:
                self._breaker.failed()
                problem = str(error)
            else:
                self._breaker.succeeded()
                if found.source == "query":
                    return found
                return replace(found, problem=found.problem or "the service got no answer from the broker in time")
        return self._believed(client, problem)

    # The belief

    def _believed(self, client: str, problem: str | None) -> OnlineStatus:
        try:
            found = self._ask_service(client)
        except (RollcallError, OSError) as error:
            found = replace(_nothing(client, "belief"), problem=str(error))
        told = dict.fromkeys(text for text in (problem, found.problem) if text is not None)
        return replace(found, problem="; ".join(told) or None)

    def _ask_service(self, client: str, *, verify: bool = False) -> OnlineStatus:
        where = f"the service at {self._service}"
        if client in (".", ".."):
            raise AskingFailed(f"{where} cannot be asked about a client of this name")
        token = None if self._token is None else self._token()
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        url = f"{self._service}/v1/clients/{quote(client, safe='')}/status{'?verify=true' if verify else ''}"
        status, _, body = fetch(self._session, url, where, self._timeout_s, headers)
        told = json_object(body)
        if status == 404:
            raise AskingFailed(f"{where} never heard of this client")
        if status == 501 and verify:
            raise _NobodyToAsk(f"{where} has nobody to ask")
        if status != 200:
            title = "" if told is None or "title" not in told else f": {foreign(told['title'], [token or ''])}"
            raise AskingFailed(f"{where} answers with HTTP status {status}{title}")
        found = None if told is None else _told(client, told)
        if found is None:
            raise AskingFailed(f"{where} answers with something else than a status: is it a rollcall?")
        return found


def _nothing(client: str, source: Literal["query", "belief"]) -> OnlineStatus:
    return OnlineStatus(
        client=client, online=None, connections=None, source=source, asked_at=None, age=None, problem=None
    )


def _told(client: str, told: dict[str, object]) -> OnlineStatus | None:
    """What the service said; None when that is no status."""
    online, connections, asked_at, age = (told.get(name) for name in ("online", "connections", "asked_at", "age"))
    if "online" not in told or not (online is None or isinstance(online, bool)):
        return None
    if type(age) not in (int, float, type(None)) or type(connections) not in (int, type(None)):
        return None
    try:
        asked = None if asked_at is None else datetime.fromisoformat(str(asked_at))
    except ValueError:
        return None
    return replace(
        _nothing(client, "query" if told.get("source") == "query" else "belief"),
        online=online,
        connections=connections if isinstance(connections, int) else None,
        asked_at=asked,
        age=float(age) if isinstance(age, int | float) else None,
        problem="the service does not know yet" if online is None else None,
    )


def _called(secret: Secret) -> Callable[[], str]:
    if callable(secret):
        return secret
    if not isinstance(secret, str):
        raise TypeError("a key is a text, or a function that returns one")
    return lambda: secret


def _check(client: str) -> None:
    if not isinstance(client, str):
        raise TypeError(f"a client id is a text, not {type(client).__name__}")
    try:
        size = len(client.encode())
    except UnicodeEncodeError:
        raise ValueError("the client id is no valid text") from None
    if not 1 <= size <= MAX_CLIENT_BYTES:
        raise ValueError(f"a client id has from 1 to {MAX_CLIENT_BYTES} bytes, not {size}")
    if any(ord(c) < 32 or 127 <= ord(c) < 160 for c in client):
        raise ValueError("a client id has no control characters")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
