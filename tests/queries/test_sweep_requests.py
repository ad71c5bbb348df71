"""Sweeps that wait for their turn, and the schedule's next run."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from engine.core.times import FOREVER
from engine.queries.sweep_requests import (
    GAP,
    OPERATOR_SWEEP,
    RESTART,
    SCHEDULE,
    SweepRequest,
    SweepRequests,
    SweepSchedule,
)
from engine.stores.base import ReconciliationRow, Tally

FIRST_GAP: dict[str, Any] = {"source": "log", "from": 1, "to": 2, "noted_at": 3}
SECOND_GAP: dict[str, Any] = {"source": "log", "from": 4, "to": 5, "noted_at": 6}


def anything(request: SweepRequest) -> bool:
    return True


def test_a_kind_waits_once_and_every_waiter_gets_its_number() -> None:
    requests, first, second = SweepRequests(), Future[int](), Future[int]()
    requests.add(SweepRequest(why=OPERATOR_SWEEP, waiters=[first]))
    requests.add(SweepRequest(why=SCHEDULE))
    requests.add(SweepRequest(why=OPERATOR_SWEEP, waiters=[second]))
    assert len(requests) == 2
    taken = requests.take(anything)
    assert taken is not None and (taken.why, taken.waiters) == (OPERATOR_SWEEP, [first, second])


def test_gaps_are_swept_for_together_each_once() -> None:
    requests = SweepRequests()
    for gaps in ([FIRST_GAP], [SECOND_GAP], [FIRST_GAP]):
        requests.add(SweepRequest(why=GAP, scope={"gaps": list(gaps)}))
    taken = requests.take(anything)
    assert taken is not None and taken.gaps == [FIRST_GAP, SECOND_GAP]
    assert requests.take(anything) is None


def test_a_resumed_sweep_takes_no_request_in() -> None:
    row = ReconciliationRow(
        id=1, why=OPERATOR_SWEEP, scope=None, started_at_ms=0, finished_at_ms=None, total=2, tally=Tally()
    )
    requests = SweepRequests()
    requests.add_resumed(SweepRequest(why=OPERATOR_SWEEP, row=row))
    requests.add(SweepRequest(why=OPERATOR_SWEEP))
    assert len(requests) == 2


def test_the_first_that_may_start_goes_first_and_what_is_put_back_goes_before_all_others() -> None:
    requests = SweepRequests()
    requests.add(SweepRequest(why=RESTART, scope={"gaps": [FIRST_GAP]}))
    requests.add(SweepRequest(why=SCHEDULE))
    taken = requests.take(lambda request: request.why != RESTART)
    assert taken is not None and taken.why == SCHEDULE and taken not in requests
    requests.put_back(taken)
    assert taken in requests and requests.take(anything) is taken
    assert [request.why for request in requests.clear()] == [RESTART]
    assert len(requests) == 0


class Hourly:
    """Runs at every full hour; the unit is one hour."""

    def next_after(self, at_ms: int) -> int:
        return at_ms // 60 * 60 + 60


def test_a_missed_run_is_made_up_for_once_or_skipped() -> None:
    once, skip = (SweepSchedule(ticks=Hourly(), catches_up=catches_up) for catches_up in (True, False))
    assert (once.first_ms(10, 250), skip.first_ms(10, 250)) == (60, 300)
    assert (once.first_ms(245, 250), once.next_ms(250)) == (300, 300)


def test_a_schedule_that_was_never_started_begins_with_the_next_run() -> None:
    assert SweepSchedule(ticks=Hourly()).first_ms(None, 250) == 300


def test_without_a_schedule_there_is_no_run() -> None:
    assert (SweepSchedule().first_ms(10, 250), SweepSchedule().next_ms(250)) == (FOREVER, FOREVER)
