"""The `Retry-After` and `Date` headers of HTTP, read the same way for every service that the engine calls. Pure."""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime

from engine.core.delivery import LONGEST_RETRY_AFTER_MS

LONGEST_RETRY_AFTER_S = LONGEST_RETRY_AFTER_MS / 1000
"""A service that asks for a longer pause is called again after this: it may have meant something else."""


def http_date_s(header: str | None) -> float | None:
    """An HTTP date in seconds since the epoch; UTC when it names no time zone. None when it cannot be read."""
    if not header:
        return None
    try:
        found = parsedate_to_datetime(header)
        return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def retry_after_s(header: str | None, now_s: float) -> float | None:
    """The pause, in seconds, that a `Retry-After` header asks for: 0 to an hour. None when there is none that can be read.

    The header is a number of seconds or an HTTP date. `now_s`: the instant that a date is compared with, in seconds since the
    epoch; the service's own `Date` is better than our clock.
    """
    if header is None:
        return None
    header = header.strip()
    if header.isascii() and header.isdigit():
        return min(float(header), LONGEST_RETRY_AFTER_S)
    until_s = http_date_s(header)
    return None if until_s is None else min(max(until_s - now_s, 0.0), LONGEST_RETRY_AFTER_S)
