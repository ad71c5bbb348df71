"""From what the rules decided to what leaves: rendered rows, the dispatcher's outbox, and senders. Read `render_row`."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

from engine.actions.base import OutboxItem, Outcome
from engine.actions.email.sender import MailSender
from engine.config.loader import Config
from engine.core.alerting.planning import PlannedDelivery
from engine.core.delivery import Policy as DeliveryPolicy
from engine.runtime.operator_api import Desk
from engine.runtime.writer import Renderer as Render
from engine.stores.base import NewDelivery, Share, Waiting
from engine.stores.sqlite import delivery_rows
from engine.telemetry import Event, log_all, logger
from engine.templates import burst_summary
from engine.templates.renderer import Renderer, to_json
from engine.templates.webhook import target_of

log = logger(__name__)


def render_or_bury(render: Render, planned: PlannedDelivery) -> NewDelivery:
    """A planned delivery rendered, or dead by a fault of ours: one that cannot be rendered must not stop the others."""
    try:
        return render(planned)
    except Exception as fault:  # noqa: BLE001  # whatever it is, it is shown with the delivery and in the log
        log.error(Event.INTERNAL, rule=planned.rule.name, client=planned.client, error=repr(fault))
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
            error=f"a fault of ours: {fault!r}",
        )


def render_row(renderer: Renderer, planned: PlannedDelivery) -> NewDelivery:
    """A planned delivery as the outbox keeps it."""
    planned = burst_summary.for_rendering(planned)
    rendered = renderer.planned(planned)
    state = "shadow" if planned.rule.shadow else "dead" if rendered.dead else "held" if planned.held else "due"
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
        request=to_json(rendered.request),
        error=rendered.dead or rendered.problem,
    )


class Outbox:
    """The dispatcher's outbox over the writer (writes) and a reading connection."""

    def __init__(self, desk: Desk, policy: DeliveryPolicy) -> None:
        self._desk = desk
        self._policy = policy

    async def waiting(self, now_ms: int) -> Waiting:
        """What waits, by target."""
        return await self._desk.read(lambda connection: delivery_rows.waiting(connection, now_ms))

    async def due(self, now_ms: int, shares: Sequence[Share]) -> Sequence[OutboxItem]:
        """What is due, a share for each target."""
        return await self._desk.read(lambda connection: delivery_rows.due(connection, now_ms, shares))

    async def record(self, outcomes: Sequence[Outcome]) -> None:
        """Write down what became of deliveries."""
        now_ms = self._desk.now_ms()
        await self._desk.write(
            lambda connection: delivery_rows.record(connection, outcomes, now_ms, random.random, self._policy)
        )


def mail_sender(config: Config) -> MailSender | None:
    """What sends e-mails by the configured server; None where there is none."""
    smtp = config.smtp
    if smtp is None:
        return None
    return MailSender(
        host=smtp.host,
        port=smtp.port,
        security=smtp.security,
        username=smtp.username,
        password=smtp.password.reveal if smtp.password is not None else None,
        ca=str(smtp.ca) if smtp.ca is not None else None,
        timeout_s=smtp.timeout_ms / 1000,
    )


def log_actions(items: Sequence[OutboxItem]) -> None:
    """Carry out the actions of kind `log`."""
    entries = [{"rule": item.rule, "phase": item.phase, "message": item.request["message"]} for item in items]
    log_all(Event.ACTION_LOG, entries)
