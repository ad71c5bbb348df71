"""Why a rule has not fired for a client, in words: one sentence per stage. Read `explanation`, then `SENTENCES`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from engine.core.alerting.stages.base import StageReport
from engine.core.rules import WITHOUT_CLIENTS
from engine.core.times import duration_text, rfc3339

Object = dict[str, Any]
Detail = Mapping[str, Any]

_ABOUT_NO_KEY: Final = WITHOUT_CLIENTS | {"schedule"}
"""Triggers whose alerts are about no client and no key of clients."""


def explanation(
    rule: str, client: str, stages: Sequence[StageReport], now_ms: int, nearest: Callable[[], str | None] = lambda: None
) -> Object:
    """Every stage, in order; `stopped_by` is the first one that stops the rule, None when none does.

    `nearest`: the known client whose id is most like this one; asked for when the client is unknown.
    """
    stages = [
        StageReport(stage.stage, stage.passes, _of_trigger(stage.detail, rule, nearest), stage.until_ms)
        if stage.stage == "trigger"
        else stage
        for stage in stages
    ]
    first = next((stage for stage in stages if not stage.passes), None)
    return {
        "rule": rule,
        "client": client,
        "at": rfc3339(now_ms),
        "stopped_by": first.stage if first is not None else None,
        "why": f"{sentence(first)}{_mistyped(first, stages)}"
        if first is not None
        else "no stage stops the rule: it fires when its trigger happens",
        "gates": [
            {
                "gate": stage.stage,
                "open": stage.passes,
                "why": sentence(stage),
                "until": rfc3339(stage.until_ms) if stage.until_ms is not None else None,
            }
            for stage in stages
        ],
    }


def _mistyped(first: StageReport, stages: Sequence[StageReport]) -> str:
    """That the match stops an id which no event has named, since it may be mistyped; else nothing."""
    trigger = next((stage for stage in stages if stage.stage == "trigger"), None)
    if first.stage != "match" or trigger is None or trigger.detail["is_known"]:
        return ""
    return f", and no event has ever named it{_near(trigger.detail)}"


def _near(detail: Detail) -> str:
    return f"; did you mean {detail['near']}?" if detail.get("near") else ""


def _of_trigger(detail: Detail, rule: str, nearest: Callable[[], str | None]) -> Object:
    """What the sentence of the trigger needs besides: the rule's name, and the id that may be meant instead of an unknown one."""
    return {**detail, "rule": rule} | ({} if detail["is_known"] else {"near": nearest()})


def sentence(stage: StageReport) -> str:
    """What a stage reports, as a sentence."""
    return SENTENCES[stage.stage](stage.passes, stage.detail)


def _rule(is_open: bool, detail: Detail) -> str:
    if not is_open:
        return f"the rule {detail['name']} was removed from the rule files: it only ends the alerts that it opened"
    shadow = "; it is a shadow rule: its deliveries are recorded and never sent" if detail["shadow"] else ""
    return f"the rule {detail['name']} is loaded{shadow}"


def _match(is_open: bool, detail: Detail) -> str:
    where = f" (last seen at {detail['ip']})" if detail["ip"] else ""
    return f"its match {'includes' if is_open else 'does not include'} {detail['client']}{where}"


def _trigger(is_open: bool, detail: Detail) -> str:
    triggers = " or ".join(detail["triggers"])
    if "quorum_key" in detail and (detail["is_known"] or detail["quorum_key"] is not None):
        return _quorum(is_open, detail)
    if "outage_key" in detail and (detail["is_known"] or "is_member" in detail):
        return _outage(is_open, detail)
    if not is_open and set(detail["triggers"]) <= _ABOUT_NO_KEY:
        return f"an alert of the trigger {triggers} is about no single client: `rollcall alerts list --rule {detail['rule']}` shows whether there is one"
    if not detail["is_known"] and not is_open:
        return f"the client is unknown: no event has ever named it{_near(detail)}; the trigger is {triggers}"
    since = f" since {rfc3339(detail['since_ms'])}" if detail["since_ms"] > 0 else ""
    hold = (
        f", observed {detail['observed']} and on hold since {rfc3339(detail['hold_since_ms'])}"
        if "hold_since_ms" in detail
        else ""
    )
    status = f"the client is {detail['status']}{since}{hold}"
    if not is_open:
        return f"{status}; the trigger {triggers} has not happened"
    if not detail["has_alert"]:
        return f"{status}; the trigger is {triggers}, but no alert is open: the client had this status before the rule existed, or its alert has ended"
    return f"{status}; the trigger {triggers} has happened"


def _quorum(is_open: bool, detail: Detail) -> str:
    if detail["quorum_key"] is None:
        return (
            "the client belongs to no key of this quorum: it lacks a value of `by`, or the inventory does not list it"
        )
    many = f"of {_key(detail['quorum_key'])} {detail['down']} of {detail['total']} clients are offline"
    if is_open:
        return f"{many}: the quorum of {detail['needed']} is reached"
    if detail["down"] >= detail["needed"]:
        return f"{many}, which is enough, but no alert is open: the rule is newer than that, or its condition was false; the next client that goes offline decides again"
    return f"{many}; the trigger quorum needs {detail['needed']}"


def _outage(is_open: bool, detail: Detail) -> str:
    if detail["outage_key"] is None:
        return "the client belongs to no key of this outage: it lacks a value of `by`"
    where = _key(detail["outage_key"])
    if is_open:
        where = f"there is an outage of {where}: {detail['down']} of {detail['total']} clients are offline"
        return f"{where}, this one among them" if detail["is_member"] else f"{where}; this client is not one of them"
    share = f" and {detail['percent']:g} % of those that are online or went with them" if detail["percent"] else ""
    return (
        f"of {where} {detail['down']} of {detail['total']} clients are offline; the trigger outage needs {detail['at_least']} that go offline "
        f"within {duration_text(detail['within_ms'])}{share}"
    )


def _for(is_open: bool, detail: Detail) -> str:
    if not detail["has_begun"]:
        return f"`for: {duration_text(detail['for_ms'])}` begins when the trigger happens"
    return f"`for: {duration_text(detail['for_ms'])}` {'is over' if is_open else 'is not over yet'}"


def _condition(is_open: bool, detail: Detail) -> str:
    return f"the condition is {'true' if is_open else 'false'}: {detail['text']}"


def _flapping(is_open: bool, detail: Detail) -> str:
    changes = len(detail["changes"])
    return "the client is not flapping" if is_open else f"the client is flapping: {changes} changes within the window"


def _mute(is_open: bool, _: Detail) -> str:
    return "not muted by a time interval" if is_open else "muted by a time interval (`active`, `mute`)"


def _silence(is_open: bool, detail: Detail) -> str:
    if is_open:
        return "no active silence matches the client and the rule"
    rules = f" for rule {', '.join(detail['rules'])}" if detail.get("rules") else ""
    return f"silenced{rules} by {detail['author']}: {detail['comment']} (silence {detail['id']})"


def _inhibited(is_open: bool, detail: Detail) -> str:
    if is_open:
        names = ", ".join(detail["inhibited_by"])
        return f"not inhibited{f' (an alert of {names} or an outage would inhibit it)' if names else ''}"
    if "quorum" in detail:
        return f"inhibited by {detail['rule']}, which fires for {_key(detail['key'])}: {detail['quorum']} of {detail['total']} clients are offline"
    if "equal" in detail:
        about = detail["client"] or _key(detail["key"])
        return f"inhibited: {detail['rule']} is firing for {about}, which has the same {_equal(detail['equal'])}"
    if "down" in detail:
        return f"inhibited by the outage of {detail['rule']} at {_key(detail['key'])}: {detail['down']} of {detail['total']} clients are offline"
    return f"inhibited: an alert of {detail['rule']} is firing for the client"


def _equal(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({value})" for name, value in values.items())


def _throttle(is_open: bool, detail: Detail) -> str:
    key = f" for {_key(detail['key'])}" if detail["key"] else ""
    room = "the throttle is not full" if is_open else "the throttle is full"
    return f"{room}: {detail['counted']} of {detail['max']} firings in {duration_text(detail['per_ms'])}{key}"


def _verify(is_open: bool, detail: Detail) -> str:
    said = {
        "": "the broker is queried when the alert is due",
        "agreed": "the broker confirmed the status",
        "failed": "the broker did not answer in time; the alert was sent unverified",
        "contradicted": "the broker contradicted the status: a false alarm was avoided",
        "held": "the broker did not answer, and `verify_failure: hold` waits for an answer",
        "asked": "waiting for the broker's answer",
    }.get(detail["verified"], detail["verified"])
    return f"verification: {said}" if is_open else f"suppressed by verification: {said}"


def _grouping(is_open: bool, detail: Detail) -> str:
    what = "was notified with its group" if is_open else "waits for the notification of its group"
    return f"it {what} {_key(detail['key'])}"


def _alert(is_open: bool, detail: Detail) -> str:
    if detail["state"] is None:
        return "no alert of this rule is open for the client"
    state = f"the alert {detail['id']} is {detail['state']}"
    if not is_open:
        unsent = "" if detail["notified"] else ", not notified yet"
        seen = ", acknowledged" if detail["acknowledged"] else ""
        return f"{state} since {rfc3339(detail['fired_at_ms'] or detail['started_at_ms'])}{unsent}{seen}{_steps(detail)}: it has fired already"
    return (
        f"{state}{' (' + detail['reason'] + ')' if detail['reason'] else ''} since {rfc3339(detail['started_at_ms'])}"
    )


def _steps(detail: Detail) -> str:
    """What its escalation has done, and does next."""
    if not detail.get("steps"):
        return ""
    sent = f", {detail['steps_sent']} of {detail['steps']} steps of its escalation sent"
    due_ms = detail.get("step_due_ms")
    return f"{sent}, the next one at {rfc3339(due_ms)}" if due_ms is not None else sent


def _key(text: str) -> str:
    values: Mapping[str, str] = json.loads(text) if text else {}
    return ", ".join(f"{name} {value}" for name, value in values.items()) or "all"


SENTENCES: Mapping[str, Callable[[bool, Detail], str]] = {
    "rule": _rule,
    "match": _match,
    "trigger": _trigger,
    "for": _for,
    "condition": _condition,
    "flapping": _flapping,
    "mute": _mute,
    "silence": _silence,
    "inhibited": _inhibited,
    "throttle": _throttle,
    "verify": _verify,
    "grouping": _grouping,
    "alert": _alert,
}
"""The sentence of each stage of `core.alerting.explain.WAY`, from (does it pass, its detail)."""
