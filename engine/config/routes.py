"""Receivers of type `route`: by what a firing goes to one receiver or another. Read `WrittenRoute.holds`, then `route_problems`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final

from engine.config.matchers import as_tuple
from engine.config.named_intervals import NamedIntervals, unknown_interval, window_problems, with_windows
from engine.config.patterns import CompiledPatterns, compile_patterns, problem_of
from engine.config.reader import ConfigReader
from engine.config.schema import did_you_mean
from engine.config.time_intervals import windows
from engine.config.yamlfile import KeyPath
from engine.core.rules import Calendar, Rule

_PATTERNS: Final = ("rule", "group")


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenRoute:
    """One route, as the core asks it. `written`: each condition of `when`, as texts, to compare routes with one another."""

    to: str
    severities: frozenset[str] = frozenset()  # empty: any
    labels: tuple[tuple[str, tuple[str, ...]], ...] = ()
    rule: tuple[str, ...] = ()
    group: tuple[str, ...] = ()
    active: Calendar | None = field(default=None, compare=False)
    windows: tuple[Any, ...] = ()  # of `active`, as they are written: windows, and names of time intervals
    written: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def holds(self, rule: Rule, group: str, at_ms: int) -> bool:
        """Does a firing of `rule` at this instant go here? `group`: of the client, or of all clients that it is about; "": of none."""
        return (
            (not self.severities or rule.severity in self.severities)
            and all(name in rule.labels and fits(rule.labels[name], patterns) for name, patterns in self.labels)
            and (not self.rule or fits(rule.name, self.rule))
            and (not self.group or fits(group, self.group))
            and (self.active is None or self.active.covers(at_ms))
        )

    def with_intervals(self, intervals: NamedIntervals) -> WrittenRoute:
        """This route by edited time intervals. One that names an interval that is gone stays as it was."""
        names = [entry for entry in self.windows if isinstance(entry, str)]
        if not names or not all(name in intervals for name in names):
            return self
        return replace(self, active=windows(with_windows(self.windows, intervals)))

    def covers(self, other: WrittenRoute) -> bool:
        """Whether everything that goes to `other` goes here, as far as it can be told from what is written."""
        return all(key in other.written and other.written[key] <= values for key, values in self.written.items())


@lru_cache(maxsize=1_000)
def _compiled(patterns: tuple[str, ...]) -> CompiledPatterns:
    return compile_patterns(patterns)


def fits(text: str, patterns: tuple[str, ...]) -> bool:
    """Does the text match one of the patterns?"""
    return bool(_compiled(patterns).matching(text))


def read_routes(
    reader: ConfigReader, at: KeyPath, raw: Sequence[Mapping[str, Any]], intervals: NamedIntervals
) -> tuple[WrittenRoute, ...]:
    """The routes of one receiver; what cannot be read is reported."""
    return tuple(_read(reader, (*at, index), entry, intervals) for index, entry in enumerate(raw))


def _read(reader: ConfigReader, at: KeyPath, raw: Mapping[str, Any], intervals: NamedIntervals) -> WrittenRoute:
    when: Mapping[str, Any] = raw.get("when") or {}
    inside: KeyPath = (*at, "when")
    labels = tuple((name, as_tuple(patterns)) for name, patterns in (when.get("labels") or {}).items())
    for name, patterns in labels:
        _check_patterns(reader, (*inside, "labels", name), patterns)
    for key in _PATTERNS:
        _check_patterns(reader, (*inside, key), as_tuple(when.get(key, ())))
    written = {key: frozenset(as_tuple(when[key])) for key in ("severity", *_PATTERNS) if key in when}
    written |= {f"labels.{name}": frozenset(patterns) for name, patterns in labels}
    if "active" in when:
        written["active"] = frozenset({str(when["active"])})
    return WrittenRoute(
        to=raw["to"],
        severities=frozenset(as_tuple(when.get("severity", ()))),
        labels=labels,
        rule=as_tuple(when.get("rule", ())),
        group=as_tuple(when.get("group", ())),
        active=_calendar(reader, (*inside, "active"), when["active"], intervals) if "active" in when else None,
        windows=_entries(when.get("active", ())),
        written=written,
    )


def _check_patterns(reader: ConfigReader, at: KeyPath, patterns: Sequence[str]) -> None:
    for pattern in patterns:
        if (problem := problem_of(pattern)) is not None:
            reader.report(at, f"`{pattern[:80]}` {problem}")


def _calendar(
    reader: ConfigReader, at: KeyPath, written: str | Sequence[Any], intervals: NamedIntervals
) -> Calendar | None:
    """The windows of `active`: written there, or by the names of time intervals."""
    entries = _entries(written)
    good = True
    for index, entry in enumerate(entries):
        if isinstance(entry, str) and entry not in intervals:
            reader.report(at if isinstance(written, str) else (*at, index), unknown_interval(entry, intervals))
            good = False
    for path, message in window_problems(entries):
        reader.report((*at, *path), message)
        good = False
    return windows(with_windows(entries, intervals)) if good else None


def _entries(active: str | Sequence[Any]) -> tuple[Any, ...]:
    return (active,) if isinstance(active, str) else tuple(active)


def route_problems(reader: ConfigReader, routes: Mapping[str, Sequence[WrittenRoute]], known: Sequence[str]) -> None:
    """Report routes to receivers that do not exist, cycles, routes that nothing can reach, and alerts that no route takes."""
    for name, entries in routes.items():
        at: KeyPath = ("receivers", name, "routes")
        for index, entry in enumerate(entries):
            if entry.to not in known:
                hint = did_you_mean(entry.to, list(known), all_of_them=True)
                reader.report((*at, index, "to"), f"there is no receiver `{entry.to[:100]}`{hint}")
            first = next((before for before in range(index) if entries[before].covers(entry)), None)
            if first is not None:
                message = f"can never be reached: everything that it matches goes to `{entries[first].to}` (route {first + 1})"
                reader.report((*at, index), message, warning=True)
        if entries and all(entry.written for entry in entries):
            message = "has no route without `when` at its end: what matches none of them reaches no receiver"
            reader.report(at, message, warning=True)
    for cycle in _cycles(routes):
        reader.report(("receivers", cycle[0], "routes"), f"form a cycle: {' → '.join([*cycle, cycle[0]][:20])}")


def _cycles(routes: Mapping[str, Sequence[WrittenRoute]]) -> Iterator[list[str]]:
    """Every cycle that a walk over the routes meets, each once."""
    done: set[str] = set()
    for start in routes:
        path: dict[str, None] = {}
        stack: list[tuple[str, bool]] = [(start, False)]
        while stack:
            name, is_left = stack.pop()
            if is_left:
                done.add(path.popitem()[0])
            elif name not in done and name in routes:
                path[name] = None
                stack.append((name, True))
                for other in dict.fromkeys(entry.to for entry in routes[name]):
                    if other in path:
                        names = list(path)
                        yield names[names.index(other) :]
                    elif other not in done:
                        stack.append((other, False))
