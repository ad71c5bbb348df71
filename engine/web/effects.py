"""What a form will do, said before it is sent: how many, how old, and what can be undone. Read `EFFECTS`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple

from engine.core.times import rfc3339
from engine.errors import BadQuestion, NotConfigured
from engine.stores.base import DeliveryRow, Reader
from engine.web.html_page import counted, plain
from engine.web.page_times import age
from engine.web.service import NO_PROVIDER, Service

Fields = Mapping[str, str]

COUNTED: Final = 10_000
"""Held deliveries that are looked at to say how old they are."""


class Effect(NamedTuple):
    """What will happen."""

    title: str
    sentences: tuple[str, ...]
    button: str
    is_final: bool = True  # it cannot be undone


async def _discard(service: Service, fields: Fields) -> Effect:
    number = fields.get("number", "")
    if not (number.isascii() and number.isdigit() and len(number) <= 18):
        raise BadQuestion("the address does not say which delivery")
    found = await service.ask(lambda reader: service.views.delivery(reader, int(number)))
    return Effect(
        f"Give up delivery {number}?",
        (
            f"It is {found['state']}: {found['rule']}, to {plain(found['target'])}, {counted(found['attempts'], 'attempt')} so far.",
            "It is never sent. If it is the firing of an alert, the recovery of that alert is not sent either.",
        ),
        "Give it up",
    )


async def _held(service: Service, fields: Fields) -> tuple[str, str]:
    """The rule, and a sentence about its held deliveries."""
    rule = fields.get("rule", "")
    if not rule:
        raise BadQuestion("the address does not say which rule")
    rows = await service.ask(lambda reader: _held_rows(reader, rule))
    if not rows:
        return rule, "No delivery of this rule is held."
    now_ms = service.now_ms()
    ages = [(now_ms - row.decided_at_ms) / 1000 for row in rows]
    more = "+" if len(rows) == COUNTED else ""
    targets = sorted({plain(row.target) for row in rows})
    where = ", ".join(targets[:3]) + (f" and {len(targets) - 3} more targets" if len(targets) > 3 else "")
    return rule, (
        f"{len(rows):,}{more} held {'delivery' if len(rows) == 1 else 'deliveries'} to {where}. "
        f"The oldest is {age(max(ages))} old, the newest {age(min(ages))}."
    )


def _held_rows(reader: Reader, rule: str) -> list[DeliveryRow]:
    found: list[DeliveryRow] = []
    cursor: int | None = None
    while len(found) < COUNTED:
        rows = reader.deliveries(state="held", rule=rule, limit=1_000, cursor=cursor)
        found += rows
        if len(rows) < 1_000:
            break
        cursor = rows[-1].id
    return found[:COUNTED]


async def _release_held(service: Service, fields: Fields) -> Effect:
    rule, many = await _held(service, fields)
    sends = "All of them are sent now, also those whose alert has ended since."
    return Effect(f"Release what is held of {plain(rule)}?", (many, sends), "Release all")


async def _discard_held(service: Service, fields: Fields) -> Effect:
    rule, many = await _held(service, fields)
    return Effect(f"Give up what is held of {plain(rule)}?", (many, "None of them is ever sent."), "Give all up")


async def _expire(service: Service, fields: Fields) -> Effect:
    found = await service.ask(lambda reader: service.views.silence(reader, fields.get("silence", "")))
    covers = found["covers"] or {"clients": 0, "alerts": 0}
    return Effect(
        "End this silence now?",
        (
            f"It is {found['state']} and covers {counted(covers['clients'], 'client')} and {counted(covers['alerts'], 'open alert')}.",
            "Alerts that it suppressed and that still hold fire at once, in one notification for each rule.",
        ),
        "End the silence",
    )


async def _forget(service: Service, fields: Fields) -> Effect:
    found = service.views.client(fields.get("client", ""))
    open_alerts = await service.ask(
        lambda reader: [row for row in reader.alerts(client=found["client"], limit=100) if row.resolved_at_ms is None]
    )
    kept = service.config.clients.tombstone_ms // 86_400_000
    return Effect(
        f"Forget {plain(found['client'])}?",
        (
            f"It is {found['status']}. Its state is dropped, and {counted(len(open_alerts), 'open alert')} about it {'is' if len(open_alerts) == 1 else 'are'} closed without a recovery.",
            f"For {counted(kept, 'day')} only a newer connect brings it back; then it is a new client."
            if kept
            else "Only a newer connect brings it back.",
        ),
        "Forget it",
    )


async def _sweep(service: Service, fields: Fields) -> Effect:
    if service.queries is None:
        raise NotConfigured(NO_PROVIDER)
    clients = sum(service.views.count_by_status().values())
    rate = service.config.status.rate
    takes = f"{counted(clients, 'client')} at most {rate:g} queries a second: about {age(clients / rate)}."
    if fields.get("dry_run") == "yes":
        return Effect(
            "Begin a dry run?",
            (takes, "Nothing is corrected; the report says what would be."),
            "Begin the dry run",
            False,
        )
    return Effect(
        "Begin a sweep?",
        (takes, "What the broker contradicts is corrected, and rules fire for what changes."),
        "Begin the sweep",
    )


async def _retry_quarantine(service: Service, fields: Fields) -> Effect:
    totals = await service.ask(lambda reader: reader.totals())
    return Effect(
        "Offer quarantined events again?",
        (
            f"{counted(totals.quarantined, 'event')} are checked again as of {rfc3339(service.now_ms())[:19]}Z.",
            "Those that are valid now are applied and leave the quarantine; the others stay.",
        ),
        "Offer them again",
    )


EFFECTS: Final[Mapping[str, Callable[[Service, Fields], Awaitable[Effect]]]] = {
    "discard": _discard,
    "release-held": _release_held,
    "discard-held": _discard_held,
    "expire": _expire,
    "forget": _forget,
    "sweep": _sweep,
    "retry-quarantine": _retry_quarantine,
}
"""The forms that have a page of their own, by name."""
