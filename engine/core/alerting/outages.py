"""Outages: when many clients of one key go offline together, they are one incident.

| what happens                                                   | what comes of it                                                 |
|----------------------------------------------------------------|------------------------------------------------------------------|
| a client settles offline, and no outage of its key is as big   | those of its key that went offline with it are counted           |
| the count reaches `at_least`, and `percent` of those online and those counted | an outage opens with all that were counted        |
| a client settles offline while an outage is still that big     | it joins                                                         |
| a member is online again                                       | it is back for good: if it goes again, it joins again or speaks for itself |
| all are back                                                   | the outage is over                                               |
| fewer than half of the peak down, nobody joined or came back for `within` | the outage is over                                    |
| somebody is back, nobody joined or came back for `recover_within` | the outage is over: its recovery has stalled                  |

"Still that big": with `percent`, the members that are down and this client are at least that share of them and of the key's clients
that are online; without, the same count as for opening, taken at the time of this client's change, reaches `at_least`. So ordinary
churn beside an outage or after it does not join. A member is down from the moment it is observed offline until online has
settled. A client that does not join, and is enough with others that no outage has, opens a second outage beside the first.

An outage covers its members that are down, and who is offline on hold and would join if it settled now.

This file has the outage as a value. `outage_watch` counts and decides for one rule, `outage_alerts` does what follows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from engine.core.alerting.offline_index import OfflineIndex
from engine.core.presence.client_state import NEVER, OFFLINE, ClientState

BACK: Final = 0
"""A member that has come back."""
DOWN: Final = 1
"""A member that is down."""
GONE_AGAIN: Final = 2
"""A member that came back, settled offline again and did not join: what it does from then on is its own."""


class Outage:
    """One incident and its members. A store keeps the arguments of `__init__` and, a row each, the members (`Output.members`)."""

    __slots__ = (
        "down",
        "earliest_ms",
        "end_at_ms",
        "is_over",
        "key",
        "loosest_ms",
        "members",
        "name",
        "offline",
        "peak",
        "quiet_since_ms",
        "rule",
    )

    def __init__(self, name: str, rule: str, key: str, earliest_ms: int, quiet_since_ms: int, peak: int) -> None:
        self.name = name  # that of its alert
        self.rule = rule
        self.key = key  # JSON of {by: value}
        self.earliest_ms = earliest_ms  # when the first of its members' changes occurred
        self.quiet_since_ms = quiet_since_ms  # when a member joined or came back last, the engine's clock
        self.peak = peak  # the most that were down at once
        self.members: dict[str, int] = {}  # everybody who ever joined -> BACK, DOWN or GONE_AGAIN
        self.down = 0
        self.offline = OfflineIndex()  # members that are down, but for those whose online hold lasts
        self.end_at_ms: int | None = None  # when it is looked at for its end
        self.loosest_ms = NEVER  # of those on hold whose alerts it inhibits, when the latest change occurred
        self.is_over = False

    @property
    def total(self) -> int:
        """How many ever joined."""
        return len(self.members)

    @property
    def back(self) -> int:
        """How many of them are back."""
        return len(self.members) - self.down

    def is_down(self, client: str) -> bool:
        """Is the client a member that is down?"""
        return self.members.get(client, BACK) == DOWN

    def has_returned(self, client: str) -> bool:
        """Is the client a member that came back and has not gone offline since?"""
        return self.members.get(client, DOWN) == BACK

    def offline_members(self) -> Iterator[str]:
        """The members that are down, in the order in which they first joined."""
        for client, standing in self.members.items():
            if standing == DOWN:
                yield client


def offline_since(state: ClientState) -> int:
    """When the change occurred that took a client offline (epoch ms), for one that is observed offline."""
    return state.hold_occurred_at_ms if state.hold_since_ms != NEVER else state.occurred_at_ms


def is_down(state: ClientState) -> bool:
    """Is the client observed offline? One that no event ever named is not: it never was anywhere else."""
    return state.observed == OFFLINE and state.heard_ms != NEVER


def is_down_on_hold(state: ClientState) -> bool:
    """Is the client observed offline while its settled status is another?"""
    return state.hold_since_ms != NEVER and is_down(state)


def differ(before: ClientState, after: ClientState) -> bool:
    """Do two states of a client count differently, or elsewhere?"""
    if before.observed != after.observed or before.ip != after.ip:
        return True
    if after.observed != OFFLINE:
        return False
    return is_down(before) != is_down(after) or offline_since(before) != offline_since(after)
