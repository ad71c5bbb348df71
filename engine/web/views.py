"""Everything that can be read of the engine, as the JSON objects of the HTTP interface, without HTTP. Read `Views`.

The routes of a running service use these views, and so does the command line on a store without a service, so both give the same
answers. Nothing here waits or writes. `BadQuestion` says which parameter is invalid and why, `NotThere` what does not exist.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import Any

from engine.core.alerting.silence_coverage import Coverage, Covered
from engine.core.alerting.silences import Silence
from engine.core.alerting.stages.base import StageReport
from engine.core.client_ids import impossible_id, shown_name
from engine.core.fleet import Fleet
from engine.core.presence.client_state import STATUS_NAMES, ClientState
from engine.core.presence.debounce import Policy
from engine.core.presence.evidence import doubts
from engine.core.times import rfc3339
from engine.errors import BadQuestion, NotThere, Unavailable
from engine.insights import quality
from engine.stores.base import HistoryEntry, Reader, SourceRow
from engine.web import explain_delivery, serializers, why_not
from engine.web.client_picture import client_picture
from engine.web.client_search import BUDGET_S, FLAGS, ClientSearch, ClientsWanted, merged
from engine.web.fleet_counts import CountedNowAndThen, count_by_status, count_doubtful
from engine.web.history import Decode, evidence_objects, retrace, step_object
from engine.web.page_drawings import PageDrawings
from engine.web.service import Subject

Object = dict[str, Any]

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
"""Items of one page at most."""

CLIENT_FLAGS = FLAGS
"""What clients can be listed by, beside their status."""

LOOK_BACK = 64
"""Entries before a page of the timeline that are read as well, so that its first entries are applied to a known state."""

MAX_EXPLAINED = 2_000
"""Entries of the history that an explanation reads at most."""

MAX_EVIDENCE = 100
"""Newest events that an explanation lists."""

MAX_CORRECTIONS = 10_000
"""Corrections that a drift report lists."""

MAX_SENT = 100
"""Newest deliveries of an alert that it is shown with."""

MAX_COMPARED = 200
"""Characters of a mistyped rule's name that are compared with the names of rules."""

COUNTED_AGAIN = 5
"""How often alerts are counted while what they are about changes at the same time."""

MAX_CURSOR_DIGITS = 18
"""Digits of a number in a cursor: a history position of 600 years, if fifty batches are committed a second."""


def page(items: Sequence[Object], following: object = None) -> Object:
    """One page of a list; `following` is the cursor of the next page, None: this is the last one."""
    return {"items": list(items), "next": None if following is None else str(following)}


def number_of(cursor: str | None) -> int | None:
    """The number in a cursor, None for an empty one. BadQuestion for a cursor that is not a number."""
    if cursor is None or cursor == "":
        return None
    is_number = cursor.isascii() and cursor.isdigit() and len(cursor) <= MAX_CURSOR_DIGITS
    if not is_number or cursor.startswith("0"):
        raise BadQuestion(f"`cursor` must be the `next` of a previous page, not {cursor[:60]!r}")
    return int(cursor)


class Views:
    """What can be read of one service or store; safe to use from any thread."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._decode: Decode = subject.codec.decode
        self._status_counts = CountedNowAndThen[dict[str, int]]()
        self._doubtful_count = CountedNowAndThen[int]()
        self.drawings = PageDrawings(lambda: self._subject.now_ms())
        self._searched: dict[int, ClientSearch] = {}

    # Without a service the states are loaded when they are first needed: listing deliveries does not need them.

    def _searches(self) -> list[ClientSearch]:
        """What finds the clients of each fleet; a replica that loads its states again has another fleet."""
        found = []
        for place, fleet in enumerate(self._subject.fleets):
            if place not in self._searched or self._searched[place].states is not fleet.states:
                self._searched[place] = ClientSearch(fleet, self._skew_ms)
            found.append(self._searched[place])
        return found

    @cached_property
    def _policy(self) -> Policy:
        """Of resolving and settling: the same in every fleet."""
        return self._subject.fleets[0].policy

    @cached_property
    def _skew_ms(self) -> int:
        return self._policy.clock_skew_ms

    def _published(self, client: str) -> ClientState | None:
        return self._subject.fleet_of(client).published(client)

    # Clients

    def clients(
        self,
        *,
        status: str | None = None,
        group: str | None = None,
        device: str | None = None,
        match: Sequence[str] = (),
        text: str = "",
        only: str | None = None,
        limit: int = DEFAULT_LIMIT,
        cursor: str = "",
    ) -> Object:
        """Clients by name. A page may hold fewer than `limit`, even none: it is the last page when `next` is null.

        `text`: what the id contains, in any case; `only`: one of `CLIENT_FLAGS`.
        """
        wanted = ClientsWanted(
            status=STATUS_NAMES.index(status) if status is not None else None,
            group=group,
            device=device,
            text=text.lower(),
            flag=only,
            matches=self._matcher(match),
        )
        searches = self._searches()
        pages = [search.page(wanted, limit, cursor, BUDGET_S / len(searches)) for search in searches]
        found, following = merged(pages, limit)
        return page([self._client_object(name, state) for name, state in found], following)

    def _matcher(self, pairs: Sequence[str]) -> Callable[[str, str], bool] | None:
        if not pairs:
            return None
        try:
            return self._subject.codec.matcher(pairs)
        except ValueError as error:
            raise BadQuestion(f"`match`: {error}") from error
        except Exception as error:  # what a library says of a pattern that is too much for it
            raise BadQuestion(
                "`match`: the patterns together are too large to be compiled; use simpler ones"
            ) from error

    def _client_object(self, client: str, state: ClientState) -> Object:
        attributes = self._subject.inventory.attributes(client)
        verified_ms = self._subject.fleet_of(client).verified_ms(state)
        return serializers.client_object(client, state, attributes, self._skew_ms, verified_ms)

    def _state(self, client: str) -> ClientState:
        state = self._published(client)
        if state is None:
            raise self.unknown(client)
        return state

    def client(self, client: str) -> Object:
        """One client."""
        return self._client_object(client, self._state(client))

    def status(self, client: str) -> Object:
        """What the engine believes about one client."""
        return serializers.status_object(client, self._state(client), self._subject.now_ms())

    def count_by_status(self) -> dict[str, int]:
        """How many clients have each status, as of a moment ago in a large fleet: see `CountedNowAndThen`."""
        return self._status_counts.value(lambda: count_by_status([fleet.states for fleet in self._subject.fleets]))

    # Quality

    def quality(self, reader: Reader) -> Object:
        """What the feeds are like, by a sample of the newest history, and how many clients are doubtful."""
        now_ms, fleets = self._subject.now_ms(), self._subject.fleets
        rows = reader.newest_journal(quality.SAMPLED_EVENTS)
        sampled = quality.sample(rows, self._decode)
        gaps = Counter(gap.source for gap in reader.gaps())
        doubtful = self._doubtful_count.value(lambda: count_doubtful([fleet.states for fleet in fleets], self._skew_ms))
        items = [
            serializers.quality_object(
                health, gaps[health.name], quality.quality(sampled.get(health.name, quality.EMPTY)), now_ms
            )
            for health in self._subject.healths()
        ]
        return {
            "at": rfc3339(now_ms),
            "sampled_from": rfc3339(rows[-1].at_ms) if sampled else None,
            "late_after": quality.LATE_MS / 1000,
            "clients": sum(len(fleet.states) for fleet in fleets),
            "doubtful": doubtful,
            "sources": items,
        }

    # History

    def timeline(self, reader: Reader, client: str, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None) -> Object:
        """A client's history, newest first; `purged`: older entries have expired."""
        position = number_of(cursor) or self._state(client).last
        entries = list(islice(reader.history(position), limit + LOOK_BACK))
        if cursor and (not entries or not self._is_about(entries[0], client)):
            raise BadQuestion("`cursor` must be the `next` of a previous page for this client")
        from_the_start = bool(entries) and entries[-1].previous == 0
        steps = list(retrace(reversed(entries), self._decode, self._policy, client))
        shown = [
            step_object(step, self._skew_ms, self._subject.codec.why, from_the_start=from_the_start) for step in steps
        ]
        items = shown[::-1][:limit]
        rest = entries[limit:]
        purged = not rest and bool(entries) and entries[-1].previous != 0
        return page(items, rest[0].position if rest else None) | {"purged": purged}

    def picture(self, reader: Reader, client: str, from_ms: int, to_ms: int) -> Object:
        """What happened to a client between two instants (epoch ms), for a drawing."""
        return client_picture(reader, client, self._state(client), self._policy, self._subject.codec, from_ms, to_ms)

    def _is_about(self, entry: HistoryEntry, client: str) -> bool:
        if entry.raw is None:
            return entry.client == client
        return any(event.client == client for event in self._decode([entry.raw], entry.at_ms))

    def explanation(self, reader: Reader, client: str, at_ms: int | None = None) -> Object:
        """A client's status and the evidence for it: now, or at an instant, rebuilt from the history up to it.

        `complete`: no entry older than `history_from` has expired.
        """
        state = self._state(client)
        entries = list(islice(_until(reader.history(state.last), at_ms), MAX_EXPLAINED))
        complete = not entries or entries[-1].previous == 0
        steps = list(retrace(reversed(entries), self._decode, self._policy, client))
        if at_ms is not None:
            if not steps:
                raise NotThere(self._nothing_by(reader, client, state, at_ms))
            state = steps[-1].after
        evidence = evidence_objects(steps, state, self._skew_ms, self._subject.codec.why)
        shown = self._client_object(client, state)
        if at_ms is not None:
            # A gap that was found since then does not change what was verified then.
            shown["verified_at"] = serializers.verified_at(state.verified_ms)
        return shown | {
            "at": rfc3339(at_ms if at_ms is not None else self._subject.now_ms()),
            "occurred_at": serializers.instant(state.occurred_at_ms),
            "hold": self._hold_object(client, state),
            "doubts": [self._subject.codec.doubt(one) for one in doubts(state, self._skew_ms)],
            "evidence": evidence[-MAX_EVIDENCE:],
            "evidence_left_out": max(0, len(evidence) - MAX_EVIDENCE),
            "complete": complete,
            "history_from": rfc3339(entries[-1].at_ms) if entries else None,
        }

    def _nothing_by(self, reader: Reader, client: str, state: ClientState, at_ms: int) -> str:
        """Why there is no history up to an instant."""
        oldest = None
        for entry in reader.history(state.last):
            oldest = entry
        if oldest is not None and oldest.previous == 0:
            return f"no event had named {shown_name(client)} by {rfc3339(at_ms)}; the first one came at {rfc3339(oldest.at_ms)}"
        since = f"the history begins at {rfc3339(oldest.at_ms)}" if oldest is not None else "there is no history left"
        return f"the history of {shown_name(client)} up to {rfc3339(at_ms)} has expired; {since}"

    def _hold_object(self, client: str, state: ClientState) -> Object | None:
        if not state.on_hold:
            return None
        hold_ms = self._subject.fleet_of(client).policy.hold_ms(client, state.observed)
        return {
            "since": rfc3339(state.hold_since_ms),
            "occurred_at": rfc3339(state.hold_occurred_at_ms),
            "due_at": rfc3339(state.hold_since_ms + hold_ms),
        }

    # Alerts, deliveries, quarantine

    def alerts(
        self,
        reader: Reader,
        *,
        state: str | None = None,
        rule: str | None = None,
        client: str | None = None,
        limit: int = DEFAULT_LIMIT,
        cursor: str | None = None,
    ) -> Object:
        """Alerts, newest first."""
        started_at, _, id_ = (cursor or "").partition("-")
        at_ms = number_of(started_at)
        after = (at_ms, id_) if at_ms is not None else None
        rows = reader.alerts(state=state, rule=rule, client=client, limit=limit + 1, cursor=after)
        last = rows[limit - 1] if len(rows) > limit else None
        items = [serializers.alert_object(row) for row in rows[:limit]]
        return page(items, f"{last.started_at_ms}-{last.id}" if last is not None else None)

    def alert(self, reader: Reader, id_: str) -> Object:
        """One alert: what is known of its life, and what was sent for it, alone or with its group."""
        row = reader.alert(id_)
        if row is None:
            raise NotThere(f"there is no alert {shown_name(id_)}")
        life = reader.alert_life(id_)
        names = dict.fromkeys([id_, *([life.notification] if life is not None and life.notification else [])])
        found = [one for name in names for one in reader.deliveries(alert=name, limit=MAX_SENT + 1)]
        found = sorted(found, key=lambda one: one.id)
        shown = found[-MAX_SENT:]
        pauses = self._subject.pauses()
        severity = next((rule.severity for rule in self._subject.rules if rule.name == row.rule), None)
        return serializers.alert_object(row) | {
            "severity": severity,
            "life": serializers.life_objects(row, life.fired_at_ms if life is not None else None, shown),
            "deliveries": [serializers.sent_object(one, pauses.get(one.target)) for one in shown],
            "deliveries_left_out": len(found) > len(shown),
        }

    def silences(
        self,
        reader: Reader,
        *,
        state: str | None = None,
        author: str | None = None,
        limit: int = DEFAULT_LIMIT,
        cursor: str | None = None,
    ) -> Object:
        """Silences, newest first."""
        from_at, _, id_ = (cursor or "").partition("-")
        at_ms = number_of(from_at)
        after = (at_ms, id_) if at_ms is not None else None
        now_ms = self._subject.now_ms()
        rows = reader.silences(now_ms=now_ms, state=state, author=author, limit=limit + 1, cursor=after)
        last = rows[limit - 1] if len(rows) > limit else None
        items = self.silence_objects(rows[:limit], now_ms)
        return page(items, f"{last.from_ms}-{last.id}" if last is not None else None)

    def silence(self, reader: Reader, id_: str) -> Object:
        """One silence."""
        found = reader.silence(id_)
        if found is None:
            raise NotThere(f"there is no silence {id_[:60]!r}")
        return self.silence_objects([found], self._subject.now_ms())[0]

    def silence_objects(self, silences: Sequence[Silence], now_ms: int) -> list[Object]:
        """Silences with what those that have not expired cover now."""
        open_ones = [silence for silence in silences if silence.until_ms > now_ms]
        covered = self.coverage(open_ones) if open_ones and self._subject.is_loaded else {}
        rules = [rule.name for rule in self._subject.fleets[0].alerts.matcher.rules] if covered else []
        return [
            serializers.silence_object(
                silence,
                now_ms,
                covered[silence.id],
                self._subject.codec.silence_warnings(silence, covered[silence.id], rules),
            )
            if silence.id in covered
            else serializers.silence_object(silence, now_ms)
            for silence in silences
        ]

    def coverage(self, silences: Sequence[Silence]) -> Mapping[str, Covered]:
        """What each of these silences covers now, by id. Alerts are counted as they are at the moment, perhaps not committed yet."""
        found: dict[str, Covered] = {}
        for fleet in self._subject.fleets:
            for id_, covered in _covered(fleet, silences).items():
                before = found.get(id_)
                found[id_] = covered if before is None else before.added(covered)
        return found

    def why_not(self, rule: str, client: str, stages: Sequence[StageReport]) -> Object:
        """Why a rule has not fired for a client; `stages` as the fleet reports them, empty: there is no such rule."""
        if not stages:
            raise self._no_rule(rule)
        return why_not.explanation(rule, client, stages, self._subject.now_ms(), lambda: self.nearest(client))

    def check_rule(self, rule: str) -> None:
        """NotThere when no loaded rule has this name; nothing while no rules are loaded because their files have mistakes."""
        names = [one.name for one in self._subject.rules]
        if rule not in names and (names or self._subject.rules_problem is None):
            raise self._no_rule(rule)

    def _no_rule(self, rule: str) -> NotThere:
        near = difflib.get_close_matches(rule[:MAX_COMPARED], [one.name for one in self._subject.rules], n=1)
        return NotThere(f"there is no rule {shown_name(rule)}{f'; did you mean {near[0]}?' if near else ''}")

    def nearest(self, client: str) -> str | None:
        """The known client whose id is most like this mistyped one; None when none is."""
        found = (search.names.nearest(client) for search in self._searches())
        return next((name for name in found if name is not None), None)

    def unknown(self, client: str) -> NotThere:
        """The error for a client that no event has named: why none can be, or the known id that is most like it."""
        if problem := impossible_id(client):
            return NotThere(problem)
        near = self.nearest(client)
        suggestion = f"; did you mean {near}?" if near is not None else ""
        return NotThere(f"there is no client {shown_name(client)}: no event has ever named it{suggestion}")

    def deliveries(
        self,
        reader: Reader,
        *,
        limit: int = DEFAULT_LIMIT,
        cursor: str | None = None,
        **wanted: str | None,
    ) -> Object:
        """Deliveries, newest first; filters `state`, `rule`, `client`, `alert`."""
        rows = reader.deliveries(**wanted, limit=limit + 1, cursor=number_of(cursor))
        pauses = self._subject.pauses()
        items = [serializers.delivery_object(row, pauses.get(row.target)) for row in rows[:limit]]
        return page(items, rows[limit - 1].id if len(rows) > limit else None)

    def delivery(self, reader: Reader, number: int) -> Object:
        """One delivery with its request, secrets concealed, and its attempts (the newest 20, oldest first)."""
        row = reader.delivery(number)
        if row is None:
            raise NotThere(f"there is no delivery {number}")
        pause = self._subject.pauses().get(row.target)
        return serializers.delivery_object(row, pause) | {
            "phase": row.phase,
            "decided_at": serializers.instant(row.decided_at_ms),
            "renewed_at": serializers.instant(row.renewed_at_ms),
            "kept_attempts": [serializers.attempt_object(one) for one in row.kept_attempts],
            "clients": list(row.clients) if row.clients is not None else None,
            "request": self._subject.codec.conceal(row.request),
            "passed": explain_delivery.stages(reader.rule_at(row.rule, row.decided_at_ms), row),
        }

    def quarantine(self, reader: Reader, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None) -> Object:
        """Events that were not accepted, newest first."""
        rows = reader.quarantine(limit=limit + 1, cursor=number_of(cursor))
        items = [serializers.quarantine_object(row) for row in rows[:limit]]
        return page(items, rows[limit - 1].id if len(rows) > limit else None)

    # Sweeps

    def reconciliations(self, reader: Reader, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None) -> Object:
        """Sweeps, newest first."""
        rows = reader.reconciliations(limit=limit + 1, cursor=number_of(cursor))
        items = [serializers.reconciliation_object(row) for row in rows[:limit]]
        return page(items, rows[limit - 1].id if len(rows) > limit else None)

    def reconciliation(self, reader: Reader, number: int) -> Object:
        """One sweep: its reason, how many clients it queries, and its drift report."""
        row = reader.reconciliation(number)
        if row is None:
            raise NotThere(f"there is no reconciliation {number}")
        found = reader.corrections(number, limit=MAX_CORRECTIONS)
        return serializers.reconciliation_object(row) | {
            "why": row.why,
            "total": row.total,
            "corrections": [serializers.correction_object(one) for one in found],
            "corrections_left_out": max(0, row.tally.corrected - len(found)),
        }

    # Sources and rules

    def sources(self, reader: Reader, *, limit: int = MAX_LIMIT, cursor: str | None = None) -> Object:
        """Every configured source: its health, its position and its gaps."""
        known, gaps, now_ms = reader.sources(), reader.gaps(), self._subject.now_ms()
        items = [
            serializers.source_object(
                health, known.get(health.name, SourceRow()), (gap for gap in gaps if gap.source == health.name), now_ms
            )
            for health in self._subject.healths()
        ]
        return _part(items, limit, cursor)

    def rules(self, *, limit: int = MAX_LIMIT, cursor: str | None = None) -> Object:
        """The rules in force; `problem` says why edited rules are not."""
        found = [serializers.rule_object(rule) for rule in self._subject.rules]
        return _part(found, limit, cursor) | {"problem": self._subject.rules_problem}


def _covered(fleet: Fleet, silences: Sequence[Silence]) -> Mapping[str, Covered]:
    """What silences cover in one fleet."""
    alerts = fleet.alerts
    for attempt in range(COUNTED_AGAIN):
        counted = Coverage(silences, alerts.matcher.rules, alerts.variables.attributes, alerts.matcher.compile_patterns)
        try:
            open_alerts = [alert for some in list(alerts.open_alerts.by_subject.values()) for alert in list(some)]
            counted.count_alerts(open_alerts, fleet.state_of, alerts.pipeline.stages.silence.clients_of)
        except RuntimeError:  # the members of an outage have changed meanwhile
            if attempt == COUNTED_AGAIN - 1:
                raise Unavailable("too much changes to count what the silence covers", 1) from None
            continue
        break
    states = ((name, fleet.published(name)) for name in list(fleet.states))
    counted.count_clients((name, state.ip) for name, state in states if state is not None)
    return counted.covered()


def _part(items: Sequence[Object], limit: int, cursor: str | None) -> Object:
    """One page of a list in memory, in the order of its file; the cursor is an index into it."""
    start = number_of(cursor) or 0
    end = start + limit
    return page(items[start:end], end if end < len(items) else None)


def _until(entries: Iterable[HistoryEntry], at_ms: int | None) -> Iterator[HistoryEntry]:
    """Entries no newer than an instant."""
    for entry in entries:
        if at_ms is None or entry.at_ms <= at_ms:
            yield entry
