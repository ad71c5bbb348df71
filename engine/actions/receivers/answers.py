"""What an HTTP answer means for a message, where a service has nothing to say of its own. Read `by_status`, then `json_of`."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any, Final

from engine.actions.receivers.base import HttpAnswer
from engine.core.delivery import Answer, Delivered, Rejected, RetryLater
from engine.core.foreign_text import foreign_text
from engine.core.retry_after import LONGEST_RETRY_AFTER_S, retry_after_s

EXCERPT_CHARS: Final = 200
"""Of what a service said, kept with the delivery."""

MAX_UNPACKED_BYTES: Final = 64 * 1024
"""Of a compressed body."""

RETRIED_STATUSES: Final = frozenset({408, 425, 429})
DELIVERED: Final = Delivered()


def by_status(answer: HttpAnswer, said: str | None = None, pause_s: float | None = None) -> Answer:
    """What the status alone means: 2xx is delivered, 408, 425, 429 and 5xx are worth a retry, everything else is refused.

    Args:
        answer: what was answered.
        said: what the service said, in its own words; the beginning of the body when None.
        pause_s: the pause that the body asks for, in seconds; the `Retry-After` header when None.
    """
    status = answer.status
    if 200 <= status < 300:
        return DELIVERED
    reason = f"HTTP {status}" + (f": {words}" if (words := excerpt(answer) if said is None else shown(said)) else "")
    if 300 <= status < 400:
        return Rejected(reason=f"HTTP {status}: redirects are not followed")
    if status in RETRIED_STATUSES or not 400 <= status < 500:
        return later(reason, pause_s if pause_s is not None else header_pause_s(answer))
    return Rejected(reason=reason)


def later(reason: str, pause_s: float | None = None, may_have_arrived: bool = False) -> RetryLater:
    """To be tried again, `pause_s` seconds from now at the earliest, if the service says so."""
    pause_ms = None if pause_s is None else round(min(max(pause_s, 0.0), LONGEST_RETRY_AFTER_S) * 1000)
    return RetryLater(reason=reason, retry_after_ms=pause_ms, may_have_arrived=may_have_arrived)


def not_the_service(answer: HttpAnswer) -> RetryLater:
    """A success without what the service says with every success: a proxy, a login page, a truncated body. It may have arrived."""
    words = excerpt(answer)
    reason = f"HTTP {answer.status}, but not in the words of the service" + (f": {words}" if words else "")
    return RetryLater(reason=reason, may_have_arrived=True)


def header_pause_s(answer: HttpAnswer) -> float | None:
    """The pause of the `Retry-After` header, in seconds; None without one that can be read."""
    return retry_after_s(answer.headers.get("retry-after"), answer.now_s)


def json_of(answer: HttpAnswer) -> Mapping[str, Any] | None:
    """The body as a JSON object; None when it is anything else."""
    try:
        found = json.loads(_unpacked(answer))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def text_of(answer: HttpAnswer) -> str:
    """The body as text."""
    return _unpacked(answer).decode("utf-8", "replace")


def is_page(answer: HttpAnswer) -> bool:
    """Whether the body is a page for people: a proxy's, or a login."""
    return text_of(answer).lstrip("\ufeff \t\r\n").startswith("<")


def excerpt(answer: HttpAnswer) -> str:
    """The beginning of the body, on one line."""
    return shown(_unpacked(answer))


def shown(said: str | bytes) -> str:
    """What a service said, on one line that can be kept."""
    text = said[: EXCERPT_CHARS * 4].decode("utf-8", "replace") if isinstance(said, bytes) else said
    return foreign_text(" ".join(text[: EXCERPT_CHARS * 4].split()), EXCERPT_CHARS)


def number(value: object) -> float | None:
    """A number that JSON holds, or a text of one; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and len(value) <= 20:
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, int) and abs(value) > MAX_NUMBER:
        return None
    return float(value) if isinstance(value, int | float) and -MAX_NUMBER < value < MAX_NUMBER else None


MAX_NUMBER: Final = 10**15
"""Larger numbers are no codes and no pauses."""


def _unpacked(answer: HttpAnswer) -> bytes:
    """The body without its compression, when it has one that is known."""
    if answer.headers.get("content-encoding", "").strip().lower() not in ("gzip", "x-gzip", "deflate"):
        return answer.body
    try:
        return zlib.decompressobj(47).decompress(answer.body, MAX_UNPACKED_BYTES)
    except zlib.error:
        return answer.body
