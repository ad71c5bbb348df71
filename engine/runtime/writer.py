"""The one writer: it turns stimuli into transactions, and lets the world know only of what has committed.

It runs in a thread of its own and is the only one that changes the fleet or the store. One turn:

1. take the batches that wait, up to `MAX_TURN_EVENTS` events, and other work that needs a transaction;
2. begin; for each batch let time pass to the instant at which it was received, then apply it: one journal row each;
3. when nothing else waits, let time pass to now;
4. write journal, positions, quarantine, alerts and rendered deliveries, and a slice of the checkpoint if one is under way;
5. COMMIT; only then publish the states, acknowledge the sources and hand the deliveries to the dispatcher.

When the commit fails (`_refuse`), everything is as it was before step 2: batches are refused and their sources offer them again.
When something raises that must not (`_isolate`), the same happens, and then the event that brings it about is looked for and
quarantined. When no event does, the writer ends and so does the service: nothing was acknowledged, and the next start is one
as after a power cut. When the wall clock was set, a turn of its own moves what waits (`_take_step`). Read `Writer.run_once` first.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TypeVar

from engine.clock import Clock, SteadyClock, engine_clock
from engine.core.alerting.alert import AlertLine
from engine.core.delivery import OutboxItem
from engine.core.fleet import Fleet
from engine.core.presence.client_state import NEVER
from engine.core.presence.query import QueryRequest
from engine.delivery.rendering import RenderRow
from engine.errors import Fenced, StoreBehind, StoreError
from engine.runtime import bisect_batch
from engine.runtime.checkpoint import Checkpoint
from engine.runtime.client_limit import ClientLimit
from engine.runtime.fleet_curve import FleetCurve
from engine.runtime.inbox import Inbox, Turn, acknowledgement, refusals
from engine.runtime.recovery import (
    ERA,
    WORKED_AT,
    DecodeStored,
    apply_rows,
    last_instant,
    load_states,
    restore_alerts,
    restore_rest,
)
from engine.runtime.refused_events import recall, refused_events
from engine.runtime.retention import Retention
from engine.runtime.writer_stats import WriterStats
from engine.sources.base import Batch
from engine.stores.base import JournalRow, Store
from engine.telemetry import Event, logger

log = logger(__name__)

T = TypeVar("T")

MAX_TURN_TRANSITIONS = 1_000
"""Transitions that passing time may bring about in one transaction."""

STEPPED_AT_ONCE = 100_000
"""Clients in one journal row that says that the clock was set: a row has room for five times as many facts."""

PURGE_EVERY_MS = 30_000
TRIM_REJECTED = 1_000
"""Rejected events after which the quarantine is trimmed at once."""

RETRY_AFTER_S = 1.0
"""Pause after a failed commit (a full disk, say)."""

MAX_QUARANTINED = 100
"""Events that raised and were quarantined since the start; with more of them, going on does more harm than stopping."""

LONGEST_TURN_S = 30.0
"""A transaction takes milliseconds, a second on a slow disk; one that takes longer than this hangs."""

IDLE_S = 0.25
"""Longest wait when nothing is due: sources may have caught up meanwhile."""

FRUITLESS_S = 0.02
"""Wait after a turn in which nothing happened although something was due: it waits for a source to catch up."""

Announce = Callable[[list[Callable[[], None]], list[OutboxItem]], None]
"""Called in the writer's thread after a turn, with calls to make and deliveries that may leave at once."""


class Writer:
    """Owns the fleet and the store. `recover`, `start` it, `offer` batches, `submit` work, `stop` it."""

    def __init__(
        self,
        store: Store,
        fleet: Fleet,
        clock: Clock,
        *,
        render: RenderRow,
        watermark_of: Callable[[int], int],
        announce: Announce,
        keep_ms: int,
        checkpoint: Checkpoint | None = None,
        request_queries: Callable[[list[QueryRequest]], None] = lambda requests: None,
        give_up: Callable[[Exception], None] = lambda error: None,
        stepped: Callable[[int, int], None] = lambda step_ms, now_ms: None,
        client_limit: ClientLimit | None = None,
        counts_fleet: bool = True,
    ) -> None:
        """Everything that is called is called in the writer's thread.

        `watermark_of` gives the instant up to which no event is missing, as of an instant (both epoch ms). `keep_ms`: how
        long history is kept. `request_queries` gets the queries that a committed transaction wants; `give_up` the error that ended
        the writer; `stepped` by how much the clock was set, and what it shows now. `counts_fleet`: keep the fleet's curve, see
        `FleetCurve`.
        """
        self.store = store
        self.fleet = fleet
        self.stats = WriterStats()
        self.suppressed: dict[str, int] = {}  # alerts since the start, by the reason
        self.failure: str | None = None  # why the last commit failed, None when it did not
        self._busy_since_s: float | None = None  # monotonic: when the turn in hand began
        self._clock = engine_clock(clock)
        self._steady = SteadyClock(self._clock)
        self._render = render
        self._watermark_of = watermark_of
        self._announce = announce
        self.retention = Retention(store, self._steady, keep_ms)
        self._request_queries = request_queries
        self._give_up = give_up
        self._stepped = stepped
        self._client_limit = client_limit
        self._checkpoint = checkpoint or Checkpoint(store, self._steady.now_ms())
        self._counts_fleet = counts_fleet
        self._curve = FleetCurve(store, fleet)
        self._inbox = Inbox()
        self._thread: threading.Thread | None = None
        self._ended: str | None = None  # why the writer has stopped before it was stopped
        self._row = store.journal.last_id()
        self._last: JournalRow | None = None  # the newest row that a standby has applied
        self._is_undone = False  # was a transaction undone, and memory is not as the store has it yet?
        self._purge_at_ms = 0  # of the steady clock
        self._fruitless = False  # did nothing happen in the last turn?
        self._rejected = 0  # events since the quarantine was trimmed by their number
        self._quarantined = 0  # events that raised, since the start

    def recover(self, decode: DecodeStored) -> int:
        """Load the states, before `start`; returns how many events of the journal were applied again."""
        applied = self.load(decode)
        self.take_over()
        return applied

    def load(self, decode: DecodeStored) -> int:
        """Load the states of clients as of the newest journal row; returns how many events of the journal were applied again."""
        self._checkpoint.take_over()
        load_states(self.store, self.fleet)
        self._row = self._checkpoint.row
        return self._apply_again(self.store.journal.after(self._row), decode)

    def follow(self, decode: DecodeStored) -> int:
        """After `load`, while another replica owns the cell: apply what its journal has got since; returns how many events.

        StoreBehind when the journal is not the one that was applied until now, as after a failover that lost some of it.
        """
        rows = self.store.journal.after(self._row - 1)
        last = self._last
        if last is not None:
            found = next(iter(rows), None)
            if found != last and (found is not None or self.store.journal.last_id() != self._row):
                raise StoreBehind(
                    "the journal is not the one that this standby has followed: everything is loaded again"
                )
        return self._apply_again(rows, decode)

    def take_over(self) -> None:
        """The states are those of the newest journal row, and nobody else adds to it: get ready to decide.

        When the last run had got further than the wall clock shows, the first turn finds that as a step.
        """
        self._clock.begin_at(last_instant(self.store))
        self._checkpoint.take_over()
        self._row, self._last = self.store.journal.last_id(), None
        restore_rest(self.store, self.fleet)
        with self.store.reading() as reader:
            recall(reader, self.fleet, self._clock.now_ms())

    @property
    def row(self) -> int:
        """The newest journal row that memory contains."""
        return self._row

    def _apply_again(self, rows: Iterable[JournalRow], decode: DecodeStored) -> int:
        return apply_rows(self._noting(rows), self.fleet, self._checkpoint, decode)

    def _noting(self, rows: Iterable[JournalRow]) -> Iterator[JournalRow]:
        """The rows, of which the newest is remembered."""
        for row in rows:
            if row.id > self._row:
                yield row
                self._row, self._last = row.id, row

    # From other threads

    def start(self) -> None:
        """Begin to work."""
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def offer(self, batch: Batch) -> None:
        """Hand over a batch; its `acknowledge` is called once it is durable, or was refused."""
        self._inbox.offer(batch)
        if self._ended is not None:
            self._turn_away()

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Do something inside the next transaction; the future is done when that has committed.

        What `work` raises is raised to whoever waits, and does not stop the others; StoreError undoes the transaction.
        """
        done = self._inbox.submit(work)
        if self._ended is not None:
            self._turn_away()
        return done

    def stop(self, within_s: float | None = None) -> bool:
        """Finish what waits, and end the thread; returns whether it has ended in time."""
        self._inbox.stop()
        if self._thread is None:
            return True
        self._thread.join(within_s)
        return not self._thread.is_alive()

    def trouble(self) -> str | None:
        """Why nothing is committed; None while all is well."""
        if self.failure is not None:
            return self.failure
        if self._thread is not None and not self._thread.is_alive():
            return "the thread has ended"
        began_s = self._busy_since_s
        taken_s = time.monotonic() - began_s if began_s is not None else 0.0
        return f"a transaction has taken {taken_s:.0f} s and goes on" if taken_s > LONGEST_TURN_S else None

    # In the writer's thread

    def certain_ms(self) -> int:
        """How far time has certainly come, see `Retention`; for work inside a transaction."""
        return self.retention.certain_ms(self._clock.now_ms())

    def _run(self) -> None:
        try:
            while self._ended is None and self._inbox.wait(self._idle_s()):
                self.run_once()
        except Exception as error:  # a thread that dies unnoticed leaves a service that looks alive
            log.error(Event.WRITER_FAILED, exc_info=error)
            self._ended = self.failure = f"the writer has stopped after an internal error: {error!r}"
            self._turn_away()
            self._give_up(error)

    def _turn_away(self) -> None:
        """Refuse what waits, because it will never be done."""
        left = self._inbox.take_all()
        self._announce(refusals(left.batches, left.works, StoreError(self._ended or "the writer has stopped")), [])

    def _idle_s(self) -> float:
        if self._checkpoint.is_under_way or self._curve.is_under_way:
            return 0.0
        ahead_ms = min(self.fleet.wake_ms - self._clock.now_ms(), int(IDLE_S * 1000))
        return max(FRUITLESS_S if self._fruitless else 0.001, ahead_ms / 1000)

    def run_once(self) -> None:
        """One turn; see the module's steps."""
        if self._is_undone and not self._restored():
            return
        step_ms = self._clock.step_ms()
        if step_ms and not self._take_step(step_ms):
            return
        now_ms = self.fleet.latest_ms = self._clock.now_ms()
        if self._counts_fleet:
            self._curve.go_on(now_ms, self._steady.now_ms())
        turn = self._inbox.take()
        if turn.is_empty and not self._is_anything_due(now_ms):
            return
        self._busy_since_s = time.monotonic()
        try:
            with _no_garbage_collection():
                calls, items = self._commit(now_ms, turn)
        except (Fenced, StoreBehind) as error:
            self._lose(error, turn)
        except StoreError as error:
            self._refuse(error, turn)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is undone and looked into
            self._isolate(error, turn)
        else:
            self._announce(calls, items)
        finally:
            self._busy_since_s = None

    def _is_anything_due(self, now_ms: int) -> bool:
        steady_ms = self._steady.now_ms()
        return bool(
            self.fleet.wake_ms <= now_ms
            or self._checkpoint.is_under_way
            or self._curve.is_due
            or self.failure is not None
            or steady_ms >= self._purge_at_ms
            or self._checkpoint.is_due(steady_ms)
        )

    def _take_step(self, step_ms: int) -> bool:
        """The wall clock was set: move what waits, in a transaction of its own. False: it failed, and is tried again."""
        now_ms = self.fleet.latest_ms = self._clock.now_ms() + step_ms
        try:
            with _no_garbage_collection():
                items = self._commit_step(step_ms, now_ms)
        except (Fenced, StoreBehind) as error:
            self._lose(error, Turn([], []))
            return False
        except StoreError as error:
            self._refuse(error, Turn([], []))
            return False
        self._clock.take(step_ms)
        self._announce([lambda: self._stepped(step_ms, now_ms)], items)
        return True

    def _commit_step(self, step_ms: int, now_ms: int) -> list[OutboxItem]:
        fleet, first_row = self.fleet, self._row
        fleet.begin()
        with self.store.transaction():
            fleet.begin_row(self._row + 1)
            clients = fleet.step(step_ms, now_ms)
            self._append_row(fleet.clock_ms, "", ())
            for start in range(0, len(clients), STEPPED_AT_ONCE):
                fleet.step_clients(clients[start : start + STEPPED_AT_ONCE], step_ms, now_ms)
                self._append_row(fleet.clock_ms, "", ())
            self.store.write_meta(ERA, str(first_row + 1))
            self.store.step_clock(step_ms, now_ms)
            self.retention.step(now_ms)
            items = self._write_outcome()
        self._checkpoint.note(fleet.committed, 0)
        fleet.commit()
        self._count([])
        return items

    def _commit(self, now_ms: int, turn: Turn) -> tuple[list[Callable[[], None]], list[OutboxItem]]:
        """Steps 2 to 5; returns the calls that acknowledge, and the deliveries that may leave."""
        fleet, first_row = self.fleet, self._row
        fleet.begin()
        with self.store.transaction():
            self._apply_batches(now_ms, turn)
            results = [work.attempt() for work in turn.works]
            self._append_row(now_ms, "", ())
            steady_ms = self._steady.now_ms()
            is_purging = steady_ms >= self._purge_at_ms
            if is_purging:
                fleet.alerts.purge(now_ms)
                fleet.purge_forgotten(now_ms)
            items = self._write_outcome()
            if self._row == first_row:  # else the journal's newest row says what the clock shows
                self.store.write_meta(WORKED_AT, f"{first_row}:{fleet.clock_ms}")
            written = self._checkpoint.write_slice(fleet.states, steady_ms, first_row)
            self._curve.write(now_ms)
            if self.failure is not None:
                self.store.write_meta(
                    "written_again_at", str(now_ms)
                )  # so that this commit shows whether the disk takes it
            if is_purging:
                self._purge(now_ms, steady_ms)
        self._checkpoint.note(fleet.committed, sum(len(batch.events) for batch in turn.batches))
        fleet.commit()
        if requests := fleet.take_query_requests():
            self._request_queries(requests)
        self._checkpoint.slice_committed(written)
        self._curve.committed()
        self._fruitless = self._row == first_row and not written
        self._count(turn.batches)
        return [acknowledgement(batch) for batch in turn.batches] + [result.settle for result in results], items

    def _apply_batches(self, now_ms: int, turn: Turn) -> None:
        """Steps 2 and 3. Batches that do not fit, because too much is due before them, go back and leave the turn."""
        for index, batch in enumerate(turn.batches):
            if self._pass_time(batch.received_at_ms):
                self._inbox.put_back(turn.batches[index:])
                del turn.batches[index:]
                return
            self._apply(batch)
        if not self._inbox.holds_batches:
            self._pass_time(now_ms)

    def _pass_time(self, to_ms: int) -> bool:
        """Act on what is due; facts go to the row in hand. True: more is due than fits into one transaction."""
        if not self.fleet.previous and not self.fleet.facts:
            self.fleet.begin_row(self._row + 1)
        to_ms = min(to_ms, self.fleet.latest_ms)  # a batch may have been received before the clock was put back
        return self.fleet.advance(to_ms, self._watermark_of(to_ms), MAX_TURN_TRANSITIONS)

    def _apply(self, batch: Batch) -> None:
        fleet, store = self.fleet, self.store
        events, raw, rejected = batch.events, batch.raw, [(one.reason, one.raw) for one in batch.rejected]
        limit = self._client_limit
        if limit is not None and len(fleet.states) + len(events) > limit.limit:
            within = limit.within(fleet.states, len(fleet.states), events, raw, self._steady.now_ms())
            events, raw, rejected = within.events, within.raw, rejected + within.rejected
        if events:
            at_ms = max(min(batch.received_at_ms, fleet.latest_ms), fleet.clock_ms)
            fleet.apply(events, at_ms, self._watermark_of(at_ms))
            self._append_row(at_ms, batch.source, raw)
            self.retention.heard(events[-1].occurred_at_ms)
        if rejected:
            store.quarantine.add(batch.source, min(batch.received_at_ms, fleet.latest_ms), rejected)
            for refused in refused_events(rejected):
                fleet.refused(refused, fleet.clock_ms)
            self._rejected += len(rejected)
            if self._rejected >= TRIM_REJECTED:  # a flood does not wait for the next purge to be trimmed
                self._rejected = self._purge_at_ms = 0
        for gap in batch.gaps:
            store.sources.write_gap(gap)
        last_event_ms = min(batch.received_at_ms, fleet.latest_ms) if events else None
        if batch.position is not None or last_event_ms is not None:
            store.sources.write(batch.source, batch.position, batch.caught_up_to_ms, last_event_ms)
        if batch.along is not None:
            batch.along()

    def _append_row(self, at_ms: int, source: str, raw: Iterable[bytes]) -> None:
        """Close the journal row in hand, if it says anything."""
        fleet = self.fleet
        if fleet.previous or fleet.facts:
            self._row += 1
            self.store.journal.append(self._row, at_ms, source, list(raw), fleet.previous, fleet.facts)
            fleet.begin_row(self._row + 1)

    def _write_outcome(self) -> list[OutboxItem]:
        """Alerts, what is kept for them, and rendered deliveries; returns the deliveries that may leave at once."""
        out, store = self.fleet.alerts.out, self.store
        if changes := self.fleet.forgotten_changes:
            store.clients.write_forgotten(
                (name, None if at_ms == NEVER else at_ms) for name, (_, at_ms) in changes.items()
            )
        if out.alerts:
            store.alerts.write(out.alerts.values())
        if out.throttles:
            store.alerts.write_throttles(out.throttles.values())
        store.alerts.write_kept(out)
        if not out.deliveries:
            return []
        return store.deliveries.add([self._render(planned) for planned in out.deliveries])

    def _purge(self, now_ms: int, steady_ms: int) -> None:
        self.stats.purged += self.store.purge(self.retention.before_ms(now_ms), self._checkpoint.row)
        self._purge_at_ms = steady_ms + PURGE_EVERY_MS

    def _count(self, batches: Sequence[Batch]) -> None:
        """The transaction has committed: count what it held."""
        out = self.fleet.alerts.out
        self.stats.count(batches, out)
        self.stats.transitions = self.fleet.counts.transitions
        self.stats.checkpoints = self._checkpoint.finished
        if self._client_limit is not None:
            self.stats.clients_refused = self._client_limit.refused
        for line in out.lines:
            if isinstance(line, AlertLine) and line.state == "suppressed" and line.reason:
                self.suppressed[line.reason] = self.suppressed.get(line.reason, 0) + 1
        if self.failure is not None:
            log.info(Event.STORE_RECOVERED)
        self.failure = None

    # When a transaction fails

    def _refuse(self, error: StoreError, turn: Turn) -> None:
        """The commit failed: everything as before, and a pause, because the next one is likely to fail too."""
        self.stats.commit_failures += 1
        if self.failure is None:
            log.error(Event.STORE_FAILED, error=str(error))
        self.failure = str(error)
        self._undo()
        # A batch with a position is tried again before any later one of its source: its position must not be passed.
        # When stopping it is not, or a full disk would keep us here: it is read again after the next start.
        again = [batch for batch in turn.batches if batch.position is not None and not self._inbox.is_stopping]
        self._inbox.put_back(again)
        self._announce(refusals([batch for batch in turn.batches if batch not in again], turn.works, error), [])
        self._inbox.pause(RETRY_AFTER_S)

    def _lose(self, error: StoreError, turn: Turn) -> None:
        """The cell is not ours any more, or memory is not what the store has: nothing more is decided by this writer."""
        self.stats.commit_failures += 1
        log.warning(Event.CELL_LOST, error=str(error))
        self._ended = self.failure = str(error)
        self._announce(refusals(turn.batches, turn.works, error), [])
        self._turn_away()
        self._give_up(error)

    def _undo(self) -> None:
        """The transaction is not: states, timers and alerts as the store has them, as soon as it can be read."""
        self.fleet.rollback()
        self._is_undone = True
        self._restored(pauses=False)

    def _restored(self, *, pauses: bool = True) -> bool:
        """Read what an undone transaction had changed. False: the store cannot be read, which is tried again."""
        try:
            self._row = self.store.journal.last_id()
            restore_alerts(self.store, self.fleet)
        except StoreError as error:
            self.failure = str(error)
            if pauses:
                self._inbox.pause(RETRY_AFTER_S)
            return False
        self._is_undone = False
        return True

    def _isolate(self, error: Exception, turn: Turn) -> None:
        """Something raised that must not: find the event that brings it about, quarantine it, and go on without it.

        Raises the error when no event brings it about, or too many did.
        """
        self._undo()
        self._inbox.put_back(turn.batches)
        self._announce(refusals([], turn.works, StoreError(f"internal error: {error!r}")), [])
        if turn.works:
            return  # it may have been one of them: without them the batches may be well
        try:
            if self._quarantine_cause(error, turn.batches):
                return
        except StoreError:
            return  # the disk is full as well: tried again
        if len(turn.batches) < 2:
            raise error
        self._inbox.take_one_by_one(len(turn.batches))

    def _quarantine_cause(self, error: Exception, batches: Sequence[Batch]) -> bool:
        """Take the event out of the batches, which are the first that wait; returns whether one was found."""
        for place, batch in enumerate(batches):
            index = bisect_batch.find(batch, self._is_well)
            if index is not None and self._quarantined < MAX_QUARANTINED:
                self._quarantined += 1
                log.error(Event.EVENT_QUARANTINED, source=batch.source, exc_info=error)
                self._inbox.replace(place, bisect_batch.without(batch, index, error))
                return True
        return False

    def _is_well(self, batch: Batch) -> bool:
        """Can it be applied? Tried in a transaction that is undone whatever comes of it. StoreError when that failed."""
        if self._is_undone:
            raise StoreError(self.failure or "the store cannot be read")
        try:
            with self.store.transaction():
                self.fleet.begin()
                self._pass_time(batch.received_at_ms)
                self._apply(batch)
                self._write_outcome()
                raise bisect_batch.Tried
        except bisect_batch.Tried:
            return True
        except StoreError:
            raise
        except Exception:  # noqa: BLE001  # that is the question
            return False
        finally:
            self._undo()


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """A collection in the middle of a transaction would only lengthen it."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
