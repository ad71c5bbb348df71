"""Every alert that is about something that goes on, and what the step in hand changes of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Final

from engine.core.alerting.alert import Alert, AlertLine, Output
from engine.core.presence.client_state import Transition
from engine.core.rules import Rule

APART: Final = "\x1f"
"""Between the parts of a name: no id has it, and every store can hold it, which PostgreSQL cannot of the character of number 0."""

NO_ALERTS: Sequence[Alert] = ()


class OpenAlerts:
    """Open alerts by subject (see `Alert.subject`), and `out`, which the caller replaces after each commit."""

    def __init__(self) -> None:
        self.out = Output()
        self.by_subject: dict[str, list[Alert]] = {}
        self.era = ""  # the last time that the clock was set: the same instant may come again, and is another one then
        self._newest_ms = -1  # the instant of the newest alert, and how often each name was asked for in it
        self._names: dict[str, int] = {}

    def of(self, subject: str) -> Sequence[Alert]:
        """The open alerts about a client (or another subject), oldest first; not to be kept while alerts change."""
        return self.by_subject.get(subject, NO_ALERTS)

    def __iter__(self) -> Iterator[Alert]:
        """Every open alert; nothing may change meanwhile."""
        for alerts in self.by_subject.values():
            yield from alerts

    def of_rule(self, rule: str) -> list[Alert]:
        """The open alerts of a rule."""
        return [alert for alerts in self.by_subject.values() for alert in alerts if alert.rule == rule]

    def of_trigger(self, trigger: str) -> list[Alert]:
        """The open alerts of a trigger."""
        return [alert for alerts in self.by_subject.values() for alert in alerts if alert.trigger == trigger]

    def add(
        self,
        rule: Rule,
        trigger: str,
        at_ms: int,
        *,
        client: str | None = None,
        source: str | None = None,
        key: str | None = None,
        due_ms: int | None = None,
        transition: Transition | None = None,
        because: Transition | None = None,
        detail: str = "",
    ) -> Alert:
        """A new pending alert, due at `due_ms` (by default at once). Its name says what it is about, and is its own.

        `because`: the transition that decided it, where that is not what it is about.
        """
        about = source if key is None else key
        cause = transition if because is None else because
        if cause is not None and cause.channels:
            stamp_ms, told = cause.occurred_at_ms, _what_events_told(cause)
        else:
            stamp_ms, told = at_ms, f"{at_ms if transition is None else transition.since_ms}{APART}{at_ms}"
        parts = APART.join((rule.name, str(client), str(about), trigger, told))
        name = self._distinct(self.in_era(parts), at_ms)
        alert = Alert(
            name=name,
            rule=rule.name,
            client=client,
            source=source,
            trigger=trigger,
            started_at_ms=at_ms,
            stamp_ms=stamp_ms,
            due_at_ms=at_ms if due_ms is None else due_ms,
            transition=transition,
            key=key,
            detail=detail,
        )
        subject = alert.subject
        alerts = self.by_subject.get(subject)
        if alerts is None:
            self.by_subject[subject] = [alert]
        else:
            alerts.append(alert)
        self.changed(alert)
        return alert

    def in_era(self, name: str) -> str:
        """A name that was made of an instant, told apart from the same one before the clock was set."""
        return f"{name}{APART}{self.era}" if self.era else name

    def _distinct(self, name: str, at_ms: int) -> str:
        """A name of its own for what happens more than once in one instant: without a hold, a client can come and go."""
        if at_ms != self._newest_ms:
            self._newest_ms, self._names = at_ms, {}
        before = self._names.get(name, 0)
        self._names[name] = before + 1
        return f"{name}{APART}{before}" if before else name

    def changed(self, alert: Alert) -> None:
        """The alert is another than the store knows."""
        self.out.alerts[alert.name] = alert

    def line(self, alert: Alert, at_ms: int) -> None:
        """The alert has taken a step that people see."""
        self.changed(alert)
        self.out.lines.append(
            AlertLine(
                rule=alert.rule,
                client=alert.client,
                key=alert.shown_key,
                state=alert.state,
                reason=alert.reason,
                at_ms=at_ms,
            )
        )

    def remove(self, alert: Alert) -> None:
        """The alert is closed."""
        subject = alert.subject
        alerts = self.by_subject[subject]
        alerts.remove(alert)
        if not alerts:
            del self.by_subject[subject]

    def step(self, step_ms: int, now_ms: int) -> None:
        """The clock was set by `step_ms` and shows `now_ms`: what an alert waits for is moved, and what would lie in the future."""
        for alert in self:
            alert.step(step_ms, now_ms)
            self.changed(alert)

    def restore(self, alerts: Sequence[Alert]) -> None:
        """Start again with the open alerts that a store holds."""
        self.by_subject.clear()
        self._newest_ms = -1
        self.out = Output()
        for alert in alerts:
            self.by_subject.setdefault(alert.subject, []).append(alert)


def _what_events_told(transition: Transition) -> str:
    """A transition as a text that is made of events alone: who reads the same events again decides the same again.

    After a failover that lost the newest commits, events are read again at another time. Two transitions of a client differ in their
    channels, because each needs an event that the one before did not have.
    """
    known = [(one.id, one.connect_ms, one.close_ms, one.goodbye_ms) for one in transition.channels]
    mark = blake2b(repr(known).encode(), digest_size=8).hexdigest()
    return APART.join((transition.client, str(transition.status), str(transition.occurred_at_ms), mark))
