"""Every act is written down: by whom, from where, what, and what was before and after it. Read `carry_out`.

The entry is written in the transaction of the first effect of the act, so there is none without the other; what came of it follows in a
transaction of its own. An act that changes nothing, and one that is refused before it changes anything, leave no entry.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any, Final, TypeVar

from engine.core.access import ANYBODY, LOCAL, PERSONS, Caller, check_may, shown_caller
from engine.errors import RollcallError
from engine.runtime.first_effect import FirstEffect
from engine.runtime.operator_api import Act, Backend
from engine.stores.access import named
from engine.stores.base import AccessTables, NewAudit
from engine.telemetry import Event, logger
from engine.web import serializers
from engine.web.access import objects

T = TypeVar("T")
R = TypeVar("R")

HIDDEN: Final = frozenset({"password", "token"})
"""Keys whose values are secrets."""

MAX_CHARS: Final = 8_000
"""Of each text of JSON in an entry."""

log = logger(__name__)


def carry_out(act: Act[R], backend: Backend, by: Caller) -> R:
    """Carry out an act and write it down. Raises what `Act.perform` raises; Forbidden when the caller's role is not enough."""
    check_may(by, act.needs)
    act = signed(act, by)
    recording = RecordingBackend(backend, entry_of(act, backend, by), shown_caller(by), access_before(act, backend))
    try:
        found = act.perform(recording)
    except RollcallError as error:
        recording.finish({"refused": str(error)})
        raise
    recording.finish(found)
    return found


def signed(act: Act[R], by: Caller) -> Act[R]:
    """The act in the name of whoever is signed in: nobody acknowledges in the name of another."""
    names = {field.name for field in fields(act)} & {"by", "author"}  # type: ignore[arg-type]
    if not names or by.kind in (ANYBODY, LOCAL):
        return act
    (name,) = names
    if by.kind in PERSONS or getattr(act, name) is None:
        return replace(act, **{name: by.name})  # type: ignore[type-var]
    return act


def entry_of(act: Act[Any], backend: Backend, by: Caller) -> NewAudit:
    """The entry, with what was before."""
    arguments = {field.name.rstrip("_"): getattr(act, field.name) for field in fields(act)}  # type: ignore[arg-type]
    before = _before(act, backend)
    return NewAudit(
        at_ms=backend.now_ms(),
        who=by.name,
        kind=by.kind,
        address=by.address,
        act=type(act).__name__,
        arguments=text_of({key: value for key, value in arguments.items() if value is not None}),
        before=None if before is None else text_of(before),
    )


def text_of(value: Any) -> str:
    """A value as JSON, without secrets, and not for ever long."""
    if isinstance(value, Mapping):
        value = {key: "***" if key in HIDDEN else one for key, one in value.items()}
    text = json.dumps(value, default=str)
    return text if len(text) <= MAX_CHARS else json.dumps({"cut": text[: MAX_CHARS // 2]})


def _before(act: Act[Any], backend: Backend) -> Any:
    """What the act is about, as it is before; None when there is nothing to say."""
    look = BEFORE.get(type(act).__name__)
    if look is None:
        return None
    try:
        return look(act, backend)
    except RollcallError:  # the act says it better
        return None


def _alert(act: Any, backend: Backend) -> Any:
    row = backend.read(lambda reader: reader.alert(act.id_))
    return None if row is None else serializers.alert_object(row)


def _delivery(act: Any, backend: Backend) -> Any:
    if act.number >= 1 << 63:
        return None
    row = backend.read(lambda reader: reader.delivery(act.number))
    return None if row is None else serializers.delivery_object(row)


BEFORE: Final[Mapping[str, Callable[[Any, Backend], Any]]] = {
    "Acknowledge": _alert,
    "ExpireSilence": lambda act, backend: backend.read(lambda reader: backend.views.silence(reader, act.id_)),
    "RetryDelivery": _delivery,
    "DiscardDelivery": _delivery,
    "ReleaseDelivery": _delivery,
    "Forget": lambda act, backend: backend.views.client(act.client),
}
"""What is looked at before an act."""


def access_before(act: Act[Any], backend: Backend) -> Callable[[AccessTables], Any]:
    """Finds the user or the token that an act is about, as it is before; None when there is none."""

    def find(tables: AccessTables) -> Any:
        kind, name = type(act).__name__, getattr(act, "name", None)
        if kind in ("SetPassword", "SetRole", "RemoveUser"):
            user = named(tables.users(), name)
            return None if user is None else objects.user_object(user)
        if kind == "RemoveToken":
            token = named(tables.tokens(), name)
            return None if token is None else objects.token_object(token, backend.now_ms())
        return None

    return find


class RecordingBackend(FirstEffect):
    """A backend on which the first transaction of an act also writes it down."""

    def __init__(self, backend: Backend, entry: NewAudit, by: str, before: Callable[[AccessTables], Any]) -> None:
        super().__init__(backend)
        self._entry, self._by, self._before = entry, by, before
        self._number = 0  # of the entry, once it has begun
        self._in_cell = True  # where it was written

    @property
    def by(self) -> str:
        """See `Backend`."""
        return self._by

    def _along(self) -> None:
        self._number = self.store.access.add_audit(self._entry)

    def access(self, work: Callable[[AccessTables], T]) -> T:
        """See `Backend`. These rows may be written elsewhere than in the cell, and the entry with them."""
        if self.has_begun:
            return self._backend.access(work)

        def both(tables: AccessTables) -> tuple[int, T]:
            before = self._before(tables)
            entry = self._entry if before is None else replace(self._entry, before=text_of(before))
            return tables.add_audit(entry), work(tables)

        self._number, found = self._backend.access(both)
        self.has_begun, self._in_cell = True, False
        return found

    def finish(self, after: Any) -> None:
        """Write what came of it, if it was written down at all. It has had its effect: what fails here is only logged."""
        if not self.has_begun:
            return
        number, text = self._number, text_of(after)
        try:
            if self._in_cell:
                self._backend.write(lambda: self.store.access.finish_audit(number, text))
            else:
                self._backend.access(lambda tables: tables.finish_audit(number, text))
        except RollcallError as error:
            log.warning(Event.AUDIT_UNFINISHED, entry=number, error=str(error))
