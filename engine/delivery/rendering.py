"""A planned delivery becomes the row that the outbox keeps and every attempt sends. Read `render_row`."""

from __future__ import annotations

import json
from collections.abc import Callable

from engine.core.alerting.planned_delivery import PlannedDelivery
from engine.core.delivery import DEAD
from engine.delivery.dead_log import DeadDeliveryLog
from engine.stores.base import MAX_REQUEST_CHARACTERS, NewDelivery
from engine.telemetry import Event, logger
from engine.templates import burst_summary
from engine.templates.renderer import Renderer, to_json
from engine.templates.webhook import target_of

RenderRow = Callable[[PlannedDelivery], NewDelivery]
"""Makes the row of one delivery."""

log = logger(__name__)


def render_row(renderer: Renderer, planned: PlannedDelivery) -> NewDelivery:
    """A planned delivery as the outbox keeps it: due, held, in shadow, or dead because its templates fail."""
    planned = burst_summary.for_rendering(planned)
    rendered = renderer.planned(planned)
    request, dead = to_json(rendered.request), rendered.dead
    if len(request) > MAX_REQUEST_CHARACTERS:  # no template gets there, but nothing may stop the transaction
        dead = f"the request has {len(request)} characters, more than {MAX_REQUEST_CHARACTERS}"
        request = "{}"
    state = "shadow" if planned.rule.shadow else "dead" if dead else "held" if planned.held else "due"
    return NewDelivery(
        key=planned.key,
        rule=planned.rule.name,
        client=planned.client,
        group_key=json.dumps(planned.group_key) if planned.group_key is not None else None,
        clients=planned.clients,
        alert=planned.alert,
        action=planned.action.kind,
        target=rendered.target,
        lane=f"{planned.lane}\n{rendered.target}",
        phase=planned.phase,
        state=state,
        decided_at_ms=planned.at_ms,
        request=request,
        error=dead or rendered.problem,
    )


def render_or_bury(render: RenderRow, dead_log: DeadDeliveryLog, planned: PlannedDelivery) -> NewDelivery:
    """The row of a delivery; a dead one when rendering raises, because one bad delivery must not stop the others."""
    row = _rendered(render, planned)
    if row.state == DEAD:
        dead_log.note(row, error=row.error or "", attempts=0)
    return row


def _rendered(render: RenderRow, planned: PlannedDelivery) -> NewDelivery:
    try:
        return render(planned)
    except Exception as error:  # whatever it is, it is shown with the delivery and in the log
        log.error(Event.INTERNAL_ERROR, rule=planned.rule.name, client=planned.client, exc_info=error)
        url = planned.action.spec.get("url")
        target = target_of(url) if url is not None else planned.action.kind
        return NewDelivery(
            key=planned.key,
            rule=planned.rule.name,
            client=planned.client,
            group_key=None,
            clients=planned.clients,
            alert=planned.alert,
            action=planned.action.kind,
            target=target,
            lane=f"{planned.lane}\n{target}",
            phase=planned.phase,
            state="dead",
            decided_at_ms=planned.at_ms,
            request="{}",
            error=f"internal error: {error!r}",
        )
