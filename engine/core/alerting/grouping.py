"""Groups: one delivery for many clients of one rule and key.

| what happens                              | what leaves                                                            |
|-------------------------------------------|------------------------------------------------------------------------|
| the first alert of the key fires          | `wait` later, one firing with all that fire then; nothing if none does |
| what fires is not what was sent last      | one firing `interval` after the last delivery, at once when that is past |
| it is what was sent last again            | nothing                                                                |
| nothing fires any more                    | one recovery at the same pace, and the group is closed                 |

What fires is compared by client. Alerts that end in the instant they fire (`first_seen`, `stable`) pass through: they are in
the next delivery and in no other. A group is a value with counts that change by one; the alerts in it are in `OpenAlerts`.

A *bundle* is a group too: of what one ending let fire together, when a rule without `grouping` had more than one. Its `wait` is 0,
and nobody joins it later. What is special about it is in `bundles`.
"""

from __future__ import annotations

from collections.abc import Iterable

from engine.core.alerting.planned_delivery import stamped


def group_name(first_ms: int, rule: str, key: str) -> str:
    """The name of a group whose first alert fired at an instant."""
    return stamped(first_ms, f"group\0{rule}\0{key}")


class Group:
    """One group. A store keeps the arguments of `__init__`; who fires now is known by the alerts (`Alert.group`)."""

    __slots__ = (
        "_clients",
        "_fresh",
        "_gone",
        "due_at_ms",
        "ended",
        "first_ms",
        "is_bundle",
        "is_closed",
        "key",
        "name",
        "passed",
        "passing",
        "remind_at_ms",
        "rule",
        "sent",
        "sent_at_ms",
    )

    def __init__(
        self,
        rule: str,
        key: str,
        first_ms: int,
        sent_at_ms: int | None = None,
        sent: Iterable[str] = (),
        passing: Iterable[str] = (),
        passed: int = 0,
        remind_at_ms: int | None = None,
        name: str | None = None,
        is_bundle: bool = False,
        ended: Iterable[int] = (),
    ) -> None:
        """`name`: None for that of its first instant; it has another one once the clock was set, because a name stays."""
        self.rule = rule
        self.key = key  # JSON of {by: value}; of a bundle, the throttle key that its alerts share, "" for none
        self.first_ms = first_ms  # when its first alert fired
        self.name = group_name(first_ms, rule, key) if name is None else name
        self.sent_at_ms = sent_at_ms  # when its last delivery left; None: none has
        self.sent = dict.fromkeys(sent)  # who fired then, in that order: clients; in a bundle, any `Alert.subject`
        self.passing = list(passing)  # clients whose alerts ended as they fired, to be listed in the next delivery
        self.passed = passed  # how many those are; not all are listed
        self.remind_at_ms = remind_at_ms
        self.is_bundle = is_bundle
        self.ended = list(
            ended
        )  # of its outages that are over: how many were down, had joined and were back, see `bundles`
        self.due_at_ms: int | None = None
        self.is_closed = False
        self._clients: dict[str, int] = {}  # who fires, and by how many alerts
        self._fresh = 0  # of them, how many were not sent
        self._gone = len(self.sent)  # of those that were sent, how many fire no more

    @property
    def place(self) -> str:
        """What `Alert.group` says of an alert in it: its key; a bundle's name, because bundles of one key lie beside each other."""
        return self.name if self.is_bundle else self.key

    @property
    def lane(self) -> str:
        """In which lane its deliveries leave; a bundle's in that of its throttle key, like all that is said to that key."""
        if self.is_bundle:
            return self.key or self.name
        return f"group {self.key}"

    @property
    def fires(self) -> bool:
        """Is there anything to list?"""
        return bool(self._clients or self.passed)

    @property
    def differs(self) -> bool:
        """Is what fires another thing than what was sent last?"""
        return bool(self._fresh or self._gone or self.passed)

    @property
    def clients(self) -> list[str]:
        """Who fires, in the order in which they began."""
        return list(self._clients)

    def add(self, client: str) -> None:
        """An alert of the client fires."""
        count = self._clients.get(client, 0)
        self._clients[client] = count + 1
        if not count:
            if client in self.sent:
                self._gone -= 1
            else:
                self._fresh += 1

    def remove(self, client: str) -> None:
        """An alert of the client fires no more."""
        count = self._clients.get(client, 0)
        if count > 1:
            self._clients[client] = count - 1
        elif count:
            del self._clients[client]
            if client in self.sent:
                self._gone += 1
            else:
                self._fresh -= 1

    def restored(self) -> None:
        """Everybody who fires was added again, in any order: those who were sent are in the order in which they were sent."""
        known = {client: self._clients[client] for client in self.sent if client in self._clients}
        self._clients = known | self._clients

    def pass_through(self, client: str, limit: int) -> None:
        """An alert of the client fired and is over."""
        self.passed += 1
        if len(self.passing) < limit:
            self.passing.append(client)

    def next_due(self, at_ms: int, wait_ms: int, interval_ms: int) -> int | None:
        """When the next delivery leaves or the group is closed, as things are; None: there is nothing to send."""
        if self.sent_at_ms is None:
            return self.first_ms + wait_ms
        if not self.differs and self.fires:
            return None
        return max(at_ms, self.sent_at_ms + interval_ms)

    def step(self, step_ms: int) -> None:
        """The clock was set: it waits for as long as before, under the same name."""
        if self.sent_at_ms is None:
            self.first_ms += step_ms
        else:
            self.sent_at_ms += step_ms
        if self.remind_at_ms is not None:
            self.remind_at_ms += step_ms
        if self.due_at_ms is not None:
            self.due_at_ms += step_ms

    def sent_now(self, at_ms: int) -> None:
        """What fires now has been sent."""
        self.sent = dict.fromkeys(self._clients)
        self.sent_at_ms = at_ms
        self.passing, self.passed = [], 0
        self._fresh = self._gone = 0
