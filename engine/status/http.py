"""Responses of HTTP services, as both providers read them. Pure. Addresses: `engine.config.endpoints`."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

SHOWN = 200
"""Characters of a service's message that are shown."""

TIMED_OUT = "timed out"


def safe_message(text: object, hidden: Iterable[str]) -> str:
    """A message of a service, fit to be shown: short, on one line, without the `hidden` texts, however they are encoded."""
    found = str(text)
    for word in hidden:
        for form in {word, quote(word, safe=""), quote(word)}:
            if form:
                found = found.replace(form, "***")
    found = " ".join("".join(c if c.isprintable() else " " for c in found).split())
    return found if len(found) <= SHOWN else f"{found[:SHOWN]}…"


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
