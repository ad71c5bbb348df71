"""Requests that a page of another site makes a browser send without an `Origin`: images, scripts, frames, links.

Such a page cannot read the answer, but it can cause what the request costs. So a browser that says that it acts for another site is
refused, except for a link that a person follows to something that has no effect. Of requests with an effect a browser has to say where they
come from; other programs do not have to. Read `is_foreign`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

OWN = frozenset({b"same-origin", b"none"})
"""Values of `Sec-Fetch-Site` for requests of this service's own pages, and of the person at the browser."""

BROWSER = b"mozilla/"
"""How the `User-Agent` of every browser begins."""


def is_foreign(scope: Mapping[str, Any], headers: Mapping[bytes, bytes], is_ours: Callable[[str], bool]) -> bool:
    """Does a page of another site make a browser send this? `is_ours`: does an address belong to this service?"""
    if b"origin" in headers:
        return False  # it was checked, and says more
    site = headers.get(b"sec-fetch-site", b"").lower()
    if site in OWN:
        return False
    is_link = (headers.get(b"sec-fetch-mode", b""), headers.get(b"sec-fetch-dest", b"")) == (b"navigate", b"document")
    if site:
        return not is_link or has_effect(scope)
    # An older browser, or one that does not trust an address without TLS.
    if not has_effect(scope):
        return False
    referrer = headers.get(b"referer")
    if referrer is not None:
        return not is_ours(referrer.decode("latin-1"))
    return headers.get(b"user-agent", b"").lower().startswith(BROWSER)


def has_effect(scope: Mapping[str, Any]) -> bool:
    """Does the request do more than read: a query to the broker, a turn of the writer, or a write?"""
    if scope["method"] not in {"GET", "HEAD", "OPTIONS"}:
        return True
    path = str(scope["path"])
    if path.startswith("/v1/clients/") and path.endswith("/status"):
        query = scope.get("query_string", b"").decode("latin-1")
        return any(name == "verify" for name, _ in parse_qsl(query, keep_blank_values=True))
    return path.startswith("/v1/rules/") and path.endswith("/why-not")
