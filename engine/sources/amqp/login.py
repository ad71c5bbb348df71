"""The signed login of the vendor's cloud-SDK route, its messages, and the sentences for a refused login. Pure.

The user name holds instance and access key; the password signs an instant, which is sent beside it as a client property, so
each connection has a login of its own and an old one cannot be used again. Read `signed_login`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from itertools import groupby
from typing import Any, Final, NamedTuple

from aiormq import exceptions

from engine.core.events import EVENT_TYPES, Rejection
from engine.core.foreign_text import foreign_text
from engine.sources.wire import Decoded, decode_lines

MAX_SAID_CHARS: Final = 300
"""Of what a broker or the library says about an error, so much is shown."""

SIGN_KEY: Final = "signKey"
"""The client property that says which instant was signed."""

KIND_HEADERS: Final = ("tag", "eventType")
"""Headers that may carry the event's type beside the body."""


class SignedLogin(NamedTuple):
    """The login of one connection."""

    user: str
    password: str
    sign_key: str


class AmqpMessage(NamedTuple):
    """One delivery of the broker."""

    tag: int  # its number on its channel
    kind: str | None  # the event's type if something outside the body says it
    body: bytes
    received_at_ms: int


def signed_login(instance: str, access_key: str, secret: str, at_ms: int) -> SignedLogin:
    """The login of one access key to one instance, signed at `at_ms` (epoch milliseconds)."""
    millis = str(at_ms)
    user = base64.b64encode(f"0:{instance}:{access_key}".encode()).decode()
    password = base64.b64encode(hmac.digest(secret.encode(), millis.encode(), hashlib.sha1)).decode()
    return SignedLogin(user, password, millis)


def kind_of(message_type: str | None, headers: dict[str, Any] | None, routing_key: str | None) -> str | None:
    """The event's type if a message names one outside of its body; other texts are ignored."""
    candidates = [message_type, *((headers or {}).get(name) for name in KIND_HEADERS), routing_key]
    return next((kind for kind in candidates if isinstance(kind, str) and kind in EVENT_TYPES), None)


def decode_messages(messages: Sequence[AmqpMessage], received_at_ms: int, max_future_ms: int) -> Decoded:
    """The events of some messages in their order; a rejection's line is its message's place, from 1."""
    decoded, first = Decoded([], [], [], 0), 1
    for (kind, is_blank), run in groupby(messages, lambda message: (message.kind, not message.body.strip())):
        bodies = [message.body for message in run]
        if is_blank:
            decoded.rejected.extend(Rejection(first + n, "the message is empty", raw) for n, raw in enumerate(bodies))
        else:
            part = decode_lines(bodies, received_at_ms, max_future_ms, tag=kind, first_line=first)
            decoded.events.extend(part.events)
            decoded.raw.extend(part.raw)
            decoded.rejected.extend(part.rejected)
            decoded = decoded._replace(future=decoded.future + part.future)
        first += len(bodies)
    return decoded


SUSPECTS: Final = "wrong access key, secret or instance, or this machine's clock is off"


def cause_of(error: Exception) -> str:
    """The library's own text, which may hold the broker's, without the names of its classes."""
    if not error.args or not str(error.args[-1]):
        return "no answer" if isinstance(error, TimeoutError) else type(error).__name__
    said = error.args[-1]
    return foreign_text(said if isinstance(said, bytes) else str(said), MAX_SAID_CHARS)


def refusal(error: Exception, endpoint: str, vhost: str, queue: str) -> str:
    """Why consuming could not begin, as a sentence that names what to fix."""
    text = cause_of(error)
    if isinstance(error, exceptions.ProbableAuthenticationError):
        return f"{endpoint} refuses the login: {SUSPECTS} ({text})"
    if isinstance(error, exceptions.InvalidFrameError) and "Connection.Close" in text:
        return f"{endpoint} refuses the virtual host {vhost}: it does not exist, or this access key may not use it"
    if isinstance(error, exceptions.ChannelNotFoundEntity):
        return f"{endpoint} has no such queue: {text}"
    if isinstance(error, exceptions.ChannelAccessRefused):
        return f"{endpoint} refuses the queue {queue}: {text}"
    return f"{endpoint} cannot be reached: {text}"


def is_hanging_up(error: Exception) -> bool:
    """Whether a broker that had answered closed the connection without a reason: the library then names the server."""
    text = str(error.args[0]) if error.args else ""
    return isinstance(error, EOFError | StopAsyncIteration) or text.startswith("Server connection")


def lost_in_login(endpoint: str, tls: bool) -> str:
    """The sentence for that: some brokers refuse a login in this way."""
    port = "the port does not accept AMQP over TLS" if tls else "the port needs TLS (set `tls`)"
    return f"{endpoint} closed the connection during the login: {SUSPECTS}, or {port}"
