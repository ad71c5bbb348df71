"""Why a rule has not fired for a client, in words: one sentence a gate. Read `told`, then `WORDS`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from engine.config.durations import format_duration
from engine.core.alerting.stages.base import StageReport
from engine.core.times import rfc3339

Object = dict[str, Any]
Detail = Mapping[str, Any]


def told(rule: str, client: str, gates: Sequence[StageReport], now_ms: int) -> Object:
    """All gates in the order in which they are passed; `stopped_by` is the first closed one, None when nothing stands in the way."""
    first = next((gate for gate in gates if not gate.passes), None)
    return {
        "rule": rule,
        "client": client,
        "at": rfc3339(now_ms),
        "stopped_by": first.stage if first is not None else None,
        "why": sentence(first) if first is not None else "nothing stands in the way: it fires when its trigger happens",
        "gates": [
            {
                "gate": gate.stage,
                "open": gate.passes,
                "why": sentence(gate),
                "until": rfc3339(gate.until_ms) if gate.until_ms is not None else None,
            }
            for gate in gates
        ],
    }


def sentence(gate: StageReport) -> str:
    """What a gate says."""
    return WORDS[gate.stage](gate.passes, gate.detail)


def _rule(is_open: bool, detail: Detail) -> str:
    if not is_open:
        return f"the rule {detail['name']} is gone from the files: it only ends what it began"
    shadow = "; it is a shadow rule: everything is recorded, nothing is sent" if detail["shadow"] else ""
    return f"the rule {detail['name']} is loaded{shadow}"


def _match(is_open: bool, detail: Detail) -> str:
    where = f" (last seen at {detail['ip']})" if detail["ip"] else ""
    return f"its match {'holds' if is_open else 'does not hold'} for {detail['client']}{where}"


def _trigger(is_open: bool, detail: Detail) -> str:
    triggers = " or ".join(detail["triggers"])
    if not detail["is_known"] and not is_open:
        return f"no event ever named the client; the trigger is {triggers}"
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
        return f"{status}; the trigger is {triggers}, but no alert is open: it was so before the rule was new, or its alert has ended"
    return f"{status}; the trigger {triggers} has happened"


def _for(is_open: bool, detail: Detail) -> str:
    return f"`for: {format_duration(detail['for_ms'])}` {'is over' if is_open else 'is not over yet'}"


def _condition(is_open: bool, detail: Detail) -> str:
    return f"the condition {'holds' if is_open else 'does not hold'}: {detail['text']}"


def _flapping(is_open: bool, detail: Detail) -> str:
    changes = len(detail["changes"])
    return "the client is not flapping" if is_open else f"the client is flapping: {changes} changes within the window"


def _mute(is_open: bool, _: Detail) -> str:
    return "its windows let it speak now" if is_open else "its windows (`active`, `mute`) keep it quiet now"


def _silence(is_open: bool, detail: Detail) -> str:
    if is_open:
        return "no silence covers the client"
    return f"silenced by {detail['author']}: {detail['comment']} (silence {detail['id']})"


def _inhibited(is_open: bool, detail: Detail) -> str:
    if is_open:
        names = ", ".join(detail["inhibited_by"])
        return f"nothing inhibits it{f' (it would be {names}, or an outage)' if names else ''}"
    if "down" in detail:
        return f"the outage of {detail['rule']} at {_key(detail['key'])} covers it: {detail['down']} of {detail['total']} are down"
    return f"an alert of {detail['rule']} is firing for the client"


def _throttle(is_open: bool, detail: Detail) -> str:
    key = f" for {_key(detail['key'])}" if detail["key"] else ""
    room = "there is room" if is_open else "there is no room"
    return f"{room}: {detail['counted']} of {detail['max']} firings in {format_duration(detail['per_ms'])}{key}"


def _verify(is_open: bool, detail: Detail) -> str:
    said = {
        "": "it is asked when the alert is due",
        "agreed": "the broker agrees",
        "failed": "nobody could say in time; sent unverified",
        "contradicted": "the broker says otherwise: a false alarm avoided",
        "held": "nobody can say, and `verify_failure: hold` waits",
        "asked": "an answer is waited for",
    }.get(detail["verified"], detail["verified"])
    return f"verification: {said}" if is_open else f"held by verification: {said}"


def _grouping(is_open: bool, detail: Detail) -> str:
    told_ = "was told with its group" if is_open else "waits to be told with its group"
    return f"it {told_} {_key(detail['key'])}"


def _alert(is_open: bool, detail: Detail) -> str:
    if detail["state"] is None:
        return "no alert of this rule is open for the client"
    state = f"the alert {detail['id']} is {detail['state']}"
    if not is_open:
        told_ = "" if detail["notified"] else ", not told yet"
        seen = ", acknowledged" if detail["acknowledged"] else ""
        return f"{state} since {rfc3339(detail['fired_at_ms'] or detail['started_at_ms'])}{told_}{seen}: it has fired already"
    return (
        f"{state}{' (' + detail['reason'] + ')' if detail['reason'] else ''} since {rfc3339(detail['started_at_ms'])}"
    )


def _key(text: str) -> str:
    values: Mapping[str, str] = json.loads(text) if text else {}
    return ", ".join(f"{name} {value}" for name, value in values.items()) or "all"


WORDS: Mapping[str, Callable[[bool, Detail], str]] = {
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
"""What each gate of `core.whynot.PATH` says: (is it open, its detail) -> a sentence."""
