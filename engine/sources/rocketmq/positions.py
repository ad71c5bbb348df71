"""How far every queue of a RocketMQ source has been read: one JSON text, committed with the effect of what was read.

One text a source, not a row a queue: a batch holds messages of several queues, and a text that travels in the batch
needs nothing of the seam or the store. Batches of a source are applied in the order in which they were offered, so the
newest text is right for all queues. (Where several machines share the queues, each queue needs a row, as its lock.) Pure.
"""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

from engine.errors import StoreError
from engine.sources.rocketmq.pipe import QueueName

_VERSION: Final = 1
UNKNOWN: Final = -1


class QueuePlace(NamedTuple):
    """Where reading goes on in one queue, and by what the log can be recognised as the one that was read."""

    offset: int  # of the next message
    last_offset: int = UNKNOWN  # of the last message that was read and matched
    stored_at_ms: int = UNKNOWN  # when the broker stored that one, by its clock
    reached_at_ms: int = UNKNOWN  # the queue's end, as of this instant of our clock, had been read

    def gap_from_ms(self) -> int | None:
        """An instant after which everything that was never read was stored, epoch milliseconds; None: not known."""
        known = max(self.stored_at_ms, self.reached_at_ms)
        return known if known != UNKNOWN else None


class Positions:
    """The places of all queues of a source, and the instant of its very first start."""

    def __init__(self, since_ms: int, places: dict[QueueName, QueuePlace] | None = None) -> None:
        self.since_ms = since_ms
        self.places = places if places is not None else {}

    @classmethod
    def parse(cls, text: str | None, now_ms: int) -> Positions:
        """The committed positions; without a text this is the very first start.

        Raises:
            StoreError: the text is not a position of this source.
        """
        if text is None:
            return cls(now_ms)
        try:
            stored = json.loads(text)
            if stored["version"] != _VERSION:
                raise ValueError(f"version {stored['version']}")
            places = {_name(key): QueuePlace(*map(int, value)) for key, value in stored["queues"].items()}
            return cls(int(stored["since"]), places)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(f"the stored position of a RocketMQ source cannot be read: {error!r}") from error

    def text(self) -> str:
        """As it is committed."""
        queues: dict[str, Any] = {str(name): place for name, place in sorted(self.places.items())}
        return json.dumps({"version": _VERSION, "since": self.since_ms, "queues": queues}, separators=(",", ":"))


def _name(text: str) -> QueueName:
    topic, _, rest = text.partition("@")
    broker, _, queue = rest.rpartition(":")
    return QueueName(topic, broker, int(queue))
