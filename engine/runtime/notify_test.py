"""`rollcall notify test`: a firing, a reminder and a recovery to one receiver, sent for real through the code that the service uses.

No store and no running service is needed. The notifications are decided by the engine itself, from events of a client that does not
exist, a few minutes back, so that the recovery happens now. Read `sent_for_real`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from engine.actions.base import Answer, Attempted, Done, OutboxItem, Rejected, Untried
from engine.actions.configured import receiver_setups
from engine.actions.notify import ReceiverSender
from engine.actions.notify_dispatch import NotifyDispatch
from engine.actions.webhook.request import WebhookSender
from engine.config.inventory import NO_INVENTORY
from engine.config.loader import Config
from engine.core.alerting.planned_delivery import PlannedDelivery
from engine.core.alerting.routing import NOTIFY
from engine.core.events import CONNECT, TCPCLEAN
from engine.core.presence.client_state import OFFLINE, ONLINE
from engine.core.rules import Action, Rule
from engine.delivery.rendering import render_row
from engine.runtime.fleet_factory import command_routes, fleet_of, mail_route, renderer_of
from engine.runtime.senders import connections_of, mail_receivers, mail_sender
from engine.stores.base import NewDelivery

CLIENT: Final = "GID_ROLLCALL@@@notify-test"
RULE: Final = "notify-test"
DESCRIPTION: Final = "This is a test by `rollcall notify test`: no device is affected."

REPEAT_MS: Final = 60_000
"""Between the firing and its reminder."""

LASTING_MS: Final = REPEAT_MS + 30_000
"""How long the alert of the test lasts: one reminder, then the recovery."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One notification of the test: to which receiver, what became of it, and what the service answered, without secrets."""

    phase: str
    receiver: str
    service: str
    via: str  # the route that chose the receiver; "" for none
    answer: Answer
    said: str


async def sent_for_real(config: Config, name: str, severity: str, now_ms: int) -> AsyncIterator[Sent]:
    """Send the three notifications to a receiver, or to what a route chooses, and say what became of each."""
    secrets = {key: secret.reveal() for key, secret in config.secrets.items() if secret.problem() is None}
    setups = receiver_setups(config.receivers, secrets)
    hidden = [secret for one in setups.values() for secret in one.secrets()]
    denied = [str(network) for network in config.network.deny]
    webhooks = WebhookSender(secrets, denied, connections=connections_of(config), other_secrets=hidden)
    sender, mail, mails = ReceiverSender(setups, webhooks), mail_sender(config), mail_receivers(config)
    dispatch = NotifyDispatch(_NoBatch(), mails, mail)
    try:
        for row in notifications(config, name, severity, now_ms):
            item = _item(row)
            receiver, said = str(item.request.get("receiver")), ""
            if row.state == "dead":
                answer: Attempted = Rejected(reason=row.error or "")
            elif receiver in mails:
                answer = await dispatch.mail(item, mails[receiver])
            else:
                answer = await sender.wait(item.request) or await sender.send(item.key, item.request)
                said = sender.said
            assert not isinstance(answer, Untried)  # here, something may always leave
            service = str(item.request.get("service"))
            via = str(item.request.get("via", ""))
            yield Sent(phase=row.phase, receiver=receiver, service=service, via=via, answer=answer, said=said)
    finally:
        await webhooks.close()
        if mail is not None:
            await mail.close()


def notifications(config: Config, name: str, severity: str, now_ms: int) -> list[NewDelivery]:
    """The three deliveries as the outbox would keep them, the last of them decided at `now_ms`."""
    renderer = renderer_of(mail_route(config), command_routes(config), config.receivers)
    return [render_row(renderer, planned) for planned in _decided(config, name, severity, now_ms)]


def _decided(config: Config, name: str, severity: str, now_ms: int) -> list[PlannedDelivery]:
    action = (Action(kind=NOTIFY, spec={"receiver": name}),)
    rule = Rule(
        name=RULE,
        triggers=("offline",),
        actions=action,
        on_recovery=action,
        description=DESCRIPTION,
        severity=severity,
        repeat_ms=REPEAT_MS,
    )
    fleet = fleet_of(config, [rule], NO_INVENTORY)
    policy = fleet.policy
    offline_ms, online_ms = policy.hold_ms(CLIENT, OFFLINE), policy.hold_ms(CLIENT, ONLINE)
    back_ms = now_ms - online_ms
    gone_ms = back_ms - LASTING_MS - offline_ms
    seen_ms = gone_ms - online_ms - 1_000
    channel = str(now_ms)
    events = [
        (CLIENT, CONNECT, seen_ms, channel, "192.0.2.1"),
        (CLIENT, TCPCLEAN, gone_ms, channel, "192.0.2.1"),
        (CLIENT, CONNECT, back_ms, f"{channel}-2", "192.0.2.1"),
    ]
    fleet.begin()
    fleet.apply(events, 0, 0, [seen_ms, gone_ms, back_ms])
    fleet.advance(now_ms, now_ms)
    return list(fleet.alerts.out.deliveries)


def _item(row: NewDelivery) -> OutboxItem:
    request: Mapping[str, Any] = json.loads(row.request) if isinstance(row.request, str) else row.request
    return OutboxItem(
        id=0,
        key=row.key,
        rule=row.rule,
        lane=row.lane,
        action=row.action,
        target=row.target,
        request=request,
        attempts=0,
        decided_at_ms=row.decided_at_ms,
        phase=row.phase,
        alert=row.alert,
    )


class _NoBatch:
    """Nothing is handed over: each notification is sent by itself."""

    prefetch = 0

    def submit(self, items: Sequence[OutboxItem], done: Done) -> None:
        """Never called."""

    async def close(self) -> None:
        """Nothing to close."""
