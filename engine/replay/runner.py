"""`rollcall replay`: the live code on virtual time. What would these rules have done with these events?

The engine's clock is the running maximum of the received times, and every source is always caught up. No action is performed
and only the output is written. After the last event the clock runs on as long as a timer is left.
Read `Replay.run` first; `engine.replay.parallel` does the same on several processors.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec

from engine.config.inventory import Inventory
from engine.config.patterns import compile_patterns
from engine.config.receivers import Receiver
from engine.core.alerting.alert import AlertLine
from engine.core.alerting.planned_delivery import PlannedDelivery
from engine.core.alerting.rate_limit import DEFAULT_BURST
from engine.core.events import EventFields, Rejection
from engine.core.fleet import Fleet
from engine.core.matching import Matcher
from engine.core.presence.client_state import OFFLINE, ONLINE, Transition
from engine.core.presence.debounce import Policy
from engine.core.rules import Rule
from engine.core.times import FOREVER, rfc3339
from engine.replay.clock import ReplayClock
from engine.replay.lines import alert_line, transition_line
from engine.replay.recording import LongLine
from engine.runtime.fleet_factory import renderer_of, routes_of
from engine.sources.acceptance import MAX_LINE_BYTES
from engine.sources.wire import Replayed, decode_replay_lines
from engine.templates.burst_summary import for_rendering
from engine.templates.command import CommandRoutes
from engine.templates.email import MailRoute
from engine.templates.evidence_text import evidence_variable
from engine.templates.renderer import names_used
from engine.templates.secret_markers import conceal

LATEST_MS = 253_370_764_800_000
"""9999-01-01: a line that was received later is rejected, because calendars end before its holds and reminders would."""

TURN_LINES = 10_000
"""Lines after which they are written while the clock runs on, so that memory stays bounded."""

_json = msgspec.json.Encoder().encode
_occurred_at = itemgetter(2)
Write = Callable[[bytes], object]
Progress = Callable[[int], object]
"""Called with the number of bytes that were read since the last call."""

Entry = Transition | AlertLine | PlannedDelivery


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaySettings:
    """Everything that decides the outcome of a replay, beside its input."""

    policy: Policy
    rules: tuple[Rule, ...]
    inventory: Inventory
    max_future_ms: int
    commands: CommandRoutes = field(default_factory=CommandRoutes)
    mail: MailRoute | None = None
    burst: int = DEFAULT_BURST
    external_url: str = ""
    receivers: Mapping[str, Receiver] | None = None  # None: not known, every name is good


class ReplayOutcome(NamedTuple):
    """What came of a replay. `stood_still` says why the clock did not move for most lines; None: it did."""

    summary: dict[str, Any]
    first_rejected: str | None
    stood_still: str | None

    @property
    def accepts_nothing(self) -> bool:
        """Whether there were lines, and every one was rejected."""
        return not self.summary["events"] and self.first_rejected is not None

    @property
    def warning(self) -> str | None:
        """Why the result may say little, in a sentence; None when nothing is wrong with the recording."""
        if self.summary["events"]:
            return self.stood_still
        if self.first_rejected is not None:
            return f"every line was rejected; {self.first_rejected}"
        return "the recording holds no events"


class CompiledRules:
    """What is compiled from settings once, for any number of runs."""

    def __init__(self, settings: ReplaySettings) -> None:
        self.matcher = Matcher(settings.rules, settings.inventory.attributes, compile_patterns)
        names = {rule.name: names_used(rule, settings.receivers) for rule in settings.rules}
        self.names_used: Callable[[Rule], frozenset[str]] = lambda rule: names[rule.name]
        self.renderer = renderer_of(settings.mail, settings.commands, settings.receivers)


class Replay:
    """One run over one input."""

    def __init__(self, settings: ReplaySettings, write: Write, compiled: CompiledRules | None = None) -> None:
        compiled = compiled or CompiledRules(settings)
        self.fleet = Fleet(
            settings.policy,
            compiled.matcher,
            settings.inventory.attributes,
            compiled.names_used,
            keeps_records=False,
            burst=settings.burst,
            evidence_variable=evidence_variable,
            listing=settings.inventory,
        )
        self.fleet.alerts.variables.external_url = settings.external_url
        self.fleet.alerts.routing.routes = routes_of(settings.receivers or {})
        self._renderer = compiled.renderer
        self._max_future_ms = settings.max_future_ms
        self._write = write
        self._next_line = 1
        self.clock = ReplayClock(settings.rules)
        self.events = self.rejected = self.deliveries = 0
        self.first_rejected: str | None = None

    def run(self, chunks: Iterable[bytes | LongLine], progress: Progress = lambda done: None) -> ReplayOutcome:
        """Replay chunks of whole lines. The summary is also written as the last line.

        Raises BadRecording: a date is so far ahead of the lines above it that reminders would be made for years.
        """
        for chunk in chunks:
            progress(self._take(chunk))
        self._run_on()
        outcome = self.outcome()
        self._write(summary_line(outcome.summary))
        return outcome

    def _take(self, chunk: bytes | LongLine) -> int:
        """Replay one chunk; returns how many bytes it has."""
        if isinstance(chunk, LongLine):
            reason = f"the event is {chunk.length} bytes long, {MAX_LINE_BYTES} are allowed"
            self._reject(Rejection(self._next_line, reason, chunk.start))
            self._next_line += 1
            return chunk.length
        found = decode_replay_lines(chunk, self._max_future_ms, first_line=self._next_line)
        self._next_line += chunk.count(b"\n")
        instants = instants_of(found)
        if instants and max(instants) > LATEST_MS:
            found = _without_too_late(found, instants)
            instants = instants_of(found)
        pauses = list(self.clock.pauses(found.lines, instants))
        self.clock.follow(found.lines, instants)
        start = 0
        for end, rejection in _stops(found, pauses):  # in their place among the lines
            self._apply(found.events[start:end], instants[start:end])
            start = end
            if rejection is not None:
                self._reject(rejection)
            else:
                self._pass(instants[end])
        self._apply(found.events[start:] if start else found.events, instants[start:] if start else instants)
        return len(chunk)

    def _pass(self, until_ms: int) -> None:
        """Let the clock run through a long pause."""
        left = True
        while left:
            self.fleet.begin()
            left = self.fleet.advance(until_ms, until_ms, limit=TURN_LINES)
            self._flush()

    def _apply(self, events: Sequence[EventFields], instants: Sequence[int]) -> None:
        """Apply events to the fleet at their instants, and write what follows."""
        if not events:
            return
        self.events += len(events)
        self.fleet.begin()
        self.fleet.apply(events, 0, 0, instants)
        self._flush()

    def _run_on(self) -> None:
        """Advance the clock as long as a timer is left."""
        left = True
        while left:
            self.fleet.begin()
            left = self.fleet.advance(FOREVER - 1, FOREVER - 1, limit=TURN_LINES)
            self._flush()

    def _flush(self) -> None:
        lines = self.fleet.alerts.out.lines
        if lines:
            self._write("".join([self._line(entry) for entry in lines]).encode())
        self.fleet.commit()

    def _line(self, entry: Entry) -> str:
        if isinstance(entry, Transition):
            return transition_line(entry)
        if isinstance(entry, AlertLine):
            return alert_line(entry)
        self.deliveries += 1
        return _json(self._delivery_object(entry)).decode() + "\n"

    def _delivery_object(self, planned: PlannedDelivery) -> dict[str, Any]:
        planned = for_rendering(planned)
        rendered = self._renderer.planned(planned)
        found: dict[str, Any] = {
            "type": "delivery",
            "rule": planned.rule.name,
            "client": planned.client,
            "action": planned.action.kind,
            "phase": planned.phase,
            "at": rfc3339(planned.at_ms),
            "key": planned.key,
            "request": conceal(rendered.request),
        }
        if planned.group_key is not None:
            found["group_key"] = planned.group_key
        if planned.clients is not None:
            found["clients"] = planned.clients
        if planned.variables["alert"].get("unverified"):
            found["unverified"] = True
        if planned.rule.shadow:
            found["state"] = "shadow"
        elif planned.held:
            found["state"] = "held"
        elif rendered.dead:
            found["state"], found["reason"] = "dead", rendered.dead
        if rendered.problem:
            found["template_error"] = rendered.problem
        return found

    def _reject(self, rejection: Rejection) -> None:
        self._count_rejection(rejection)
        self._write(rejected_line(rejection))

    def _count_rejection(self, rejection: Rejection) -> None:
        self.rejected += 1
        if self.first_rejected is None:
            self.first_rejected = f"line {rejection.line}: {rejection.reason}"

    def outcome(self) -> ReplayOutcome:
        """The totals, and what is to be said about the recording."""
        return ReplayOutcome(self.summary(), self.first_rejected, self.clock.warning())

    def summary(self) -> dict[str, Any]:
        """The last line: the totals."""
        statuses = [state.settled for state in self.fleet.states.values()]
        return {
            "type": "summary",
            "events": self.events,
            "rejected": self.rejected,
            "clients": len(statuses),
            "online": statuses.count(ONLINE),
            "offline": statuses.count(OFFLINE),
            "transitions": self.fleet.counts.transitions,
            "flaps_suppressed": self.fleet.counts.flaps_suppressed,
            "deliveries": self.deliveries,
        }


def _stops(found: Replayed, pauses: Sequence[int]) -> list[tuple[int, Rejection | None]]:
    """The places before which something is to be done, in their order: with a rejection, or for a pause of the clock without one."""
    rejections: list[tuple[int, Rejection | None]] = [
        (bisect_left(found.lines, one.line), one) for one in found.rejected
    ]
    if not pauses:
        return rejections
    return sorted([*rejections, *((place, None) for place in pauses)], key=lambda stop: (stop[0], stop[1] is None))


def _without_too_late(found: Replayed, instants: Sequence[int]) -> Replayed:
    """Lines that were received so late that nothing could follow them are rejected."""
    kept = [instant <= LATEST_MS for instant in instants]
    late = [
        Rejection(line, f"received after {rfc3339(LATEST_MS)}, too late for a replay", b"")
        for line, is_kept in zip(found.lines, kept, strict=True)
        if not is_kept
    ]
    rejected = sorted(found.rejected + late, key=itemgetter(0))
    return Replayed(
        list(compress(found.lines, kept)),
        list(compress(found.events, kept)),
        list(compress(found.received, kept)),
        rejected,
    )


def rejected_line(rejection: Rejection) -> bytes:
    """The output line of an input line that was rejected."""
    return _json({"type": "rejected", "line": rejection.line, "reason": rejection.reason}) + b"\n"


def summary_line(summary: Mapping[str, Any]) -> bytes:
    """The summary as the last line."""
    return _json(summary) + b"\n"


def instants_of(found: Replayed) -> list[int]:
    """When each event was received, epoch ms: as its line says, otherwise at its own time."""
    instants = list(map(_occurred_at, found.events))
    if found.received.count(None) == len(instants):
        return instants
    pairs = zip(instants, found.received, strict=True)
    return [occurred if received is None else received for occurred, received in pairs]
