"""The timeline of one client on one time axis: what it was, what it was about to become, its connections and events, alerts, deliveries.

What is drawn comes as the JSON object of `Views.picture`. Times of events are the broker's; an event that arrived late has a tail up to
when it arrived, one that changed nothing (delivered again, superseded) is hollow. Read `client_timeline`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from markupsafe import Markup

from engine.web.drawings.merging import Cluster, merged_bars, merged_marks, packed
from engine.web.drawings.svg import (
    MAX_ROWS,
    Table,
    element,
    figure,
    joined,
    line,
    linked,
    mark,
    rect,
    short,
    table,
    text,
)
from engine.web.drawings.time_axis import AXIS_HEIGHT, Link, TimeAxis, instant_ms, moment, rounded, time_element

Object = Mapping[str, Any]

CHANNEL_ROWS: Final = 5
RULE_ROWS: Final = 6
"""Rows of connections, and of rules; what is beyond shares the last one."""

LATE_MS: Final = 2_000
"""An event that took longer to arrive is shown as late."""

WORDS_SHARE: Final = 0.3
"""A bar needs this part of the width to carry words on a narrow page; a third of it on a wide one."""

SHAPES: Final = {"connect": "tick", "disconnect": "ring", "tcpclean": "cross"}
SENT: Final = {"delivered": ("dot", "d-good"), "dead": ("cross", "d-bad"), "discarded": ("cross", "d-soft")}


class Links(NamedTuple):
    """Where marks lead; None: nowhere. `zoom` gives the page of another time."""

    alert: Callable[[Any], str] | None = None
    delivery: Callable[[Any], str] | None = None
    zoom: Link | None = None


NO_LINKS: Final = Links()


class _Lanes:
    """The picture as it grows from the top down."""

    def __init__(self, name: str, axis: TimeAxis) -> None:
        self.name, self.axis, self.y = name, axis, 4.0
        self.parts: list[Markup] = []

    def heading(self, words: str) -> None:
        self.parts.append(text(0, self.y + 11, words, "d-heading"))
        self.y += 17

    def bar(
        self,
        start: float,
        end: float,
        height: float,
        kind: str,
        label: str,
        target: str | None = None,
        offset: float = 0,
    ) -> None:
        drawn = rect(start, self.y + offset, max(end - start, 0.0015), height, kind)
        self.parts.append(linked(target, drawn, label))

    def mark(self, x: float, y: float, kind: str, shape: str, label: str, target: str | None) -> None:
        self.parts.append(linked(target, mark(x, self.y + y, kind, shape), label))


def client_timeline(
    found: Object, *, name: str = "timeline", links: Links = NO_LINKS, now_ms: int | None = None
) -> Markup:
    """The drawing of `found`, with a table that says the same. `name`: unique on the page. `now_ms`: the present, for links."""
    axis = TimeAxis(instant_ms(found["from"]), instant_ms(found["to"]))
    lanes = _Lanes(name, axis)
    _statuses(lanes, found)
    _channels(lanes, found)
    _alerts(lanes, found["alerts"], links)
    _deliveries(lanes, found["deliveries"], links)
    lanes.y += 2
    before = _not_drawn(lanes, found.get("complete_from"))
    drawn = [_patterns(name), axis.drawn(lanes.y, links.zoom), before, *lanes.parts]
    client = short(found["client"])
    return figure(
        name,
        "d-timeline",
        lanes.y + AXIS_HEIGHT,
        f"Timeline of {client}",
        _about(found, axis),
        drawn,
        element("figcaption", axis.caption()),
        axis.controls(links.zoom, axis.to_ms if now_ms is None else now_ms, "the timeline"),
        table(_table(found, name, links)),
        key=_key(found),
    )


def _patterns(name: str) -> Markup:
    """The hatching of holds. The elements are coloured by classes; a drawing refers to its own."""
    return element(
        "defs",
        *(
            element(
                "pattern",
                element("rect", width="6", height="6", class_="d-hatch-ground"),
                element("path", d="M-1 7L7-1M-1 1L1-1M5 7L7 5", class_=f"d-hatch d-to-{status}"),
                id=f"{name}-{status}",
                width="6",
                height="6",
                patternUnits="userSpaceOnUse",
            )
            for status in ("online", "offline", "unknown")
        ),
    )


def _statuses(lanes: _Lanes, found: Object) -> None:
    axis = lanes.axis
    lanes.heading("status")
    bars = [(axis.x(instant_ms(one["from"])), axis.x(instant_ms(one["to"])), one) for one in found["statuses"]]
    holds = [(axis.x(instant_ms(one["from"])), axis.x(instant_ms(one["to"])), one) for one in found["holds"]]
    for cluster in merged_bars(bars):
        words = _span_words(cluster, lambda one: f"{one['status']}")
        kinds = {one["status"] for one in cluster.members}
        lanes.bar(cluster.start, cluster.end, 16, f"d-status d-{kinds.pop() if len(kinds) == 1 else 'mixed'}", words)
        if len(cluster.members) == 1 and cluster.end - cluster.start >= WORDS_SHARE / 3:
            clear = min((start for start, _, _ in holds if start > cluster.start), default=1.0)
            room = Cluster(cluster.start, min(cluster.end, clear), cluster.members)
            _words_in(lanes, room, cluster.members[0]["status"], 12, f"d-in d-in-{cluster.members[0]['status']}")
    for held in merged_bars(holds):
        one = held.members[0]
        kind = f"d-hold d-hold-{one['status']}"
        words = _span_words(
            held, lambda one: f"observed {one['status']}, on hold" + ("" if one["settled"] else ", not settled")
        )
        fill = rect(
            held.start, lanes.y, max(held.end - held.start, 0.003), 16, kind, fill=f"url(#{lanes.name}-{one['status']})"
        )
        lanes.parts.append(linked(None, fill, words))
    lanes.y += 24


def _span_words(cluster: Cluster[Any], words: Callable[[Any], str]) -> str:
    first, last = cluster.members[0], cluster.members[-1]
    start_ms, end_ms = instant_ms(first["from"]), instant_ms(last["to"])
    span = f"{moment(start_ms)} to {moment(end_ms)}, {rounded(end_ms - start_ms)}"
    if len(cluster.members) == 1:
        return f"{words(first)}: {span}"
    return f"{len(cluster.members)} changes, the last to {words(last)}: {span}"


def _words_in(lanes: _Lanes, cluster: Cluster[Any], words: str, y: float, kind: str) -> None:
    width = cluster.end - cluster.start
    if width >= WORDS_SHARE / 3:
        wide = "" if width >= WORDS_SHARE else " d-wide"
        lanes.parts.append(
            element("text", words, x=f"{100 * cluster.start:.2f}%", dx="5", y=f"{lanes.y + y:g}", class_=kind + wide)
        )


def _channels(lanes: _Lanes, found: Object) -> None:
    """Connections as bars from the broker's time of the connect to that of the close, and the events on them."""
    axis = lanes.axis
    events = [entry for entry in found["entries"] if entry["kind"] == "event"]
    answers = [entry for entry in found["entries"] if entry["kind"] == "answered"]
    if not found["channels"] and not events and not answers:
        return
    lanes.heading("connections and events")
    rows = packed([_bar_of(axis, one) for one in found["channels"]], CHANNEL_ROWS, 0.004)
    place: dict[str, int] = {}
    for number, row in enumerate(rows):
        place |= {one["channel"]: number for _, _, one in row}
        for cluster in merged_bars(row):
            one = cluster.members[0]
            kind = f"d-channel d-end-{one['end']}" if len(cluster.members) == 1 else "d-channel d-end-closed"
            lanes.bar(cluster.start, cluster.end, 6, kind, _channel_words(cluster), offset=22 * number + 13)
            if len(cluster.members) == 1:
                ip = f" {one['ip']}" if one["ip"] else ""
                _words_in(lanes, cluster, f"{short(one['channel'], 8)}{short(ip, 20)}", 22 * number + 9, "d-label")
    last = max(0, len(rows) - 1)
    _events(lanes, events, place, last)
    lanes.y += 22 * (last + 1) + 8
    for answer in merged_marks(answers, lambda entry: axis.x(instant_ms(entry["at"]))):
        entry = answer.members[-1]
        words = (
            f"the broker was asked at {moment(instant_ms(entry['asked_at']))}: {_connections(entry)}; {entry['why']}"
        )
        lanes.mark(
            answer.middle, -4, "d-answer" if entry["used"] else "d-answer d-unused", "bar", words + _more(answer), None
        )


def _bar_of(axis: TimeAxis, one: Object) -> tuple[float, float, Object]:
    start_ms = instant_ms(one["from"]) if one["from"] is not None else axis.from_ms
    return axis.x(start_ms), axis.x(max(start_ms, instant_ms(one["until"]))), one


def _channel_words(cluster: Cluster[Any]) -> str:
    one = cluster.members[0]
    if len(cluster.members) > 1:
        return f"{len(cluster.members)} short connections"
    began = f"connected {moment(instant_ms(one['from']))}" if one["from"] is not None else "connected before that"
    ends = {
        "closed": f"closed {moment(instant_ms(one['until']))}",
        "live": "live",
        "lost": "its close was never seen",
    }
    return (
        f"channel {short(one['channel'])} from {short(one['ip'] or 'an unknown address')}: {began}, {ends[one['end']]}"
    )


def _events(lanes: _Lanes, events: Sequence[Object], place: Mapping[str, int], last: int) -> None:
    axis = lanes.axis
    groups: dict[tuple[int, str, bool, bool], list[Object]] = {}
    for entry in events:
        row = place.get(entry["channel"], last)
        groups.setdefault((row, entry["type"], entry["used"], late_by_ms(entry) > LATE_MS), []).append(entry)
    for (row, kind, used, is_late), some in groups.items():
        for cluster in merged_marks(some, lambda entry: axis.x(instant_ms(entry["time"]))):
            entry = cluster.members[-1]
            y = 22 * row + 16
            if is_late:
                arrived = axis.x(max(instant_ms(one["at"]) for one in cluster.members))
                tail = line(cluster.start, lanes.y + y, arrived, lanes.y + y, "d-late")
                lanes.parts += [tail, mark(arrived, lanes.y + y, "d-arrived", "tick")]
            state = f"d-event d-{kind}" + ("" if used else " d-unused") + (" d-is-late" if is_late else "")
            target = f"#{lanes.name}-{entry['position']}"
            lanes.mark(cluster.middle, y, state, SHAPES[kind], event_words(entry) + _more(cluster), target)


def late_by_ms(entry: Object) -> int:
    """How long an event took from the broker's time of it until it was received."""
    return instant_ms(entry["at"]) - instant_ms(entry["time"])


def event_words(entry: Object) -> str:
    """One event as a sentence."""
    late_ms = late_by_ms(entry)
    late = f", received {rounded(late_ms)} later" if late_ms > LATE_MS else ""
    used = "" if entry["used"] else f"; not used: {entry['why']}"
    return f"{entry['type']} of channel {short(entry['channel'])} at {moment(instant_ms(entry['time']))}{late}{used}"


def _more(cluster: Cluster[Any]) -> str:
    others = len(cluster.members) - 1
    return f" (and {others:,} more like it close by)" if others else ""


def _connections(entry: Object) -> str:
    count = entry["connections"]
    return "no usable answer" if count is None else f"{count} connection{'' if count == 1 else 's'}"


def _alerts(lanes: _Lanes, alerts: Sequence[Object], links: Links) -> None:
    """A row for each rule: thin while it was pending, full while it fired, hatched while a stage stopped it."""
    if not alerts:
        return
    axis = lanes.axis
    rules = sorted({alert["rule"] for alert in alerts}, key=lambda rule: -sum(one["rule"] == rule for one in alerts))
    rows: list[tuple[str, list[Object]]] = [(rule, []) for rule in rules[:RULE_ROWS]]
    if len(rules) > RULE_ROWS:
        rows[-1] = (f"{len(rules) - RULE_ROWS + 1} more rules", [])
    for alert in alerts:
        rows[min(rules.index(alert["rule"]), len(rows) - 1)][1].append(alert)
    for rule, some in rows:
        lanes.heading(f"alert: {short(rule)}")
        for cluster in merged_bars([_alert_bar(axis, alert) for alert in some]):
            _one_alert(lanes, cluster, links)
        lanes.y += 14


def _alert_bar(axis: TimeAxis, alert: Object) -> tuple[float, float, Object]:
    end = axis.to_ms if alert["resolved_at"] is None else instant_ms(alert["resolved_at"])
    return axis.x(instant_ms(alert["started_at"])), axis.x(end), alert


def _one_alert(lanes: _Lanes, cluster: Cluster[Any], links: Links) -> None:
    alert = cluster.members[0]
    target = links.alert(alert["id"]) if links.alert is not None else None
    words = (
        alert_words(alert) if len(cluster.members) == 1 else f"{len(cluster.members)} alerts of {short(alert['rule'])}"
    )
    fired = lanes.axis.x(instant_ms(alert["fired_at"])) if alert["fired_at"] is not None else None
    if len(cluster.members) > 1:
        lanes.bar(cluster.start, cluster.end, 8, "d-alert d-firing", words, target)
    elif fired is None:
        state = "d-suppressed" if alert["state"] == "suppressed" or alert["reason"] else "d-pending"
        lanes.bar(cluster.start, cluster.end, 8, f"d-alert {state}", words, target)
        width = cluster.end - cluster.start
        if alert["reason"] and width >= WORDS_SHARE / 3:
            kind = "d-label" if width >= WORDS_SHARE / 2 else "d-label d-wide"
            lanes.parts.append(text(cluster.end, lanes.y - 4, short(alert["reason"], 12), kind, "end"))
    else:
        lanes.bar(cluster.start, max(cluster.start, fired), 2, "d-alert d-pending", words, target, offset=3)
        lanes.bar(fired, cluster.end, 8, "d-alert d-firing", words, target)


def alert_words(alert: Object) -> str:
    """One alert as a sentence."""
    began = f"began {moment(instant_ms(alert['started_at']))}"
    fired = f", fired {moment(instant_ms(alert['fired_at']))}" if alert["fired_at"] else ""
    reason = f" ({alert['reason']})" if alert["reason"] else ""
    end = (
        f", resolved {moment(instant_ms(alert['resolved_at']))}"
        if alert["resolved_at"]
        else f", {alert['state']}{reason}"
    )
    return f"{short(alert['rule'])}: {began}{fired}{end}"


def _deliveries(lanes: _Lanes, deliveries: Sequence[Object], links: Links) -> None:
    if not deliveries:
        return
    axis = lanes.axis
    lanes.heading("deliveries")
    states: dict[str, list[Object]] = {}
    for one in reversed(deliveries):
        states.setdefault(one["state"], []).append(one)
    for state, some in states.items():
        shape, kind = SENT.get(state, ("ring", "d-soft"))
        for cluster in merged_marks(some, lambda one: axis.x(instant_ms(one["decided_at"]))):
            one = cluster.members[-1]
            target = links.delivery(one["id"]) if links.delivery is not None else None
            lanes.mark(cluster.middle, 5, f"d-delivery {kind}", shape, delivery_words(one) + _more(cluster), target)
    lanes.y += 14


def delivery_words(one: Object) -> str:
    """One delivery as a sentence."""
    return f"{one['phase']} of {short(one['rule'])} to {short(one['target'], 60)} at {moment(instant_ms(one['decided_at']))}: {one['state']}"


def _not_drawn(lanes: _Lanes, complete_from: str | None) -> Markup:
    if complete_from is None:
        return Markup("")
    x = lanes.axis.x(instant_ms(complete_from))
    return joined(
        [
            rect(0, 0, x, lanes.y, "d-nothing"),
            text(x, 11, "older entries are not drawn", "d-label", "end" if x > 0.5 else "start"),
        ]
    )


def _about(found: Object, axis: TimeAxis) -> str:
    """The drawing in a few sentences."""
    events = [entry for entry in found["entries"] if entry["kind"] == "event"]
    unused = sum(not entry["used"] for entry in events)
    late = sum(late_by_ms(entry) > LATE_MS for entry in events)
    last = found["statuses"][-1]["status"] if found["statuses"] else "not known"
    return (
        f"From {moment(axis.from_ms)} to {moment(axis.to_ms)}. The status at the end is {last}."
        f" {len(found['channels'])} connections; {len(events)} events, {unused} of them not used and {late} late;"
        f" {len(found['holds'])} holds, {len(found['alerts'])} alerts, {len(found['deliveries'])} deliveries."
    )


def _key(found: Object) -> Markup:
    """What the signs mean: only those that are drawn."""
    events = [entry for entry in found["entries"] if entry["kind"] == "event"]
    shown = [("d-status d-online", "online"), ("d-status d-offline", "offline")]
    shown += [("d-status d-unknown", "unknown")] if any(one["status"] == "unknown" for one in found["statuses"]) else []
    shown += [("d-hold-key", "on hold")] if found["holds"] else []
    signs = [(kind, SHAPES[kind], kind) for kind in SHAPES if any(entry["type"] == kind for entry in events)]
    signs += [("unused", "dot", "not used")] if any(not entry["used"] for entry in events) else []
    signs += [("arrived", "tick", "arrived late")] if any(late_by_ms(entry) > LATE_MS for entry in events) else []
    signs += (
        [("answer", "bar", "answer of the broker")] if any(e["kind"] == "answered" for e in found["entries"]) else []
    )
    items = [
        element(
            "li",
            element(
                "svg",
                element("rect", width="16", height="10", class_=kind),
                width="16",
                height="10",
                aria_hidden="true",
            ),
            " ",
            words,
        )
        for kind, words in shown
    ]
    items += [
        element(
            "li",
            element("svg", mark(0.5, 6, f"d-event d-{kind}", shape), width="12", height="12", aria_hidden="true"),
            " ",
            words,
        )
        for kind, shape, words in signs
    ]
    return element("ul", *items, class_="d-key")


def _table(found: Object, name: str, links: Links) -> Table:
    """The same as text, newest first."""
    rows: list[tuple[int, Callable[[Any], tuple[str | Markup, str, str | Markup]], Any]] = []
    rows += [(instant_ms(entry["at"]), partial(_entry_row, name), entry) for entry in found["entries"]]
    rows += [(instant_ms(alert["started_at"]), partial(_alert_row, links), alert) for alert in found["alerts"]]
    rows += [(instant_ms(one["decided_at"]), partial(_delivery_row, links), one) for one in found["deliveries"]]
    rows.sort(key=lambda row: -row[0])
    cells = [row(thing) for _, row, thing in rows[:MAX_ROWS]]
    return Table("What happened, newest first", ("time", "what", "more"), cells, len(rows))


def _alert_row(links: Links, alert: Object) -> tuple[Markup, str, str | Markup]:
    words = alert_words(alert)
    shown = words if links.alert is None else element("a", words, href=links.alert(alert["id"]))
    return time_element(instant_ms(alert["started_at"])), "alert", shown


def _delivery_row(links: Links, one: Object) -> tuple[Markup, str, str | Markup]:
    words = delivery_words(one)
    shown = words if links.delivery is None else element("a", words, href=links.delivery(one["id"]))
    return time_element(instant_ms(one["decided_at"])), "delivery", shown


def _entry_row(name: str, entry: Object) -> tuple[Markup, str, str]:
    place = element("span", time_element(instant_ms(entry["at"])), id=f"{name}-{entry['position']}")
    if entry["kind"] == "event":
        return place, entry["type"], event_words(entry)
    if entry["kind"] == "settled":
        previous = f", was {entry['previous']}" if entry["previous"] else ""
        return place, "settled", f"{entry['status'] or 'unknown'}{previous}"
    more = str(entry.get("why") or "")
    return place, str(entry["kind"]), f"{_connections(entry)}: {more}" if entry["kind"] == "answered" else more
