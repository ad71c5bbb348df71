"""Alerts and what one step of the engine brought about, as values.

How an alert changes is in `lifecycle`; a store writes and reads them, `replay` prints them. What a store must keep of each is in
its docstring; all of it goes back into `Fleet.restore` after a start and after a failed commit.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from mypy_extensions import mypyc_attr

from engine.core.alerting.escalation import Escalation
from engine.core.alerting.grouping import Group
from engine.core.alerting.outages import Outage
from engine.core.alerting.past import PastRecord
from engine.core.alerting.planned_delivery import PlannedDelivery, instant_of, stamped
from engine.core.alerting.rate_limit import Burst
from engine.core.alerting.routing import Routed
from engine.core.alerting.schedules import Tick
from engine.core.alerting.silences import Silence
from engine.core.keys import key_values
from engine.core.presence.client_state import Transition

PENDING: Final = "pending"
FIRING: Final = "firing"
SUPPRESSED: Final = "suppressed"
RESOLVED: Final = "resolved"
DROPPED: Final = "dropped"
"""The states of an alert; see `lifecycle` for what they mean."""


@mypyc_attr(acyclic=True)
class AlertLine:
    """One step in an alert's life, as `replay` prints it; nothing of it changes."""

    __slots__ = ("at_ms", "client", "key", "reason", "rule", "state")

    def __init__(
        self,
        *,
        rule: str,
        client: str | None,
        key: dict[str, str] | None,
        state: str,
        reason: str | None,
        at_ms: int,
    ) -> None:
        self.rule: Final = rule
        self.client: Final = client
        self.key: Final = key
        self.state: Final = state
        self.reason: Final = reason
        self.at_ms: Final = at_ms


@mypyc_attr(acyclic=True)
class Alert:
    """One rule firing for one client (or one source, or one key). `name` says in full which; `id` is its digest.

    A store keeps every field but `listed`, `count` and `total`, and hands back those that are open, oldest first. Only `lifecycle`
    changes `state`, `reason`, `fired_at_ms` and `resolved_at_ms`.
    """

    __slots__ = (
        "_id",
        "acknowledged",
        "acknowledged_by",
        "client",
        "count",
        "detail",
        "due_at_ms",
        "fired_at_ms",
        "group",
        "key",
        "listed",
        "name",
        "notification_id",
        "notified",
        "reason",
        "remind_at_ms",
        "resolved_at_ms",
        "rule",
        "source",
        "stamp_ms",
        "started_at_ms",
        "state",
        "throttle_key",
        "total",
        "transition",
        "trigger",
        "until",
        "verified",
        "verify_from_ms",
        "verify_until_ms",
    )

    def __init__(
        self,
        name: str,
        *,
        rule: str,
        client: str | None,
        source: str | None,
        trigger: str,
        started_at_ms: int,
        due_at_ms: int,
        state: str = PENDING,
        transition: Transition | None = None,
        id: str | None = None,
        stamp_ms: int | None = None,
        reason: str | None = None,
        fired_at_ms: int | None = None,
        resolved_at_ms: int | None = None,
        notified: bool = False,
        notification_id: str = "",
        detail: str = "",
        throttle_key: str = "",
        key: str | None = None,
        group: str | None = None,
        acknowledged: bool = False,
        acknowledged_by: str = "",
        remind_at_ms: int | None = None,
        verified: str = "",
        until: str = "",
    ) -> None:
        self.name = name
        self._id = id  # None until it is needed: most alerts of a replay end before
        self.rule = rule
        self.client = client
        self.source = source
        self.trigger = trigger
        self.state = state
        self.started_at_ms = started_at_ms
        self.stamp_ms: Final = (
            started_at_ms if stamp_ms is None else stamp_ms
        )  # what the id is made of, while there is none
        self.due_at_ms = due_at_ms
        self.transition = transition
        self.reason = reason
        self.fired_at_ms = fired_at_ms
        self.resolved_at_ms = resolved_at_ms
        self.notified = notified  # was a firing handed to the outbox for it?
        self.notification_id = notification_id  # the id that notification had, when it was about several alerts
        self.detail = detail  # for feeds: what is wrong with the source
        self.throttle_key = throttle_key  # JSON of {by: value}, the throttle it counts in
        self.key = key  # of outages and schedules: JSON of {by: value}
        self.group = group  # JSON of {by: value}, the group whose notifications list it; None: it has its own
        self.acknowledged = acknowledged  # an operator knows of it: no more reminders
        self.acknowledged_by = acknowledged_by
        self.remind_at_ms = remind_at_ms  # when the next reminder leaves; None: none does
        self.until = until  # what has to end before a suppressed alert is looked at again, see `suppressions`
        self.listed: tuple[str, ...] = ()  # of a schedule: the first clients it is about, and how many there are
        self.count = 1
        self.total = 1  # of a schedule: how many clients match, whether they meet its condition or not
        self.verified = verified  # what came of asking: "", agreed, contradicted, failed (sent all the same) or held
        self.verify_from_ms = 0  # answers to older questions do not count
        self.verify_until_ms: int | None = None  # until when it waits for an answer, None: it does not wait

    @property
    def id(self) -> str:
        """A short stable name: the same alert always has the same one."""
        if self._id is None:
            self._id = stamped(self.stamp_ms, self.name)
        return self._id

    @property
    def decided_ms(self) -> int:
        """The instant that its id was made of: when what it is about occurred, where events said so, else when it began."""
        return instant_of(self.id)

    def step(self, step_ms: int, now_ms: int) -> None:
        """The clock was set by `step_ms` and shows `now_ms`: its deadlines move, and so does what would lie in the future.

        Its id and its name stay: they were made of the instant at which it began, as it was called then.
        """
        self._id = self.id
        if self.state == PENDING or self.due_at_ms > now_ms:
            self.due_at_ms += step_ms
        if self.remind_at_ms is not None:
            self.remind_at_ms += step_ms
        if self.verify_until_ms is not None:
            self.verify_until_ms += step_ms
            self.verify_from_ms += step_ms
        if self.started_at_ms > now_ms:
            self.started_at_ms += step_ms
        if self.fired_at_ms is not None and self.fired_at_ms > now_ms:
            self.fired_at_ms += step_ms

    @property
    def subject(self) -> str:
        """What it is filed under: the client; else the source, or rule and key, behind a NUL that no client id can hold."""
        if self.client is not None:
            return self.client
        return f"\0{self.source}" if self.key is None else f"\0{self.rule}\0{self.key}"

    @property
    def shown_key(self) -> dict[str, str] | None:
        """What it is about when it is about no client, by name; None for a client's."""
        if self.client is not None:
            return None
        return {"source": self.source or ""} if self.key is None else key_values(self.key)

    @property
    def open(self) -> bool:
        """Is it still about something that goes on?"""
        return self.resolved_at_ms is None


class Throttled:
    """Firings of one rule and key that still count, ascending, and the alerts that wait for room.

    A store keeps `rule`, `key` and `firings`; one without firings needs no row.
    """

    __slots__ = ("firings", "key", "room_at_ms", "rule", "waiting")

    def __init__(self, rule: str, key: str, firings: list[int] | None = None) -> None:
        self.rule = rule
        self.key = key
        self.firings: list[int] = [] if firings is None else firings
        self.waiting: dict[str, Alert] = {}
        self.room_at_ms: int | None = None  # when it is looked at again, None: no alert waits


class Output:
    """What one step brought about, in the order of the engine's clock; of what is kept, everything that changed, by its key."""

    __slots__ = (
        "alerts",
        "bursts",
        "deliveries",
        "escalations",
        "groups",
        "lines",
        "members",
        "outages",
        "past",
        "routed",
        "schedules",
        "silences",
        "throttles",
    )

    def __init__(self) -> None:
        self.lines: list[Transition | AlertLine | PlannedDelivery] = []
        self.deliveries: list[PlannedDelivery] = []
        self.alerts: dict[str, Alert] = {}  # by name
        self.throttles: dict[tuple[str, str], Throttled] = {}  # by rule and key
        self.groups: dict[str, Group] = {}  # by name; a closed one needs no row
        self.outages: dict[
            str, Outage
        ] = {}  # by the name of their alert; an ended one needs no row, nor have its members
        # (outage, client) -> how it stands with the member, see `outages`. A row each, or gone with the outage.
        self.members: dict[tuple[str, str], int] = {}
        self.silences: dict[str, Silence] = {}  # by id; one whose end has come is over
        self.schedules: dict[str, Tick] = {}  # by rule
        self.bursts: dict[str, Burst] = {}  # by rule; one without deliveries needs no row
        self.escalations: dict[str, Escalation] = {}  # by the id of its notification; one that is over needs no row
        self.routed: dict[str, Routed] = {}  # by the id of the notification; one that is over needs no row
        self.past: dict[str, PastRecord] = {}  # by client; one without parts needs no row


class Kept:
    """What a store hands back beside alerts and throttles: the rows that it was to write by `Output` and that are not over."""

    __slots__ = ("bursts", "escalations", "groups", "members", "outages", "past", "routed", "schedules", "silences")

    def __init__(
        self,
        *,
        groups: Iterable[Group] = (),
        outages: Iterable[Outage] = (),
        members: Iterable[tuple[str, str, int]] = (),
        silences: Iterable[Silence] = (),
        schedules: Iterable[Tick] = (),
        bursts: Iterable[Burst] = (),
        escalations: Iterable[Escalation] = (),
        routed: Iterable[Routed] = (),
        past: Iterable[PastRecord] = (),
    ) -> None:
        self.groups = list(groups)
        self.outages = list(outages)
        self.members = list(members)  # (name of the outage's alert, client, how it stands with it)
        self.silences = list(silences)
        self.schedules = list(schedules)
        self.bursts = list(bursts)
        self.escalations = list(escalations)
        self.routed = list(routed)
        self.past = list(past)
