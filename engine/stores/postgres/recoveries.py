"""When the recovery of an alert dies with its firing, in the outbox in PostgreSQL: nobody hears of the end of what they never heard of."""

from __future__ import annotations

from collections.abc import Sequence

from engine.core import delivery
from engine.stores.delivery_rows import SIBLINGS, people_of
from engine.stores.postgres.outbox_queries import OutboxQueries


class Recoveries:
    """Recoveries of one cell, and the firings that they are about."""

    def __init__(self, queries: OutboxQueries) -> None:
        self._queries = queries

    def is_lost(self, alert: str, target: str, people: frozenset[str]) -> bool:
        """Whether these people at a target certainly never heard of this alert, and never will: see `delivery.never_heard`."""
        targets = [target, delivery.origin_of(target)]  # an older version wrote the origin
        where = {"alert": alert, "targets": targets}
        lost = self._queries.rows("lost_firings", **where)
        if not lost:
            return False
        window = {"first": lost[0][0], "last": lost[-1][0], "apart": SIBLINGS}
        heard = self._queries.rows("told_firings", **where)
        heard += self._queries.rows("unfinished_siblings", **where, **window)
        missed = [(people_of(request), arrived) for _, arrived, request in lost]
        return delivery.never_heard(people, missed, [people_of(request) for (request,) in heard])

    def of(self, alerts: Sequence[str]) -> set[str]:
        """Of these alerts, those that have an unfinished recovery."""
        return {alert for (alert,) in self._queries.rows("recovering", alerts=alerts)} if alerts else set()

    def end(self, alert: str, target: str, state: str, now_ms: int) -> list[int]:
        """The unfinished recoveries of a lost firing that nobody waits for any more end in a state; their ids."""
        found = self._queries.rows("unfinished_recoveries", alert=alert, target=target)
        ids = [id_ for id_, request, where in found if self.is_lost(alert, where, people_of(request))]
        if ids:
            self._queries.write("end_recoveries", ids=ids, state=state, at=now_ms, error=delivery.RECOVERY_DIES)
        return ids
