"""The life of one alert: the table of its states, and the only code that changes one.

    (new) ─► pending ──FIRE──► firing ──RESOLVE──► resolved
                │  ▲              │
         SUPPRESS  AWAIT_ANSWER   SUPPRESS (it is in a group that was not notified yet)
                ▼  │              ▼
             suppressed ──FIRE──► firing                        DROP closes any of them without a line

- *pending*: the trigger happened; `for` is not over, or the broker's answer has not come yet.
- *firing*: due, its condition holds and no stage suppresses it.
- *suppressed*: due, but a stage suppresses it for a reason. A changed reason is a step of its own.
- *resolved*: what it is about has ended after it fired.
- *dropped*: it ended before anybody was notified, or its client was forgotten. A suppressed alert that is dropped stays in the
  records as what it was: closed, and suppressed.

`TABLE` names every step that there is. Any other raises `IllegalTransition` and changes nothing, and so does every step of an
alert that is closed. Nothing outside this module assigns `Alert.state`, `reason`, `fired_at_ms` or `resolved_at_ms`.
"""

from __future__ import annotations

from typing import Final

from engine.core.alerting.alert import DROPPED, FIRING, PENDING, RESOLVED, SUPPRESSED, Alert
from engine.errors import RollcallError

FIRE: Final = "fire"
SUPPRESS: Final = "suppress"
AWAIT_ANSWER: Final = "await_answer"
RESOLVE: Final = "resolve"
DROP: Final = "drop"
STEPS: Final = (FIRE, SUPPRESS, AWAIT_ANSWER, RESOLVE, DROP)

TABLE: Final[dict[str, dict[str, str]]] = {
    PENDING: {FIRE: FIRING, SUPPRESS: SUPPRESSED, AWAIT_ANSWER: PENDING, DROP: DROPPED},
    SUPPRESSED: {FIRE: FIRING, SUPPRESS: SUPPRESSED, AWAIT_ANSWER: PENDING, DROP: SUPPRESSED},
    FIRING: {SUPPRESS: SUPPRESSED, RESOLVE: RESOLVED, DROP: DROPPED},
    RESOLVED: {},
    DROPPED: {},
}
"""state -> step -> state."""


class IllegalAlertTransition(RollcallError):
    """A step that an alert in this state cannot take; nothing was changed."""


def fire(alert: Alert, at_ms: int) -> None:
    """No stage suppresses the alert: it fires."""
    _take(alert, FIRE)
    alert.reason, alert.fired_at_ms = None, at_ms


def suppress(alert: Alert, reason: str) -> bool:
    """A stage suppresses the alert. Returns whether that is news: the state or the reason was another."""
    is_news = alert.state != SUPPRESSED or alert.reason != reason
    _take(alert, SUPPRESS)
    alert.reason = reason
    return is_news


def await_answer(alert: Alert) -> None:
    """The broker is asked before the alert may fire."""
    _take(alert, AWAIT_ANSWER)
    alert.reason = None


def resolve(alert: Alert, at_ms: int, reason: str | None = None) -> None:
    """What the alert was about has ended; `reason`: why, when it is not that the status changed."""
    _take(alert, RESOLVE)
    alert.reason, alert.resolved_at_ms = reason, at_ms


def drop(alert: Alert, at_ms: int) -> None:
    """The alert is closed without a notification."""
    _take(alert, DROP)
    alert.resolved_at_ms = at_ms


def _take(alert: Alert, step: str) -> None:
    after = TABLE[alert.state].get(step)
    if after is None or alert.resolved_at_ms is not None:
        closed = "" if alert.resolved_at_ms is None else " and closed"
        raise IllegalAlertTransition(f"an alert that is {alert.state}{closed} cannot take the step `{step}`")
    alert.state = after
