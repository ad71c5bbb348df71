"""HTTP requests that carry a signature or a token: no proxy, no redirect, no cookie, a bounded body, and no log line of them.

One deadline holds for the whole of a call, from the name to the last byte of the body. Read `fetch` first.
"""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Final

import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict

from engine.status.base import QueryFailed
from engine.status.bounded import TOO_LONG, attempt, bound
from engine.status.http import TIMED_OUT, root_cause
from engine.status.library_logs import hide_signed_urls

LARGEST_BODY: Final = 64 * 1024
CONNECTIONS: Final = 64
"""Connections that are kept open for the next call: one for each thread that calls at the same time."""

HEADERS: Final = {"User-Agent": "rollcall", "Accept": "application/json", "Accept-Encoding": "identity"}

hide_signed_urls()


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """None: a request signed for one service is not sent to another."""


def plain_session(ca: Path | None = None) -> requests.Session:
    """A session for several threads: no response changes it. `ca`: certificates to trust instead of the public ones."""
    session = _Session()
    session.trust_env = False
    session.verify = str(ca) if ca is not None else True
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    for scheme in ("http://", "https://"):
        session.mount(scheme, bound(HTTPAdapter(pool_connections=1, pool_maxsize=CONNECTIONS)))
    return session


def fetch(
    session: requests.Session, url: str, where: str, timeout_s: float, headers: Mapping[str, str] | None = None
) -> tuple[int, Mapping[str, str], bytes]:
    """GET `url`. Returns (status, headers, body), whatever the status.

    `where`: the service, as the first words of an error's sentence. `timeout_s` limits all of it.
    Raises QueryFailed when there is no whole response. An error of the library contains the URL, and with it the signature, so
    only the error beneath it is shown.
    """
    try:
        with (
            attempt(timeout_s),
            session.send(
                _prepared(url, headers),
                timeout=(timeout_s, timeout_s),
                stream=True,
                allow_redirects=False,
                verify=session.verify,
                cert=None,
                proxies={},
            ) as response,
        ):
            return response.status_code, response.headers, _body(response, where)
    except (requests.RequestException, OSError, ValueError) as error:
        raise _failure(error, where, timeout_s) from None


def _prepared(url: str, headers: Mapping[str, str] | None) -> requests.PreparedRequest:
    """A GET of an encoded URL. `Session.get` would work out at each request, at a high cost, what is known here."""
    request = requests.PreparedRequest()
    request.method, request.url = "GET", url
    request.headers = CaseInsensitiveDict({**HEADERS, **(headers or {})})
    return request


def _body(response: requests.Response, where: str) -> bytes:
    body = b""
    for chunk in response.iter_content(4096):
        body += chunk
        if len(body) > LARGEST_BODY:
            raise QueryFailed(f"{where} answered with more than {LARGEST_BODY // 1024} KiB: check the address")
    return body


def _failure(error: Exception, where: str, timeout_s: float) -> QueryFailed:
    """An error of the library, in words."""
    timed_out = QueryFailed(f"{where} did not answer within {timeout_s:g} s", answered=False)
    if root_cause(error) == TOO_LONG:
        return QueryFailed(f"{where} answers without end: check the address")
    if isinstance(error, requests.exceptions.SSLError):
        return QueryFailed(f"{where} has a TLS certificate that is not trusted: {root_cause(error)}", lasting=True)
    if isinstance(error, requests.Timeout):
        return timed_out
    if isinstance(error, requests.exceptions.ChunkedEncodingError) and root_cause(error) != TIMED_OUT:
        return QueryFailed(f"{where} closed the connection before the answer was complete", answered=False)
    if _is_no_http(error):
        return QueryFailed(f"{where} does not answer with HTTP, or with far too much of it: check the address")
    if isinstance(error, requests.ConnectionError | requests.exceptions.ChunkedEncodingError):
        cause = root_cause(error)
        return timed_out if cause == TIMED_OUT else QueryFailed(f"{where} cannot be reached: {cause}", answered=False)
    return QueryFailed(f"{where} cannot be queried: {type(error).__name__}")


def _is_no_http(error: BaseException) -> bool:
    """Whether what lies beneath an error of the library is an answer that it could not read."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, http.client.HTTPException) and not isinstance(
            seen, ConnectionError | http.client.IncompleteRead
        ):
            return True
        inner = getattr(seen, "reason", None) or (seen.args[-1] if seen.args else None)
        seen = inner if isinstance(inner, BaseException) else None
    return False
