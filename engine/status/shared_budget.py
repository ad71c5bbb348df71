"""One budget for several processes behind one address: each has a share of the rate, and they exchange what they do not need.

The decisions are those of `core.query_shares`; a ledger that all processes reach holds the shares. A thread renews this
process's share. While the ledger cannot be reached, the share is used until its lease ends, then its floor, then nothing.
Read `SharedBudget.renew`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from engine.core.query_shares import FLOOR_MS, LEASE_MS, Granted
from engine.errors import RollcallError
from engine.status.budget import Budget

RENEW_S: Final = 2.0
"""Between two renewals while nothing changes."""

HURRY_S: Final = 0.5
"""Between two renewals while more calls are wanted than granted, or while calls come down to a lower limit."""

PRESSED_S: Final = 15.0
"""So long after calls had to wait for the limit, more are wanted."""


class ShareLedger(Protocol):
    """Where the shares of all processes are written down."""

    def exchange(self, *, using: int, floor: int, wanted: int, rate: int) -> Granted:
        """Renew and change this process's share, see `core.query_shares.exchanged`. RollcallError when the ledger cannot be reached."""
        ...

    def leave(self) -> None:
        """This process makes no more calls. RollcallError when that cannot be written down: then its share ends by itself."""
        ...


class SharedBudget:
    """A `CallBudget` for one process of several. `start` it, `close` it."""

    def __init__(
        self,
        rate: int,
        ledger: ShareLedger,
        now_s: Callable[[], float] = time.monotonic,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`rate`: calls a second of all processes together."""
        self.rate = rate
        self.trouble: str | None = None  # why the ledger could not be reached the last time
        self._budget = Budget(rate, now_s, sleep=sleep)
        self._budget.limit(0)
        self._ledger, self._now_s = ledger, now_s
        self._granted = Granted(0, 0)
        self._renewed_s: float | None = None  # before the last renewal that succeeded was asked for
        self._pressed_s: float | None = None  # when a call had to wait for the limit, the last time
        self._woken = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="query-share", daemon=True)

    def start(self) -> None:
        """Take a share, in the thread, and keep it renewed. Without the ledger there is none yet, and it is tried again."""
        self._thread.start()

    def close(self) -> None:
        """Give the share back; the caller makes no more calls."""
        self._closing = True
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join()
        self._budget.limit(0)
        if self._renewed_s is None:
            return
        try:
            self._ledger.leave()
        except RollcallError as error:
            self.trouble = str(error)

    def reserve(self) -> float:
        """See `Budget.reserve`."""
        self._expire()
        wait_s = self._budget.reserve()
        if wait_s > 0 and self._budget.is_used_up():
            if not self._is_pressed():
                self._woken.set()  # the first call that waits does not wait for the next renewal, too
            self._pressed_s = self._now_s()
        return wait_s

    def done(self, *, answered: bool = True) -> None:
        """See `Budget.done`."""
        self._budget.done(answered=answered)

    def pause(self, seconds: float) -> None:
        """See `Budget.pause`."""
        self._budget.pause(seconds)

    def renew(self) -> None:
        """Exchange with the ledger: one transaction. Its trouble is remembered and not raised."""
        asked_s = self._now_s()
        self._expire()
        using = max(self._budget.rate, self._budget.counted())
        wanted = self.rate if self._is_pressed() else 0
        try:
            granted = self._ledger.exchange(using=using, floor=self._granted.floor, wanted=wanted, rate=self.rate)
        except RollcallError as error:
            self.trouble = str(error)
            return
        self.trouble = None
        self._granted, self._renewed_s = granted, asked_s
        self._budget.limit(granted.limit)

    def next_renewal_s(self) -> float:
        """Seconds until the next renewal."""
        is_coming_down = self._budget.counted() > self._budget.rate
        return HURRY_S if self._is_pressed() or is_coming_down or self.trouble is not None else RENEW_S

    def _run(self) -> None:
        while not self._closing:
            self._woken.clear()
            self.renew()
            self._woken.wait(self.next_renewal_s())

    def _is_pressed(self) -> bool:
        return self._pressed_s is not None and self._now_s() - self._pressed_s < PRESSED_S

    def _expire(self) -> None:
        """What was not renewed in time is used no longer."""
        if self._renewed_s is None:
            return
        age_ms = (self._now_s() - self._renewed_s) * 1000
        if age_ms >= LEASE_MS + FLOOR_MS:
            self._granted = Granted(0, 0)
        if age_ms >= LEASE_MS:
            self._budget.limit(min(self._budget.rate, self._granted.floor))
