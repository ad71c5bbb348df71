"""A replica that stands by for a cell: it holds the states warm, and takes the cell as soon as it may. Read `Standby.until_owner`.

It runs in one thread, which is the only one that uses the store's session meanwhile. What it has loaded is thrown away with its cell
when the journal turns out to be another one (StoreBehind), as after a failover that lost some of it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from engine.core.cell_placement import STANDBY, should_wait
from engine.errors import StoreBehind, StoreError
from engine.runtime.history_codec import decode_stored
from engine.runtime.recovery import loading_states
from engine.runtime.store_clock import StoreClock
from engine.runtime.writer import Writer
from engine.telemetry import Event, logger

if TYPE_CHECKING:  # it needs a package that is not always installed
    from engine.stores.postgres.store import PostgresStore

DESCRIBE_S: Final = 1.0
"""Between two times that it tells the others how it stands."""

RECENT_S: Final = 3 * DESCRIBE_S
"""A replica that has not said anything for longer does not count."""

POLL_S: Final = 0.1
"""Between two looks at the journal and at the owner: a hot standby is at most so far behind."""

RETRY_S: Final = 0.5
"""Before a store that cannot be reached is tried again."""

SHORTEST_WAIT_S: Final = 0.005
"""After the lease has run out, by the database's clock."""

log = logger(__name__)


class Standby:
    """Follows a cell's journal until this replica owns it."""

    def __init__(
        self, store: PostgresStore, writer: Writer, clock: StoreClock, others_owned: Callable[[], int] = lambda: 0
    ) -> None:
        """`others_owned`: how many other cells this replica owns."""
        self._others_owned = others_owned
        self._store, self._writer, self._clock = store, writer, clock
        self._ownership = store.ownership
        self.is_warm = False  # are the states loaded?
        self.trouble: str | None = None  # why the store cannot be followed at present
        self.owner: str | None = None  # the replica that owned the cell at the last look; None: none
        self._followed_s = time.monotonic()
        self._described_s = 0.0
        self._seen: tuple[object, ...] = ()  # what the cell showed when its journal was read last
        self.unowned_s = 0.0  # for how long the cell had no owner when this replica took it; 0: it was new

    @property
    def name(self) -> str:
        """Of the cell."""
        return self._ownership.name

    @property
    def epoch(self) -> int:
        """Of how many takings this replica's is the newest; 0: it is not the owner."""
        return self._ownership.epoch

    def lag_s(self) -> float:
        """For how long the journal has not been read to its end."""
        return time.monotonic() - self._followed_s

    def until_owner(self, halt: threading.Event) -> bool:
        """Stand by. True: this replica owns the cell and is ready to decide; False: halted. StoreBehind: load everything again."""
        while not halt.is_set():
            wait_s = RETRY_S
            try:
                if not self.is_warm:
                    self._load()
                wait_s = self._look()
                self.trouble = None
                if self._ownership.is_owner:
                    return True
            except StoreBehind:
                raise
            except StoreError as error:
                if self.trouble is None:
                    log.warning(Event.CELL_UNREACHABLE, cell=self._ownership.name, error=str(error))
                self.trouble = str(error)
            halt.wait(wait_s)
        return False

    def _load(self) -> None:
        with loading_states():
            applied = self._writer.load(decode_stored)
        self.is_warm, self._followed_s = True, time.monotonic()
        fleet = self._writer.fleet
        log.info(Event.CELL_STANDBY, cell=self._ownership.name, clients=len(fleet.states), events=applied)

    def _look(self) -> float:
        """Apply what the journal has got, and take the cell if it is free; returns how long to wait before the next look."""
        ownership = self._ownership
        row, looked_s = self._clock.ask_beside(ownership.look, lambda row: row.now_ms), time.monotonic()
        seen = row.epoch, row.token, row.head
        if seen != self._seen:  # else nothing was committed since
            self._writer.follow(decode_stored)
        self._seen, self._followed_s = seen, looked_s
        if looked_s - self._described_s >= DESCRIBE_S:
            self._store.describe(STANDBY, self._writer.row)
            self._described_s = looked_s
        self.owner = row.owner if row.left_s > 0 else None
        if row.left_s > 0:
            return min(POLL_S, row.left_s + SHORTEST_WAIT_S)
        if not row.may_be_of(ownership.replica) and row.left_s > -ownership.lease_s:
            return POLL_S  # another replica shall have it: it gets the time of a lease to take it
        if row.wanted is None and row.left_s > -ownership.lease_s and self._should_wait(row.cell):
            return POLL_S
        if not ownership.take():
            return SHORTEST_WAIT_S
        self.unowned_s = -row.left_s if row.epoch else 0.0
        try:
            self._writer.follow(decode_stored)  # what its last owner committed since
            self._writer.take_over()
        except BaseException:
            with suppress(StoreError):  # then its lease runs out
                ownership.release()
            raise
        self.owner = ownership.replica
        return 0.0

    def _should_wait(self, cell: int) -> bool:
        """Is another replica in a better place for this cell, which is free?"""
        owned = self._others_owned()
        return owned > 0 and should_wait(self._store.replicas(RECENT_S), cell, self._ownership.replica, owned)
