"""What the drawings about the whole fleet show, as JSON objects: its curve, how long verdicts took, how an outage went.

Pure but for the store, which is asked through a `Reader`. Every answer is bounded: a longer time comes in longer steps. Read
`fleet_curve`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from engine.core.fleet_count import percentile_ms
from engine.core.presence.client_state import OFFLINE, ONLINE, STATUS_NAMES
from engine.core.times import rfc3339
from engine.errors import BadQuestion, NotThere
from engine.stores.base import CurvePoint, LatencyCount, Reader
from engine.web import serializers

Object = dict[str, Any]

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000

STEPS_MS = (MINUTE_MS, 5 * MINUTE_MS, 10 * MINUTE_MS, HOUR_MS, 6 * HOUR_MS, DAY_MS, 7 * DAY_MS)
"""How far apart points may lie."""

MAX_POINTS = 1_500
"""Points of one curve."""

MAX_LATENCY_POINTS = 200
"""Steps in which durations of verdicts are told."""

MAX_LATENCY_ROWS = 50_000
MAX_PROGRESS_POINTS = 5_000
MAX_OUTAGES = 100
"""Outages that are named beside a curve; of more, the newest."""

DEFAULT_RANGE_MS = DAY_MS

SLOWEST, MEDIAN = 0.99, 0.5


class Range(NamedTuple):
    """From an instant to another (epoch ms), and how far apart points lie."""

    from_ms: int
    to_ms: int
    step_ms: int


def range_of(from_ms: int | None, to_ms: int | None, now_ms: int, most: int = MAX_POINTS) -> Range:
    """The time that is asked for: by default the last 24 hours. BadQuestion when it ends before it begins, or is too long.

    `most`: points at most; the step is the shortest that needs no more.
    """
    to_ms = now_ms if to_ms is None else to_ms
    from_ms = max(0, to_ms - DEFAULT_RANGE_MS) if from_ms is None else from_ms
    if not 0 <= from_ms < to_ms:
        raise BadQuestion("`from` must be an instant before `to`, both in epoch milliseconds")
    for step_ms in STEPS_MS:
        if (to_ms - from_ms) // step_ms < most:
            return Range(from_ms, to_ms, step_ms)
    raise BadQuestion(f"from `from` to `to` is too long: at most {most * STEPS_MS[-1] // DAY_MS} days")


def fleet_curve(reader: Reader, wanted: Range, group: str | None = None) -> Object:
    """How many clients were online, offline, unknown and on hold, in steps; the outages of that time; the groups there are.

    `group`: of one MQTT group; None: the whole fleet.
    """
    from_ms, to_ms, step_ms = wanted
    groups = reader.curve_groups()
    points = reader.fleet_curve(group or "", from_ms // step_ms * step_ms, to_ms, step_ms, limit=MAX_POINTS + 1)
    outages = reader.outages(from_ms, to_ms, limit=MAX_OUTAGES)
    return _about(wanted) | {
        "group": group,
        "groups": groups,
        "items": [_point(point) for point in points],
        "outages": [serializers.alert_object(row) for row in outages],
    }


def _about(wanted: Range) -> Object:
    return {"from": rfc3339(wanted.from_ms), "to": rfc3339(wanted.to_ms), "step": wanted.step_ms // 1000}


def _point(point: CurvePoint) -> Object:
    return {
        "at": rfc3339(point.at_ms),
        "online": point.online,
        "offline": point.offline,
        "unknown": point.unknown,
        "on_hold": point.on_hold,
        "offline_peak": point.peak,
        "flaps": point.flaps,
        "transitions": point.transitions,
    }


def verdict_latency(reader: Reader, wanted: Range) -> Object:
    """How many seconds verdicts took, from the broker's time of the event to the settled status, by status and in steps.

    A client that settled twice between two counts is counted once, with its last verdict.
    """
    from_ms, to_ms, step_ms = wanted
    found = reader.verdict_latency(from_ms // step_ms * step_ms, to_ms, step_ms, limit=MAX_LATENCY_ROWS)
    steps: dict[int, dict[int, list[LatencyCount]]] = defaultdict(lambda: defaultdict(list))
    for one in found:
        steps[one.at_ms][one.status].append(one)
    items = [
        {"at": rfc3339(at_ms)} | {STATUS_NAMES[status]: _durations(by_status[status]) for status in (OFFLINE, ONLINE)}
        for at_ms, by_status in steps.items()
    ]
    return _about(wanted) | {
        "items": items,
        **{
            STATUS_NAMES[status]: _durations([one for one in found if one.status == status])
            for status in (OFFLINE, ONLINE)
        },
    }


def _durations(counts: Sequence[LatencyCount]) -> Object:
    buckets: dict[int, int] = defaultdict(int)
    for one in counts:
        buckets[one.bucket] += one.verdicts
    return {
        "verdicts": sum(buckets.values()),
        "p50": _seconds(percentile_ms(buckets.items(), MEDIAN)),
        "p99": _seconds(percentile_ms(buckets.items(), SLOWEST)),
    }


def _seconds(duration_ms: int | None) -> float | None:
    return None if duration_ms is None else duration_ms / 1000


def outage_progress(reader: Reader, alert: str, now_ms: int) -> Object:
    """How an outage went: how many clients had joined it and how many were back. NotThere when the alert is none, or none of an outage."""
    row = reader.alert(alert)
    points = reader.outage_progress(alert, limit=MAX_PROGRESS_POINTS)
    if row is None or not points:
        raise NotThere(f"there is no outage {alert[:60]!r}, or nothing was counted of it")
    return {
        "alert": serializers.alert_object(row),
        "to": rfc3339(row.resolved_at_ms or now_ms),
        "items": [{"at": rfc3339(at_ms), "total": joined, "back": back} for at_ms, joined, back in points],
    }
