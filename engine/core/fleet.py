"""One stimulus after another: the fleet's states, what is due, and what follows from each event or passed instant.

The two halves of every decision meet here. What concerns one client is `debounce.learn` and `debounce.settle`, pure
functions of a state; what concerns many is the `AlertManager`. `Fleet` holds both and knows what is due when. It never reads a
clock and never does I/O, so the service, `replay`, rule tests and `explain` run the same code on real or virtual time.

A status answer is a stimulus like an event: `Fleet.answer`. Whom to ask, the fleet says by `take_query_requests`.

Order at one instant: flapping stops, holds settle, the deadlines of alerts (`alerting.KINDS`) act, then operators' acts, then
events. Deadlines that rest on silence (holds and `for`s about going offline, reminders, an outage's calm) act only up to the
instant to which every source has been read.

Readers see `published`, the states as of the last commit: what a batch changed is remembered as it was until `commit`, and
`rollback` puts it back.
Read `Fleet.advance` and `Fleet.apply` first.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from engine.core.alerting import outages
from engine.core.alerting.alert import Alert, Kept, Output, Throttled
from engine.core.alerting.explain import Gate, why_not
from engine.core.alerting.manager import PASSING_KINDS, AlertManager
from engine.core.alerting.stages.silence import Silence
from engine.core.events import CONNECT, EventFields
from engine.core.matching import Attributes, Matcher
from engine.core.presence import debounce, query_result, resolver
from engine.core.presence.client_state import CONFIRMED, FLAPPING, NEVER, NEW_CLIENT, OFFLINE, ClientState
from engine.core.presence.debounce import Policy, learn
from engine.core.presence.query import (
    CONFIRM,
    DOUBT,
    HELD,
    IGNORED,
    STALE,
    UNCONFIRMED,
    UNKNOWN,
    QueryRequest,
    StatusAnswer,
)
from engine.core.presence.reconcile import Gaps, is_unsure, with_gap
from engine.core.rules import Rule
from engine.core.times import FOREVER

FACT_OFFSET: Final = 1 << 19
"""History positions of facts start here inside a journal row; those of events start at 0."""

POSITION_BITS: Final = 20
"""A history position is the journal row's id shifted by this, plus the place inside the row."""

ALL_TIME: Final = FOREVER - 1
"""The last instant that there is."""

SETTLED: Final = "settled"
CALMED: Final = "calmed"
FORGOTTEN: Final = "forgotten"
ANSWERED: Final = "answered"


class Fact(NamedTuple):
    """Something that happened to a client because time passed, or that a query said: what recovery applies again."""

    after: int  # events of the same journal row that came before it
    kind: str
    client: str
    at_ms: int
    previous: int  # history position of the client's entry before this one
    answer: tuple[int, int, bool] | None = None  # (asked_at_ms, connections or -1, is it listed) of an ANSWERED one


def answer_of(fact: Fact) -> StatusAnswer:
    """The answer that a fact of kind ANSWERED keeps. ValueError for any other."""
    if fact.answer is None:
        raise ValueError(f"{fact.kind} is no answer")
    asked_ms, count, is_listed = fact.answer
    return StatusAnswer(fact.client, asked_ms, fact.at_ms, None if count < 0 else count, is_listed)


def _anyone(client: str) -> bool:
    return True


class Counts:
    """Totals since the fleet was made, for `replay`'s summary and for metrics."""

    __slots__ = ("flaps_suppressed", "stale_answers", "transitions")

    def __init__(self) -> None:
        self.flaps_suppressed = 0
        self.stale_answers = 0
        self.transitions = 0


class Fleet:
    """Every client's state, every deadline, and the alert book."""

    def __init__(
        self,
        policy: Policy,
        matcher: Matcher,
        attributes: Attributes,
        names_used: Callable[[Rule], frozenset[str]],
        keeps_records: bool = True,
        burst: int = 0,
    ) -> None:
        """`keeps_records`: False where nothing is journalled or rolled back, as in a replay, which is then cheaper.

        `burst`: deliveries that one rule may decide in a minute, what is beyond is held; 0: no such guard.
        """
        self.policy = policy
        self._keeps_records = keeps_records
        self.states: dict[str, ClientState] = {}  # with the changes of the batch in hand
        self.committed: dict[str, ClientState] = {}  # what the clients changed by this batch were before it
        self.counts = Counts()
        self.gaps: Gaps = ()  # in feeds, as far as they can concern anybody
        self.book = AlertManager(matcher, policy, attributes, self.state_of, names_used, self._each_client, burst)
        self.clock_ms = 0  # never goes back
        self.facts: list[Fact] = []
        self.previous: list[int] = []  # for each event of this batch, its client's history position before it
        self.duplicates: set[str] = set()
        self._before_ms = 0  # the clock when the transaction began
        self._counted = (0, 0)  # and what had been counted
        self._forgetting = False  # does the transaction forget a client?
        self._row = 0  # history position of the journal row being written
        self._wake_ms = FOREVER  # nothing is due before
        self._holds: dict[tuple[int, int], deque[tuple[int, list[str]]]] = {}  # (target, hold) -> due, clients
        self._released: deque[tuple[int, int, list[str]]] = deque()  # held back too long: instant, since, clients
        self._calms: list[tuple[int, int, int, str]] = []  # due, flag (0: duplicates), order, client
        self._order = 0
        # Who is to be asked about. `pauses`: time stops where somebody is, as virtual time does until the answer is there.
        self.pauses = False
        self.can_ask: Callable[[str], bool] = (
            _anyone  # is an answer to be expected, so that waiting for it is worth it?
        )
        self._asks: list[QueryRequest] = []
        self._sure: list[tuple[int, int, int, str]] = []  # holds that rest on an answer: due, order, since, client
        self._asked_first: dict[str, int] = {}  # doubtful clients whose hold waits for an answer -> since
        self._held_ms = 0  # holds that were due by then and are held back have been asked about
        self._silence_ms = 0  # as `advance` was told last

    def state_of(self, client: str) -> ClientState:
        """The client's state, uncommitted changes included."""
        return self.states.get(client, NEW_CLIENT)

    def note_gap(self, to_ms: int | None, noted_ms: int) -> None:
        """A feed has a gap: whoever is not heard of or asked about since counts as unverified, see `reconcile.is_concerned`.

        `to_ms`: when the newest lost message occurred at the latest; None: not known. `noted_ms`: when the gap was found.
        """
        self.gaps = self.book.teller.gaps = with_gap(self.gaps, noted_ms if to_ms is None else to_ms, noted_ms)

    def verified_ms(self, state: ClientState) -> int:
        """When the belief about a client was confirmed by a query last; NEVER also when a gap has made it unsure since."""
        return NEVER if self.gaps and is_unsure(state, self.gaps) else state.verified_ms

    def _each_client(self) -> Iterable[tuple[str, ClientState]]:
        return self.states.items()

    def published(self, client: str) -> ClientState | None:
        """The client's state as of the last commit, None when it is not known: what readers may see, on any thread."""
        while True:
            state = self.states.get(client)
            before = self.committed.get(client)
            if before is None and self.states.get(client) is not state:
                continue  # a transaction began or ended between the two looks
            found = state if before is None else before
            return None if found is NEW_CLIENT else found

    def take_query_requests(self) -> list[QueryRequest]:
        """Whom to ask, since it was taken last. What it says of a step that was rolled back does no harm."""
        asks, self._asks = self._asks + self.book.asks, []
        self.book.asks = []
        return asks

    @property
    def _is_asking(self) -> bool:
        return bool(self._asks or self.book.asks)

    # A batch: begin, advance, apply, commit

    def begin(self) -> None:
        """Start what will be one transaction."""
        self.book.out = Output()
        self._before_ms = self.clock_ms
        self._counted = (self.counts.transitions, self.counts.flaps_suppressed)
        self.begin_row(0)

    def begin_row(self, journal_id: int) -> None:
        """Start what will be one journal row of the transaction: `previous` and `facts` are collected anew."""
        self.facts = []
        self.previous = []
        self._row = journal_id << POSITION_BITS

    def commit(self) -> None:
        """The transaction has committed: publish."""
        changed, self.committed = self.committed, {}
        if self._forgetting:
            self._forgetting = False
            for client in changed:
                if self.states.get(client) is NEW_CLIENT:
                    del self.states[client]

    def rollback(self) -> None:
        """The transaction failed: states as if nothing had been told. The caller calls `restore` with what the store holds."""
        for client, state in self.committed.items():
            if state is NEW_CLIENT:
                self.states.pop(client, None)
            else:
                self.states[client] = state
        self.committed = {}
        self._forgetting = False
        self.clock_ms = self._before_ms
        self.counts.transitions, self.counts.flaps_suppressed = self._counted
        self.begin_row(0)

    def apply(
        self, events: Sequence[EventFields], now_ms: int, watermark_ms: int, instants: Sequence[int] | None = None
    ) -> None:
        """Apply events learned of at `now_ms`; everything due by then must have been passed with `advance`.

        With `instants`, one an event, the clock follows them instead and deadlines are passed on the way (virtual time:
        every source is caught up at every instant).
        """
        states, policy, previous, committed, book = self.states, self.policy, self.previous, self.committed, self.book
        alarm = book.alarm
        first, row, keeps_records = len(previous), self._row, self._keeps_records
        place = first
        now_ms = self.clock_ms = max(now_ms, self.clock_ms)
        for client, kind, occurred_at_ms, channel, ip in events:
            if instants is not None:
                now_ms = watermark_ms = max(instants[place - first], self.clock_ms)
                if self._wake_ms <= now_ms or alarm.at_ms <= now_ms:
                    self.advance(now_ms, now_ms)
                self.clock_ms = now_ms
            known = states.get(client)
            if known is None or known is NEW_CLIENT:
                before = ClientState(client=client)
            else:
                before = known
                client = known.client or client  # one text a client: look-ups need not compare, and copies are not kept
            after = learn(before, kind, occurred_at_ms, channel, ip, now_ms, policy, row + place)
            if keeps_records:
                if client not in committed:
                    committed[client] = NEW_CLIENT if known is None else known
                previous.append(before.last)
            states[client] = after
            place += 1
            if after.channels is before.channels:
                continue
            if book.watches and outages.differ(before, after):
                book.moved(client, before, after, now_ms)
            if after.flags != before.flags:
                self._schedule_calm(debounce.calm_at(after.changes, policy), client, FLAPPING)
                book.flapping_started(client, after, now_ms)
            if kind == CONNECT and after.answered is not None and before.heard_ms == NEVER:
                book.connected(client, after, now_ms)
            if book.watches_duplicates and (after.takeovers or len(after.channels) > 1 or client in self.duplicates):
                self._watch_duplicates(client, after, now_ms)
            if after.observed != before.observed:
                if occurred_at_ms < before.verified_ms:
                    self._ask(client, CONFIRM, now_ms)  # older than an answer that had agreed with what was believed
                if after.hold_since_ms == NEVER:
                    self.counts.flaps_suppressed += 1
                else:
                    self._hold(client, after, now_ms, watermark_ms)

    def _hold(self, client: str, state: ClientState, now_ms: int, watermark_ms: int) -> None:
        """A change of observed status starts its hold; one of no length settles at once."""
        target = state.observed
        length_ms = self.policy.hold_ms(client, target)
        due_ms = now_ms + length_ms
        if length_ms == 0 and (target != OFFLINE or watermark_ms >= due_ms):
            if target != OFFLINE or not self._ask_first(client, state, due_ms):
                self._settle(client, state, due_ms)
            return
        self._await(client, state, due_ms)

    def _await(self, client: str, state: ClientState, due_ms: int) -> None:
        """The client's hold is over at `due_ms`, which may be before others that began earlier: an answer undone brings back an old one."""
        key = state.observed, due_ms - state.hold_since_ms
        queue = self._holds.get(key)
        if queue is None:
            queue = self._holds[key] = deque()
        if not queue or queue[-1][0] < due_ms:
            queue.append((due_ms, [client]))
        elif queue[-1][0] == due_ms:
            queue[-1][1].append(client)
        else:
            place = len(queue)
            while place and queue[place - 1][0] > due_ms:
                place -= 1
            queue.insert(place, (due_ms, [client]))
        self._wake_ms = min(self._wake_ms, due_ms)

    def answer(self, answer: StatusAnswer, now_ms: int) -> str:
        """Take what a query said; everything due by `now_ms` must have been passed. Returns a verdict of `asking`.

        Steps: the state after it; the alerts that waited for it; then the hold that it starts, ends or makes sure.
        """
        now_ms = self.clock_ms = max(now_ms, self.clock_ms)
        client = answer.client
        known = self.states.get(client)
        before = ClientState(client=client) if known is None or known is NEW_CLIENT else known
        client = before.client or client
        position = self._row + FACT_OFFSET + len(self.facts)
        after, verdict = query_result.take(before, answer, now_ms, self.policy, position)
        if verdict in (STALE, IGNORED):
            if verdict == STALE:
                self.counts.stale_answers += 1
                self.book.asked_in_vain(client, now_ms, now_ms)
                self._again_if_held(client, before, now_ms)
            return verdict
        if self._keeps_records:
            count = -1 if answer.connections is None else answer.connections
            detail = (answer.asked_at_ms, count, answer.is_listed)
            self.facts.append(Fact(len(self.previous), ANSWERED, client, now_ms, before.last, detail))
            if client not in self.committed:
                self.committed[client] = NEW_CLIENT if known is None else known
        self.states[client] = after
        if self.book.watches and outages.differ(before, after):
            self.book.moved(client, before, after, now_ms)
        self.book.answered(before, after, answer, verdict, now_ms)
        if self.book.watches_duplicates:
            self._watch_duplicates(client, after, now_ms)
        self._follow(client, before, after, verdict, now_ms)
        return verdict

    def _follow(self, client: str, before: ClientState, after: ClientState, verdict: str, now_ms: int) -> None:
        """What an answer means for the client's hold, and whether it is asked again."""
        waited = self._asked_first.pop(client, NEVER)
        if verdict == UNKNOWN:
            if waited != NEVER and after.on_hold and after.hold_since_ms == waited:
                self._settle(client, after, now_ms)  # nothing more is to be learned
            else:
                self._again_if_held(client, after, now_ms)
            return
        if verdict == UNCONFIRMED:
            self._ask(client, CONFIRM, now_ms + self.policy.confirm_after_ms)
        if after.observed != before.observed and after.hold_since_ms == NEVER:
            self.counts.flaps_suppressed += after.flaps > before.flaps
        if not after.on_hold:
            return
        due_ms = after.hold_since_ms + self.policy.hold_ms(client, after.observed)
        if after.flags & CONFIRMED or after.observed != OFFLINE:
            is_sure = True
        else:
            is_sure = waited == after.hold_since_ms or due_ms <= self._silence_ms
        if due_ms <= now_ms and is_sure:
            self._settle(client, after, now_ms)
        elif after.observed != before.observed:
            self._await(client, after, due_ms)
        elif not after.flags & CONFIRMED and due_ms <= now_ms:
            self._ask(client, CONFIRM, now_ms + self.policy.confirm_after_ms)  # held back: two zeros let it go
        if after.flags & CONFIRMED and after.observed == OFFLINE and due_ms > now_ms:
            self._await_sure(client, after.hold_since_ms, due_ms)

    def _again_if_held(self, client: str, state: ClientState, now_ms: int) -> None:
        """A hold that is held back for too long is asked about until an answer says something."""
        if state.on_hold and state.observed == OFFLINE:
            due_ms = state.hold_since_ms + self.policy.hold_ms(client, OFFLINE)
            if due_ms + self.policy.max_hold_ms <= now_ms:
                self._ask(client, HELD, now_ms + max(self.policy.max_hold_ms, self.policy.confirm_after_ms))

    def _ask(self, client: str, why: str, at_ms: int) -> None:
        if self.policy.asks:
            self._asks.append(QueryRequest(client, why, at_ms))

    def _await_sure(self, client: str, since_ms: int, due_ms: int) -> None:
        self._order += 1
        heapq.heappush(self._sure, (due_ms, self._order, since_ms, client))
        self._wake_ms = min(self._wake_ms, due_ms)

    def _ask_first(self, client: str, state: ClientState, now_ms: int) -> bool:
        """A doubtful client is about to settle offline: it is asked first, and waits for the answer a little longer."""
        policy = self.policy
        if not policy.asks or state.flags & CONFIRMED or not resolver.is_doubtful(state, policy.clock_skew_ms):
            return False
        if state.verified_ms >= state.heard_ms or not self.can_ask(client):
            return False
        if self._asked_first.get(client) != state.hold_since_ms:
            self._asked_first[client] = state.hold_since_ms
            self._ask(client, DOUBT, now_ms)
            self._await_sure(client, state.hold_since_ms, now_ms + policy.confirm_after_ms)
        return True

    def _settle(self, client: str, state: ClientState, at_ms: int) -> None:
        if self._asked_first:
            self._asked_first.pop(client, None)
        facts = self.facts
        position = self._row + FACT_OFFSET + len(facts)
        after, transition = debounce.settle(state, client, at_ms, position)
        if self._keeps_records:
            facts.append(Fact(len(self.previous), SETTLED, client, at_ms, state.last))
            if client not in self.committed:
                self.committed[client] = state
        self.states[client] = after
        self.counts.transitions += 1
        self.book.out.lines.append(transition)
        self.book.transition(transition, after)

    # Deadlines

    @property
    def wake_ms(self) -> int:
        """Nothing is due before this instant: cheap enough to ask at every event. May be early, never late."""
        return min(self._wake_ms, self.book.wake_ms)

    def next_due(self, *, running_on: bool = False) -> int:
        """When `advance` has something to do next, silence permitting; `FOREVER` when nothing is left.

        `running_on`: without what never keeps a replay running after its last event: reminders, schedules, and the ends
        of windows and silences.
        """
        if running_on:
            self._sweep()
            return min(self._due_of(0, FOREVER), self._due_of(1, FOREVER), self.book.next_lasting())
        return self._next(FOREVER)[0]

    def _sweep(self) -> None:
        """Forget deadlines in front that nobody means any more: holds that reverted, calm that came by itself."""
        while self._calms:
            _, flag, _, client = self._calms[0]
            if flag == FLAPPING and self.state_of(client).flags & FLAPPING:
                break
            if flag != FLAPPING and (client in self.duplicates or self.book.has_open(client, "duplicate")):
                break
            heapq.heappop(self._calms)
        for (target, length_ms), queue in self._holds.items():
            while queue and not self._any_holds(queue[0][1], target, queue[0][0] - length_ms):
                queue.popleft()
        while self._sure and not self._any_holds([self._sure[0][3]], OFFLINE, self._sure[0][2]):
            heapq.heappop(self._sure)

    def _any_holds(self, clients: Sequence[str], target: int, since_ms: int) -> bool:
        """Is the hold that began then still the one of any of them?"""
        for client in clients:
            state = self.state_of(client)
            if state.hold_since_ms == since_ms and state.observed == target:
                return True
        return False

    def advance(self, to_ms: int, watermark_ms: int, limit: int = FOREVER) -> bool:
        """Let time pass to `to_ms`: act on everything due by then, in order.

        What rests on silence acts only up to `watermark_ms`; when it was held back before, it acts at `to_ms` and not at
        its own instant. Stops after about `limit` lines of output; returns whether anything due is left.

        To `ALL_TIME` it lets time pass only while anything is left that keeps a replay running, see `next_due`.
        """
        to_ms = max(to_ms, self.clock_ms)
        watermark_ms = self._silence_ms = min(to_ms, watermark_ms)
        if self.wake_ms > to_ms:
            self.clock_ms = to_ms
            return False
        lines = self.book.out.lines
        done = len(lines) + limit
        self._release(min(self.clock_ms, watermark_ms), to_ms)
        self.book.resume(to_ms)
        if self.policy.asks and watermark_ms < to_ms:
            self._ask_about_held(to_ms)
        alarm = self.book.alarm
        while True:
            best, kind = self._next(watermark_ms, to_ms)
            if best > to_ms:
                break
            if to_ms >= ALL_TIME and kind - 2 in PASSING_KINDS and self.next_due(running_on=True) == FOREVER:
                break
            if len(lines) >= done:
                return True
            self._act(kind, best, watermark_ms)
            if self.pauses and self._is_asking:
                self.clock_ms = max(self.clock_ms, best)
                return True
        self.clock_ms = to_ms
        self._wake_ms = min(self._due_of(0, FOREVER), self._due_of(1, FOREVER))
        if alarm.at_ms <= to_ms:
            self.book.rest()
        return False

    def _release(self, due_by_ms: int, to_ms: int) -> None:
        """What rests on silence and was due by the instant that the clock shows has been held back: it acts at `to_ms`.

        So it comes after all that is due meanwhile, and the clock never goes back.
        """
        late: list[tuple[int, int, list[str]]] = []
        for (target, length_ms), queue in self._holds.items():
            while target == OFFLINE and queue and queue[0][0] <= due_by_ms:
                due_ms, clients = queue.popleft()
                late.append((due_ms, due_ms - length_ms, clients))
        late.sort()
        self._released.extend((to_ms, since_ms, clients) for _, since_ms, clients in late)
        if self.book.alarm.at_ms <= due_by_ms:
            self.book.release(due_by_ms, to_ms)

    def _ask_about_held(self, to_ms: int) -> None:
        """Holds kept for longer than `max_hold` beyond their time, because a source is behind, are asked about once."""
        upto_ms = to_ms - self.policy.max_hold_ms
        if upto_ms < self._held_ms + 1_000:  # once a second is often enough
            return
        for (target, _), queue in self._holds.items():
            for due_ms, clients in queue:
                if target != OFFLINE or due_ms > upto_ms:
                    break
                if due_ms > self._held_ms:
                    for client in clients:
                        state = self.state_of(client)
                        if state.on_hold and state.observed == OFFLINE:
                            self._ask(client, HELD, to_ms)
        self._held_ms = upto_ms

    def _due_of(self, index: int, watermark_ms: int) -> int:
        """The earliest deadline of one kind: 0 calm, 1 hold."""
        if index == 0:
            return self._calms[0][0] if self._calms else FOREVER
        best = self._released[0][0] if self._released else FOREVER
        if self._sure and self._sure[0][0] < best:
            best = self._sure[0][0]
        for (target, _), queue in self._holds.items():
            if queue and queue[0][0] < best and (target != OFFLINE or queue[0][0] <= watermark_ms):
                best = queue[0][0]
        return best

    def _next(self, watermark_ms: int, until_ms: int = FOREVER) -> tuple[int, int]:
        """The earliest deadline that may act, and its kind; of one instant the kinds in their order.

        Those of the book are looked at only when one of them may be due by `until_ms`: there are many kinds, and most
        instants are about holds.
        """
        best, kind = FOREVER, -1
        for index in range(2):
            due = self._due_of(index, watermark_ms)
            if due < best:
                best, kind = due, index
        at_ms = self.book.alarm.at_ms
        if at_ms < best and at_ms <= until_ms:
            due, index = self.book.next_due(watermark_ms)
            if due < best:
                best, kind = due, 2 + index
        return best, kind

    def _act(self, kind: int, due_ms: int, watermark_ms: int) -> None:
        if kind == 0:
            self._pass_calm(due_ms)
        elif kind == 1:
            self._pass_holds(due_ms, watermark_ms)
        else:
            self.book.act(kind - 2, due_ms)

    def _pass_holds(self, due_ms: int, watermark_ms: int) -> None:
        """Settle the holds that act at `due_ms`, those released first."""
        while self._released and self._released[0][0] == due_ms:
            _, since_ms, clients = self._released.popleft()
            self._settle_all(clients, OFFLINE, since_ms, due_ms)
        while self._sure and self._sure[0][0] <= due_ms:
            _, _, since_ms, client = heapq.heappop(self._sure)
            if self._asked_first.get(client) == since_ms:
                del self._asked_first[client]
            state = self.state_of(client)
            if state.hold_since_ms == since_ms and state.observed == OFFLINE:
                self._settle(client, state, due_ms)
        for (target, length_ms), queue in self._holds.items():
            if queue and queue[0][0] == due_ms and (target != OFFLINE or due_ms <= watermark_ms):
                self._settle_all(queue.popleft()[1], target, due_ms - length_ms, due_ms)

    def _settle_all(self, clients: Sequence[str], target: int, since_ms: int, at_ms: int) -> None:
        """Settle those whose hold still is the one that began at `since_ms`; a reverted one left its client behind."""
        for client in clients:
            state = self.state_of(client)
            if state.hold_since_ms != since_ms or state.observed != target:
                continue
            if target != OFFLINE or not self._ask_first(client, state, at_ms):
                self._settle(client, state, at_ms)

    def _schedule_calm(self, due_ms: int | None, client: str, flag: int) -> None:
        if due_ms is None:
            return
        self._order += 1
        heapq.heappush(self._calms, (due_ms, flag, self._order, client))  # what resolves before what it would release
        self._wake_ms = min(self._wake_ms, due_ms)

    def _pass_calm(self, due_ms: int) -> None:
        """A client may have come to rest: flapping stops, or its takeovers are few again."""
        _, flag, _, client = heapq.heappop(self._calms)
        state = self.state_of(client)
        if flag != FLAPPING:
            self._watch_duplicates(client, state, due_ms)
            return
        if not state.flags & FLAPPING:
            return
        again = debounce.calm_at(debounce.younger(state.changes, due_ms, self.policy), self.policy)
        if again is not None:
            self._schedule_calm(again, client, FLAPPING)
            return
        facts = self.facts
        after = debounce.calm(state, self._row + FACT_OFFSET + len(facts))
        facts.append(Fact(len(self.previous), CALMED, client, due_ms, state.last))
        self.committed.setdefault(client, state)
        self.states[client] = after
        self.book.flapping_stopped(client, after, due_ms)

    def _watch_duplicates(self, client: str, state: ClientState, now_ms: int) -> None:
        """Start or end what the trigger `duplicate` is about: two live channels, or too many takeovers."""
        policy = self.policy
        # After a restart only the alert knows that the client had two, where few takeovers are left to tell.
        known = client in self.duplicates or self.book.has_open(client, "duplicate")
        if not known and not self.book.matcher.watches_duplicates_of(client):
            return
        live = resolver.connection_count(state, policy.clock_skew_ms)
        recent = debounce.younger(state.takeovers, now_ms, policy) if state.takeovers else ()
        if not known and (live > 1 or len(recent) >= policy.flapping_start):
            self.duplicates.add(client)
            self.book.duplicate(client, state, now_ms, started=True)
            self._schedule_calm(debounce.calm_at(recent, policy), client, 0)
        elif known and live <= 1:
            quiet_at = debounce.calm_at(recent, policy)
            if quiet_at is None:
                self.duplicates.discard(client)
                self.book.duplicate(client, state, now_ms, started=False)
            else:
                self._schedule_calm(quiet_at, client, 0)

    # After a restart

    def recall_row(self, journal_id: int, events: Sequence[EventFields], facts: Sequence[Fact], now_ms: int) -> None:
        """Apply one journal row again; clients whose loaded state contains the row already are skipped."""
        self.clock_ms = max(self.clock_ms, now_ms)
        missing: dict[str, bool] = {}  # does the client's loaded state lack this row?
        states, row = self.states, journal_id << POSITION_BITS
        upcoming = 0
        for place, (client, kind, occurred_at_ms, channel, ip) in enumerate(events):
            while upcoming < len(facts) and facts[upcoming].after <= place:
                self._recall_fact(row + FACT_OFFSET + upcoming, facts[upcoming], missing)
                upcoming += 1
            state = states.get(client) or ClientState(client=client)
            if missing.setdefault(client, state.last < row):
                states[client] = learn(state, kind, occurred_at_ms, channel, ip, now_ms, self.policy, row + place)
        while upcoming < len(facts):
            self._recall_fact(row + FACT_OFFSET + upcoming, facts[upcoming], missing)
            upcoming += 1

    def _recall_fact(self, position: int, fact: Fact, missing: dict[str, bool]) -> None:
        state = self.states.get(fact.client)
        if state is None:
            if fact.answer is None:
                return
            state = ClientState(client=fact.client)  # only an answer ever named it
        if not missing.setdefault(fact.client, state.last < position >> POSITION_BITS << POSITION_BITS):
            return
        if fact.answer is not None:
            answer = answer_of(fact)
            self.states[fact.client] = query_result.take(state, answer, fact.at_ms, self.policy, position)[0]
            return
        if fact.kind == FORGOTTEN:
            del self.states[fact.client]
        elif fact.kind == CALMED:
            self.states[fact.client] = debounce.calm(state, position)
        elif state.on_hold:
            self.states[fact.client] = debounce.settle(state, fact.client, fact.at_ms, position)[0]

    def restore(self, alerts: Iterable[Alert], throttles: Iterable[Throttled], kept: Kept | None = None) -> None:
        """Derive every deadline from the states and what the store holds: after a start, and after a failed commit.

        `kept`: groups, outages, silences, schedules and bursts, as far as they are not over.
        """
        self._rebuild()
        self.book.restore(alerts, throttles, kept, self.clock_ms)
        for client in self.book.waiting_for_calm():
            state = self.states.get(client)
            if state is not None and not state.flags & FLAPPING:
                # Other knobs than before found no flapping in the journal: whoever waits for its end is told that now.
                self.states[client] = debounce.restless(state)
                self._schedule_calm(max(state.changes, default=0), client, FLAPPING)

    def _rebuild(self) -> None:
        self._holds.clear()
        self._released.clear()
        self._calms.clear()
        self._sure.clear()
        self._asked_first.clear()
        self._held_ms = 0
        holds: dict[tuple[int, int], list[tuple[int, str]]] = {}
        for client, state in self.states.items():
            if state.on_hold:
                length_ms = self.policy.hold_ms(client, state.observed)
                due_ms = state.hold_since_ms + length_ms
                holds.setdefault((state.observed, length_ms), []).append((due_ms, client))
                if state.flags & CONFIRMED:
                    self._await_sure(client, state.hold_since_ms, due_ms)
            if state.answered is not None and state.answered.is_unconfirmed:
                self._ask(client, CONFIRM, self.clock_ms)
            if state.flags & FLAPPING:
                due = debounce.calm_at(state.changes, self.policy)
                # Other knobs than before may say that it has been calm all along: then since its newest change.
                self._schedule_calm(due if due is not None else max(state.changes, default=0), client, FLAPPING)
        self._recall_duplicates()
        for key, entries in holds.items():
            queue: deque[tuple[int, list[str]]] = deque()
            for due_ms, client in sorted(entries):
                if queue and queue[-1][0] == due_ms:
                    queue[-1][1].append(client)
                else:
                    queue.append((due_ms, [client]))
            self._holds[key] = queue
        self._wake_ms = 0  # look at everything at the next turn

    def use(self, matcher: Matcher, retired: Iterable[Rule] = ()) -> None:
        """Work with these rules from now on; `retired` ones only end the alerts they have."""
        self.book.use(matcher, retired, self.clock_ms)
        self._recall_duplicates()

    def _recall_duplicates(self) -> None:
        """Find those who have more than one connection now: they did not begin to have it."""
        self.duplicates.clear()
        if not self.book.watches_duplicates:
            return
        policy, matcher = self.policy, self.book.matcher
        for client, state in self.states.items():
            answered = state.answered
            several = len(state.channels) > 1 or (answered is not None and answered.connections > 1)
            if (state.takeovers or several) and matcher.watches_duplicates_of(client):
                many = len(state.takeovers) >= policy.flapping_start
                if many or resolver.connection_count(state, policy.clock_skew_ms) > 1:
                    self.duplicates.add(client)
                self._schedule_calm(debounce.calm_at(state.takeovers, policy), client, 0)

    def forget(self, client: str, at_ms: int) -> None:
        """Keep the client no longer; its alerts are closed."""
        state = self.state_of(client)
        self.facts.append(Fact(len(self.previous), FORGOTTEN, client, at_ms, state.last))
        self.committed.setdefault(client, state)
        self.states[client] = NEW_CLIENT
        self._forgetting = True
        self.duplicates.discard(client)
        if self.book.watches:
            self.book.moved(client, state, NEW_CLIENT, at_ms)
        self.book.forget(client, at_ms)

    # What operators do; everything due by `now_ms` must have been passed

    def silence(self, silence: Silence, now_ms: int) -> None:
        """Add a silence, or put another in the place of the one of its id. A store keeps it whole (`Output.silences`)."""
        self.clock_ms = max(now_ms, self.clock_ms)
        self.book.silence(silence, self.clock_ms)

    def expire_silence(self, silence_id: str, now_ms: int) -> bool:
        """End a silence now; what it held back and still holds fires, together. False when no such silence is open."""
        self.clock_ms = max(now_ms, self.clock_ms)
        return self.book.expire_silence(silence_id, self.clock_ms)

    def why_not(self, rule: str, client: str, now_ms: int) -> list[Gate]:
        """Every gate between the client and a firing of the rule, see `whynot`; changes nothing. Empty: no such rule."""
        return why_not(self.book, rule, client, self.state_of(client), now_ms)

    def acknowledge(
        self,
        now_ms: int,
        *,
        alert_id: str | None = None,
        rule: str | None = None,
        client: str | None = None,
        by: str = "",
    ) -> int:
        """Somebody knows of these alerts: no more reminders, the recovery is sent all the same. Returns how many they were.

        Every criterion given must hold; `alert_id` may be a group's, which means all that fires in it.
        """
        self.clock_ms = max(now_ms, self.clock_ms)
        return self.book.acknowledge(alert_id=alert_id, rule=rule, client=client, by=by)
