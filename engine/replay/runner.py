"""`rollcall replay`: the live code on virtual time. What would these rules have done with these events?

The engine's clock is the running maximum of the received times, and every source is always caught up. No action is performed
and only the output is written. After the last event the clock runs on as long as a timer is left.
Read `Replay.run` first; `engine.replay.parallel` does the same on several processors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import IO, Any

import msgspec

from engine.config.inventory import Inventory
from engine.config.patterns import compile_patterns
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
from engine.replay.lines import alert_line, transition_line
from engine.runtime.fleet_factory import renderer_of
from engine.sources.wire import Replayed, decode_replay_lines
from engine.templates.burst_summary import for_rendering
from engine.templates.command import CommandRoutes
from engine.templates.email import MailRoute
from engine.templates.evidence_text import evidence_variable
from engine.templates.renderer import names_used
from engine.templates.secret_markers import conceal

CHUNK_BYTES = 256 * 1024
"""Bytes of input decoded at once."""

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


class CompiledRules:
    """What is compiled from settings once, for any number of runs."""

    def __init__(self, settings: ReplaySettings) -> None:
        self.matcher = Matcher(settings.rules, settings.inventory.attributes, compile_patterns)
        names = {rule.name: names_used(rule) for rule in settings.rules}
        self.names_used: Callable[[Rule], frozenset[str]] = lambda rule: names[rule.name]
        self.renderer = renderer_of(settings.mail, settings.commands)


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
        )
        self.fleet.alerts.variables.external_url = settings.external_url
        self._renderer = compiled.renderer
        self._max_future_ms = settings.max_future_ms
        self._write = write
        self.events = self.rejected = self.deliveries = 0

    def run(self, chunks: Iterable[bytes], progress: Progress = lambda done: None) -> dict[str, Any]:
        """Replay chunks of whole lines. Returns the summary, which is also written as the last line."""
        line = 1
        for chunk in chunks:
            self._chunk(chunk, line)
            line += chunk.count(b"\n")
            progress(len(chunk))
        self._run_on()
        summary = self.summary()
        self._write(summary_line(summary))
        return summary

    def _chunk(self, chunk: bytes, first_line: int) -> None:
        found = decode_replay_lines(chunk, self._max_future_ms, first_line=first_line)
        instants = instants_of(found)
        start = 0
        for rejection in found.rejected:  # in their place among the lines
            end = start
            while end < len(found.lines) and found.lines[end] < rejection.line:
                end += 1
            self._apply(found.events[start:end], instants[start:end])
            start = end
            self._reject(rejection)
        self._apply(found.events[start:] if start else found.events, instants[start:] if start else instants)

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
        self.rejected += 1
        self._write(rejected_line(rejection))

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


def chunks_of(file: IO[bytes]) -> Iterator[bytes]:
    """A file in chunks of whole lines (the last may lack its line break)."""
    while lines := file.readlines(CHUNK_BYTES):
        yield b"".join(lines)
