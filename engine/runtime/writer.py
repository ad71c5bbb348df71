"""The one writer: it turns stimuli into transactions, and tells the world only of what has committed.

It runs in a thread of its own and is the only one that changes the fleet or the store. One turn:

1. take the batches that wait, up to `MAX_TURN_EVENTS` events, and other work that needs a transaction;
2. begin; for each batch let time pass to the instant at which it was received, then apply it: one journal row each;
3. when nothing else waits, let time pass to now;
4. write journal, positions, quarantine, alerts and rendered deliveries, and a slice of the checkpoint if one is going on;
5. COMMIT; only then publish the states, acknowledge the sources and hand the deliveries to the dispatcher.

When the commit fails everything is as it was before step 2: the batches are refused and their sources offer them again.
A fault of our own is treated alike, and then the event that brings it about is looked for and quarantined (`_isolate`); when
no event does, the writer gives up, loudly and with nothing acknowledged: after a restart all is as after a power cut.
Read `Writer.run_once` first.
"""

from __future__ import annotations

import gc
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from engine.actions.base import OutboxItem
from engine.clock import Clock
from engine.core.alerting.alert import AlertLine
from engine.core.events import LifecycleEvent
from engine.core.fleet import Fleet
from engine.core.presence.client_state import NEW_CLIENT
from engine.core.presence.query import QueryRequest
from engine.delivery.rendering import RenderRow
from engine.errors import StoreError
from engine.runtime import bisect_batch
from engine.sources.base import Batch
from engine.stores.base import Store
from engine.telemetry import Event, logger

log = logger(__name__)

T = TypeVar("T")

MAX_TURN_EVENTS = 1_000
"""Events in one transaction."""

MAX_TURN_TRANSITIONS = 1_000
"""Transitions that passing time may bring about in one transaction."""

CHECKPOINT_SLICE = 1_000
"""Client rows written along with one transaction: about 5 ms."""

CHECKPOINT_EVENTS = 500_000
"""Journalled events after which client rows are written, so that a restart has at most about so many to apply again."""

CHECKPOINT_AFTER_MS = 60_000
"""Time after which client rows are written, when there were fewer events."""

PURGE_EVERY_MS = 30_000
TRIM_REJECTED = 1_000
"""Rejected events after which the quarantine is trimmed at once."""

RETRY_AFTER_S = 1.0
"""Pause after a failed commit (a full disk, say)."""

MAX_POISONED = 100
"""Events quarantined by faults of ours since the start; with more of them, going on does more harm than stopping."""

IDLE_S = 0.25
"""Longest wait when nothing is due: sources may have caught up meanwhile."""

HELD_S = 0.02
"""Wait after a turn in which nothing happened although something was due: it waits for a source to catch up."""


@dataclass(slots=True)
class Stats:
    """Counters since the start; plain attributes, read by the metrics page."""

    alerts: int = 0
    batches: int = 0
    checkpoints: int = 0
    commit_failures: int = 0
    commits: int = 0
    deliveries: int = 0
    events: int = 0
    purged: int = 0
    rejected: int = 0
    transitions: int = 0


class Writer:
    """Owns the fleet and the store. `start` it, `offer` batches, `submit` work, `stop` it."""

    def __init__(
        self,
        store: Store,
        fleet: Fleet,
        clock: Clock,
        *,
        render: RenderRow,
        watermark_of: Callable[[int], int],
        announce: Callable[[list[Callable[[], None]], list[OutboxItem]], None],
        keep_ms: int,
        give_up: Callable[[Exception], None] = lambda fault: None,
        checkpoint_events: int = CHECKPOINT_EVENTS,
        checkpoint_slice: int = CHECKPOINT_SLICE,
        asked: Callable[[list[QueryRequest]], None] = lambda asks: None,
        reached: Callable[[str], None] = lambda place: None,
    ) -> None:
        self.store = store
        self.fleet = fleet
        self.stats = Stats()
        self.suppressed: dict[str, int] = {}  # alerts since the start, by the reason
        self.failure: str | None = None  # why the last commit failed, None when it did not
        self._clock = clock
        self._render = render
        self._watermark_of = watermark_of
        self._announce = announce
        self._keep_ms = keep_ms
        self._give_up = give_up  # told of a fault that ended the writer
        self._asked = asked  # told, in the writer's thread, whom the fleet wants asked about, once that has committed
        self._reached = reached  # told of places where tests may end the process
        self._gone: str | None = None  # why the writer has ended before it was stopped
        self._poisoned = 0
        self._alone = 0  # so many batches are taken one by one, because together they failed
        self._checkpoint_events = checkpoint_events
        self._checkpoint_slice = checkpoint_slice
        self._batches: deque[Batch] = deque()
        self._works: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._woken = threading.Condition()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._row = store.journal.last_id()
        self._dirty: set[str] = set()
        self._pending: list[str] = []  # clients the checkpoint going on has still to write
        self._target = self._row  # journal row that the checkpoint going on will vouch for
        self._checkpoint = int(store.meta("checkpoint") or 0)
        self._since_checkpoint = 0
        self._checkpoint_at_ms = clock.now_ms()
        self._purge_at_ms = 0
        self._fruitless = False  # did nothing happen in the last turn?
        self._rejected = 0  # since the quarantine was trimmed by their number

    # From other threads

    def start(self) -> None:
        """Begin to work."""
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def offer(self, batch: Batch) -> None:
        """Hand over a batch; its `acknowledge` is called once it is durable, or was refused."""
        with self._woken:
            self._batches.append(batch)
            self._woken.notify()
        if self._gone is not None:
            self._turn_away()

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Do something inside the next transaction; the future is done when that has committed."""
        done: Future[T] = Future()
        with self._woken:
            self._works.append((work, done))
            self._woken.notify()
        if self._gone is not None:
            self._turn_away()
        return done

    @property
    def waiting(self) -> int:
        """Batches not yet applied."""
        return len(self._batches)

    def stop(self) -> None:
        """Finish what waits, write the checkpoint as far as a few seconds allow, and end the thread."""
        with self._woken:
            self._stopping = True
            self._woken.notify()
        if self._thread is not None:
            self._thread.join()

    # In the writer's thread

    def _run(self) -> None:
        try:
            self._work()
        except Exception as fault:  # a thread that dies in silence leaves a service that looks alive
            log.error(Event.WRITER_FAILED, exc_info=fault)
            self._gone = self.failure = f"the writer has ended by a fault of ours: {fault!r}"
            self._turn_away()
            self._give_up(fault)

    def _turn_away(self) -> None:
        """Refuse what waits, because nobody will ever do it."""
        error = StoreError(self._gone or "the writer has ended")
        with self._woken:
            refused = [_acknowledge(batch, error) for batch in self._batches]
            refused += [_settle(done, None, error) for _, done in self._works]
            self._batches.clear()
            self._works.clear()
        self._announce(refused, [])

    def _work(self) -> None:
        while True:
            with self._woken:
                if not self._batches and not self._works and not self._stopping:
                    self._woken.wait(self._idle_s())
                if self._stopping and not self._batches and not self._works:
                    break
            self.run_once()

    def _idle_s(self) -> float:
        if self._pending:
            return 0.0
        ahead_ms = min(self.fleet.wake_ms - self._clock.now_ms(), int(IDLE_S * 1000))
        return max(HELD_S if self._fruitless else 0.001, ahead_ms / 1000)

    def run_once(self) -> None:
        """One turn; see the module's steps."""
        now_ms = self._clock.now_ms()
        batches, works = self._take()
        if not batches and not works and not self._anything_due(now_ms):
            return
        collected = gc.isenabled()
        gc.disable()
        try:
            announced = self._transact(now_ms, batches, works)
        except StoreError as error:
            self._refuse(error, batches, works)
            return
        except Exception as fault:  # noqa: BLE001  # whatever it is, it is undone and looked into
            self._isolate(fault, batches, works)
            return
        finally:
            if collected:
                gc.enable()
        self._announce(*announced)

    def _anything_due(self, now_ms: int) -> bool:
        return bool(
            self.fleet.wake_ms <= now_ms
            or self._pending
            or self.failure is not None
            or now_ms >= self._purge_at_ms
            or self._checkpoint_is_due(now_ms)
        )

    def _take(self) -> tuple[list[Batch], list[tuple[Callable[[], Any], Future[Any]]]]:
        """Batches of at most `MAX_TURN_EVENTS` events together (a larger one alone), and all other work."""
        batches: list[Batch] = []
        room = MAX_TURN_EVENTS
        while self._batches:
            size = len(self._batches[0].events) + len(self._batches[0].rejected)
            if batches and (size > room or self._alone):
                break
            room -= size
            batches.append(self._batches.popleft())
        self._alone = max(0, self._alone - 1)
        works = []
        while self._works:
            works.append(self._works.popleft())
        return batches, works

    def _transact(
        self, now_ms: int, batches: list[Batch], works: list[tuple[Callable[[], Any], Future[Any]]]
    ) -> tuple[list[Callable[[], None]], list[OutboxItem]]:
        fleet, store = self.fleet, self.store
        first_row, written = self._row, 0
        fleet.begin()
        results: list[tuple[Future[Any], Any, Exception | None]] = []
        with store.transaction():
            late = None
            for index, batch in enumerate(batches):
                if self._pass_time(batch.received_at_ms):
                    late = index  # too much is due: what is left waits for the next turn
                    break
                self._apply(batch)
            if late is None and not self._batches:
                self._pass_time(now_ms)
            elif late is not None:
                self._put_back(batches[late:])
                del batches[late:]
            for work, done in works:
                results.append((done, *_tried(work)))
            self._append_row(now_ms, "", ())
            if now_ms >= self._purge_at_ms:
                fleet.book.purge(now_ms)
            items = self._write_outcome()
            written = self._write_slice(now_ms, first_row)
            if self.failure is not None:
                store.write_meta("written_again_at", str(now_ms))  # so that this commit shows whether the disk takes it
            if now_ms >= self._purge_at_ms:
                self._purge(now_ms)
        self._dirty.update(fleet.committed)
        fleet.commit()
        if asks := fleet.take_query_requests():
            self._asked(asks)
        self._slice_committed(written)
        self._fruitless = self._row == first_row and not written
        self._count(batches)
        return [_acknowledge(batch) for batch in batches] + [_settle(*result) for result in results], items

    def _pass_time(self, to_ms: int) -> bool:
        """Act on what is due; facts go to the row in hand."""
        if not self.fleet.previous and not self.fleet.facts:
            self.fleet.begin_row(self._row + 1)
        return self.fleet.advance(to_ms, self._watermark_of(to_ms), MAX_TURN_TRANSITIONS)

    def _apply(self, batch: Batch) -> None:
        fleet, store = self.fleet, self.store
        if batch.events:
            at_ms = max(batch.received_at_ms, fleet.clock_ms)
            fleet.apply(batch.events, at_ms, self._watermark_of(at_ms))
            self._append_row(at_ms, batch.source, batch.raw)
        if batch.rejected:
            rejected = [(rejection.reason, rejection.raw) for rejection in batch.rejected]
            store.quarantine.add(batch.source, batch.received_at_ms, rejected)
            self._rejected += len(rejected)
            if self._rejected >= TRIM_REJECTED:  # a flood does not wait for the next purge to be trimmed
                self._rejected = self._purge_at_ms = 0
        for gap in batch.gaps:
            store.sources.write_gap(gap)
        last_event_ms = batch.received_at_ms if batch.events else None
        if batch.position is not None or last_event_ms is not None:
            store.sources.write(batch.source, batch.position, batch.caught_up_to_ms, last_event_ms)

    def _append_row(self, at_ms: int, source: str, raw: Iterable[bytes]) -> None:
        """Close the journal row in hand, if it says anything."""
        fleet = self.fleet
        if fleet.previous or fleet.facts:
            self._row += 1
            self.store.journal.append(self._row, at_ms, source, list(raw), fleet.previous, fleet.facts)
            fleet.begin_row(self._row + 1)

    def _write_outcome(self) -> list[OutboxItem]:
        """Alerts, what is kept for them, and rendered deliveries of this transaction; returns the deliveries that are due."""
        out, store = self.fleet.book.out, self.store
        if out.alerts:
            store.alerts.write(out.alerts.values())
        if out.throttles:
            store.alerts.write_throttles(out.throttles.values())
        store.alerts.write_kept(out)
        if not out.deliveries:
            return []
        rows = [self._render(planned) for planned in out.deliveries]
        return store.deliveries.add(rows)

    def _count(self, batches: list[Batch]) -> None:
        stats, out = self.stats, self.fleet.book.out
        stats.commits += 1
        stats.batches += len(batches)
        events = sum(len(batch.events) for batch in batches)
        stats.events += events
        stats.rejected += sum(len(batch.rejected) for batch in batches)
        stats.deliveries += len(out.deliveries)
        stats.alerts += len(out.alerts)
        for line in out.lines:
            if isinstance(line, AlertLine) and line.state == "suppressed" and line.reason:
                self.suppressed[line.reason] = self.suppressed.get(line.reason, 0) + 1
        stats.transitions = self.fleet.counts.transitions
        self._since_checkpoint += events
        if self.failure is not None:
            log.info(Event.STORE_RECOVERED)
        self.failure = None

    def _refuse(
        self, error: StoreError, batches: list[Batch], works: list[tuple[Callable[[], Any], Future[Any]]]
    ) -> None:
        """The commit failed: everything as before, and a pause, because the next one is likely to fail too."""
        self.stats.commit_failures += 1
        if self.failure is None:
            log.error(Event.STORE_FAILED, error=str(error))
        self.failure = str(error)
        self._undo()
        # A batch with a position is tried again before any later one of its source: its position must not be passed.
        # When stopping it is not, or a full disk would keep us here: it is read again after the next start.
        again = [batch for batch in batches if batch.position is not None and not self._stopping]
        self._put_back(again)
        refused = [_acknowledge(batch, error) for batch in batches if batch not in again]
        refused += [_settle(done, None, error) for _, done in works]
        self._announce(refused, [])
        with self._woken:
            if not self._stopping:
                self._woken.wait(RETRY_AFTER_S)

    def _undo(self) -> None:
        """The transaction is not: states, deadlines and alerts as the store has them."""
        self._row = self.store.journal.last_id()
        self.fleet.rollback()
        alerts = self.store.alerts
        self.fleet.restore(alerts.open(), alerts.throttles(), alerts.kept())

    # Faults of ours

    def _isolate(
        self, fault: Exception, batches: list[Batch], works: list[tuple[Callable[[], Any], Future[Any]]]
    ) -> None:
        """Something raised that must not: find the event that brings it about, quarantine it, and go on without it.

        Raises the fault when no event brings it about, or too many did.
        """
        self._undo()
        self._put_back(batches)
        error = StoreError(f"a fault of ours: {fault!r}")
        self._announce([_settle(done, None, error) for _, done in works], [])
        if works:
            return  # it may have been one of them: without them the batches may be well
        try:
            if self._quarantine_poison(fault, batches):
                return
        except StoreError:
            return  # the disk is full as well: tried again
        if len(batches) < 2:
            raise fault
        self._alone = len(batches)

    def _quarantine_poison(self, fault: Exception, batches: list[Batch]) -> bool:
        """Take the event out of the batches, which are the first that wait; returns whether one was found."""
        for place, batch in enumerate(batches):
            index = bisect_batch.find(batch, self._is_well)
            if index is not None and self._poisoned < MAX_POISONED:
                self._poisoned += 1
                log.error(Event.EVENT_QUARANTINED, source=batch.source, exc_info=fault)
                self._batches[place] = bisect_batch.without(batch, index, fault)
                return True
        return False

    def _is_well(self, batch: Batch) -> bool:
        """Can it be applied? Tried in a transaction that is undone whatever comes of it. StoreError when that failed."""
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

    def _put_back(self, batches: list[Batch]) -> None:
        with self._woken:
            self._batches.extendleft(reversed(batches))

    # Checkpoint and retention

    def _checkpoint_is_due(self, now_ms: int) -> bool:
        return bool(self._dirty) and (
            self._since_checkpoint >= self._checkpoint_events or now_ms - self._checkpoint_at_ms >= CHECKPOINT_AFTER_MS
        )

    def _write_slice(self, now_ms: int, committed_row: int) -> int:
        """Write some client rows of the checkpoint going on, or begin one; returns how many were written."""
        if not self._pending:
            if not self._checkpoint_is_due(now_ms):
                return 0
            # Neighbours in the table are written together. States of this very transaction may be among them: they
            # are newer than the target, which is allowed; recovery skips what a state contains. But not all of them
            # are, so the rows of this transaction are not vouched for.
            self._pending = sorted(self._dirty, reverse=True)
            self._dirty = set()
            self._target = committed_row
            self._since_checkpoint, self._checkpoint_at_ms = 0, now_ms
        states = self.fleet.states
        slice_ = self._pending[-self._checkpoint_slice :]
        found = ((client, states.get(client, NEW_CLIENT)) for client in slice_)
        self.store.clients.write((client, None if state is NEW_CLIENT else state) for client, state in found)
        if len(slice_) == len(self._pending):
            self.store.write_meta("checkpoint", str(self._target))
        self._reached("checkpoint")
        return len(slice_)

    def _slice_committed(self, written: int) -> None:
        if written:
            del self._pending[-written:]
            if not self._pending:
                self._checkpoint = self._target
                self.stats.checkpoints += 1

    def _purge(self, now_ms: int) -> None:
        self.stats.purged += self.store.purge(now_ms - self._keep_ms, self._checkpoint)
        self._purge_at_ms = now_ms + PURGE_EVERY_MS

    def recover(self, decode: Callable[[list[bytes], int], list[LifecycleEvent]]) -> int:
        """Load the states and apply the journal after the checkpoint; returns how many events were applied again.

        Called before `start`. `decode` reads stored events, which were accepted once and are so again.
        """
        fleet, store = self.fleet, self.store
        fleet.states.update(store.clients.load())
        applied = 0
        for row in store.journal.after(self._checkpoint):
            events = decode(list(row.events), row.at_ms) if row.events else []
            fleet.recall_row(row.id, events, row.facts, row.at_ms)
            self._dirty.update(event.client for event in events)
            self._dirty.update(fact.client for fact in row.facts)
            applied += len(events)
        self._since_checkpoint = applied
        fleet.restore(store.alerts.open(), store.alerts.throttles(), store.alerts.kept())
        with store.reading() as reader:
            for gap in reversed(reader.gaps()):
                fleet.note_gap(gap.to_ms, gap.noted_at_ms)
        return applied


def _tried(work: Callable[[], Any]) -> tuple[Any, Exception | None]:
    """Do one piece of work; what it raises is its caller's, and does not stop the others."""
    try:
        return work(), None
    except StoreError:
        raise
    except Exception as error:  # noqa: BLE001  # its caller is told
        return None, error


def _acknowledge(batch: Batch, error: Exception | None = None) -> Callable[[], None]:
    return lambda: batch.acknowledge(error) if batch.acknowledge is not None else None


def _settle(done: Future[Any], value: Any, error: Exception | None) -> Callable[[], None]:
    def settle() -> None:
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(value)

    return settle
