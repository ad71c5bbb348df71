"""Names of machines become addresses within a deadline, whatever the name server does. Read `addresses` and `addresses_soon`.

The system's resolver cannot be interrupted, and it may take minutes. So each lookup has a thread of its own, which is left behind when
nobody waits any more. A name has one lookup at a time, which everybody who asks meanwhile shares; and there are at most `MAX_LOOKUPS`, so
names that do not resolve use up neither threads nor the ones that the event loop keeps for other work.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import socket
import threading
from typing import Any, Final

MAX_LOOKUPS: Final = 64
"""Names that are being resolved at the same time."""

AddressInfo = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]
"""As `socket.getaddrinfo` has it: family, kind, protocol, name, address."""

_lock: Final = threading.Lock()
_under_way: dict[tuple[str, int, int], concurrent.futures.Future[list[AddressInfo]]] = {}


class LookupTimeout(TimeoutError):
    """The name server did not answer in time."""


def addresses(host: str, port: int, within_s: float, family: int = socket.AF_UNSPEC) -> list[AddressInfo]:
    """The addresses of a name. Raises LookupTimeout, or OSError when there is no such name."""
    lookup = _lookup(host, port, family)
    try:
        return lookup.result(max(0.0, within_s))
    except TimeoutError:
        if lookup.done():
            raise
        raise LookupTimeout(f"the name {host} was not resolved within {within_s:g} s") from None


async def addresses_soon(host: str, port: int, family: int = socket.AF_UNSPEC) -> list[AddressInfo]:
    """As `addresses`, on an event loop; whoever waits sets the limit. Raises OSError when there is no such name."""
    # The lookup is already running, so that it stays what it is for the others when one who waits is cancelled.
    return await asyncio.wrap_future(_lookup(host, port, family))


def _lookup(host: str, port: int, family: int) -> concurrent.futures.Future[list[AddressInfo]]:
    key = host, port, family
    with _lock:
        found = _under_way.get(key)
        if found is not None:
            return found
        if len(_under_way) >= MAX_LOOKUPS:
            raise OSError(f"{MAX_LOOKUPS} other names are being resolved: the name server does not answer")
        future = _under_way[key] = concurrent.futures.Future()
        future.set_running_or_notify_cancel()
    try:
        threading.Thread(target=_resolve, args=(key, future), name=f"lookup of {host}"[:60], daemon=True).start()
    except RuntimeError as error:  # no more threads
        with _lock:
            del _under_way[key]
        raise OSError(f"the name {host} cannot be resolved: {error}") from error
    return future


def _resolve(key: tuple[str, int, int], future: concurrent.futures.Future[list[AddressInfo]]) -> None:
    host, port, family = key
    found: list[AddressInfo] = []
    problem: Exception | None = None
    try:
        found = list(socket.getaddrinfo(host, port, socket.AddressFamily(family), socket.SOCK_STREAM))
    except OSError as error:
        problem = error
    except (
        UnicodeError,
        ValueError,
    ) as error:  # a name that no request can hold, such as one with a label of 64 letters
        problem = socket.gaierror(socket.EAI_NONAME, f"it is not a name that can be resolved ({error})")
    with _lock:
        del _under_way[key]
    if problem is None:
        future.set_result(found)
    else:
        future.set_exception(problem)
