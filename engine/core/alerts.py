"""What the alert book keeps and tells, as values: alerts, throttles, and what one step brought about.

Their life is in `alerting`; a store writes and reads them, `replay` prints them.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import mypyc_attr

from engine.core import planning
from engine.core.planning import PlannedDelivery
from engine.core.presence import Transition


@mypyc_attr(acyclic=True)
class AlertLine:
    """One step in an alert's life, as `replay` prints it; nothing of it changes."""

    __slots__ = ("at_ms", "client", "key", "reason", "rule", "state")

    def __init__(
        self,
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
    """One rule firing for one client (or one source). `name` says in full which; `id` is its digest."""

    __slots__ = (
        "_id",
        "client",
        "detail",
        "due_at_ms",
        "fired_at_ms",
        "name",
        "reason",
        "resolved_at_ms",
        "rule",
        "source",
        "started_at_ms",
        "state",
        "throttle_key",
        "told",
        "told_as",
        "transition",
        "trigger",
        "verified",
        "verify_from_ms",
        "verify_until_ms",
    )

    def __init__(
        self,
        name: str,
        rule: str,
        client: str | None,
        source: str | None,
        trigger: str,
        state: str,
        started_at_ms: int,
        due_at_ms: int,
        transition: Transition | None = None,
        *,
        id: str | None = None,
        reason: str | None = None,
        fired_at_ms: int | None = None,
        resolved_at_ms: int | None = None,
        told: bool = False,
        told_as: str = "",
        detail: str = "",
        throttle_key: str = "",
        verified: str = "",
    ) -> None:
        self.name = name
        self._id = id  # None until somebody asks: most alerts of a replay end before
        self.rule = rule
        self.client = client
        self.source = source
        self.trigger = trigger
        self.state = state
        self.started_at_ms = started_at_ms
        self.due_at_ms = due_at_ms
        self.transition = transition
        self.reason = reason
        self.fired_at_ms = fired_at_ms
        self.resolved_at_ms = resolved_at_ms
        self.told = told  # was a firing handed to the outbox for it?
        self.told_as = told_as  # under which name, when it was told together with others
        self.detail = detail  # for feeds: what is wrong with the source
        self.throttle_key = throttle_key  # JSON of {by: value}, the throttle it counts in
        self.verified = verified  # what came of asking: "", agreed, contradicted, failed (sent all the same) or held
        self.verify_from_ms = 0  # answers to older questions do not count
        self.verify_until_ms: int | None = None  # until when it waits for an answer, None: it does not wait

    @property
    def id(self) -> str:
        """A short stable name: the same alert always has the same one."""
        if self._id is None:
            self._id = planning.stamped(self.started_at_ms, self.name)
        return self._id

    @property
    def subject(self) -> str:
        """Where the book keeps it: the client, or the source behind a NUL that no client id can hold."""
        return self.client if self.client is not None else f"\0{self.source}"

    @property
    def open(self) -> bool:
        """Is it still about something that goes on?"""
        return self.resolved_at_ms is None


class Throttled:
    """Firings of one rule and key that still count, ascending, and the alerts that wait for room."""

    __slots__ = ("firings", "key", "room_at_ms", "rule", "waiting")

    def __init__(self, rule: str, key: str, firings: list[int] | None = None) -> None:
        self.rule = rule
        self.key = key
        self.firings: list[int] = [] if firings is None else firings
        self.waiting: dict[str, Alert] = {}
        self.room_at_ms: int | None = None  # when it is looked at again, None: nobody waits


class Output:
    """What one step brought about, in the order of the engine's clock."""

    __slots__ = ("alerts", "deliveries", "lines", "throttles")

    def __init__(self) -> None:
        self.lines: list[Transition | AlertLine | PlannedDelivery] = []
        self.alerts: dict[str, Alert] = {}  # changed ones, by name
        self.throttles: dict[tuple[str, str], Throttled] = {}  # changed ones
        self.deliveries: list[PlannedDelivery] = []
