"""What becomes of deliveries in PostgreSQL: outcomes of attempts, and acts of operators. Read `record` first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from engine.core import delivery
from engine.core.delivery import (
    DEAD,
    DISCARDED,
    DUE,
    Delivered,
    DeliveryPolicy,
    Expired,
    Outcome,
    Standing,
    Untried,
)
from engine.stores import attempts
from engine.stores.attempts import with_one_more
from engine.stores.delivery_rows import MAX_ID, TELLING, delivered_values, request_of, standing_of
from engine.stores.postgres.outbox_queries import OutboxQueries
from engine.stores.postgres.recoveries import Recoveries
from engine.stores.rows import Recorded

FAULTS_OF_AN_ANSWER: Final = (ValueError, TypeError, KeyError, OverflowError, RecursionError, msgspec.MsgspecError)
"""What the content of an answer can cause."""

HELD_AT_ONCE = 1_000
"""Held deliveries of a rule that one act changes."""


@dataclass(slots=True)
class _Kept:
    """A delivery that may move, with what decides about its recovery."""

    id: int
    standing: Standing
    tries: str | None
    alert: str
    phase: str
    target: str
    renewed_at_ms: int | None = None  # None: as it was


class Outcomes:
    """Moves deliveries of one cell that are written already."""

    def __init__(self, queries: OutboxQueries, recoveries: Recoveries) -> None:
        self._queries = queries
        self._recoveries = recoveries

    def record(
        self,
        outcomes: Sequence[Outcome],
        now_ms: int,
        jitter: Callable[[], float],
        policy: DeliveryPolicy,
    ) -> Recorded:
        """Write what became of attempts; `jitter` gives a number between 0 and 1 for each retry."""
        good = [delivered_values(o, o.answer) for o in outcomes if isinstance(o.answer, Delivered)]
        delivered = self._record_delivered(good) if good else 0
        others = [outcome for outcome in outcomes if not isinstance(outcome.answer, Delivered)]
        if not others:
            return Recorded(delivered)
        found = self._kept(outcome.id for outcome in others)
        recovering = self._recovering(found.values())
        changed: dict[int, _Kept] = {}
        retried = dead = 0
        for outcome in others:
            kept, chance = found.get(outcome.id), jitter()
            try:
                moved = kept is not None and _move(kept, outcome, now_ms, chance, policy)
            except FAULTS_OF_AN_ANSWER as error:
                found.pop(outcome.id)
                dead += self._bury(outcome.id, now_ms, error)
                continue
            if kept is None or not moved:
                continue
            changed[kept.id] = kept
            retried += kept.standing.state == DUE
            dead += kept.standing.state == DEAD
            if kept.alert in recovering and _dies(kept):
                self._write(changed.values())
                changed = {}
                for id_ in self._recoveries.end(kept.alert, kept.target, DEAD, now_ms):
                    found.pop(id_, None)  # what was said of it comes too late
        self._write(changed.values())
        return Recorded(delivered, retried, dead)

    def _record_delivered(self, good: Sequence[tuple[int, int, str | None, str]]) -> int:
        ids, instants, said, tries = zip(*good, strict=True)
        kept = {id_: attempt for id_, _, _, attempt in good}
        written = [f"[{attempt}]" for attempt in tries]
        row = self._queries.one("delivered", id=list(ids), at=list(instants), said=list(said), attempt=written)
        if row[1]:
            again = [(id_, with_one_more(before, kept[id_])) for id_, before in row[1]]
            self._queries.write("write_tries", id=[id_ for id_, _ in again], tries=[text for _, text in again])
        return int(row[0])

    def _kept(self, ids: Iterable[int]) -> dict[int, _Kept]:
        """Deliveries by their numbers, those that there are."""
        found: dict[int, _Kept] = {}
        wanted = [id_ for id_ in ids if 0 < id_ <= MAX_ID]
        for row in self._queries.rows("standings", ids=wanted) if wanted else ():
            id_, alert, phase, target, request, made_before, tries = row[0], *row[7:]
            life_ms = None if request is None else request_of(request)[0].get(delivery.LIFE)
            found[id_] = _Kept(id_, standing_of(row[1:7], life_ms, made_before), tries, alert, phase, target)
        return found

    def _recovering(self, rows: Iterable[_Kept]) -> set[str]:
        """Of the alerts that these tell of, those whose unfinished recoveries may die with them."""
        return self._recoveries.of(list({kept.alert for kept in rows if kept.phase in TELLING}))

    def _bury(self, id_: int, now_ms: int, error: Exception) -> bool:
        """An outcome that cannot be written ends its delivery: sent again, it would most likely come to the same."""
        reason = delivery.kept_text(f"its result cannot be stored: {error}", delivery.MAX_ERROR_CHARS)
        return self._queries.changed("bury", at=now_ms, error=reason, id=id_) > 0

    def _write(self, rows: Iterable[_Kept]) -> None:
        """Move rows, as this transaction found them."""
        values = [
            (
                kept.id, kept.standing.state, kept.standing.attempts, kept.standing.due_at_ms, kept.renewed_at_ms,
                kept.standing.attempts_before, kept.standing.may_have_arrived, kept.standing.last_error, kept.tries,
            )
            for kept in rows
        ]  # fmt: skip
        if values:
            self._queries.write(
                "write_standings", **dict(zip(MOVED, map(list, zip(*values, strict=True)), strict=True))
            )

    def act(self, number: int, what: str, now_ms: int) -> bool:
        """Carry out an operator's act on one delivery; was it changed?"""
        return bool(self._act([number], what, now_ms))

    def act_on_held(self, rule: str, what: str, now_ms: int, limit: int = HELD_AT_ONCE) -> int:
        """`release` or `discard` the oldest held deliveries of a rule; how many they were."""
        ids = [id_ for (id_,) in self._queries.rows("held_of_rule", rule=rule, limit=limit)]
        return self._act(ids, what, now_ms)

    def _act(self, ids: Sequence[int], what: str, now_ms: int) -> int:
        rows = [kept for kept in self._kept(ids).values() if (kept.standing.state, what) in delivery.TABLE]
        for kept in rows:
            _take(kept, delivery.act(kept.standing, what, now_ms))
        self._write(rows)
        recovering = self._recovering(rows)
        for kept in rows:
            if kept.alert in recovering and _dies(kept):
                self._recoveries.end(kept.alert, kept.target, DISCARDED, now_ms)
        return len(rows)


MOVED: Final = (
    "id", "state", "attempts", "due_at", "renewed_at", "attempts_before", "may_have_arrived", "last_error", "tries",
)  # fmt: skip


def _move(kept: _Kept, outcome: Outcome, now_ms: int, chance: float, policy: DeliveryPolicy) -> bool:
    """What an answer makes of a delivery; False: nothing, because it is no longer due or there is still time."""
    before = kept.standing
    if before.state != DUE or isinstance(outcome.answer, Untried):
        return False
    if isinstance(outcome.answer, Expired):
        after = delivery.expired(before, now_ms, policy)
    else:
        after = delivery.next_state(before, outcome.answer, now_ms, chance, policy)
    if after is None:
        return False
    tries = with_one_more(kept.tries, attempts.one(outcome))
    _take(kept, after)
    kept.tries = tries
    return True


def _take(kept: _Kept, after: Standing) -> None:
    if after.decided_at_ms != kept.standing.decided_at_ms:
        kept.renewed_at_ms = after.decided_at_ms
    kept.standing = after


def _dies(kept: _Kept) -> bool:
    """Does it take the recovery of what it tells of along?"""
    return kept.phase in TELLING and delivery.takes_recovery_along(kept.standing)
