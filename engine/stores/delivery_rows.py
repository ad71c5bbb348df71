"""Rows of an outbox as values and back, the same in every store: what a row holds may be damaged, and one never stops the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from engine.core import delivery
from engine.core.delivery import DEAD, Delivered, OutboxItem, Outcome, Standing
from engine.stores import attempts
from engine.stores.attempts import attempts_of
from engine.stores.rows import MAX_REQUEST_CHARACTERS, DeliveryRow, NewDelivery

TELLING = frozenset({"firing", "escalation"})
"""Phases whose deliveries tell somebody of an alert for the first time: a recovery shares their fate."""

SIBLINGS = 64
"""How far apart the deliveries of one decision may lie: more than the actions of any rule."""

MAX_ID = 2**63 - 1
"""The largest number that a store keeps."""


def check_state(state: str | None) -> None:
    """ValueError for a state of deliveries that does not exist; None, no filter, is fine."""
    if state is not None and state not in delivery.STATES:
        raise ValueError(f"there is no delivery state {state!r}; the states are {', '.join(delivery.STATES)}")


_request = msgspec.json.Decoder(dict[str, Any]).decode


def request_of(text: str | bytes) -> tuple[dict[str, Any], str | None]:
    """A stored request, and why it cannot be read: one row that is damaged must not stop the others."""
    try:
        return _request(text), None
    except (msgspec.MsgspecError, UnicodeError, RecursionError, TypeError) as error:
        return {}, f"the stored request cannot be read: {error}"


def people_of(request: Mapping[str, Any] | str) -> frozenset[str]:
    """The people that a request reaches, see `core.delivery.audience`; nobody in particular when it cannot be read."""
    found = request_of(request)[0] if isinstance(request, str) else request
    return delivery.audience(found.get("to"), found.get("cc"))


ItemRow = tuple[int, str, str, str, str, str, str, int, int, str, str]
"""id, key, rule, lane, action, target, request, attempts since it was renewed, decided or renewed at, phase, alert."""


def item_of_row(row: ItemRow) -> OutboxItem:
    """What the dispatcher sends, from its row; one whose request cannot be read is marked as broken."""
    (id_, key, rule, lane, action, target, request, attempts_made, decided_at, phase, alert) = row
    content, broken = request_of(request)
    return OutboxItem(
        id=id_,
        key=key,
        rule=rule,
        lane=lane,
        action=action,
        target=target,
        request=content,
        attempts=attempts_made,
        decided_at_ms=decided_at,
        phase=phase,
        alert=alert,
        broken=broken,
    )


def item_of_new(row: NewDelivery, id_: int) -> OutboxItem:
    """What the dispatcher sends, from a delivery that was just written under a number."""
    request, broken = request_of(row.request) if isinstance(row.request, str) else (row.request, None)
    return OutboxItem(
        id=id_,
        key=row.key,
        rule=row.rule,
        lane=row.lane,
        action=row.action,
        target=row.target,
        request=request,
        broken=broken,
        attempts=0,
        decided_at_ms=row.decided_at_ms,
        phase=row.phase,
        alert=row.alert,
    )


def delivery_of_row(row: Sequence[Any]) -> DeliveryRow:
    """A delivery as people see it, from its row in the order of the query `get`."""
    (id_, key, rule, client, group_key, clients, alert, action, target, state, attempts_made, due_at, error, lane, phase,
     decided_at, request, tries, renewed_at) = row  # fmt: skip
    return DeliveryRow(
        id=id_,
        key=key,
        rule=rule,
        client=client,
        group_key=group_key,
        clients=_clients(clients),
        alert=alert,
        action=action,
        target=target,
        state=state,
        attempts=attempts_made,
        due_at_ms=due_at,
        last_error=error,
        lane=lane,
        phase=phase,
        decided_at_ms=decided_at,
        request=request_of(request)[0],
        kept_attempts=attempts_of(tries),
        renewed_at_ms=renewed_at,
    )


def _clients(text: str | None) -> tuple[str, ...] | None:
    try:
        return None if text is None else tuple(msgspec.json.decode(text, type=list[str]))
    except msgspec.MsgspecError:
        return None


def standing_of(values: Sequence[Any], life_ms: object, made_before: int) -> Standing:
    """Where a delivery stands, from (state, attempts, due at, decided or renewed at, may have arrived, last error)."""
    state, made, due_at, decided_at, arrived, error = values
    return Standing(
        state=state,
        attempts=made,
        attempts_before=made_before,
        due_at_ms=due_at,
        decided_at_ms=decided_at,
        may_have_arrived=bool(arrived),
        last_error=error,
        life_ms=life_ms if isinstance(life_ms, int) and not isinstance(life_ms, bool) else None,
    )


def delivered_values(outcome: Outcome, answer: Delivered) -> tuple[int, int, str | None, str]:
    """Of one that arrived: its number, when, what the target said, and the attempt as JSON."""
    detail = delivery.kept_text(answer.detail, delivery.MAX_ERROR_CHARS) if answer.detail else None
    return outcome.id, outcome.attempted_at_ms, detail, attempts.one(outcome) or "[]"


def that_fits(row: NewDelivery) -> NewDelivery:
    """The delivery, or a dead one without its request when that is too big for a store."""
    if not isinstance(row.request, str) or len(row.request) <= MAX_REQUEST_CHARACTERS:
        return row
    error = f"the request has {len(row.request)} characters, more than the store keeps ({MAX_REQUEST_CHARACTERS})"
    return row._replace(state=DEAD, error=error, request="{}")
