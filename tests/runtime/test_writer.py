"""The writer without a thread: what commits, in which order it is told, and what a failure leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.core.alerting.planned_delivery import PlannedDelivery
from engine.core.events import Rejection
from engine.errors import StoreError
from engine.runtime.checkpoint import CHECKPOINT_AFTER_MS
from engine.runtime.inbox import MAX_TURN_EVENTS
from engine.sources.base import Gap
from engine.stores.base import NewDelivery
from engine.testing import START_MS, FakeClock, WriterBench, event, row_of, rule, temporary_folder

DARK = rule("dark", "offline", recovery=True)
HOLD_MS = 30_000
A, B, C = "G@@@a", "G@@@b", "G@@@c"


@pytest.fixture
def folder() -> Iterator[Path]:
    with temporary_folder() as found:
        yield found


@contextmanager
def bench(folder: Path, *rules: Any, **wanted: Any) -> Iterator[WriterBench]:
    made = WriterBench(folder, *rules, **wanted)
    try:
        yield made
    finally:
        made.close()


def refuses(found: WriterBench, times: int = 1) -> None:
    """The next commits fail, as on a full disk."""
    store: Any = found.store
    append, left = store.journal.append, times

    def failing(*arguments: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            store.journal.append = append
            append(*arguments)
            return
        raise StoreError("the store could not commit: the disk is full")

    store.journal.append = failing


def raises_for(client: str) -> Callable[[PlannedDelivery], NewDelivery]:
    """Rendering that raises for one client: what follows from its events cannot be written."""

    def render(planned: PlannedDelivery) -> NewDelivery:
        if planned.client == client:
            raise ZeroDivisionError("a mistake of ours")
        return row_of(planned)

    return render


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.runtime.writer.RETRY_AFTER_S", 0.0)


# Commit, then publish


def test_a_batch_is_acknowledged_and_published_when_it_has_committed_and_not_before(folder: Path) -> None:
    with bench(folder) as found:
        found.offer(event(A), position="7")
        assert found.told == [] and found.statuses() == {}
        found.turn()
        assert found.told == ["batch accepted"] and found.statuses() == {A: "online"}
        with found.store.reading() as reader:
            assert reader.sources()["log"].position == "7"


def test_inside_the_transaction_readers_still_see_the_state_before(folder: Path) -> None:
    with bench(folder) as found:
        seen: list[object] = []
        found.offer(event(A))
        done = found.submit(lambda: seen.append(found.statuses()))
        found.turn()
        assert seen == [{}] and done.done() and found.statuses() == {A: "online"}


def test_batches_are_told_in_the_order_in_which_they_came(folder: Path) -> None:
    with bench(folder) as found:
        for name in ("first", "second", "third"):
            found.offer(event(A), name=name)
        found.turn()
        assert found.told == ["first accepted", "second accepted", "third accepted"]


def test_a_turn_takes_no_more_events_than_fit_and_leaves_the_rest_for_the_next(folder: Path) -> None:
    with bench(folder) as found:
        found.offer(*[event(f"G@@@{n}") for n in range(MAX_TURN_EVENTS - 1)], name="large")
        found.offer(event(A), event(B), name="small")
        found.turn()
        assert found.told == ["large accepted"]
        found.turn()
        assert found.told == ["large accepted", "small accepted"]


def test_a_delivery_is_handed_over_with_the_transaction_that_decided_it(folder: Path) -> None:
    with bench(folder, DARK) as found:
        found.offer(event(A))
        found.offer(event(A, "tcpclean"))
        found.turn()
        assert found.offered == []
        found.clock.advance(HOLD_MS - 1)
        found.turn()
        assert found.offered == []
        found.clock.advance(1)
        found.turn()
        assert [item.rule for item in found.offered] == ["dark"]
        with found.store.reading() as reader:
            assert [row.state for row in reader.deliveries()] == ["due"]


def test_what_was_rejected_and_what_is_gone_is_written_with_the_batch(folder: Path) -> None:
    gap = Gap(source="log", noted_at_ms=START_MS, from_ms=None, to_ms=START_MS, reason="the file was truncated")
    with bench(folder) as found:
        found.offer(event(A), rejected=[Rejection(2, "no clientId", b"{}")], gaps=[gap])
        found.turn()
        with found.store.reading() as reader:
            assert [(row.reason, row.raw) for row in reader.quarantine()] == [("no clientId", b"{}")]
            assert reader.gaps() == [gap]


# A commit that fails


def test_a_refused_batch_without_a_position_is_refused_to_its_source_which_offers_it_again(folder: Path) -> None:
    with bench(folder) as found:
        refuses(found)
        found.offer(event(A))
        found.turn()
        assert found.told == ["batch refused: the store could not commit: the disk is full"]
        assert found.statuses() == {} and found.writer.failure is not None
        found.offer(event(A))
        found.turn()
        assert found.told[1:] == ["batch accepted"] and found.statuses() == {A: "online"}
        assert found.writer.failure is None


def test_a_refused_batch_with_a_position_is_tried_again_before_later_ones_of_its_source(folder: Path) -> None:
    with bench(folder) as found:
        refuses(found, times=2)
        found.offer(event(A), name="first", position="1")
        found.turn()
        found.offer(event(B), name="second", position="2")
        found.turn()
        assert found.told == []
        found.turn()
        assert found.told == ["first accepted", "second accepted"]
        with found.store.reading() as reader:
            assert reader.sources()["log"].position == "2"


def test_the_work_of_a_commit_that_failed_fails_too(folder: Path) -> None:
    with bench(folder) as found:
        refuses(found)
        found.offer(event(A))
        done = found.submit(lambda: "written")
        found.turn()
        with pytest.raises(StoreError, match="disk is full"):
            done.result(0)


def test_a_firing_that_could_not_be_written_is_decided_again_once(folder: Path) -> None:
    with bench(folder, DARK) as found:
        found.offer(event(A))
        found.offer(event(A, "tcpclean"))
        found.turn()
        refuses(found, times=3)
        found.clock.advance(HOLD_MS)
        found.turn(times=3)
        assert found.offered == [] and found.writer.stats.commit_failures == 3
        found.turn(times=2)
        assert [item.phase for item in found.offered] == ["firing"]


# Work of others


def test_work_that_raises_does_not_stop_the_others(folder: Path) -> None:
    with bench(folder) as found:
        good = found.submit(lambda: found.store.write_meta("good", "1"))
        bad = found.submit(lambda: 1 // 0)
        late = found.submit(lambda: found.store.meta("good"))
        found.offer(event(A))
        found.turn()
        assert good.exception(0) is None and late.result(0) == "1"
        assert isinstance(bad.exception(0), ZeroDivisionError)
        assert found.told == ["batch accepted"] and found.store.meta("good") == "1"


def test_work_that_the_store_refuses_undoes_the_whole_transaction(folder: Path) -> None:
    def write_and_fail() -> None:
        found.store.write_meta("half", "1")
        raise StoreError("the disk is full")

    with bench(folder) as found:
        done = found.submit(write_and_fail)
        found.offer(event(A))
        found.turn()
        assert isinstance(done.exception(0), StoreError)
        assert found.store.meta("half") is None and found.statuses() == {}


# An event that raises


def test_an_event_that_raises_is_quarantined_and_the_others_go_on(folder: Path) -> None:
    seen = rule("new", "first_seen")
    with bench(folder, seen, render=raises_for(B)) as found:
        found.offer(event(A), event(B), event(C), position="3")
        found.turn(times=2)
        assert found.told == ["batch accepted"] and found.statuses() == {A: "online", C: "online"}
        with found.store.reading() as reader:
            (row,) = reader.quarantine()
            assert reader.sources()["log"].position == "3"
        assert B.encode() in row.raw and "ZeroDivisionError" in row.reason
        assert sorted(str(item.request["message"]) for item in found.offered) == [A, C]


def test_work_that_came_with_a_failing_event_is_refused_and_the_event_is_still_found(folder: Path) -> None:
    with bench(folder, rule("new", "first_seen"), render=raises_for(B)) as found:
        found.offer(event(B), event(A))
        done = found.submit(lambda: None)
        found.turn(times=3)
        assert isinstance(done.exception(0), StoreError)
        assert found.told == ["batch accepted"] and found.statuses() == {A: "online"}


def test_an_error_that_no_event_brings_about_is_raised_and_nothing_is_acknowledged(folder: Path) -> None:
    with bench(folder, DARK, render=raises_for(A)) as found:
        found.offer(event(A))
        found.offer(event(A, "tcpclean"))
        found.turn()
        found.clock.advance(HOLD_MS)
        with pytest.raises(ZeroDivisionError):
            found.turn()
        assert found.offered == []


def test_a_writer_that_has_ended_refuses_what_waits_and_says_why(folder: Path) -> None:
    with bench(folder, DARK, render=raises_for(A)) as found:
        found.offer(event(A))
        found.offer(event(A, "tcpclean"))
        found.turn()
        found.clock.advance(HOLD_MS)
        found.writer._run()  # what the thread does
        assert [repr(error) for error in found.given_up] == ["ZeroDivisionError('a mistake of ours')"]
        found.offer(event(B), name="late")
        assert found.told[-1].startswith("late refused: the writer has stopped after an internal error")


# Checkpoints and starts


def test_client_rows_are_written_in_slices_along_with_other_transactions(folder: Path) -> None:
    with bench(folder, checkpoint_events=5, checkpoint_rows=2) as found:
        found.offer(*[event(f"G@@@{n}") for n in range(5)])
        found.turn()
        assert len(found.store.clients.load()) == 0
        sizes = []
        for _ in range(3):
            found.turn()
            sizes.append(len(found.store.clients.load()))
        assert sizes == [2, 4, 5] and found.writer.stats.checkpoints == 1
        assert found.store.meta("checkpoint") == "1"
        found.turn()
        assert found.places == ["checkpoint"] * 3


def test_client_rows_are_written_after_a_while_however_few_events_there_were(folder: Path) -> None:
    with bench(folder) as found:
        found.offer(event(A))
        found.turn()
        found.clock.advance(CHECKPOINT_AFTER_MS - 1)
        found.turn()
        assert found.writer.stats.checkpoints == 0
        found.clock.advance(1)
        found.turn()
        assert found.writer.stats.checkpoints == 1


@pytest.mark.parametrize("checkpoint_events", [1, 1_000_000], ids=["from client rows", "from the journal"])
def test_after_a_restart_everything_is_as_it_was_committed(folder: Path, checkpoint_events: int) -> None:
    clock = FakeClock()
    with bench(folder, DARK, clock=clock, checkpoint_events=checkpoint_events) as before:
        before.offer(event(A), event(B))
        before.offer(event(A, "tcpclean"), position="9")
        before.turn(times=3)
        before.offer(event(C))  # never taken: it was not acknowledged either
    with bench(folder, DARK, clock=clock) as after:
        assert after.statuses() == before.statuses() == {A: "online", B: "online"}
        assert after.applied_again == (0 if checkpoint_events == 1 else 3)
        clock.advance(HOLD_MS)
        after.turn()
        assert after.statuses() == {A: "offline", B: "online"}
        assert [item.phase for item in after.offered] == ["firing"]


def test_gaps_are_remembered_over_a_restart(folder: Path) -> None:
    gap = Gap(source="log", noted_at_ms=START_MS, from_ms=None, to_ms=START_MS, reason="the file was truncated")
    with bench(folder) as before:
        before.offer(gaps=[gap])
        before.turn()
    with bench(folder) as after:
        assert len(after.fleet.gaps) == 1
