"""The operator API of a running service, over its HTTP interface. Read `HttpOperatorApi`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast
from urllib.parse import quote, urlencode

import requests

from engine.core.client_ids import impossible_id
from engine.errors import BadQuestion, NotThere, RollcallError, Unavailable, error_class
from engine.runtime.operator_api import Act, ListName, body_keys, path_of, walk
from engine.web.views import Object

R = TypeVar("R")

CONNECT_S, ANSWER_S = 2.0, 60.0
"""Seconds until a connection must stand, and until an answer must have come."""

QUERIES_AT_ONCE = 16
"""Clients whose status is queried at the same time."""


MAX_ADDRESS_CHARS = 16_000
"""Of a path with its parameters: the service takes no much longer one."""

_DOTS = re.compile(r"/\.\.?(/|$)")
"""Segments of a path that every HTTP client removes."""


class HttpOperatorApi:
    """See `OperatorApi`. Every method raises Unavailable when the service does not answer."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy stands before an engine, and a password in ~/.netrc is not for it
        self._session.headers["Content-Type"] = "application/json"

    def use_token(self, token: str, operator: str) -> None:
        """Send this bearer token from now on; `operator`: who runs the command, for the audit log."""
        self._session.headers["Authorization"] = f"Bearer {token}"
        self._session.headers["Rollcall-Operator"] = quote(operator, safe="")

    def proof(self, challenge: str) -> str | None:
        """What the service on the port answers to a challenge (see `web.routes`); None when no service of ours answers."""
        try:
            answer = self._session.get(
                f"{self.url}/healthz",
                headers={"Rollcall-Challenge": challenge},
                timeout=(CONNECT_S, CONNECT_S),
                allow_redirects=False,
            )
            found = answer.json()["proof"] if answer.ok else None
        except (requests.RequestException, ValueError, TypeError, KeyError):
            return None
        return found if isinstance(found, str) else None

    def do(self, act: Act[R]) -> R:
        """See `OperatorApi`."""
        route = act.routes[0]
        client = getattr(act, "client", None)
        if isinstance(client, str) and client and (problem := impossible_id(client)):
            raise NotThere(problem)
        body = {key: getattr(act, field) for key, field in body_keys(act, route).items()}
        query = {name: getattr(act, name) for name in route.query}
        given = {key: value for key, value in body.items() if value is not None}
        return cast(
            R, self._request(route.method, path_of(act, route), query, given if route.method != "GET" else None)
        )

    def items(self, name: ListName, **filters: Any) -> Iterator[Object]:
        """See `OperatorApi`."""
        return walk(filters, lambda wanted: self._request("GET", f"/v1/{name}", wanted))

    def explanation(self, client: str, at_ms: int | None) -> Object:
        """See `OperatorApi`."""
        return self._request("GET", f"{_client(client)}/explanation", {} if at_ms is None else {"at": at_ms})

    def delivery(self, number: int) -> Object:
        """See `OperatorApi`."""
        return self._request("GET", f"/v1/deliveries/{number}")

    def sweep(self, number: int) -> Object:
        """See `OperatorApi`."""
        return self._request("GET", f"/v1/reconciliations/{number}")

    def statuses(self, clients: Sequence[str]) -> Iterator[Object]:
        """Whether clients are connected now, in the order of `clients`. NotConfigured when the service has no status provider."""
        with ThreadPoolExecutor(QUERIES_AT_ONCE) as pool:
            yield from pool.map(
                lambda client: self._request("GET", f"{_client(client)}/status", {"verify": "true"}), clients
            )

    def _request(
        self, method: str, path: str, query: Mapping[str, Any] | None = None, body: Object | None = None
    ) -> Object:
        if len(path) + len(urlencode(dict(query or {}), doseq=True)) > MAX_ADDRESS_CHARS:
            raise BadQuestion("a name or a filter is too long to be asked for")
        if _DOTS.search(path):
            raise BadQuestion("`.` and `..` cannot be asked for: they have a meaning of their own in an address")
        try:
            answer = self._session.request(
                method,
                self.url + path,
                params=dict(query or {}),
                json=body,
                timeout=(CONNECT_S, ANSWER_S),
                allow_redirects=False,
            )
            found = answer.json()
        except requests.Timeout as error:
            raise Unavailable(f"the service at {self.url} did not answer in time") from error
        except (requests.RequestException, ValueError) as error:
            raise Unavailable(f"the service at {self.url} stopped answering: {error}") from error
        if not isinstance(found, dict):
            raise RollcallError(f"the service at {self.url} sent an answer that is not a JSON object")
        if answer.status_code == 202 and "act" in found:
            raise Unavailable(
                f"the request was written down for the replica that owns the cell, and will be carried out when there is one; its answer: {self.url}{found.get('answer')}"
            )
        if not answer.ok:
            title = str(found.get("title", f"the service answered with HTTP status {answer.status_code}"))
            raise error_class(found.get("code"))(title)
        return found


def _client(client: str) -> str:
    """The address of a client. Raises NotThere for what can be none, which may not fit into an address either."""
    if problem := impossible_id(client):
        raise NotThere(problem)
    return f"/v1/clients/{quote(client, safe='')}"
