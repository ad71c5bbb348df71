"""The JSON objects of the HTTP interface and of `--format jsonl`, from states and rows. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from engine.core.addresses import address
from engine.core.alerting.silence_coverage import Covered
from engine.core.alerting.silences import Silence
from engine.core.foreign_text import visible_json
from engine.core.keys import key_values
from engine.core.presence.client_state import (
    FLAPPING,
    GRACEFUL,
    NEVER,
    NEW_CLIENT,
    STATUS_NAMES,
    ClientState,
    split_id,
)
from engine.core.presence.evidence import doubts
from engine.core.presence.query import StatusAnswer
from engine.core.rules import Rule
from engine.core.times import rfc3339
from engine.insights.quality import FeedQuality
from engine.sources.base import Gap, QueueHealth, SourceHealth
from engine.stores.base import (
    AlertRow,
    Attempt,
    CorrectionRow,
    DeliveryRow,
    QuarantineRow,
    ReconciliationRow,
    SourceRow,
)
from engine.web.service import CellState, PartState, TargetPause


def instant(value: int | None) -> str | None:
    """An instant in RFC 3339; None stays None."""
    return rfc3339(value) if value else None


def verified_at(verified_ms: int) -> str | None:
    """When a query last confirmed the status, in RFC 3339; None: never."""
    return instant(verified_ms) if verified_ms != NEVER else None


def client_object(
    client: str, state: ClientState, attributes: Mapping[str, str], skew_ms: int, verified_ms: int
) -> dict[str, Any]:
    """One client. `verified_ms`: when a query last confirmed its status, NEVER while it is unverified, see `Fleet.verified_ms`."""
    group, device = split_id(client)
    return {
        "client": client,
        "group": group,
        "device": device,
        "status": STATUS_NAMES[state.settled],
        "observed": STATUS_NAMES[state.observed],
        "since": instant(state.since_ms),
        "settled_at": instant(state.settled_at_ms),
        "graceful": bool(state.flags & GRACEFUL),
        "flaps": state.flaps,
        "flapping": bool(state.flags & FLAPPING),
        "doubtful": bool(doubts(state, skew_ms)),
        "verified_at": verified_at(verified_ms),
        "ip": address(state.ip),
        "attributes": dict(attributes),
    }


def status_object(client: str, state: ClientState, now_ms: int) -> dict[str, Any]:
    """What the engine believes about one client, as an answer to "is it online?"; `age` is in seconds."""
    believed_since_ms = state.settled_at_ms or state.since_ms or now_ms
    return {
        "client": client,
        "online": {"online": True, "offline": False}.get(STATUS_NAMES[state.settled]),
        "connections": None,
        "source": "belief",
        "asked_at": None,
        "age": max(0, now_ms - believed_since_ms) / 1000,
    }


def belief_object(client: str, state: ClientState | None, now_ms: int) -> dict[str, Any]:
    """The same for a client that may be unknown (None): its `online` and its `age` are null then."""
    if state is None:
        return status_object(client, NEW_CLIENT, now_ms) | {"age": None}
    return status_object(client, state, now_ms)


def answer_object(answer: StatusAnswer, now_ms: int) -> dict[str, Any]:
    """The answer of a query about one client, in the same form; `age`: seconds since the query."""
    return {
        "client": answer.client,
        "online": None if answer.connections is None else answer.connections > 0,
        "connections": answer.connections,
        "source": "query",
        "asked_at": rfc3339(answer.asked_at_ms),
        "age": max(0, now_ms - answer.asked_at_ms) / 1000,
    }


def reconciliation_object(row: ReconciliationRow) -> dict[str, Any]:
    """One sweep; its counters count clients whose answer is final."""
    return {
        "id": row.id,
        "started_at": instant(row.started_at_ms),
        "finished_at": instant(row.finished_at_ms),
        **row.tally._asdict(),
    }


def correction_object(row: CorrectionRow) -> dict[str, Any]:
    """One client whose status a query contradicted, and what its events had said."""
    return {
        "client": row.client,
        "at": instant(row.at_ms),
        "believed": row.believed,
        "connections": row.connections,
        "events": row.said,
    }


def seconds_since(instant_ms: int | None, now_ms: int) -> float | None:
    """Seconds since an instant; None stays None."""
    return max(0, now_ms - instant_ms) / 1000 if instant_ms else None


def queue_object(health: SourceHealth | QueueHealth, now_ms: int) -> dict[str, Any]:
    """One queue, or what a source has in common with a queue; `behind`: how many seconds it is behind the present."""
    return {
        "name": health.name,
        "connected": health.connected,
        "detail": health.detail,
        "caught_up_to": instant(health.caught_up_to_ms),
        "behind": seconds_since(health.caught_up_to_ms, now_ms),
        "last_event_at": instant(health.last_event_at_ms),
        "lag": health.lag,
    }


def health_object(health: SourceHealth, now_ms: int) -> dict[str, Any]:
    """One source, as far as it is known without reading the store."""
    return queue_object(health, now_ms) | {
        "type": health.type,
        "lag_unit": health.lag_unit,
        "trouble": health.trouble,
        "queues": [queue_object(queue, now_ms) for queue in health.queues],
    }


def source_object(health: SourceHealth, row: SourceRow, gaps: Iterable[Gap], now_ms: int) -> dict[str, Any]:
    """One source with its position and its gaps."""
    return health_object(health, now_ms) | {
        "last_event_at": instant(health.last_event_at_ms or row.last_event_at_ms),
        "position": row.position,
        "gaps": [gap_object(gap) for gap in gaps],
    }


def gap_object(gap: Gap) -> dict[str, Any]:
    """One gap: messages that were lost before they were read."""
    return {
        "noted_at": instant(gap.noted_at_ms),
        "from": instant(gap.from_ms),
        "to": instant(gap.to_ms),
        "reason": gap.reason,
    }


def rule_object(rule: Rule) -> dict[str, Any]:
    """One rule."""
    return {
        "name": rule.name,
        "triggers": list(rule.triggers),
        "severity": rule.severity,
        "description": rule.description,
        "shadow": rule.shadow,
        "file": rule.file,
        "line": rule.line,
    }


def alert_object(row: AlertRow) -> dict[str, Any]:
    """One alert."""
    return {
        "id": row.id,
        "rule": row.rule,
        "client": row.client,
        "key": _key_of(row),
        "state": row.state,
        "reason": row.reason,
        "started_at": instant(row.started_at_ms),
        "resolved_at": instant(row.resolved_at_ms),
        "acknowledged_by": row.acknowledged_by,
    }


def _key_of(row: AlertRow) -> dict[str, str] | None:
    if row.client is not None:
        return None
    return key_values(row.key) if row.key is not None else {"source": row.source or ""}


def silence_object(
    silence: Silence, now_ms: int, covered: Covered | None = None, warnings: Sequence[str] = ()
) -> dict[str, Any]:
    """One silence: planned, then active until it expires. `covered`: what it covers now; None when that was not counted."""
    match = silence.match
    fields = {"group": match.group, "device": match.device, "client": match.client, "ip": match.ip}
    state = "expired" if silence.until_ms <= now_ms else "active" if silence.is_on(now_ms) else "planned"
    covers = None if covered is None else {"clients": covered.clients, "alerts": covered.alerts}
    return {
        "id": silence.id,
        "state": state,
        "match": {name: list(patterns) for name, patterns in [*fields.items(), *match.attributes] if patterns},
        "rule": list(silence.rules),
        "author": silence.author,
        "comment": silence.comment,
        "from": rfc3339(silence.from_ms),
        "until": rfc3339(silence.until_ms),
        "covers": covers,
        "warnings": list(warnings),
    }


def quarantine_object(row: QuarantineRow) -> dict[str, Any]:
    """One event that was not accepted; bytes that are not UTF-8 are shown as escapes."""
    return {
        "id": row.id,
        "received_at": instant(row.received_at_ms),
        "source": row.source,
        "reason": row.reason,
        "raw": row.raw.decode("utf-8", "backslashreplace"),
    }


def delivery_object(row: DeliveryRow, pause: TargetPause | None = None) -> dict[str, Any]:
    """One delivery; `pause`: the open circuit breaker of its target."""
    return {
        "id": row.id,
        "key": row.key,
        "rule": row.rule,
        "client": row.client,
        "alert": row.alert,
        "action": row.action,
        "target": row.target,
        "state": row.state,
        "attempts": row.attempts,
        "due_at": instant(row.due_at_ms),
        "last_error": row.last_error,
        "paused": _pause_object(row, pause) if pause is not None and row.state == "due" else None,
    }


def _pause_object(row: DeliveryRow, pause: TargetPause) -> dict[str, Any]:
    """Why nothing is sent to the target of a delivery, and when the delivery can be sent at the earliest."""
    return {
        "reason": pause.reason,
        "since": instant(pause.since_ms),
        "next_try_at": instant(max(row.due_at_ms, pause.next_try_ms)),
        "being_tried": pause.is_probing,
    }


def attempt_object(attempt: Attempt) -> dict[str, Any]:
    """One attempt at a delivery; `duration` is in seconds, null when it was not measured."""
    duration_ms = attempt.duration_ms
    return {
        "at": instant(attempt.ended_at_ms - (duration_ms or 0)),
        "duration": None if duration_ms is None else duration_ms / 1000,
        "outcome": attempt.outcome,
        "answer": attempt.answer,
    }


def sent_object(row: DeliveryRow, pause: TargetPause | None) -> dict[str, Any]:
    """One delivery as the page of its alert shows it, with its attempts."""
    return delivery_object(row, pause) | {
        "phase": row.phase,
        "decided_at": instant(row.decided_at_ms),
        "kept_attempts": [attempt_object(one) for one in row.kept_attempts],
    }


def life_objects(alert: AlertRow, fired_at_ms: int | None, sent: Sequence[DeliveryRow]) -> list[dict[str, Any]]:
    """What is known to have happened to an alert, oldest first; deliveries of one notification are one step."""
    steps: dict[tuple[int, str], list[int]] = {(alert.started_at_ms, "started"): []}
    if fired_at_ms:
        steps[fired_at_ms, "fired"] = []
    for row in sent:
        steps.setdefault((row.decided_at_ms, row.phase), []).append(row.id)
    if alert.resolved_at_ms:
        steps[alert.resolved_at_ms, "resolved"] = []
    # What happens at one instant happens in the order above; the sorting keeps it.
    return [
        {"at": instant(at_ms), "what": what, "deliveries": numbers}
        for (at_ms, what), numbers in sorted(steps.items(), key=lambda step: step[0][0])
    ]


def quality_object(health: SourceHealth, gaps: int, found: FeedQuality, now_ms: int) -> dict[str, Any]:
    """What is known of the quality of one source's feed. Delays are in seconds."""
    return {
        "name": health.name,
        "connected": health.connected,
        "trouble": health.trouble,
        "behind": seconds_since(health.caught_up_to_ms, now_ms),
        "lag": health.lag,
        "lag_unit": health.lag_unit,
        "gaps": gaps,
        "sampled": found.sampled,
        "redelivered": found.redelivered,
        "late": found.late,
        "delay_p50": None if found.delay_p50_ms is None else found.delay_p50_ms / 1000,
        "delay_p99": None if found.delay_p99_ms is None else found.delay_p99_ms / 1000,
    }


def part_object(part: PartState) -> dict[str, Any]:
    """One part of the service; `reason`: why it does not work."""
    return {
        "name": part.name,
        "working": part.reason is None,
        "reason": part.reason,
        "since": instant(part.since_ms),
        "restarts": part.restarts,
    }


def cell_object(cell: CellState) -> dict[str, Any]:
    """One cell of a store that several replicas share; `reason`: why this replica is behind."""
    return {
        "cell": cell.name,
        "standing": cell.standing,
        "owner": cell.owner,
        "epoch": cell.epoch,
        "lag": round(cell.lag_s, 3),
        "reason": cell.reason,
    }


def as_json(found: Any) -> bytes:
    r"""A JSON object as text; what cannot be seen is written as `\u202e`: people read it too, with curl and in logs of proxies."""
    text = msgspec.json.encode(found)
    return text if text.isascii() else visible_json(text.decode()).encode()
