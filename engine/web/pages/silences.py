"""The silences: those in force and planned with what they cover, the form for a new one, those that have ended. Read `collect`."""

from __future__ import annotations

from typing import Any, Final

from engine.core.access import A_TRIAL
from engine.errors import RollcallError
from engine.stores.base import Reader
from engine.web import serializers
from engine.web.pages.base import Page, Shown, Wanted
from engine.web.service import PendingAct, Service, exposed_act
from engine.web.silence_form import silence_body

SHOWN: Final = 100
EXPIRED_SHOWN: Final = 20

FIELDS: Final = ("match", "rule", "for", "until", "comment")
"""Of the form; an address may fill them in."""

LENGTHS: Final = (("1h", "1 hour"), ("8h", "8 hours"), ("1d", "1 day"), ("7d", "7 days"))


async def collect(service: Service, wanted: Wanted) -> Shown:
    """What the page shows."""
    shown = await service.ask(lambda reader: _collected(service, reader))
    fields = {name: wanted.get(name) for name in FIELDS}
    return (
        shown
        | {"fields": fields, "lengths": LENGTHS, "rules": [rule.name for rule in service.rules]}
        | await preview(service, fields)
    )


def _collected(service: Service, reader: Reader) -> Shown:
    now_ms = service.now_ms()
    found = [
        silence
        for state in ("active", "planned")
        for silence in reader.silences(now_ms=now_ms, state=state, limit=SHOWN)
    ]
    shown = service.views.silence_objects(found, now_ms)
    expired = reader.silences(now_ms=now_ms, state="expired", limit=EXPIRED_SHOWN)
    return {
        "silences": [
            one
            | {"left": max(0, silence.until_ms - now_ms) / 1000, "begins_in": max(0, silence.from_ms - now_ms) / 1000}
            for silence, one in zip(found, shown, strict=True)
        ],
        "expired": [serializers.silence_object(silence, now_ms) for silence in expired],
    }


async def preview(service: Service, fields: dict[str, str]) -> Shown:
    """What a silence would cover: the act itself, tried; nothing when the form is empty."""
    if not fields["match"] and not fields["rule"]:
        return {"would": None, "mistake": ""}
    exposed = exposed_act(service, "AddSilence")
    try:
        body: dict[str, Any] = silence_body(fields, service.now_ms()) | {"dry_run": True}
        found = await service.do(exposed.read({}, body), A_TRIAL)
    except RollcallError as error:
        return {"would": None, "mistake": str(error)}
    return {"would": None if isinstance(found, PendingAct) else found, "mistake": ""}


PAGE: Final = Page(
    path="/silences",
    template="silences.html",
    collect=collect,
    parameters=FIELDS,
    section="silences",
    words="Silences",
)
