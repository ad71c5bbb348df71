"""What a replay's lines show as drawings: the fleet's curve, and the timelines of the clients with most to show. Read `drawings_of`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final, NamedTuple

from engine.core.times import rfc3339
from engine.web.drawings.client_timeline import client_timeline
from engine.web.drawings.fleet_curve import fleet_curve
from engine.web.drawings.time_axis import SECOND, TimeAxis, instant_ms

Line = Mapping[str, Any]

MAX_TIMELINES: Final = 40
"""Clients whose timelines a page has."""

PLACES: Final = 400
"""Points of the fleet's curve."""

MAX_OUTAGES: Final = 100

STATUSES: Final = ("online", "offline", "unknown")


class Timeline(NamedTuple):
    """One client: its name, what there is of it in words, and its drawing."""

    client: str
    words: str
    drawing: str


class Drawings(NamedTuple):
    """The drawings of a page. `left_out`: how many more clients have had a transition or an alert."""

    curve: str | None
    timelines: Sequence[Timeline]
    left_out: int


def drawings_of(lines: Sequence[Line]) -> Drawings:
    """The drawings for the lines of a replay."""
    instants = [
        instant_ms(line["settled_at"] if line["type"] == "transition" else line["at"]) for line in _dated(lines)
    ]
    if not instants:
        return Drawings(None, (), 0)
    transitions = [line for line in lines if line["type"] == "transition"]
    began_ms = min(instants + [instant_ms(line["since"]) for line in transitions[:1000]])
    axis = TimeAxis(began_ms, max(max(instants), began_ms + SECOND))
    clients = _by_client(lines)
    alerts = alerts_of(lines)
    ranked = sorted(sorted(clients), key=lambda client: _weight(clients[client]), reverse=True)
    timelines = [
        _timeline(client, clients[client], alerts.get(client, []), axis, n)
        for n, client in enumerate(ranked[:MAX_TIMELINES])
    ]
    outages = [alert for alert in alerts.get(None, []) if alert["fired_at"] != alert["resolved_at"]]
    return Drawings(
        fleet_curve(curve_of(transitions, axis, outages[:MAX_OUTAGES])), timelines, max(0, len(ranked) - MAX_TIMELINES)
    )


def _dated(lines: Iterable[Line]) -> list[Line]:
    return [line for line in lines if line["type"] in ("transition", "alert", "delivery")]


def _by_client(lines: Iterable[Line]) -> dict[str, list[Line]]:
    """The lines about each client alone."""
    found: dict[str, list[Line]] = defaultdict(list)
    for line in _dated(lines):
        if line.get("client"):
            found[line["client"]].append(line)
    return found


def _weight(lines: Sequence[Line]) -> tuple[int, int]:
    """What makes a client worth looking at: what was sent about it, then everything else."""
    return sum(line["type"] == "delivery" for line in lines), len(lines)


def _timeline(client: str, lines: Sequence[Line], alerts: list[Line], axis: TimeAxis, number: int) -> Timeline:
    transitions = [line for line in lines if line["type"] == "transition"]
    deliveries = [line for line in lines if line["type"] == "delivery"]
    found = {
        "client": client,
        "from": rfc3339(axis.from_ms),
        "to": rfc3339(axis.to_ms),
        "complete_from": None,
        "statuses": _statuses(transitions, axis),
        "holds": [
            {"status": line["status"], "from": line["since"], "to": line["settled_at"], "settled": True}
            for line in transitions
            if line["since"] != line["settled_at"]
        ],
        "channels": [],
        "entries": [_settled(place, line) for place, line in enumerate(transitions)],
        "alerts": [alert for alert in alerts if alert["started_at"] != alert["resolved_at"]],
        "deliveries": [_sent(place, line) for place, line in enumerate(deliveries)],
    }
    words = f"{_count(transitions, 'transition')}, {_count(alerts, 'alert')}, {_count(deliveries, 'delivery', 'deliveries')}"
    return Timeline(client, words, client_timeline(found, name=f"client-{number}"))


def _count(things: Sequence[Any], one: str, many: str = "") -> str:
    return f"{len(things):,} {one if len(things) == 1 else many or one + 's'}"


def _settled(place: int, line: Line) -> Line:
    return {
        "position": place,
        "at": line["settled_at"],
        "kind": "settled",
        "status": line["status"],
        "previous": line["previous"],
    }


def _sent(place: int, line: Line) -> Line:
    target = line["request"].get("url") or line["request"].get("receiver") or line["action"]
    state = line.get("state", "delivered")
    return {
        "id": place,
        "rule": line["rule"],
        "target": target,
        "state": state,
        "phase": line["phase"],
        "decided_at": line["at"],
    }


def _statuses(transitions: Sequence[Line], axis: TimeAxis) -> list[Line]:
    """What a client was, as one span after another."""
    if not transitions:
        return []
    edges = [(axis.from_ms, transitions[0]["previous"])]
    edges += [(instant_ms(line["settled_at"]), line["status"]) for line in transitions]
    ends = [*(at_ms for at_ms, _ in edges[1:]), axis.to_ms]
    return [
        {"status": status, "from": rfc3339(start_ms), "to": rfc3339(end_ms)}
        for (start_ms, status), end_ms in zip(edges, ends, strict=True)
        if end_ms > start_ms
    ]


def alerts_of(lines: Iterable[Line]) -> dict[str | None, list[Line]]:
    """Lines put together to alerts: for each client (None: about no single one) its alerts, from when to when, oldest first.

    No line says that an alert which never fired has ended: it ends with the client's next transition.
    """
    found: dict[str | None, list[Line]] = defaultdict(list)
    open_: dict[str | None, dict[tuple[str, str], dict[str, Any]]] = defaultdict(dict)
    for number, line in enumerate(lines):
        of_client = open_[line.get("client")]
        if line["type"] == "transition":
            for key, alert in list(of_client.items()):
                if alert["fired_at"] is None:
                    alert["resolved_at"] = line["settled_at"]
                    del of_client[key]
        elif line["type"] == "alert":
            key = line["rule"], repr(line.get("key"))
            alert = of_client.get(key) or _begun(number, line)
            if key not in of_client:
                of_client[key] = alert
                found[line["client"]].append(alert)
            _take(alert, line)
            if alert["resolved_at"] is not None:
                del of_client[key]
    return found


def _begun(number: int, line: Line) -> dict[str, Any]:
    nothing = dict.fromkeys(("reason", "fired_at", "resolved_at", "acknowledged_by"))
    about = {"rule": line["rule"], "client": line["client"], "key": line.get("key")}
    return {"id": str(number), "state": line["state"], "started_at": line["at"]} | about | nothing


def _take(alert: dict[str, Any], line: Line) -> None:
    """The next line about an alert."""
    alert["state"], alert["reason"] = line["state"], line.get("reason")
    if line["state"] == "firing" and alert["fired_at"] is None:
        alert["fired_at"] = line["at"]
    if line["state"] == "resolved":
        alert["resolved_at"] = line["at"]


def curve_of(transitions: Sequence[Line], axis: TimeAxis, outages: Sequence[Line]) -> Line:
    """The fleet's curve from transitions, as the JSON object of `/v1/fleet/curve`."""
    step_s = max(1, -(-axis.length_ms // (SECOND * PLACES)))
    first = axis.from_ms // SECOND
    size = (axis.to_ms // SECOND - first) // step_s + 1
    changes = {status: Counter[int]() for status in (*STATUSES, "on_hold")}
    peaks, flaps, offline, settled = Counter[int](), Counter[int](), 0, Counter[int]()
    for line in sorted(transitions, key=lambda line: str(line["settled_at"])):
        place = (instant_ms(line["settled_at"]) // SECOND - first) // step_s
        changes[line["status"]][place] += 1
        if not line["first_seen"]:
            changes[line["previous"]][place] -= 1
            offline -= line["previous"] == "offline"
        offline += line["status"] == "offline"
        peaks[place] = max(peaks[place], offline)
        flaps[place] += line["flaps"]
        settled[place] += 1
        changes["on_hold"][max(0, (instant_ms(line["since"]) // SECOND - first) // step_s)] += 1
        changes["on_hold"][place] -= 1
    counts = {status: list(accumulate(change[place] for place in range(size))) for status, change in changes.items()}
    items = [
        {
            "at": rfc3339(max(axis.from_ms, (first + place * step_s) * SECOND)),
            **{status: counts[status][place] for status in counts},
            "offline_peak": max(counts["offline"][place], peaks[place]),
            "flaps": flaps[place],
            "transitions": settled[place],
        }
        for place in range(size)
    ]
    about = {"from": rfc3339(axis.from_ms), "to": rfc3339(axis.to_ms), "step": step_s, "group": None, "groups": []}
    return about | {"items": items, "outages": list(outages)}
