"""The default title and text of what receivers are sent: one line, then what an on-call engineer asks first.

They read well for one client, for many, for outages, for sources, and for everything that follows a firing. Read `default_title`
and `default_message`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import tzinfo
from typing import Any, Final

from engine.core.alerting.planned_delivery import PHASE_RECOVERY, PHASE_SUMMARY
from engine.templates.sentences import headline, instant_text

LISTED: Final = 50
"""Clients that the default text lists, one a line."""

ATTRIBUTES: Final = 10
"""Attributes of a client that the default text names."""

_UNFIT_IN_LINE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
_UNFIT_IN_TEXT: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

_MARKS: Final = {PHASE_RECOVERY: "resolved", "acknowledged": "acknowledged"}
_SAID: Final = {"reminder": "reminder", "update": "update", "escalation": "escalated"}


def one_line(text: str) -> str:
    """The text on one line, without control characters and without marks that change the direction of what follows."""
    return " ".join(_UNFIT_IN_LINE.sub(" ", text).split())


def several_lines(text: str) -> str:
    """The text without control characters but its line breaks, and without lines at its ends that say nothing."""
    lines = _UNFIT_IN_TEXT.sub("", text.replace("\r\n", "\n")).split("\n")
    return "\n".join(line.rstrip() for line in lines).strip("\n")


def default_title(phase: str, variables: Mapping[str, Any]) -> str:
    """`[critical, reminder] pump-offline: p1 is still offline`."""
    rule = variables.get("rule") or {}
    if phase == PHASE_SUMMARY:
        return one_line(f"[{rule.get('severity', '')}] {rule.get('name', '')}: deliveries are held")
    mark = _MARKS.get(phase) or str(rule.get("severity", ""))
    if phase in _SAID:
        mark = f"{mark}, {_SAID[phase]}"
    return one_line(f"[{mark}] {rule.get('name', '')}: {_headline(phase, variables, short=True, since=False)}")


def default_message(phase: str, variables: Mapping[str, Any], zone: tzinfo) -> str:
    """What happened and since when; then what is known of the client, or the list of clients; then what the rule says of it."""
    return several_lines("\n".join(_lines(phase, variables, zone)))


def _lines(phase: str, variables: Mapping[str, Any], zone: tzinfo) -> Iterator[str]:
    rule, alert = variables.get("rule") or {}, variables.get("alert") or {}
    if phase == PHASE_SUMMARY:
        yield str(alert.get("detail", ""))
        return
    yield f"{_headline(phase, variables, zone=zone)}."
    if alert.get("acknowledged_by"):
        yield f"Acknowledged by {one_line(str(alert['acknowledged_by']))}."
    if rule.get("description"):
        yield str(rule["description"]).strip()
    if alert.get("count", 1) != 1 or alert.get("members"):
        yield from _listed(phase, alert, zone)
    else:
        yield from _about(variables.get("client") or {}, variables)


def _headline(
    phase: str, variables: Mapping[str, Any], *, short: bool = False, since: bool = True, zone: tzinfo | None = None
) -> str:
    """The sentence of a phase. An escalation and an acknowledgement say of a firing that it goes on."""
    alert = variables.get("alert") or {}
    goes_on = phase in ("escalation", "acknowledged")
    shown = {**variables, "alert": {**alert, "phase": "reminder" if goes_on else alert.get("phase", phase)}}
    return headline(shown, short=short, since=since, zone=zone)


def _about(client: Mapping[str, Any], variables: Mapping[str, Any]) -> Iterator[str]:
    attributes = {name: value for name, value in (client.get("attributes") or {}).items() if value}
    shown = [f"{name}: {one_line(str(value))}" for name, value in list(attributes.items())[:ATTRIBUTES]]
    if client.get("ip"):
        shown.append(f"address: {one_line(str(client['ip']))}")
    flaps = variables.get("flaps")
    if flaps:
        shown.append(f"suppressed flaps: {flaps}")
    yield from shown


_LEFT: Final = frozenset({"outage", "quorum"})
"""Triggers whose recovery lists who is still offline, and not who is back."""


def _listed(phase: str, alert: Mapping[str, Any], zone: tzinfo) -> Iterator[str]:
    members = alert.get("members") or [{"id": client} for client in alert.get("clients") or ()]
    for member in members[:LISTED]:
        line = f"- {one_line(str(member.get('id', '')))}"
        since = str(member.get("occurred_at") or member.get("since") or "")
        if member.get("status") and since and (phase != PHASE_RECOVERY or alert.get("trigger") in _LEFT):
            line += (
                f" {'still ' if phase == PHASE_RECOVERY else ''}{member['status']} since {instant_text(since, zone)}"
            )
        yield line
    left = max(int(alert.get("count") or 0), len(members)) - min(len(members), LISTED)
    if members and left > 0:
        yield f"… and {left} more"
