"""What happened, in one sentence: how many clients, of what, since when. For default texts, subjects and the shipped e-mails.

Read `headline`. It says something for every trigger, for a firing, an update, a reminder and a recovery, and never raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, tzinfo
from typing import Any, Final, NamedTuple

from engine.core.times import duration_text


class _Predicate(NamedTuple):
    """What is said of one client and of several, while an alert fires and when it is over."""

    one: str
    many: str
    one_after: str
    many_after: str


_PREDICATES: Final[Mapping[str, _Predicate]] = {
    "offline": _Predicate("is offline", "are offline", "is online again", "are online again"),
    "online": _Predicate("is online", "are online", "is offline again", "are offline again"),
    "first_seen": _Predicate("was seen for the first time", "were seen for the first time", "", ""),
    "never_seen": _Predicate("has never connected", "have never connected", "has connected", "have connected"),
    "flapping": _Predicate("is flapping", "are flapping", "has stopped flapping", "have stopped flapping"),
    "stable": _Predicate("has stopped flapping", "have stopped flapping", "", ""),
    "duplicate": _Predicate(
        "is connected more than once",
        "are connected more than once",
        "is connected only once again",
        "are connected only once again",
    ),
    "unverified": _Predicate(
        "cannot be verified: queries get no usable answer",
        "cannot be verified: queries get no usable answer",
        "can be verified again",
        "can be verified again",
    ),
}

GOES_ON: Final = frozenset({"reminder", "escalation", "acknowledged"})
"""Phases in which what was told before still goes on."""

_GONE: Final = {"rule_removed": "rule was removed", "client_forgotten": "client was forgotten"}
"""Why an alert ended though what it is about has not."""

_STATES: Final = frozenset({"offline", "online"})
_VERBS: Final = frozenset({"is", "are", "has", "have", "cannot"})


def headline(
    variables: Mapping[str, Any], *, short: bool = False, since: bool = True, zone: tzinfo | None = None
) -> str:
    """The sentence, without a full stop.

    `short`: a device instead of the whole id. `since`: also since when, or for how long it was. `zone`: of its instants; None for UTC.
    """
    alert, client = variables.get("alert") or {}, variables.get("client") or {}
    text = _what(variables, alert, client, short)
    if since:
        text += _when(variables, alert, zone)
    return f"{text}, unverified" if alert.get("unverified") else text


def _what(variables: Mapping[str, Any], alert: Mapping[str, Any], client: Mapping[str, Any], short: bool) -> str:
    phase, trigger = alert.get("phase"), alert.get("trigger")
    subject, is_one = _subject(alert, client, short)
    if alert.get("reason") == "target_unused":
        about = alert.get("target") or (alert.get("key") or {}).get("target", "")
        return f"{about}: nothing is sent there any more, so nothing more will be said about this"
    if alert.get("reason") in _GONE:
        return f"{subject}: the {_GONE[alert['reason']]}, so nothing more will be said about this"
    if phase == "summary":
        return str(alert.get("detail", ""))
    if trigger == "outage":
        return _outage(alert, phase)
    if trigger == "quorum":
        return _quorum(alert, phase)
    if trigger == "undelivered" and not alert.get("target"):
        alert = {**alert, "target": (alert.get("key") or {}).get("target", "")}  # several targets, as one
    if about := alert.get("source") or alert.get("target"):
        if _is_over(alert):
            return f"{about} is healthy again"
        return f"{about}: {alert.get('detail', '')}{', still' if phase in GOES_ON else ''}"
    if trigger == "schedule":
        total = alert.get("total", 0)
        subject = f"{alert.get('count', 0)} of {_clients(total)}" if total else subject
    predicate = _predicate(variables, alert, is_one)
    if phase in GOES_ON:
        verb, _, rest = predicate.partition(" ")
        predicate = f"{verb} still {rest}" if verb in _VERBS else f"{predicate}, still"
    return f"{'now ' if phase == 'update' else ''}{subject} {predicate}".rstrip()


def _is_over(alert: Mapping[str, Any]) -> bool:
    return alert.get("state") == "resolved" and alert.get("trigger") not in {"first_seen", "stable", "schedule"}


def _clients(count: Any) -> str:
    return "1 client" if count == 1 else f"{count} clients"


def _of(alert: Mapping[str, Any]) -> str:
    """` of group H, site north`: what the clients have in common."""
    key = alert.get("key") or {}
    of = ", ".join(f"{name} {value}" for name, value in key.items())
    return f" of {of}" if of else ""


def _subject(alert: Mapping[str, Any], client: Mapping[str, Any], short: bool) -> tuple[str, bool]:
    """Whom or what it is about, and whether that is one."""
    if alert.get("source"):
        return str(alert["source"]), True
    count = alert.get("count", 1)
    name = client.get("id") or ", ".join(alert.get("clients") or ())
    if count == 1 and name:
        return str((client.get("device") if short else "") or name), True
    return _clients(count) + _of(alert), count == 1


def _outage(alert: Mapping[str, Any], phase: Any) -> str:
    count, total, back = alert.get("count", 0), alert.get("total", 0), alert.get("back", 0)
    name = f"outage{_of(alert)}"
    if _is_over(alert):
        return f"{name} is over: {f'all {_clients(total)}' if back == total else f'{back} of {_clients(total)}'} back online"
    many = f"{count} of {_clients(total)}" if back else _clients(count)
    return f"{name}: {many} {'still ' if phase in GOES_ON else ''}offline"


def _quorum(alert: Mapping[str, Any], phase: Any) -> str:
    count, many = alert.get("count", 0), _clients(alert.get("total", 0)) + _of(alert)
    if _is_over(alert):
        return (
            f"only {count} of {many} {'is' if count == 1 else 'are'} offline now"
            if count
            else f"none of {many} is offline now"
        )
    return f"{count} of {many} {'is' if count == 1 else 'are'} {'still ' if phase in GOES_ON else ''}offline"


def _predicate(variables: Mapping[str, Any], alert: Mapping[str, Any], is_one: bool) -> str:
    """`is offline`, `are online again`."""
    trigger, status, be = alert.get("trigger"), variables.get("status"), "is" if is_one else "are"
    if trigger == "schedule":
        found = {member.get("status") for member in alert.get("members") or ()}
        return f"{be} {found.pop()}" if len(found) == 1 else f"{be} on the list"
    known = _PREDICATES.get(str(trigger))
    if known is None:
        again = " again" if _is_over(alert) else ""
        return f"{be} {status}{again}" if status else str(alert.get("detail") or "")
    if trigger == "first_seen" and is_one and status:
        return f"{known.one} and is {status}"
    if not _is_over(alert):
        return known.one if is_one else known.many
    if trigger in _STATES and is_one and status in _STATES:
        return f"is {status} again"
    return known.one_after if is_one else known.many_after


def _when(variables: Mapping[str, Any], alert: Mapping[str, Any], zone: tzinfo | None) -> str:
    began = str(alert.get("started_at") or "")
    if alert.get("reason") in {*_GONE, "target_unused"} or alert.get("phase") == "summary":
        return ""
    if _is_over(alert):
        after = alert.get("duration")
        text = f"; the alert lasted {_whole_seconds(after)}" if isinstance(after, (int, float)) else ""
        return f"{text}, from {instant_text(began, zone)}" if text and began else text
    trigger = alert.get("trigger")
    if trigger in {"schedule", "first_seen", "stable"}:
        return f" at {instant_text(began, zone)}" if began else ""
    is_change = trigger in {"outage", "quorum"} or (trigger in _STATES | {None} and alert.get("count", 1) == 1)
    if trigger in _STATES and not is_change:
        return _when_many(alert, zone)
    since = str((variables.get("occurred_at") if is_change else "") or began)
    return f" since {instant_text(since, zone)}" if since else ""


def _when_many(alert: Mapping[str, Any], zone: tzinfo | None) -> str:
    """Since when several clients have their status. The alert began later, by their holds and by `for`."""
    members = alert.get("members") or ()
    changes = sorted(str(member.get("occurred_at") or "") for member in members)
    if not changes or not changes[0] or len(changes) < alert.get("count", 0):
        began = str(alert.get("started_at") or "")  # not all are listed, so the first of all is not known
        return f", in an alert since {instant_text(began, zone)}" if began else ""
    first = instant_text(changes[0], zone)
    return f" since {first}" if instant_text(changes[-1], zone) == first else f", the first since {first}"


def _whole_seconds(seconds: float) -> str:
    """A duration as people read it."""
    return duration_text(int(seconds) * 1000) if seconds >= 1 else "less than a second"


def instant_text(text: str, zone: tzinfo | None = None) -> str:
    """`2026-01-01T00:00:05.000Z` as people read it, on the clocks of a time zone."""
    if not text.endswith("Z") or len(text) < 20:
        return text
    if zone is None:
        return f"{text[:10]} {text[11:19]} UTC"
    try:
        return datetime.fromisoformat(text).astimezone(zone).strftime("%Y-%m-%d %H:%M:%S %Z")
    except (ValueError, OverflowError):
        return text
