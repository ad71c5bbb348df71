"""What happened to each client in the time before now, for roll calls with `over`: how often it flapped, and how long it was offline.

Recorded while any rule looks back, for as long as the longest `over`. For each client there are at most `PARTS` + 1 numbers of each kind: what happened
in one part of that time is added up, so the edge of a period is as exact as one part of it, an hour of a week.
What is recorded begins when the first such rule is loaded; without one, nothing is kept and nothing is asked. Read `LookBack.of`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from engine.core.alerting.open_alerts import OpenAlerts
from engine.core.alerting.past import HEAD, PastRecord
from engine.core.presence.client_state import OFFLINE, ClientState, Transition
from engine.core.rules import Rule

PARTS: Final = 168
"""Into how many parts the longest `over` is divided: the hours of a week."""

SHORTEST_PART_MS: Final = 1_000


class LookBack:
    """The records of all clients; what changes of them goes into the output of the step."""

    def __init__(self, alerts: OpenAlerts) -> None:
        self.over_ms = 0  # the longest `over` of any rule; 0: nothing is recorded
        self._alerts = alerts
        self._records: dict[str, PastRecord] = {}
        self._orphans: list[str] = []  # clients whose kept records are to go
        self._part_ms = 0  # 0: nothing was recorded yet
        self._began_ms = 0
        self._origin_ms = 0  # where part 0 begins; it moves when the clock is set

    def use(self, rules: Iterable[Rule], now_ms: int) -> None:
        """Record for as long as the longest `over` of these rules, from `now_ms` on, or from the first instant that `resume` names."""
        self.over_ms = max([rule.schedule.over_ms for rule in rules if rule.schedule is not None], default=0)
        if self.over_ms and now_ms and not self._part_ms:
            self._begin(now_ms)

    def _begin(self, at_ms: int) -> None:
        self._part_ms, self._began_ms, self._origin_ms = _part_of(self.over_ms), at_ms, at_ms
        self._head_changed()

    def resume(self, to_ms: int) -> None:
        """Time is about to pass to `to_ms`: begin to record, or forget everything, as the rules want it now."""
        for client in self._orphans:
            self._alerts.out.past.setdefault(client, PastRecord(client, {}))
        self._orphans = []
        if not self.over_ms:
            if self._part_ms:
                self._forget_all()
        elif not self._part_ms:
            self._begin(to_ms)
        elif self._part_ms != _part_of(self.over_ms):
            self._divide(_part_of(self.over_ms))

    def _forget_all(self) -> None:
        for client in [HEAD, *self._records]:
            self._alerts.out.past[client] = PastRecord(client, {})
        self._records = {}
        self._part_ms = 0

    def _head_changed(self) -> None:
        self._alerts.out.past[HEAD] = PastRecord(HEAD, {self._part_ms: [self._began_ms, self._origin_ms]})

    def _divide(self, part_ms: int) -> None:
        """Parts have another length from now on: what is known is put where the old ones began."""
        before_ms, self._part_ms = self._part_ms, part_ms
        for record in self._records.values():
            parts: dict[int, list[int]] = {}
            for number, (flaps, offline_ms) in record.parts.items():
                place = number * before_ms // part_ms
                known = parts.setdefault(place, [0, 0])
                known[0] += flaps
                known[1] += offline_ms
            record.parts = parts
            self._alerts.out.past[record.client] = record
        self._head_changed()

    # What happens

    def flap(self, client: str, at_ms: int) -> None:
        """A change of the client's status reverted before it settled."""
        if not self._part_ms:
            return
        self._part(client, (at_ms - self._origin_ms) // self._part_ms, at_ms)[0] += 1

    def settled(self, transition: Transition, before: ClientState) -> None:
        """A client's settled status changed; `before`: its state until then."""
        if before.settled != OFFLINE or not self._part_ms:
            return
        at_ms, part_ms = transition.settled_at_ms, self._part_ms
        from_ms = max(before.occurred_at_ms, self._began_ms, at_ms - self.over_ms) - self._origin_ms
        until_ms = min(transition.occurred_at_ms, at_ms) - self._origin_ms
        while from_ms < until_ms:
            number = from_ms // part_ms
            end_ms = min((number + 1) * part_ms, until_ms)
            self._part(transition.client, number, at_ms)[1] += end_ms - from_ms
            from_ms = end_ms

    def _part(self, client: str, number: int, at_ms: int) -> list[int]:
        """The numbers of one part of a client's time; what is too old by now is forgotten."""
        record = self._records.get(client)
        if record is None:
            record = self._records[client] = PastRecord(client, {})
        self._alerts.out.past[client] = record
        found = record.parts.get(number)
        if found is None:
            oldest = (at_ms - self.over_ms - self._origin_ms) // self._part_ms
            if record.parts and min(record.parts) < oldest:
                record.parts = {place: part for place, part in record.parts.items() if place >= oldest}
            found = record.parts[number] = [0, 0]
        return found

    def forget(self, client: str) -> None:
        """The client is no longer kept."""
        record = self._records.pop(client, None)
        if record is not None:
            self._alerts.out.past[client] = PastRecord(client, {})

    # What is asked

    def of(self, client: str, state: ClientState, at_ms: int, over_ms: int) -> tuple[int, int]:
        """How often a client flapped in `over_ms` before an instant, and for how many milliseconds it was offline."""
        from_ms = max(at_ms - over_ms, self._began_ms)
        flaps = offline_ms = 0
        record = self._records.get(client)
        for number, (some, down_ms) in record.parts.items() if record is not None else ():
            end_ms = self._origin_ms + (number + 1) * self._part_ms
            if end_ms > from_ms:
                flaps += some
                offline_ms += min(down_ms, end_ms - from_ms)
        if state.settled == OFFLINE:
            offline_ms += max(0, at_ms - max(state.occurred_at_ms, from_ms))
        return flaps, min(offline_ms, at_ms - from_ms)

    # When our own clock was set, and restarts

    def step(self, step_ms: int) -> None:
        """The clock was set: what happened is as long ago as before."""
        if self._part_ms:
            self._began_ms += step_ms
            self._origin_ms += step_ms
            self._head_changed()

    def restore(self, records: Iterable[PastRecord]) -> None:
        """Start again with what was kept."""
        self._records = {record.client: record for record in records}
        head = self._records.pop(HEAD, None)
        self._part_ms = 0
        if head is None:  # nobody knows what they mean
            self._orphans, self._records = list(self._records), {}
            return
        for part_ms, (began_ms, origin_ms) in head.parts.items():
            self._part_ms, self._began_ms, self._origin_ms = part_ms, began_ms, origin_ms


def _part_of(over_ms: int) -> int:
    return max(SHORTEST_PART_MS, -(-over_ms // PARTS))
