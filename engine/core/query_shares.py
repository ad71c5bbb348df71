"""How processes behind one address share the calls that its service allows. Pure. Read `exchanged`.

The service counts calls of the address, whoever makes them: at most `rate` in any second. Each process keeps to a limit of its own
(`status.budget.Budget`), and what is written down for all of them together never exceeds the rate. So the calls of any second are
at most the sum of the limits, whenever and however often these change:

- a process uses a higher limit only after it is written down, and a lower one is written down only after its calls have come down to it;
- a share that its process does not renew counts until `LEASE_MS` and `LINGER_MS` have passed; the process itself stops using it after
  `LEASE_MS`, counted from before it asked;
- a process that cannot renew keeps its floor, a small part that counts for `FLOOR_MS` longer: so it can still ask a little while the
  ledger is away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

LEASE_MS: Final = 6_000
"""How long a share may be used after it was renewed."""

LINGER_MS: Final = 2_000
"""How long it counts after that: calls may still be on their way to the service."""

FLOOR_MS: Final = 600_000
"""How much longer its floor may be used."""

FLOOR_PARTS: Final = 20
"""The floor is one part in so many of the rate, and at least one call a second."""


class QueryShare(NamedTuple):
    """What one process is written down with. Instants are epoch milliseconds of the ledger's clock."""

    member: str  # one process, until it ends
    limit: int  # calls a second, at most
    floor: int  # of these, what stays while it cannot renew
    wanted: int
    rate: int  # of all processes together, as this one is configured
    until_ms: int


class Granted(NamedTuple):
    """What a process may do from now on."""

    limit: int
    floor: int


def floor_of(rate: int) -> int:
    """The floor of a process under a rate."""
    return max(1, rate // FLOOR_PARTS)


def counted(share: QueryShare, now_ms: int) -> int:
    """How much of the rate a share takes up now."""
    if now_ms < share.until_ms + LINGER_MS:
        return share.limit
    return share.floor if now_ms < share.until_ms + FLOOR_MS + LINGER_MS else 0


def exchanged(
    shares: Sequence[QueryShare], member: str, *, using: int, floor: int, wanted: int, rate: int, now_ms: int
) -> tuple[QueryShare, Granted]:
    """What is written down for a process from now on, and what it may do once it is.

    `shares`: those of everybody, its own included. `using`: its limit now, or what its calls still come to when that is more; `floor`:
    the floor that it knows of; `wanted`: calls a second that it could make; `rate`: what its configuration allows to all together.
    """
    others = [share for share in shares if share.member != member]
    live = [share for share in others if now_ms < share.until_ms]
    allowed = rate
    for share in live:
        allowed = min(allowed, share.rate)
    wishes = {share.member: max(share.wanted, floor_of(allowed)) for share in live}
    wishes[member] = max(wanted, floor_of(allowed))
    free = allowed
    for share in others:
        free -= counted(share, now_ms)
    limit = max(0, min(fair_shares(allowed, wishes)[member], free))
    granted = Granted(limit, min(floor_of(allowed), limit))
    written = QueryShare(member, max(using, limit), max(floor, granted.floor), wanted, rate, now_ms + LEASE_MS)
    return written, granted


def fair_shares(whole: int, wishes: Mapping[str, int]) -> dict[str, int]:
    """So much of a whole for each: what it wishes, or an equal part of what the more modest ones leave; the sum is at most the whole."""
    found: dict[str, int] = {}
    left, waiting = whole, len(wishes)
    for wish, name in sorted((wish, name) for name, wish in wishes.items()):
        found[name] = min(wish, left // waiting)
        left -= found[name]
        waiting -= 1
    return found
