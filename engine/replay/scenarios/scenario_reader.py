"""Reads one test of a scenario file that the schema accepted. Read `ScenarioReader`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from engine.config.durations import parse_duration, parse_rfc3339
from engine.config.inventory import Inventory
from engine.config.matchers import as_tuple, check_match, match_of
from engine.config.patterns import compile_patterns, problem_of
from engine.config.schema import did_you_mean
from engine.config.yamlfile import Document, KeyPath
from engine.core.rules import Rule
from engine.errors import Problem
from engine.replay.scenarios.event_line import EventLine, parse_event_line
from engine.replay.scenarios.scenario import AckAct, Act, Answer, Expected, Scenario, SilenceAct

DEFAULT_START_MS = 1_767_225_600_000
"""2026-01-01T00:00:00Z."""

LATEST_START_MS = 220_000_000_000_000
"""Latest start, in the year 8941: every instant of a test can still be written in RFC 3339."""

ALERT_ID = re.compile(r"[0-9a-f]{28}")
"""An alert's id: 28 hexadecimal digits."""


class ScenarioReader:
    """Reads one test. A mistake is reported, and any valid value replaces what is wrong."""

    def __init__(
        self,
        document: Document,
        index: int,
        raw: Mapping[str, Any],
        rules: tuple[Rule, ...] | None,
        inventory: Inventory | None,
        problems: list[Problem],
    ) -> None:
        self._document = document
        self._at: KeyPath = ("tests", index)
        self._raw = raw
        self._rules = None if rules is None else [rule.name for rule in rules]
        self._inventory = inventory
        self._problems = problems
        self._start_ms = self._start()
        self._until_ms: int | None = None

    def read(self, max_future_ms: int) -> Scenario:
        """The test; `max_future_ms` is how far ahead of its reception an event may be dated."""
        if "until" in self._raw:
            self._until_ms = self._start_ms + self._ms(("until",), self._raw["until"])
        return Scenario(
            name=self._raw["name"],
            line=self._document.place((*self._at, "name"))[0],
            start_ms=self._start_ms,
            events=tuple(self._events(max_future_ms)),
            answers=tuple(self._answers()) if "answers" in self._raw else None,
            acts=tuple(self._acts()),
            until_ms=self._until_ms,
            expect=self._expected("expect"),
            alerts=self._expected("alerts"),
        )

    def _report(self, path: KeyPath, message: str) -> None:
        self._problems.append(self._document.problem((*self._at, *path), message))

    def _start(self) -> int:
        if "start" not in self._raw:
            return DEFAULT_START_MS
        try:
            start_ms = parse_rfc3339(self._raw["start"])
        except ValueError as error:
            self._report(("start",), str(error))
            return DEFAULT_START_MS
        if not 0 <= start_ms <= LATEST_START_MS:
            self._report(("start",), "must be in the years 1970 to 8940")
            return DEFAULT_START_MS
        return start_ms

    def _ms(self, path: KeyPath, text: str) -> int:
        try:
            return parse_duration(text)
        except ValueError as error:
            self._report(path, str(error))
            return 0

    def _when(self, path: KeyPath, text: str) -> int:
        """The instant at an offset from the start."""
        at_ms = self._start_ms + self._ms(path, text)
        self._check_until(path, at_ms)
        return at_ms

    def _check_until(self, path: KeyPath, at_ms: int) -> None:
        if self._until_ms is not None and at_ms > self._until_ms:
            self._report(path, f"is after `until` ({self._raw['until']}), so it would never happen")

    def _events(self, max_future_ms: int) -> Iterable[EventLine]:
        for index, text in enumerate(self._raw.get("events", ())):
            at: KeyPath = ("events", index)
            try:
                line = parse_event_line(text, self._start_ms, max_future_ms)
            except ValueError as error:
                self._report(at, str(error))
                continue
            self._check_until(at, line.received_at_ms)
            yield line

    def _answers(self) -> Iterable[Answer]:
        for index, raw in enumerate(self._raw["answers"]):
            connections = raw["connections"]
            yield Answer(
                at_ms=self._when(("answers", index, "at"), raw["at"]),
                client=raw["client"],
                connections=None if connections in (None, -1) else connections,
            )

    def _acts(self) -> Iterable[Act]:
        for index, raw in enumerate(self._raw.get("acts", ())):
            at: KeyPath = ("acts", index)
            at_ms = self._when((*at, "at"), raw["at"])
            if ("silence" in raw) == ("ack" in raw):
                self._report(at, "must contain either `silence` or `ack`")
            elif "silence" in raw:
                yield self._silence(at, at_ms, raw["silence"])
            else:
                yield self._ack((*at, "ack"), at_ms, raw["ack"])

    def _silence(self, at: KeyPath, at_ms: int, raw: Mapping[str, Any]) -> Act:
        here: KeyPath = (*at, "silence")
        match, rules = raw.get("match", {}), as_tuple(raw.get("rule", ()))
        if "match" not in raw and not rules:
            self._report(here, "`match` is missing: write {} to silence everything, or name rules in `rule`")
        check_match(match, (*self._at, *here, "match"), self._document, self._inventory, self._problems)
        for pattern in rules:
            self._check_rule((*here, "rule"), pattern)
        from_ms = None
        if "from" in raw:
            from_ms = self._instant((*here, "from"), raw["from"])
            if from_ms < at_ms:
                self._report((*here, "from"), "is before the act (`at`): leave it out to begin with it")
        beginning = f" from {raw['from']}" if "from" in raw else ""
        what = [json.dumps(raw["match"], ensure_ascii=False)] if "match" in raw else []
        what += [f"rule {', '.join(rules)}"] if rules else []
        return SilenceAct(
            at_ms=at_ms,
            where=f"{at[0]}[{at[1]}]",
            text=f"silence {' and '.join(what)}{beginning} for {raw['for']}",
            match=match_of(match),
            rules=rules,
            from_ms=from_ms,
            for_ms=self._ms((*here, "for"), raw["for"]),
            author=raw.get("author", ""),
            comment=raw.get("comment", ""),
        )

    def _check_rule(self, at: KeyPath, pattern: str) -> None:
        """Report a pattern for names of rules that is invalid, or matches no rule of the test."""
        problem = problem_of(pattern)
        if problem is not None:
            self._report(at, f"`{pattern[:60]}` {problem}")
        elif self._rules is not None and not any(compile_patterns([pattern]).matching(name) for name in self._rules):
            hint = did_you_mean(pattern, self._rules, all_of_them=True)
            self._report(at, f"no rule of this file matches `{pattern[:60]}`{hint}")

    def _ack(self, at: KeyPath, at_ms: int, text: str) -> Act:
        rule, _, client = text.partition(" ")
        if ALERT_ID.fullmatch(text):
            return AckAct(at_ms=at_ms, text=f"ack {text}", rule=None, client=None, alert=text)
        if self._rules is not None and rule not in self._rules:
            self._report(at, f"there is no rule `{rule[:60]}`{did_you_mean(rule, self._rules, all_of_them=True)}")
        return AckAct(at_ms=at_ms, text=f"ack {text}", rule=rule, client=client.strip() or None, alert=None)

    def _expected(self, key: str) -> tuple[Expected, ...] | None:
        if key not in self._raw:
            return None
        return tuple(self._expected_line((key, index), raw) for index, raw in enumerate(self._raw[key]))

    def _expected_line(self, at: tuple[str, int], raw: Mapping[str, Any]) -> Expected:
        rule = raw.get("rule")
        if rule is not None and self._rules is not None and rule not in self._rules:
            hint = did_you_mean(rule, self._rules, all_of_them=True)
            self._report((*at, "rule"), f"there is no rule `{rule[:60]}`{hint}")
        at_ms = None
        if "at" in raw:
            at_ms = self._instant((*at, "at"), raw["at"])
        return Expected(
            keys={name: value for name, value in raw.items() if name != "at"},
            at_ms=at_ms,
            where=f"{at[0]}[{at[1]}]",
            line=self._document.place((*self._at, *at))[0],
        )

    def _instant(self, path: KeyPath, text: str) -> int:
        try:
            at_ms = parse_rfc3339(text) if "-" in text else self._start_ms + parse_duration(text)
        except ValueError as error:
            self._report(path, str(error))
            return self._start_ms
        if at_ms < self._start_ms:
            self._report(path, "is before the start of the test")
        self._check_until(path, at_ms)
        return at_ms
