"""What ops people wrote, as frozen values: rules, what they match, and what they do.

Built by `engine.rulefiles.loader` from YAML; nothing here reads a file. Read `Rule` first. Patterns and templates stay text here:
`core.matching` and `engine.templates` compile them, so that a rule can be compared, stored and shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

TRIGGERS = (
    "offline",
    "online",
    "first_seen",
    "never_seen",
    "flapping",
    "stable",
    "duplicate",
    "unverified",
    "outage",
    "quorum",
    "schedule",
    "feed",
    "cell",
    "undelivered",
)
"""Triggers this version evaluates, the lasting ones before the momentary where one transition matches two."""

UNDELIVERED: Final = "undelivered"
"""The trigger about a target that gets nothing: a delivery to it is dead, or its deliveries have failed for a while."""

ABOUT_SOURCES: Final = frozenset({"feed", "cell"})
"""Triggers whose alerts are about a source or a cell; `alert.source` names it."""

WITHOUT_CLIENTS: Final = ABOUT_SOURCES | {UNDELIVERED}
"""Triggers whose alerts are about no clients, neither one nor many."""

AT_ONCE = frozenset({"first_seen", "stable", "schedule"})
"""Triggers whose alerts are resolved in the instant they fire."""

UNFLAPPABLE = WITHOUT_CLIENTS | {"never_seen", "flapping", "stable", "unverified", "outage", "quorum", "schedule"}
"""Triggers that `flapping: skip` never suppresses: they are about flapping, about no event, or about no client."""

VERIFIABLE = frozenset({"offline", "online", "first_seen", "duplicate"})
"""Triggers of which a query can say whether they are true."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Which clients a rule concerns; every field given must hold, any of its patterns may.

    A pattern is a glob (`*`, `?`, `[...]`) or `re:` and an RE2 expression for a full match; `ip` holds CIDR networks.
    """

    group: tuple[str, ...] = ()
    device: tuple[str, ...] = ()
    client: tuple[str, ...] = ()
    ip: tuple[str, ...] = ()
    attributes: tuple[tuple[str, tuple[str, ...]], ...] = ()  # (column, patterns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttle:
    """At most `max` firings in any `per_ms` for one value of `by` (nothing: the whole rule)."""

    max: int
    per_ms: int
    by: tuple[str, ...] = ()  # "client", "group" or an inventory column
    excess: str = "hold"  # what is beyond `max`: hold (it fires when there is room again) or drop (it never fires)


class Calendar(Protocol):
    """Windows of local wall time, such as "weekdays 22:00-06:00 in Berlin". The shell knows the time zones."""

    def covers(self, at_ms: int) -> bool:
        """Is the instant inside one of the windows?"""
        ...

    def next_change_ms(self, at_ms: int) -> int:
        """The first instant after `at_ms` at which `covers` may answer otherwise; `FOREVER` when it never does."""
        ...


class Ticks(Protocol):
    """Instants that come again and again, such as "08:00 on weekdays in Berlin"."""

    def next_after(self, at_ms: int) -> int:
        """The first tick after `at_ms`; `FOREVER` when none comes."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouping:
    """One delivery for many clients: those with the same values of `by`."""

    by: tuple[str, ...] = ("group",)  # "client", "group", "ip/24" (any prefix length) or an inventory column
    wait_ms: int = 30_000
    interval_ms: int = 300_000
    limit: int = 100  # clients listed in one delivery


@dataclass(frozen=True, slots=True, kw_only=True)
class OutageTerms:
    """When many offline clients of one key are one incident."""

    by: tuple[str, ...] = ("group",)  # "group", "ip/24" (any prefix length) or an inventory column
    at_least: int = 5
    percent: float = 0
    within_ms: int = 60_000
    recover_within_ms: int = 900_000
    inhibit: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class QuorumTerms:
    """How many of a key's clients must be offline, whenever they went: so many (`down`), or such a part of them (`percent`)."""

    by: tuple[str, ...] = ("group",)  # as in `OutageTerms`
    down: int = 0  # 0: `percent` decides
    percent: float = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """A rule that inhibits while it fires for anything that has the same values of `equal`."""

    rule: str
    equal: tuple[str, ...]  # "client", "group", "ip/24" (any prefix length) or an inventory column


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When a rule with `trigger: schedule` fires."""

    ticks: Ticks
    catch_up: str = "once"  # once or skip
    over_ms: int = 0  # a roll call says what happened in so much time before it; 0: it does not look back


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One thing to do, as written: `kind` is notify, webhook, email, command or log, `spec` the mapping under it, defaults filled in."""

    kind: str
    spec: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class EscalationStep:
    """Whom else a rule tells of an alert that nobody has acknowledged `after_ms` after its firing, and of its recovery."""

    after_ms: int
    actions: tuple[Action, ...]
    on_recovery: tuple[Action, ...] = ()


Condition = Callable[[Mapping[str, Any]], bool]
"""A compiled `condition`: takes the template variables, says whether the rule applies; never raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule. `definition` is its JSON text, canonical: the same rule always has the same one."""

    name: str
    triggers: tuple[str, ...]
    actions: tuple[Action, ...]
    on_recovery: tuple[Action, ...] = ()
    escalate: tuple[EscalationStep, ...] = ()  # `after_ms` ascending
    description: str = ""
    severity: str = "warning"
    labels: Mapping[str, str] = field(default_factory=dict)
    for_ms: int = 0
    match: Match = Match()
    condition: Condition | None = field(default=None, compare=False)
    condition_text: str = ""
    condition_names: frozenset[str] = frozenset()  # top-level template names the condition reads
    throttle: Throttle | None = None
    active: Calendar | None = field(default=None, compare=False)  # None: always
    mute: Calendar | None = field(default=None, compare=False)  # None: never
    grouping: Grouping | None = None
    repeat_ms: int = 0  # 0: no reminders
    outage: OutageTerms | None = None
    quorum: QuorumTerms | None = None
    schedule: Schedule | None = field(default=None, compare=False)
    inhibited_by: tuple[str, ...] = ()  # by name: for the same client
    parents: tuple[Parent, ...] = ()  # and for the same values
    verify: bool = False
    verify_failure: str = "send"  # send or hold
    verify_within_ms: int = 30_000
    flapping_skip: bool = True
    existing: bool = False
    shadow: bool = False
    definition: str = ""
    file: str = ""
    line: int = 0


def actions_of(rule: Rule) -> tuple[Action, ...]:
    """Every action of a rule: of its firing, its recovery, and of the steps of its escalation."""
    found = (*rule.actions, *rule.on_recovery)
    for step in rule.escalate:
        found = (*found, *step.actions, *step.on_recovery)
    return found


def tells_recovery(rule: Rule) -> bool:
    """Has the rule anything to send when an alert is resolved?"""
    return bool(rule.on_recovery) or any(step.on_recovery for step in rule.escalate)


def inhibitors_of(rule: Rule) -> tuple[str, ...]:
    """The names of all rules that inhibit a rule, be it for the same client or for the same values."""
    return (*rule.inhibited_by, *[parent.rule for parent in rule.parents]) if rule.parents else rule.inhibited_by


CLIENT: Final = "client"
GROUP: Final = "group"
FLEET: Final = "fleet"


def reach(rule: Rule) -> str:
    """Whose events can decide together under a rule: one client's (CLIENT), one group's (GROUP), or anyone's (FLEET).

    What is decided within a reach never depends on events outside of it, so parts of a fleet can be replayed side by side.
    """
    if rule.outage is not None or rule.quorum is not None or rule.schedule is not None or inhibitors_of(rule):
        return FLEET
    if rule.grouping is not None and "client" not in rule.grouping.by:
        return FLEET
    if rule.grouping is None and (rule.active is not None or rule.mute is not None):
        return FLEET  # what a window suppressed fires together at its end
    throttle = rule.throttle
    if throttle is None or "client" in throttle.by:
        return CLIENT
    groups = rule.match.group
    is_one_group = len(groups) == 1 and not groups[0].startswith("re:") and not set("*?[") & set(groups[0])
    return GROUP if is_one_group or "group" in throttle.by else FLEET
