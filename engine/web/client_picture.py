"""What the drawing of a client's timeline shows, as a JSON object: statuses, holds, channels, events, alerts and deliveries of a time.

The history is read backwards from the newest entry, so a time that lies far back in a busy client's history may be out of reach: the
answer says from when on it is complete. Read `client_picture`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from engine.core.addresses import address
from engine.core.events import CONNECT, DISCONNECT, TCPCLEAN
from engine.core.presence.client_state import STATUS_NAMES, ClientState
from engine.core.presence.debounce import Policy
from engine.core.times import rfc3339
from engine.stores.base import AlertRow, DeliveryRow, HistoryEntry, Reader
from engine.web import serializers
from engine.web.history import Step, retrace, step_object
from engine.web.service import Codec

Object = dict[str, Any]

LOOK_BACK = 64
"""Entries before the time that are read as well, so that its first entries are applied to a known state."""

MAX_ENTRIES = 5_000
"""Entries of a client's history that one drawing reads."""

MAX_ALERTS = 500
MAX_DELIVERIES = 500
MAX_LIVES = 100
"""Alerts of which it is asked when they fired: one question each."""


def client_picture(
    reader: Reader, client: str, state: ClientState, policy: Policy, codec: Codec, from_ms: int, to_ms: int
) -> Object:
    """What happened to a client, whose present state is given, between two instants.

    `complete_from`: what was before this instant is not in it; null: nothing is missing.
    """
    entries = _entries(reader.history(state.last), from_ms)
    is_whole = not entries or entries[-1].previous == 0
    steps = list(retrace(reversed(entries), codec.decode, policy, client))
    shown = [step for step in steps if from_ms <= step.entry.at_ms <= to_ms]
    skew_ms, words = policy.clock_skew_ms, codec.why
    begins_late = bool(entries) and not is_whole and entries[-1].at_ms > from_ms
    return {
        "client": client,
        "from": rfc3339(from_ms),
        "to": rfc3339(to_ms),
        "complete_from": rfc3339(entries[-1].at_ms) if begins_late else None,
        "statuses": list(_statuses(steps, from_ms, to_ms)),
        "holds": list(_holds(steps, from_ms, to_ms)),
        "channels": _channels(steps, state, skew_ms, from_ms, to_ms),
        "entries": [step_object(step, skew_ms, words, from_the_start=is_whole) for step in shown],
        "alerts": [
            serializers.alert_object(row) | {"fired_at": _fired_at(reader, row) if place < MAX_LIVES else None}
            for place, row in enumerate(reader.alerts(client=client, limit=MAX_ALERTS))
            if row.started_at_ms <= to_ms and (row.resolved_at_ms is None or row.resolved_at_ms >= from_ms)
        ],
        "deliveries": [
            delivery_mark(row)
            for row in reader.deliveries(client=client, limit=MAX_DELIVERIES)
            if from_ms <= row.decided_at_ms <= to_ms
        ],
    }


def _fired_at(reader: Reader, row: AlertRow) -> str | None:
    life = reader.alert_life(row.id)
    return serializers.instant(life.fired_at_ms) if life is not None else None


def delivery_mark(row: DeliveryRow) -> Object:
    """A delivery with when it was decided."""
    return serializers.delivery_object(row) | {"phase": row.phase, "decided_at": serializers.instant(row.decided_at_ms)}


def _entries(history: Iterable[HistoryEntry], from_ms: int) -> list[HistoryEntry]:
    """Entries back to an instant and some before it, so that the first ones are applied to a known state; newest first."""
    found: list[HistoryEntry] = []
    before = 0
    for entry in islice(history, MAX_ENTRIES):
        found.append(entry)
        before += entry.at_ms < from_ms
        if before > LOOK_BACK:
            break
    return found


def _statuses(steps: Sequence[Step], from_ms: int, to_ms: int) -> Iterator[Object]:
    """The settled status over the time, as one span after another."""
    spans: list[tuple[int, int]] = []  # since when, which
    for step in steps:
        if not spans or step.after.settled != spans[-1][1]:
            spans.append((step.entry.at_ms, step.after.settled))
    for place, (since_ms, status) in enumerate(spans):
        until_ms = spans[place + 1][0] if place + 1 < len(spans) else to_ms
        if until_ms >= from_ms and since_ms <= to_ms and until_ms > since_ms:
            yield _span(since_ms, until_ms, from_ms, to_ms) | {"status": STATUS_NAMES[status]}


def _holds(steps: Sequence[Step], from_ms: int, to_ms: int) -> Iterator[Object]:
    """Changes of the observed status that had not settled yet: until they settled or reverted."""
    since_ms, observed = 0, 0
    is_on = False
    for step in steps:
        after = step.after
        if is_on and (not after.on_hold or after.observed != observed):
            is_on = False
            if step.entry.at_ms >= from_ms and since_ms <= to_ms and step.entry.at_ms > since_ms:
                yield _span(since_ms, step.entry.at_ms, from_ms, to_ms) | {
                    "status": STATUS_NAMES[observed],
                    "settled": after.settled == observed,
                }
        if after.on_hold and not is_on:
            is_on, since_ms, observed = True, after.hold_since_ms, after.observed
    if is_on and since_ms <= to_ms:
        yield _span(since_ms, to_ms, from_ms, to_ms) | {"status": STATUS_NAMES[observed], "settled": False}


def _span(since_ms: int, until_ms: int, from_ms: int, to_ms: int) -> Object:
    return {"from": rfc3339(max(since_ms, from_ms)), "to": rfc3339(min(until_ms, to_ms))}


def _channels(steps: Sequence[Step], state: ClientState, skew_ms: int, from_ms: int, to_ms: int) -> list[Object]:
    """Connections with when each began and ended, by the broker's time. Without an end: it is live, or its close was lost."""
    newest_ms = max((channel.connect_ms for channel in state.channels), default=0)
    found: dict[str, Object] = {}
    for step in steps:
        if step.event is None:
            continue
        _, kind, at_ms, channel, ip = step.event
        one = found.setdefault(
            channel, {"channel": channel, "ip": "", "from_ms": None, "to_ms": None, "goodbye_ms": None}
        )
        if kind == CONNECT:
            one["from_ms"], one["ip"] = at_ms, ip
        elif kind == TCPCLEAN:
            one["to_ms"] = max(at_ms, one["to_ms"] or 0)
        elif kind == DISCONNECT:
            one["goodbye_ms"] = at_ms
    in_order = sorted(found.values(), key=lambda one: one["from_ms"] or 0)
    shown = []
    for place, one in enumerate(in_order):
        later = next((other["from_ms"] for other in in_order[place + 1 :] if other["from_ms"]), None)
        is_live = one["to_ms"] is None and (one["from_ms"] or 0) >= newest_ms - skew_ms
        ends_ms = one["to_ms"] or (to_ms if is_live or later is None else later)
        if ends_ms < from_ms or (one["from_ms"] or 0) > to_ms:
            continue
        shown.append(
            {
                "channel": one["channel"],
                "ip": address(one["ip"]),
                "from": serializers.instant(one["from_ms"]),
                "disconnected_at": serializers.instant(one["goodbye_ms"]),
                "to": serializers.instant(one["to_ms"]),
                "until": rfc3339(ends_ms),
                "end": "closed" if one["to_ms"] is not None else "live" if is_live else "lost",
            }
        )
    return shown
