"""Responses of HTTP services, as both providers read them. Pure. Addresses: `engine.config.endpoints`."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterable
from typing import Any

from engine.config.scrubber import Scrubber

SHOWN = 200
"""Characters of a service's message that are shown."""

TIMED_OUT = "timed out"


def safe_message(text: object, hidden: Iterable[str]) -> str:
    """A message of a service, fit to be shown: short, on one line, without the `hidden` texts, however they are encoded."""
    try:
        said = str(text)
    except RecursionError:
        return "something that is nested too deeply"
    return Scrubber(hidden).shown(said, SHOWN)


def json_object(body: bytes) -> dict[str, Any] | None:
    """The JSON object of a response; None when the body is anything else."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def root_cause(error: BaseException) -> str:
    """What went wrong below an HTTP library, in the words of the operating system."""
    seen: BaseException | None = error
    found = "the connection ended"
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return f"certificate verify failed: {seen.verify_message}"
        if isinstance(seen, ssl.SSLError):
            return seen.reason or "the handshake failed"
        if isinstance(seen, socket.gaierror):
            return f"its name cannot be resolved ({seen.strerror})"
        if isinstance(seen, TimeoutError):
            return TIMED_OUT
        if isinstance(seen, OSError) and seen.strerror:
            found = seen.strerror.lower()
        inner = getattr(seen, "reason", None) or (seen.args[0] if seen.args else None)
        seen = inner if isinstance(inner, BaseException) else seen.__cause__ or seen.__context__
    return found
