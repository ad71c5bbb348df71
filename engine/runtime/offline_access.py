"""Users, tokens and the audit log without a service of this data folder: what `rollcall user`, `token` and `audit` use then.

With a store that several replicas share, the rows are written beside them, and they notice. Read `opened_access`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from engine.clock import EngineClock
from engine.config.loader import Config
from engine.core.access import Caller
from engine.errors import NotThere
from engine.runtime.access_door import OfflineDoor, SharedDoor
from engine.runtime.audit import carry_out
from engine.runtime.operator_api import Act, Backend, ListName
from engine.runtime.store_factory import is_shared, open_store
from engine.web.access import objects
from engine.web.access.door import AccessDoor

R = TypeVar("R")

READ_AT_ONCE = 500


@contextmanager
def opened_access(config: Config, by: Caller) -> Iterator[OfflineAccess]:
    """The rows about access for whoever runs a command. StoreInUse while a service works on the embedded store, StoreError."""
    if is_shared(config):
        shared = SharedDoor(config)
        try:
            yield OfflineAccess(config, shared, by)
        finally:
            shared.close()
        return
    store = open_store(config)
    try:
        yield OfflineAccess(config, OfflineDoor(store), by)
    finally:
        store.close()


class OfflineAccess:
    """The part of `OperatorApi` that is about access; and of `Backend`, what acts about access need."""

    store = codec = None

    def __init__(self, config: Config, door: AccessDoor, by: Caller) -> None:
        self.config, self._door, self._caller = config, door, by
        self._clock = EngineClock()
        self.access = door.write
        self.by = by.name

    def now_ms(self) -> int:
        """See `Backend`."""
        return self._clock.now_ms()

    asked_ms = now_ms

    def do(self, act: Act[R]) -> R:
        """See `OperatorApi`."""
        return carry_out(act, cast(Backend, self), self._caller)

    def items(self, name: ListName, **filters: Any) -> Iterator[objects.Object]:
        """See `OperatorApi`: `users`, `tokens` and `audit`."""
        if name == "users":
            yield from map(objects.user_object, self._door.read(lambda tables: tables.users()))
        elif name == "tokens":
            now_ms = self.now_ms()
            for token in self._door.read(lambda tables: tables.tokens()):
                yield objects.token_object(token, now_ms)
        elif name == "audit":
            yield from self._audit(filters)
        else:
            raise NotThere(f"{name} cannot be listed here")

    def _audit(self, filters: dict[str, Any]) -> Iterator[objects.Object]:
        before: int | None = None
        while True:
            rows = self._door.read(
                lambda tables, before=before: tables.audit(  # type: ignore[misc]
                    who=filters.get("who"), act=filters.get("act"), before=before, limit=READ_AT_ONCE
                )
            )
            yield from map(objects.audit_object, rows)
            if len(rows) < READ_AT_ONCE:
                return
            before = rows[-1].id
