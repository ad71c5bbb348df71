"""A bundle as the oracle reads it: what fired together because of one ending, told as one thing until the last of it is back.

The first list leaves at once. After that, whenever what fires differs from what was last sent, the next list leaves five minutes
after the last, at once when that is past; when nothing of it fires, one recovery leaves at the same pace. Nobody joins it later:
who is back and falls again speaks for itself. Alerts that are over as they fire are in the first list and in no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

INTERVAL = 300_000


@dataclass(kw_only=True, eq=False)
class Bundle:
    """One bundle. `firing`: whose alerts of it fire now; `sent`: who was in the last list, as far as they did not end with it."""

    rule: Mapping[str, Any]
    id: int
    firing: list[str]
    sent: list[str]
    sent_at: int
    due: int | None = None  # when the next list or the recovery leaves; None while there is nothing to say
    order: int = 0  # which of several that are due at one instant is first: that which had something to say first

    def back(self, client: str, now: int, order: int) -> None:
        """An alert of it has ended."""
        self.firing.remove(client)
        if self.due is None:
            self.due, self.order = max(now, self.sent_at + INTERVAL), order

    def next_list(self, now: int) -> list[str]:
        """The next list leaves: who is in it; nobody when all are back."""
        self.due, self.sent, self.sent_at = None, list(self.firing), now
        return self.sent
