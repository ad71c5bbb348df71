"""What can be the id of a client, and how a word that somebody has asked for is shown."""

from __future__ import annotations

from typing import Final

MAX_CLIENT_BYTES: Final = 256
"""Longest client id that an event may carry, in UTF-8."""

SHOWN_CHARS: Final = 80
"""Of a name in a sentence that says that there is no such thing."""


def shown_name(name: str) -> str:
    """A name in quotes, as a sentence repeats it: cut when it is long, and everything that cannot be seen as an escape."""
    return repr(name if len(name) <= SHOWN_CHARS else f"{name[:SHOWN_CHARS]}…")


def impossible_id(client: str) -> str | None:
    """Why no client can have this id, as a sentence; None when one can. It is what events are refused for."""
    if not client:
        return "the client id is empty: name a client, such as GID_PUMP@@@pump-1"
    size = len(client.encode("utf-8", "replace"))
    if size > MAX_CLIENT_BYTES:
        return f"no client is called {shown_name(client)}: the id has {size} bytes, and at most {MAX_CLIENT_BYTES} are possible"
    if any(character < " " or "\x7f" <= character <= "\x9f" for character in client):
        return f"no client is called {shown_name(client)}: an id has no control characters"
    return None
