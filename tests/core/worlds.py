"""A small world to tell stories in: a fleet on virtual time, events and outcomes as lines of text.

An event is `OFFSET[/RECEIVED] CLIENT TYPE CHANNEL [IP]`, as in rule scenarios; a client without `@@@` is one of the group G.
An outcome is one of

    30s p1 offline [graceful] [flaps=1] [first]      a transition, at `settled_at`
    30s rule p1 firing | suppressed throttle | ...   a step of an alert
    30s rule site=north firing                       the same about a key, `-` for one without values
    30s rule > p1 log firing [held]                  a delivery; several clients are `p1+p2`
    30s rule > p1 notify firing to chat              a delivery to a receiver

so a story and what follows from it can be read beside each other. Read `World.tell` and `World.pass_to` first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from engine.config.patterns import compile_patterns
from engine.core.alerting.alert import AlertLine
from engine.core.alerting.planned_delivery import PlannedDelivery
from engine.core.alerting.rate_limit import DEFAULT_BURST
from engine.core.alerting.silences import Silence
from engine.core.events import LifecycleEvent
from engine.core.fleet import Fleet
from engine.core.matching import NO_LISTING, Listing, Matcher
from engine.core.presence.client_state import OFFLINE, STATUS_NAMES, ClientState, Transition
from engine.core.presence.debounce import Policy
from engine.core.presence.query import StatusAnswer
from engine.core.rules import Action, EscalationStep, Match, Rule, Throttle
from engine.core.times import FOREVER

START_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z
UNITS_MS = {"h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}


def notify(*receivers: str) -> tuple[Action, ...]:
    """The action `notify` to some receivers."""
    return tuple(Action(kind="notify", spec={"receiver": name}) for name in receivers)


LOG = Action(kind="log", spec={"message": "{{ client.id }}"})

POLICY = Policy(
    clock_skew_ms=1_000, offline_ms=30_000, online_ms=0, flapping_start=4, flapping_stop=1, flapping_window_ms=60_000
)
"""The knobs of every story that does not say otherwise: a hold of 30 s, flapping from 4 changes in a minute until 1 is left."""

_SPAN = re.compile(r"(-?)((?:\d+(?:ms|h|m|s))+)")


def ms(text: str) -> int:
    """`1m30s` as milliseconds; `-1s` lies before the start."""
    found = _SPAN.fullmatch(text)
    assert found, f"no duration: {text}"
    total = sum(int(count) * UNITS_MS[unit] for count, unit in re.findall(r"(\d+)(ms|h|m|s)", found[2]))
    return -total if found[1] else total


def at(text: str) -> int:
    """The instant that lies `text` after the start, epoch milliseconds."""
    return START_MS + ms(text)


def span(instant_ms: int) -> str:
    """An instant as the time since the start, in the form that `at` reads."""
    left = instant_ms - START_MS
    sign, left = ("-", -left) if left < 0 else ("", left)
    parts = []
    for unit, size in UNITS_MS.items():
        count, left = divmod(left, size)
        parts += [f"{count}{unit}"] if count else []
    return sign + ("".join(parts) or "0s")


def full(client: str) -> str:
    """A client's whole id."""
    return client if "@@@" in client else f"G@@@{client}"


def short(client: str | None) -> str:
    """A client as stories name it."""
    return str(client).removeprefix("G@@@")


def event(row: str) -> tuple[LifecycleEvent, int]:
    """One event of a story, and when it is received."""
    when, client, kind, channel, *ip = row.split()
    occurred, _, received = when.partition("/")
    told = LifecycleEvent(full(client), kind, at(occurred), channel, ip[0] if ip else "")
    return told, at(received or occurred)


def rule(
    name: str,
    *triggers: str,
    for_: str = "0s",
    throttle: tuple[int, str] | tuple[int, str, str] | None = None,
    match: Match | None = None,
    condition: Callable[[Mapping[str, Any]], bool] | None = None,
    recovery: bool = False,
    **more: Any,
) -> Rule:
    """A rule that logs; `throttle` is (max, per, by...); `recovery` logs the end too."""
    return Rule(
        name=name,
        triggers=triggers,
        actions=more.pop("actions", (LOG,)),
        on_recovery=(LOG,) if recovery else (),
        for_ms=ms(for_),
        throttle=Throttle(max=throttle[0], per_ms=ms(throttle[1]), by=tuple(throttle[2:])) if throttle else None,
        match=match or Match(),
        condition=condition,
        **more,
    )


def step(after: str, kind: str = "log", *, recovery: bool = False, told: str = "boss") -> EscalationStep:
    """A step of `escalate` with one action of a kind; `recovery`: the same action tells the end too; `told`: whom."""
    action = Action(kind=kind, spec={"message": told, "to": (told,), "receiver": told})
    return EscalationStep(after_ms=ms(after), actions=(action,), on_recovery=(action,) if recovery else ())


def no_names(rule: Rule) -> frozenset[str]:
    """Which costly names the templates read: none."""
    return frozenset()


class Hours:
    """A calendar of plain windows: each from, until as offsets from the start."""

    def __init__(self, *windows: tuple[str, str]) -> None:
        self._windows = [(at(start), at(end)) for start, end in windows]

    def covers(self, at_ms: int) -> bool:
        """Is the instant inside one of them?"""
        return any(start <= at_ms < end for start, end in self._windows)

    def next_change_ms(self, at_ms: int) -> int:
        """The first edge after the instant."""
        return min((edge for window in self._windows for edge in window if edge > at_ms), default=FOREVER)


class Every:
    """Ticks at the whole multiples of an interval after the start."""

    def __init__(self, interval: str) -> None:
        self._interval_ms = ms(interval)

    def next_after(self, at_ms: int) -> int:
        """The first tick after the instant."""
        return START_MS + ((at_ms - START_MS) // self._interval_ms + 1) * self._interval_ms


class To:
    """One route: to a receiver, inside a window, or for a group."""

    def __init__(self, to: str, *windows: tuple[str, str], group: str = "") -> None:
        self.to = to
        self._hours = Hours(*windows) if windows else None
        self._group = group

    def holds(self, rule: Rule, group: str, at_ms: int) -> bool:
        """Does a firing go here?"""
        return (self._hours is None or self._hours.covers(at_ms)) and self._group in ("", group)


class World:
    """A fleet and all that came of what it was told. Unless a story says otherwise, every source is always caught up."""

    routes_at_first: ClassVar[Mapping[str, Sequence[To]]] = {}

    def __init__(
        self,
        *rules: Rule,
        policy: Policy = POLICY,
        attributes: Mapping[str, Mapping[str, str]] | None = None,
        burst: int = DEFAULT_BURST,
        listing: Listing = NO_LISTING,
    ) -> None:
        self.listing = listing
        self.policy = policy
        self.burst = burst
        self._attributes = attributes or {}
        self.rules = rules
        self.routes: Mapping[str, Sequence[To]] = self.routes_at_first
        self.fleet = self._new_fleet()
        self.lines: list[Transition | AlertLine | PlannedDelivery] = []
        self.asks: list[str] = []  # whom the fleet wanted asked, as "AT CLIENT WHY"

    def attributes(self, client: str) -> Mapping[str, str]:
        """The inventory's columns for a client."""
        return self._attributes.get(client, {})

    def _new_fleet(self) -> Fleet:
        fleet = Fleet(self.policy, self.matcher(), self.attributes, no_names, burst=self.burst, listing=self.listing)
        fleet.alerts.routing.routes = {name: tuple(entries) for name, entries in self.routes.items()}
        fleet.alerts.routing.target_of = lambda action: f"notify:{action.spec.get('receiver', action.kind)}"
        return fleet

    def matcher(self) -> Matcher:
        """The rules, ready to be asked."""
        return Matcher(self.rules, self.attributes, compile_patterns)

    # What happens

    def tell(self, *rows: str) -> World:
        """Events, each in a transaction of its own at the instant at which it is received."""
        for row in rows:
            told, received = event(row)
            self.batch([told], received)
        return self

    def batch(self, events: Sequence[LifecycleEvent], received_ms: int, watermark_ms: int | None = None) -> None:
        """One batch, received at once; `watermark_ms`: what every source is caught up to, by default the same instant."""
        silence = received_ms if watermark_ms is None else watermark_ms
        self.fleet.begin()
        self.fleet.advance(received_ms, silence)
        self.fleet.apply(events, received_ms, silence)
        self.commit()

    def pass_to(self, instant: str, silence: str | None = None) -> World:
        """Let time pass; `silence`: up to where every source has been read, by default as far."""
        self.fleet.begin()
        self.fleet.advance(at(instant), at(silence or instant))
        self.commit()
        return self

    def run_on(self) -> World:
        """Let the clock run as a replay does after its last event."""
        while (due := self.fleet.next_due(running_on=True)) < FOREVER:
            self.fleet.begin()
            self.fleet.advance(due, due)
            self.commit()
        return self

    def act(self, what: Callable[[Fleet], object]) -> World:
        """One more thing inside a transaction."""
        self.fleet.begin()
        what(self.fleet)
        self.commit()
        return self

    def pass_all(self, *instants: str) -> World:
        """Let time pass from instant to instant, as a service does that looks at the clock."""
        for instant in instants:
            self.pass_to(instant)
        return self

    def silence(self, instant: str, until: str, id: str = "s", **match: tuple[str, ...]) -> World:
        """At `instant` an operator silences what matches."""
        self.pass_to(instant)
        silence = Silence(id=id, match=Match(**match), from_ms=at(instant), until_ms=at(until))  # type: ignore[arg-type]
        return self.act(lambda fleet: fleet.silence(silence, at(instant)))

    def plan(
        self, instant: str, from_: str, until: str, id: str = "s", rules: tuple[str, ...] = (), **match: tuple[str, ...]
    ) -> World:
        """At `instant` an operator plans a silence of what matches and of alerts of these rules."""
        self.pass_to(instant)
        silence = Silence(
            id=id,
            match=Match(**match),  # type: ignore[arg-type]
            rules=rules,
            from_ms=at(from_),
            until_ms=at(until),
            planned=at(from_) > at(instant),
        )
        return self.act(lambda fleet: fleet.silence(silence, at(instant)))

    def acknowledge(self, instant: str, **what: str) -> int:
        """At `instant` an operator acknowledges; how many alerts those are."""
        self.pass_to(instant)
        found: list[int] = []
        self.act(lambda fleet: found.append(fleet.acknowledge(at(instant), **what)))
        return found[0]

    def answer(self, when: str, client: str, connections: int | None, *, asked: str = "", listed: bool = False) -> str:
        """A query, asked and answered at an instant (or asked earlier); returns the verdict."""
        name, at_ms = full(client), at(when)
        self.fleet.begin()
        self.fleet.advance(at_ms, at_ms)
        verdict = self.fleet.answer(StatusAnswer(name, at(asked or when), at_ms, connections, listed), at_ms)
        self.commit()
        return verdict

    def commit(self) -> None:
        """The transaction is durable."""
        self.asks += [f"{span(ask.at_ms)} {short(ask.client)} {ask.why}" for ask in self.fleet.take_query_requests()]
        self.lines += self.fleet.alerts.out.lines
        self.fleet.commit()

    # What came of it

    def state(self, client: str) -> ClientState:
        """What is believed about a client."""
        return self.fleet.state_of(full(client))

    def status(self, client: str) -> str:
        """A client's settled status."""
        return STATUS_NAMES[self.state(client).settled]

    def observed(self, client: str) -> str:
        """What the events say of a client right now."""
        return STATUS_NAMES[self.state(client).observed]

    @property
    def transitions(self) -> list[str]:
        """Every transition so far."""
        return [_told(line) for line in self.lines if isinstance(line, Transition)]

    @property
    def alerts(self) -> list[str]:
        """Every step of every alert so far."""
        return [_told(line) for line in self.lines if isinstance(line, AlertLine)]

    @property
    def deliveries(self) -> list[str]:
        """Every delivery so far."""
        return [_told(line) for line in self.lines if isinstance(line, PlannedDelivery)]

    @property
    def planned(self) -> list[PlannedDelivery]:
        """Every delivery so far, with all that its templates would see."""
        return [line for line in self.lines if isinstance(line, PlannedDelivery)]

    @property
    def story(self) -> list[str]:
        """Everything so far, in the order of the engine's clock."""
        return [_told(line) for line in self.lines]


def _told(line: Transition | AlertLine | PlannedDelivery) -> str:
    if isinstance(line, Transition):
        return transition_text(line)
    if isinstance(line, AlertLine):
        key = line.key or {}
        subject = short(line.client) if line.client is not None else key.get("source", " ".join(_words(key)) or "-")
        return " ".join([span(line.at_ms), line.rule, subject, line.state, *([line.reason] if line.reason else [])])
    subject = short(line.client) if line.client is not None else "+".join(map(short, line.clients or ())) or "-"
    words = [span(line.at_ms), line.rule.name, ">", subject, line.action.kind, line.phase]
    words += ["to", line.action.spec["receiver"] or "nobody"] if line.action.kind == "notify" else []
    return " ".join([*words, *(["held"] if line.held else [])])


def _words(key: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in key.items()]


def transition_text(line: Transition) -> str:
    """One transition in the words of a story."""
    words = [span(line.settled_at_ms), short(line.client), STATUS_NAMES[line.status]]
    words += ["graceful"] if line.graceful else []
    words += [f"flaps={line.flaps}"] if line.flaps else []
    return " ".join([*words, *(["first"] if line.first_seen else [])])


def happened(rules: Iterable[Rule], *rows: str, **more: Any) -> World:
    """The world after a story, with the clock run on to the end."""
    return World(*rules, **more).tell(*rows).run_on()


def is_offline(state: ClientState) -> bool:
    """Does the state say offline, settled?"""
    return state.settled == OFFLINE
