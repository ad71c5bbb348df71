"""How often a login may fail. A decision: instants come in, a time to wait comes out.

An attempt counts as failed from its beginning, so that many at the same time are not judged by the same count. Three counts stop three
attacks: many passwords for one name from one place, one password for many names from one place, and many passwords for one name from
everywhere. Who has signed in from a place before is held to the first count alone there: no stranger's guesses lock them out. Read
`LoginThrottle.begin`.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict, deque
from typing import Final

WINDOW_S: Final = 900.0
"""A failure counts for so long."""

LIMITS: Final = {"name and address": 5, "address": 30, "name": 100}
"""Failures within the window before the next attempt has to wait."""

MAX_KEYS: Final = 20_000
"""Names and addresses that are remembered; of more, the newest."""


class LoginThrottle:
    """Counts failed logins of this process. Instants are seconds of any steady clock."""

    def __init__(self) -> None:
        self._failures: OrderedDict[tuple[str, str], deque[float]] = OrderedDict()
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()  # names with the places they signed in from

    def begin(self, name: str, address: str, now_s: float) -> float:
        """An attempt begins: 0, or how many seconds are to be waited before the next one (then this one does not count)."""
        keys = _keys(name, address)
        counted = keys[:1] if keys[0] in self._known else keys
        wait_s = max(self._wait_s(key, now_s) for key in counted)
        if wait_s > 0:
            return wait_s
        for key in counted:
            self._failures.setdefault(key, deque()).append(now_s)
            self._failures.move_to_end(key)
        while len(self._failures) > MAX_KEYS:
            self._failures.popitem(last=False)
        return 0.0

    def succeeded(self, name: str, address: str) -> None:
        """The newest attempt was right: it and the mistakes before it from there are forgotten; other places are not trusted for it."""
        own, *others = _keys(name, address)
        self._failures.pop(own, None)
        if own not in self._known:
            for key in others:
                if found := self._failures.get(key):
                    found.pop()
        self.know(name, address)

    def know(self, name: str, address: str) -> None:
        """Somebody signed in rightly from there. Without a name (a token) it says nothing about who."""
        if not name:
            return
        own = _keys(name, address)[0]
        self._known[own] = None
        self._known.move_to_end(own)
        while len(self._known) > MAX_KEYS:
            self._known.popitem(last=False)

    def _wait_s(self, key: tuple[str, str], now_s: float) -> float:
        found = self._failures.get(key)
        if found is None:
            return 0.0
        while found and found[0] <= now_s - WINDOW_S:
            found.popleft()
        limit = LIMITS[key[0]]
        return found[-limit] + WINDOW_S - now_s if len(found) >= limit else 0.0


def network_of(address: str) -> str:
    """Whose address it is: of IPv6, the network that one customer has."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)


def _keys(name: str, address: str) -> list[tuple[str, str]]:
    who, where = name[:64].casefold(), network_of(address)
    return [("name and address", f"{who} {where}"), ("address", where), ("name", who)]
