"""A connection that is not waited for without end.

A server that stands still, or a proxy between that keeps what it is given, answers nothing and closes nothing, and the network reports no
fault. psycopg would wait for ever; `PatientConnection` gives up, and a connection that was given up is lost like any other.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any, TypeVar

import psycopg

T = TypeVar("T")

LOOKS_S = 0.1
"""How often it is looked whether the patience is over."""


class PatientConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection on which each answer is waited for at most `patience_s` seconds."""

    patience_s: float = 60.0

    def wait(self, gen: Generator[Any, Any, T], interval: float = LOOKS_S, *limits: Any, **named: Any) -> T:
        """See psycopg: let a generator of its do its work. OperationalError when it takes too long, and then the connection is closed."""
        return super().wait(self._bounded(gen), interval, *limits, **named)

    def _bounded(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        """The same generator, which raises when nothing was ready for too long."""
        deadline_s = time.monotonic() + self.patience_s
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() > deadline_s:
                    gen.close()
                    self.pgconn.finish()
                    raise psycopg.OperationalError(f"the server has not answered for {self.patience_s:.0f} s")
                wanted = gen.send(ready)
        except StopIteration as done:
            value: T = done.value
            return value
