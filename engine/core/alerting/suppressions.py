"""Which suppressed alerts wait for the end of what: of a rule's time interval, of a silence, of the alert that inhibits them.

What an alert waits for is a text, `Alert.until`, of a kind and a name: see `mute_until` and its neighbours. Read `Suppressions`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from engine.core.alerting.alert import Alert
from engine.core.timers import SUPPRESSIONS, NextWakeUp, TimerQueue

FREED: Final = "freed"
"""A timer's item: alerts that nothing suppresses any more are to be looked at."""

LAST: Final = 1 << 30
"""The rank of that timer: everything else that ends in its instant ends before."""


def mute_until(rule: str) -> str:
    """Until the rule's time intervals say otherwise."""
    return f"mute\0{rule}"


def silence_until(silence_id: str) -> str:
    """Until the silence is over."""
    return f"silence\0{silence_id}"


def alert_until(alert_name: str) -> str:
    """Until the alert that inhibits it has ended."""
    return f"alert\0{alert_name}"


def cover_until(alert_name: str) -> str:
    """Until the outage whose alert this is has ended, or covers the clients on hold no more that it is about."""
    return f"cover\0{alert_name}"


def parent_until(rule: str, key: str) -> str:
    """Until the last alert of a parent with these values has ended."""
    return f"parent\0{rule}\0{key}"


def covering_alert(until: str) -> str:
    """The name of the alert that such a text is about; any other text names none."""
    kind, _, name = until.partition("\0")
    return name if kind in ("alert", "cover") else ""


class Suppressions:
    """Suppressed alerts by what they wait for, each under one; in the order in which they were suppressed."""

    def __init__(self, wake_up: NextWakeUp, ends_at: Callable[[str], int | None]) -> None:
        """`ends_at`: when what a text names ends, epoch milliseconds; None when that is not known (any more)."""
        self.timers: Final = TimerQueue(SUPPRESSIONS, wake_up, self._is_due)
        self.freed: list[Alert] = []  # alerts that wait for nothing any more, not looked at yet
        self._ends_at = ends_at
        self._waiting: dict[str, dict[str, Alert]] = {}

    def _is_due(self, until: str, due_ms: int) -> bool:
        return bool(self.freed) if until == FREED else self._ends_at(until) == due_ms

    def wait(self, until: str, alert: Alert) -> None:
        """The alert waits for the end of `until`."""
        alert.until = until
        self._waiting.setdefault(until, {})[alert.name] = alert

    def await_edge(self, edge_ms: int, rule: str) -> None:
        """The time intervals of a rule may say otherwise then."""
        self.timers.push(edge_ms, mute_until(rule))

    def leave(self, alert: Alert) -> None:
        """It waits no more."""
        if alert.until:
            alerts = self._waiting.get(alert.until, {})
            alerts.pop(alert.name, None)
            if not alerts:
                self._waiting.pop(alert.until, None)
            alert.until = ""

    def take(self, until: str) -> list[Alert]:
        """`until` has ended: the alerts that waited for it."""
        alerts = list(self._waiting.pop(until, {}).values())
        for alert in alerts:
            alert.until = ""
        return alerts

    @property
    def any_waiting(self) -> bool:
        """Does any alert wait for anything?"""
        return bool(self._waiting)

    def inhibitor_ended(self, alert: Alert, at_ms: int) -> None:
        """An alert has ended that may have inhibited others: they are looked at in the same instant."""
        for until in (alert_until(alert.name), cover_until(alert.name)):
            if until in self._waiting:
                self.free(self.take(until), at_ms)

    def is_awaited(self, until: str) -> bool:
        """Does an alert wait for the end of `until`?"""
        return until in self._waiting

    def free_one(self, alert: Alert, at_ms: int) -> None:
        """Have an alert looked at that waits for something."""
        self.leave(alert)
        self.free([alert], at_ms)

    def free(self, alerts: Iterable[Alert], at_ms: int) -> None:
        """Have these alerts looked at."""
        before = len(self.freed)
        self.freed += alerts
        if len(self.freed) > before:
            self.timers.push(at_ms, FREED, LAST)

    def free_again(self, at_ms: int) -> None:
        """The clock was set: what is freed already is looked at now."""
        if self.freed:
            self.timers.push(at_ms, FREED, LAST)

    def take_freed(self) -> list[Alert]:
        """The alerts that are to be looked at now."""
        freed, self.freed = self.freed, []
        return freed

    def take_all(self) -> list[Alert]:
        """All alerts that wait for anything."""
        return [alert for until in list(self._waiting) for alert in self.take(until)]

    def clear(self) -> None:
        """Start again: no alert waits."""
        self.freed = []
        self.timers.clear()
        self._waiting.clear()
