"""One stimulus after another: the fleet's states, what is due, and what follows from each event or passed instant.

The two halves of every decision meet here. What concerns one client is `debounce.learn` and `debounce.settle`, pure functions of
a state; what concerns many is the `AlertManager`. `Fleet` holds both and knows what is due when. It never reads a clock and never
does I/O, so the service, `replay`, rule tests and `explain` run the same code on real or virtual time.

A status answer is a stimulus like an event: `Fleet.answer`. Which clients are to be queried, the fleet says by
`take_query_requests`.

Order at one instant: the timers in the order of `timers.TIMERS`, then operators' acts, then events. Event-time timers act only up
to the watermark, the instant to which every source has been read.

Readers see `published`, the states as of the last commit: what a batch changed is remembered as it was until `commit`, and
`rollback` puts it back. Read `Fleet.advance` and `Fleet.apply` first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Final

from engine.core.alerting import outages
from engine.core.alerting.alert import Alert, Kept, Throttled
from engine.core.alerting.explain import why_not
from engine.core.alerting.manager import AlertManager
from engine.core.alerting.silences import Silence
from engine.core.alerting.stages.base import StageReport
from engine.core.alerting.template_variables import EvidenceVariable, as_codes
from engine.core.events import CONNECT, EventFields
from engine.core.history import (
    ANSWERED,
    CALMED,
    FACT_OFFSET,
    FORGOTTEN,
    POSITION_BITS,
    SETTLED,
    STEPPED,
    Fact,
    apply_row,
    stays_forgotten,
    step_of,
)
from engine.core.matching import NO_LISTING, Attributes, Listing, Matcher
from engine.core.presence import clock_step, debounce, query_result, resolver
from engine.core.presence.client_state import CONFIRMED, FLAPPING, NEVER, NEW_CLIENT, OFFLINE, ClientState
from engine.core.presence.client_timers import CalmTimers, HoldTimers
from engine.core.presence.debounce import Policy, learn
from engine.core.presence.evidence import is_doubtful
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
from engine.core.presence.reconcile import Gaps, is_unsure, stepped_gaps, with_gap
from engine.core.rules import Rule
from engine.core.timers import Timer
from engine.core.times import FOREVER

MAX_FORGOTTEN: Final = 200_000
"""Forgotten clients that are remembered as such; of more, those forgotten last."""

MAX_REFUSED: Final = 10_000
"""Clients of which a connect is remembered that was refused for its date; of more, those refused last."""

LONGEST_REFUSED_MS: Final = 86_400_000
"""A hold does not wait for longer than this for a connect that was refused: an offline that nobody is told of is worse."""

REFUSED_MARGIN_MS: Final = 60_000
"""How long after its date a refused connect is still waited for: it is offered again as soon as the clock passes its date."""

ALL_TIME: Final = FOREVER - 1
"""The last instant that there is."""


def _always(client: str) -> bool:
    return True


class Counts:
    """Totals since the fleet was made, for `replay`'s summary and for metrics."""

    __slots__ = ("flaps_suppressed", "stale_answers", "transitions")

    def __init__(self) -> None:
        self.flaps_suppressed = 0
        self.stale_answers = 0
        self.transitions = 0


class Fleet:
    """Every client's state, every timer, and the alerts."""

    def __init__(
        self,
        policy: Policy,
        matcher: Matcher,
        attributes: Attributes,
        names_used: Callable[[Rule], frozenset[str]],
        keeps_records: bool = True,
        burst: int = 0,
        evidence_variable: EvidenceVariable = as_codes,
        listing: Listing = NO_LISTING,
    ) -> None:
        """`keeps_records`: False where nothing is journalled or rolled back, as in a replay, which is then cheaper.

        `burst`: deliveries that one rule may decide in a minute, what is beyond is held; 0: no such limit. `listing`: whom the
        inventory lists by whole ids.
        """
        self.policy = policy
        self._keeps_records = keeps_records
        self.states: dict[str, ClientState] = {}  # with the changes of the batch in hand
        self.committed: dict[str, ClientState] = {}  # what the clients changed by this batch were before it
        self.counts = Counts()
        self.gaps: Gaps = ()  # in feeds, as far as they can concern anybody
        self.alerts = AlertManager(
            matcher,
            policy,
            attributes,
            self.state_of,
            names_used,
            each_client=self._each_client,
            burst=burst,
            evidence_variable=evidence_variable,
            listing=listing,
        )
        self._triggers = self.alerts.triggers
        self._outages = self.alerts.outages
        self._quorums = self.alerts.quorums
        self._lookback = self.alerts.lookback
        self.clock_ms = 0  # never goes back, but by `step`
        self.latest_ms = FOREVER  # no instant of the turn in hand is later: what says so was stamped before a step
        self.facts: list[Fact] = []
        self.previous: list[int] = []  # for each event of this batch, its client's history position before it
        self.duplicates: set[str] = set()
        # Clients that were forgotten, and when: for `tombstone_ms`, only a newer connect brings them back. 0: nothing is remembered.
        self.tombstone_ms = 0
        self.forgotten: dict[str, int] = {}
        # Of this transaction: (before, after), NEVER for not forgotten.
        self.forgotten_changes: dict[str, tuple[int, int]] = {}
        self._before_ms = 0  # the clock when the transaction began
        self._counted = (0, 0)  # and what had been counted
        self._forgetting = False  # does the transaction forget a client?
        self._row = 0  # history position of the journal row being written
        self._wake_ms = FOREVER  # no timer of a client is due before
        self._holds = HoldTimers()
        self._calms = CalmTimers()
        # Which clients are to be queried. `pauses`: time stops where one is, as virtual time does until the answer is there.
        self.pauses = False
        self.can_query: Callable[[str], bool] = _always  # is an answer to be expected, so that waiting is worth it?
        self._requests: list[QueryRequest] = []
        self._queried_first: dict[str, int] = {}  # doubtful clients whose hold waits for an answer -> since
        # Connects that were refused for their date: client -> (channel, its date, until when a hold waits for it)
        self._refused: dict[str, tuple[str, int, int]] = {}
        self._held_back_ms = 0  # clients whose hold was due by then and is held back have been queried
        self._watermark_ms = 0  # of the last `advance`

    def state_of(self, client: str) -> ClientState:
        """The client's state, uncommitted changes included."""
        return self.states.get(client, NEW_CLIENT)

    def note_gap(self, to_ms: int | None, noted_ms: int) -> None:
        """A feed has a gap: clients without an event or an answer since count as unverified, see `reconcile.is_concerned`.

        `to_ms`: when the newest lost message occurred at the latest; None: not known. `noted_ms`: when the gap was found.
        """
        self.gaps = self.alerts.variables.gaps = with_gap(self.gaps, noted_ms if to_ms is None else to_ms, noted_ms)

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
        """Clients to query, since they were taken last. What it says of a step that was rolled back does no harm."""
        requests, self._requests = self._requests + self.alerts.take_requests(), []
        return requests

    @property
    def _has_requests(self) -> bool:
        return bool(self._requests or self.alerts.has_requests)

    # A batch: begin, advance, apply, commit

    def begin(self) -> None:
        """Start what will be one transaction."""
        self.alerts.begin()
        self.forgotten_changes = {}
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
        """The transaction failed: states as if nothing had happened. The caller calls `restore` with what the store holds."""
        for client, state in self.committed.items():
            if state is NEW_CLIENT:
                self.states.pop(client, None)
            else:
                self.states[client] = state
        self.committed = {}
        self._forgetting = False
        for client, (before_ms, _) in self.forgotten_changes.items():
            self.forgotten.pop(client, None)
            if before_ms != NEVER:
                self.forgotten[client] = before_ms
        self.forgotten_changes = {}
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
        states, policy, previous, committed = self.states, self.policy, self.previous, self.committed
        alerts, triggers, watches = self.alerts, self._triggers, self._outages.watches
        wake_up, suppressions = alerts.wake_up, alerts.pipeline.suppressions
        watches_addresses = alerts.watches_addresses
        first, row, keeps_records = len(previous), self._row, self._keeps_records
        place = first
        now_ms = self.clock_ms = max(min(now_ms, self.latest_ms), self.clock_ms)
        for client, kind, occurred_at_ms, channel, ip in events:
            if instants is not None:
                now_ms = watermark_ms = max(instants[place - first], self.clock_ms)
                if (self._wake_ms <= now_ms or wake_up.at_ms <= now_ms) and not self.is_amid(now_ms):
                    self.advance(now_ms, now_ms)
                self.clock_ms = now_ms
            known = states.get(client)
            if known is None or known is NEW_CLIENT:
                if self.forgotten and self._stays_forgotten(client, kind, occurred_at_ms, now_ms):
                    if keeps_records:
                        previous.append(0)
                    place += 1
                    continue
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
            if watches_addresses and after.ip != before.ip:
                self._moved(client, before, after, now_ms)
            if after.channels is before.channels:
                continue
            if watches and outages.differ(before, after):
                self._outages.moved(client, before, after, now_ms)
            if after.flags != before.flags:
                self._await_calm(debounce.calm_at(after.changes, policy), client, CalmTimers.FLAPPING)
                triggers.flapping_started(client, after, now_ms)
            if kind == CONNECT and after.answered is not None and before.heard_ms == NEVER:
                triggers.connected(client, after, now_ms)
            if alerts.watches_duplicates and (after.takeovers or len(after.channels) > 1 or client in self.duplicates):
                self._watch_duplicates(client, after, now_ms)
            if after.observed != before.observed:
                if occurred_at_ms < before.verified_ms:
                    self._query(client, CONFIRM, now_ms)  # older than an answer that had agreed with what was believed
                if after.hold_since_ms == NEVER:
                    self.counts.flaps_suppressed += 1
                    if self._lookback.over_ms:
                        self._lookback.flap(client, now_ms)
                else:
                    self._hold(client, after, now_ms, watermark_ms)
        if instants is None and suppressions.freed:
            alerts.pipeline.release_freed(now_ms)

    def is_amid(self, at_ms: int) -> bool:
        """Is this the instant of the newest event, and has that freed alerts that another event of the instant may still resolve?

        Then no time may pass before that event.
        """
        return at_ms == self.clock_ms and bool(self.alerts.pipeline.suppressions.freed)

    def _moved(self, client: str, before: ClientState, after: ClientState, now_ms: int) -> None:
        """A client's address is another: what is counted or found by addresses is counted and found anew."""
        if self._quorums.watches:
            self._quorums.moved(client, before, after, now_ms)
        self.alerts.pipeline.parent_moved(client, now_ms)

    def _hold(self, client: str, state: ClientState, now_ms: int, watermark_ms: int) -> None:
        """A change of observed status starts its hold; one of no length settles at once."""
        target = state.observed
        length_ms = self.policy.hold_ms(client, target)
        due_ms = now_ms + length_ms
        if length_ms == 0 and (target != OFFLINE or watermark_ms >= due_ms):
            if target != OFFLINE or not (
                (self._refused and self._waits_for_refused(client, state, due_ms))
                or self._query_first(client, state, due_ms)
            ):
                self._settle(client, state, due_ms)
            return
        self._await(client, state, due_ms)

    def _await(self, client: str, state: ClientState, due_ms: int) -> None:
        """The client's hold is over at `due_ms`."""
        self._holds.add(state.observed, state.hold_since_ms, due_ms, client)
        self._wake_ms = min(self._wake_ms, due_ms)

    def answer(self, answer: StatusAnswer, now_ms: int) -> str:
        """Take what a query said; everything due by `now_ms` must have been passed. Returns a verdict of `query`.

        Steps: the state after it; the alerts that waited for it; then the hold that it starts, ends or makes sure.
        """
        now_ms = self.clock_ms = max(min(now_ms, self.latest_ms), self.clock_ms)
        client = answer.client
        known = self.states.get(client)
        before = ClientState(client=client) if known is None or known is NEW_CLIENT else known
        client = before.client or client
        position = self._row + FACT_OFFSET + len(self.facts)
        after, verdict = query_result.take(before, answer, now_ms, self.policy, position)
        if verdict in (STALE, IGNORED):
            if verdict == STALE:
                self.counts.stale_answers += 1
                self._triggers.no_answer(client, now_ms, now_ms)
                self._query_again_if_held_back(client, before, now_ms)
            return verdict
        if self._keeps_records:
            count = -1 if answer.connections is None else answer.connections
            detail = (answer.asked_at_ms, count, answer.is_listed)
            self.facts.append(Fact(len(self.previous), ANSWERED, client, now_ms, before.last, detail))
            if client not in self.committed:
                self.committed[client] = NEW_CLIENT if known is None else known
        self.states[client] = after
        if self._outages.watches and outages.differ(before, after):
            self._outages.moved(client, before, after, now_ms)
        self._triggers.answered(before, after, answer, verdict, now_ms)
        if self.alerts.watches_duplicates:
            self._watch_duplicates(client, after, now_ms)
        self._follow(client, before, after, verdict, now_ms)
        self.alerts.pipeline.release_freed(now_ms)
        return verdict

    def _follow(self, client: str, before: ClientState, after: ClientState, verdict: str, now_ms: int) -> None:
        """What an answer means for the client's hold, and whether it is queried again."""
        waited = self._queried_first.pop(client, NEVER)
        if verdict == UNKNOWN:
            if waited != NEVER and after.on_hold and after.hold_since_ms == waited:
                self._settle(client, after, now_ms)  # nothing more is to be learned
            else:
                self._query_again_if_held_back(client, after, now_ms)
            return
        if verdict == UNCONFIRMED:
            self._query(client, CONFIRM, now_ms + self.policy.confirm_after_ms)
        if after.observed != before.observed and after.hold_since_ms == NEVER:
            self.counts.flaps_suppressed += after.flaps > before.flaps
            if self._lookback.over_ms and after.flaps > before.flaps:
                self._lookback.flap(client, now_ms)
        if not after.on_hold:
            return
        due_ms = after.hold_since_ms + self.policy.hold_ms(client, after.observed)
        if after.flags & CONFIRMED or after.observed != OFFLINE:
            is_sure = True
        else:
            is_sure = waited == after.hold_since_ms or due_ms <= self._watermark_ms
        if due_ms <= now_ms and is_sure:
            self._settle(client, after, now_ms)
        elif after.observed != before.observed:
            self._await(client, after, due_ms)
        elif not after.flags & CONFIRMED and due_ms <= now_ms:
            self._query(client, CONFIRM, now_ms + self.policy.confirm_after_ms)  # held back: two zeros let it go
        if after.flags & CONFIRMED and after.observed == OFFLINE and due_ms > now_ms:
            self._await_confirmed(client, after.hold_since_ms, due_ms)

    def _query_again_if_held_back(self, client: str, state: ClientState, now_ms: int) -> None:
        """A client whose hold is held back for too long is queried until an answer says something."""
        if state.on_hold and state.observed == OFFLINE:
            due_ms = state.hold_since_ms + self.policy.hold_ms(client, OFFLINE)
            if due_ms + self.policy.max_hold_ms <= now_ms:
                self._query(client, HELD, now_ms + max(self.policy.max_hold_ms, self.policy.confirm_after_ms))

    def _query(self, client: str, why: str, at_ms: int) -> None:
        """Have the client queried, not before an instant."""
        if self.policy.asks:
            self._requests.append(QueryRequest(client, why, at_ms))

    def _await_confirmed(self, client: str, since_ms: int, due_ms: int) -> None:
        self._holds.add_confirmed(since_ms, due_ms, client)
        self._wake_ms = min(self._wake_ms, due_ms)

    def _query_first(self, client: str, state: ClientState, now_ms: int) -> bool:
        """A doubtful client is about to settle offline: it is queried first, and its hold waits for the answer a little longer."""
        policy = self.policy
        if not policy.asks or state.flags & CONFIRMED or not is_doubtful(state, policy.clock_skew_ms):
            return False
        if state.verified_ms >= state.heard_ms or not self.can_query(client):
            return False
        if self._queried_first.get(client) != state.hold_since_ms:
            self._queried_first[client] = state.hold_since_ms
            self._query(client, DOUBT, now_ms)
            self._await_confirmed(client, state.hold_since_ms, now_ms + policy.confirm_after_ms)
        return True

    def refused(self, event: EventFields, now_ms: int) -> None:
        """An event was refused because it is dated in the future; our own clock may be the reason.

        Had it been a connect that ends an offline hold, that hold does not settle before an answer says so, or the connect is
        accepted after all.
        """
        client, kind, occurred_at_ms, channel, _ = event
        if kind != CONNECT or client not in self.states:
            return
        self._refused.pop(client, None)
        if len(self._refused) >= MAX_REFUSED:
            del self._refused[next(iter(self._refused))]
        until_ms = min(occurred_at_ms + REFUSED_MARGIN_MS, now_ms + LONGEST_REFUSED_MS)
        self._refused[client] = channel, occurred_at_ms, until_ms

    def next_refused(self, after_ms: int) -> int:
        """The earliest date after an instant of an event that is remembered as refused; `FOREVER`: there is none."""
        dates = [occurred_ms for _, occurred_ms, _ in list(self._refused.values()) if occurred_ms > after_ms]
        return min(dates, default=FOREVER)

    def _waits_for_refused(self, client: str, state: ClientState, at_ms: int) -> bool:
        """Would a connect that was refused for its date have ended the client's offline hold? Then it waits, and is asked."""
        found = self._refused.get(client)
        if found is None:
            return False
        channel, occurred_ms, until_ms = found
        told = learn(state, CONNECT, occurred_ms, channel, "", at_ms, self.policy, state.last)
        if told.observed == OFFLINE or until_ms <= at_ms or state.flags & CONFIRMED:
            del self._refused[client]
            return False
        self._query(client, DOUBT, at_ms)
        self._await_confirmed(client, state.hold_since_ms, until_ms)
        return True

    def _settle(self, client: str, state: ClientState, at_ms: int) -> None:
        if self._queried_first:
            self._queried_first.pop(client, None)
        facts = self.facts
        position = self._row + FACT_OFFSET + len(facts)
        after, transition = debounce.settle(state, client, at_ms, position)
        if self._keeps_records:
            facts.append(Fact(len(self.previous), SETTLED, client, at_ms, state.last))
            if client not in self.committed:
                self.committed[client] = state
        self.states[client] = after
        self.counts.transitions += 1
        self.alerts.out.lines.append(transition)
        if self._lookback.over_ms:
            self._lookback.settled(transition, state)
        self._triggers.transition(transition, after)

    # Timers

    @property
    def wake_ms(self) -> int:
        """No timer is due before this instant: cheap enough to ask at every event. May be early, never late."""
        return min(self._wake_ms, self.alerts.wake_ms)

    def next_due(self, *, running_on: bool = False) -> int:
        """When `advance` has something to do next, watermark permitting; `FOREVER` when nothing is left.

        `running_on`: without the kinds of timers that never keep a replay running after its last event.
        """
        if running_on:
            self._calms.drop_pointless(self._is_calm_meant)
            self._holds.drop_reverted(self._any_holds)
            return min(self._next_of_clients(FOREVER), self.alerts.next_keeping_replay_running())
        return min(self._next_of_clients(FOREVER), self.alerts.next_timer(FOREVER)[0])

    def _is_calm_meant(self, what: int, client: str) -> bool:
        """Can a client that is looked at stop flapping, or have its duplicates end?"""
        if what == CalmTimers.FLAPPING:
            return bool(self.state_of(client).flags & FLAPPING)
        return client in self.duplicates or self._triggers.has_open(client, "duplicate")

    def _any_holds(self, clients: Sequence[str], target: int, since_ms: int) -> bool:
        """Is the hold that began then still the one of any of them?"""
        for client in clients:
            state = self.state_of(client)
            if state.hold_since_ms == since_ms and state.observed == target:
                return True
        return False

    def advance(self, to_ms: int, watermark_ms: int, limit: int = FOREVER) -> bool:
        """Let time pass to `to_ms`: act on everything due by then, in order.

        Event-time timers act only up to `watermark_ms`; one that was held back before acts at `to_ms` and not at its own
        instant. Stops after about `limit` lines of output; returns whether anything due is left.

        To `ALL_TIME` it lets time pass only while anything is left that keeps a replay running, see `next_due`.
        """
        to_ms = max(min(to_ms, self.latest_ms), self.clock_ms)
        watermark_ms = self._watermark_ms = min(to_ms, watermark_ms)
        if self.wake_ms > to_ms:
            self.clock_ms = to_ms
            return False
        lines = self.alerts.out.lines
        done = len(lines) + limit
        self._release(min(self.clock_ms, watermark_ms), to_ms)
        self.alerts.resume(to_ms)
        if self.policy.asks and watermark_ms < to_ms:
            self._query_held_back(to_ms)
        wake_up = self.alerts.wake_up
        while True:
            due_ms = self._next_of_clients(watermark_ms)
            timer: Timer | None = None
            # Alerts have many kinds of timers, and most instants are about holds: they are looked at when one may be due.
            if wake_up.at_ms < due_ms and wake_up.at_ms <= to_ms:
                alerts_due_ms, alerts_timer = self.alerts.next_timer(watermark_ms)
                if alerts_due_ms < due_ms:
                    due_ms, timer = alerts_due_ms, alerts_timer
            if due_ms > to_ms:
                break
            is_passing = timer is not None and not timer.kind.keeps_replay_running
            if is_passing and to_ms >= ALL_TIME and self.next_due(running_on=True) == FOREVER:
                break
            if len(lines) >= done:
                return True
            if timer is not None:
                timer.run(due_ms)
            elif self._calms.next() <= due_ms:
                self._look_for_calm(due_ms)
            else:
                self._settle_due(due_ms, watermark_ms)
            if self.pauses and self._has_requests:
                self.clock_ms = max(self.clock_ms, due_ms)
                return True
        self.clock_ms = to_ms
        self._wake_ms = self._next_of_clients(FOREVER)
        if wake_up.at_ms <= to_ms:
            self.alerts.rest()
        return False

    def _next_of_clients(self, watermark_ms: int) -> int:
        """When the earliest timer of a single client acts."""
        return min(self._calms.next(), self._holds.next(watermark_ms))

    def _release(self, due_by_ms: int, to_ms: int) -> None:
        """Event-time timers that were due by the instant that the clock shows have been held back: they act at `to_ms`."""
        self._holds.release(due_by_ms, to_ms)
        if self.alerts.wake_ms <= due_by_ms:
            self.alerts.release(due_by_ms, to_ms)

    def _query_held_back(self, to_ms: int) -> None:
        """Clients whose hold is kept for longer than `max_hold` beyond its time, because a source is behind, are queried once."""
        upto_ms = to_ms - self.policy.max_hold_ms
        if upto_ms < self._held_back_ms + 1_000:  # once a second is often enough
            return
        for client in self._holds.held_back(self._held_back_ms, upto_ms):
            state = self.state_of(client)
            if state.on_hold and state.observed == OFFLINE:
                self._query(client, HELD, to_ms)
        self._held_back_ms = upto_ms

    def _settle_due(self, due_ms: int, watermark_ms: int) -> None:
        """Settle the holds that act at `due_ms`, those released first."""
        for since_ms, clients in self._holds.take_released(due_ms):
            self._settle_all(clients, OFFLINE, since_ms, due_ms)
        for since_ms, client in self._holds.take_confirmed(due_ms):
            if self._queried_first.get(client) == since_ms:
                del self._queried_first[client]
            state = self.state_of(client)
            if state.hold_since_ms == since_ms and state.observed == OFFLINE:
                if self._refused and not state.flags & CONFIRMED and self._waits_for_refused(client, state, due_ms):
                    continue
                self._settle(client, state, due_ms)
        for target, since_ms, clients in self._holds.take_due(due_ms, watermark_ms):
            self._settle_all(clients, target, since_ms, due_ms)

    def _settle_all(self, clients: Sequence[str], target: int, since_ms: int, at_ms: int) -> None:
        """Settle those whose hold still is the one that began at `since_ms`; a reverted one left its client behind."""
        for client in clients:
            state = self.state_of(client)
            if state.hold_since_ms != since_ms or state.observed != target:
                continue
            if target == OFFLINE and self._refused and self._waits_for_refused(client, state, at_ms):
                continue
            if target != OFFLINE or not self._query_first(client, state, at_ms):
                self._settle(client, state, at_ms)

    def _await_calm(self, due_ms: int | None, client: str, what: int) -> None:
        if due_ms is not None:
            self._calms.add(due_ms, client, what)
            self._wake_ms = min(self._wake_ms, due_ms)

    def _look_for_calm(self, due_ms: int) -> None:
        """A client may be calm: flapping stops, or its takeovers are few again."""
        what, client = self._calms.pop()
        state = self.state_of(client)
        if what == CalmTimers.TAKEOVERS:
            self._watch_duplicates(client, state, due_ms)
            return
        if not state.flags & FLAPPING:
            return
        again = debounce.calm_at(debounce.younger(state.changes, due_ms, self.policy), self.policy)
        if again is not None:
            self._await_calm(again, client, CalmTimers.FLAPPING)
            return
        facts = self.facts
        after = debounce.calm(state, self._row + FACT_OFFSET + len(facts))
        facts.append(Fact(len(self.previous), CALMED, client, due_ms, state.last))
        self.committed.setdefault(client, state)
        self.states[client] = after
        self._triggers.flapping_stopped(client, after, due_ms)

    def _watch_duplicates(self, client: str, state: ClientState, now_ms: int) -> None:
        """Start or end what the trigger `duplicate` is about: two live channels, or too many takeovers."""
        policy = self.policy
        # After a restart only the alert knows that the client had two, when few takeovers are left.
        known = client in self.duplicates or self._triggers.has_open(client, "duplicate")
        if not known and not self.alerts.matcher.watches_duplicates_of(client):
            return
        live = resolver.connection_count(state, policy.clock_skew_ms)
        recent = debounce.younger(state.takeovers, now_ms, policy) if state.takeovers else ()
        if not known and (live > 1 or len(recent) >= policy.flapping_start):
            self.duplicates.add(client)
            self._triggers.duplicate(client, state, now_ms, started=True)
            self._await_calm(debounce.calm_at(recent, policy), client, CalmTimers.TAKEOVERS)
        elif known and live <= 1:
            quiet_at = debounce.calm_at(recent, policy)
            if quiet_at is None:
                self.duplicates.discard(client)
                self._triggers.duplicate(client, state, now_ms, started=False)
            else:
                self._await_calm(quiet_at, client, CalmTimers.TAKEOVERS)

    # After a restart

    def apply_row_again(
        self, journal_id: int, events: Sequence[EventFields], facts: Sequence[Fact], now_ms: int
    ) -> None:
        """Apply one journal row again, see `history.apply_row`."""
        # A step is a row of its own: the clock went back, or ahead, to what it says.
        self.clock_ms = now_ms if step_of(facts) else max(self.clock_ms, now_ms)
        apply_row(
            self.states, journal_id, events, facts, now_ms, self.policy, self.forgotten if self.tombstone_ms else None
        )

    def restore(self, alerts: Iterable[Alert], throttles: Iterable[Throttled], kept: Kept | None = None) -> None:
        """Derive every deadline from the states and what the store holds: after a start, and after a failed commit.

        `kept`: groups, outages, silences, schedules, bursts and escalations, as far as they are not over.
        """
        self._rebuild()
        self.alerts.restore(alerts, throttles, kept, self.clock_ms)
        for client in self._triggers.waiting_for_calm():
            state = self.states.get(client)
            if state is not None and not state.flags & FLAPPING:
                # Another configuration than before found no flapping in the journal: what waits for its end is released now.
                self.states[client] = debounce.restless(state)
                self._await_calm(max(state.changes, default=0), client, CalmTimers.FLAPPING)

    def _rebuild(self) -> None:
        self._calms.clear()
        self._queried_first.clear()
        self._held_back_ms = 0
        confirmed: list[tuple[str, int, int]] = []
        holds: dict[tuple[int, int], list[tuple[int, str]]] = {}
        for client, state in self.states.items():
            if state.on_hold:
                length_ms = self.policy.hold_ms(client, state.observed)
                due_ms = state.hold_since_ms + length_ms
                holds.setdefault((state.observed, length_ms), []).append((due_ms, client))
                if state.flags & CONFIRMED:
                    confirmed.append((client, state.hold_since_ms, due_ms))
            if state.answered is not None and state.answered.is_unconfirmed:
                self._query(client, CONFIRM, self.clock_ms)
            if state.flags & FLAPPING:
                due = debounce.calm_at(state.changes, self.policy)
                # Another configuration than before may say that it has been calm all along: then since its newest change.
                self._await_calm(due if due is not None else max(state.changes, default=0), client, CalmTimers.FLAPPING)
        self._holds.restore(holds)
        for client, since_ms, due_ms in confirmed:
            self._await_confirmed(client, since_ms, due_ms)
        self._find_duplicates()
        self._wake_ms = 0  # look at everything at the next turn

    def use(self, matcher: Matcher, retired: Iterable[Rule] = ()) -> None:
        """Work with these rules from now on; `retired` ones only end the alerts they have."""
        self.alerts.use(matcher, retired, self.clock_ms)
        self._find_duplicates()

    def _find_duplicates(self) -> None:
        """Find the clients that have more than one connection already: nothing begins for them."""
        self.duplicates.clear()
        if not self.alerts.watches_duplicates:
            return
        policy, matcher = self.policy, self.alerts.matcher
        for client, state in self.states.items():
            answered = state.answered
            several = len(state.channels) > 1 or (answered is not None and answered.connections > 1)
            if (state.takeovers or several) and matcher.watches_duplicates_of(client):
                many = len(state.takeovers) >= policy.flapping_start
                if many or resolver.connection_count(state, policy.clock_skew_ms) > 1:
                    self.duplicates.add(client)
                self._await_calm(debounce.calm_at(state.takeovers, policy), client, CalmTimers.TAKEOVERS)

    def _stays_forgotten(self, client: str, kind: str, occurred_at_ms: int, now_ms: int) -> bool:
        """Is an event one of a client that was forgotten since? It is kept in the history and changes nothing."""
        forgotten_ms = self.forgotten.get(client, NEVER)
        if forgotten_ms == NEVER:
            return False
        if stays_forgotten(forgotten_ms, kind, occurred_at_ms) and now_ms - forgotten_ms < self.tombstone_ms:
            return True
        self._note_forgotten(client, NEVER)
        return False

    def _note_forgotten(self, client: str, at_ms: int) -> None:
        """The client was forgotten at an instant; NEVER: it is back, or that is long ago."""
        before_ms = self.forgotten.pop(client, NEVER)
        if at_ms != NEVER:
            self.forgotten[client] = at_ms
        first_ms, _ = self.forgotten_changes.get(client, (before_ms, NEVER))
        self.forgotten_changes[client] = first_ms, at_ms

    def purge_forgotten(self, now_ms: int, limit: int = 1_000) -> None:
        """Remember no longer who was forgotten long ago, nor more than `MAX_FORGOTTEN`; looks at some of them, oldest first."""
        surplus = len(self.forgotten) - MAX_FORGOTTEN
        for client, at_ms in list(islice(self.forgotten.items(), max(limit, surplus))):
            if surplus <= 0 and now_ms - at_ms < self.tombstone_ms:
                break
            surplus -= 1
            self._note_forgotten(client, NEVER)

    def forget(self, client: str, at_ms: int) -> None:
        """Keep the client no longer; its alerts end, and who got a firing gets its recovery."""
        at_ms = min(at_ms, self.latest_ms)
        state = self.state_of(client)
        if self.tombstone_ms:
            self._note_forgotten(client, at_ms)
        self.facts.append(Fact(len(self.previous), FORGOTTEN, client, at_ms, state.last))
        self.committed.setdefault(client, state)
        self.states[client] = NEW_CLIENT
        self._forgetting = True
        self.duplicates.discard(client)
        if self._outages.watches:
            self._outages.moved(client, state, NEW_CLIENT, at_ms)
        if self._quorums.watches:
            self._quorums.moved(client, state, NEW_CLIENT, at_ms)
        if self._lookback.over_ms:
            self._lookback.forget(client)
        self._triggers.forget(client, state, at_ms)

    # When our own clock was set

    def step(self, step_ms: int, now_ms: int) -> list[str]:
        """The wall clock was set by `step_ms` and shows `now_ms`: what waits goes on waiting for as long as before.

        Deadlines and alerts are moved here. Returns the clients whose states are to be moved too, by `step_clients`, in journal
        rows of their own: a large fleet has more of them than a row holds facts.
        """
        self.facts.append(Fact(len(self.previous), STEPPED, "", now_ms, 0, (step_ms, 0, False)))
        self.clock_ms = min(self.clock_ms + step_ms, now_ms)  # what is due since then has still to act
        self._holds.shift(step_ms)
        for client in self._queried_first:
            self._queried_first[client] += step_ms
        for client, forgotten_ms in list(self.forgotten.items()):
            if forgotten_ms > now_ms:
                self._note_forgotten(client, now_ms)
        for client, (channel, occurred_ms, until_ms) in list(self._refused.items()):
            self._refused[client] = channel, occurred_ms, until_ms + step_ms
        self._held_back_ms = max(0, self._held_back_ms + step_ms)
        self._watermark_ms = min(self._watermark_ms, now_ms)
        self.gaps = self.alerts.variables.gaps = stepped_gaps(self.gaps, step_ms, now_ms)
        self.alerts.step(step_ms, now_ms, str(self._row >> POSITION_BITS))
        self._wake_ms = 0  # look at everything at the next turn
        moved = clock_step.moved
        return [
            client
            for client, state in self.states.items()
            if state is not NEW_CLIENT and moved(state, step_ms, now_ms, 0) is not state
        ]

    def step_clients(self, clients: Sequence[str], step_ms: int, now_ms: int) -> None:
        """Move the states of some of the clients that `step` returned."""
        facts, states = self.facts, self.states
        for client in clients:
            state = states[client]
            position = self._row + FACT_OFFSET + len(facts)
            facts.append(Fact(len(self.previous), STEPPED, client, now_ms, state.last, (step_ms, 0, False)))
            self.committed.setdefault(client, state)
            states[client] = clock_step.moved(state, step_ms, now_ms, position)

    # What operators do; everything due by `now_ms` must have been passed

    def silence(self, silence: Silence, now_ms: int) -> None:
        """Add a silence, or put another in the place of the one of its id. A store keeps it whole (`Output.silences`)."""
        self.clock_ms = max(min(now_ms, self.latest_ms), self.clock_ms)
        self.alerts.silence(silence, self.clock_ms)

    def expire_silence(self, silence_id: str, now_ms: int) -> bool:
        """End a silence now; what it suppressed and still holds fires, together. False when no such silence is open."""
        self.clock_ms = max(min(now_ms, self.latest_ms), self.clock_ms)
        return self.alerts.expire_silence(silence_id, self.clock_ms)

    def why_not(self, rule: str, client: str, now_ms: int) -> list[StageReport]:
        """Every step between the client and a firing of the rule, see `explain`; changes nothing. Empty: no such rule."""
        return why_not(self.alerts, rule, client, self.state_of(client), now_ms)

    def acknowledge(
        self,
        now_ms: int,
        *,
        alert_id: str | None = None,
        rule: str | None = None,
        client: str | None = None,
        by: str = "",
    ) -> int:
        """An operator knows of these alerts: no more reminders, the recovery is sent all the same. Returns how many they were.

        Every criterion given must hold; `alert_id` may be a group's, which means all that fires in it.
        """
        self.clock_ms = max(min(now_ms, self.latest_ms), self.clock_ms)
        return self.alerts.acknowledge(self.clock_ms, alert_id=alert_id, rule=rule, client=client, by=by)
