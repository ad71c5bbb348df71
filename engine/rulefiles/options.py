"""The keys of a rule that say when it may speak and how often: windows, verification, groups, reminders, outages, schedules.

`KeyReader` turns them into the values of `engine.core.rules`, one rule at a time; `inhibition_problems` looks at the names in
`inhibited_by` over all files. What a schema can know was checked before.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from engine.config.cron import cron
from engine.config.durations import parse_duration
from engine.config.inventory import Inventory
from engine.config.loader import Config
from engine.config.matchers import as_tuple
from engine.config.schema import did_you_mean
from engine.config.time_intervals import windows
from engine.config.yamlfile import Document, KeyPath
from engine.core.rules import AT_ONCE, VERIFIABLE, Calendar, Grouping, Outage, Schedule
from engine.errors import Problem

ABOUT_MANY = frozenset({"outage", "schedule"})
"""Triggers whose alerts are about many clients at once: a rule of one of them has no other."""

MIN_REPEAT_MS = 1_000
"""A shorter reminder is a typing error."""


class KeyReader:
    """Reads these keys of one rule; problems go to `problems`. `inventory` and `config` None: not known here."""

    def __init__(
        self,
        document: Document,
        at: KeyPath,
        inventory: Inventory | None,
        config: Config | None,
        problems: list[Problem],
    ) -> None:
        self._document = document
        self._at = at
        self._columns = None if inventory is None else inventory.columns
        self._config = config
        self._problems = problems

    def read(self, entry: Mapping[str, Any], triggers: Sequence[str]) -> dict[str, Any]:
        """The arguments of `Rule` that come from these keys."""
        self._check_company(entry, triggers)
        self._check_throttle(entry, triggers)
        return {
            "active": self._windows(entry, "active"),
            "mute": self._windows(entry, "mute"),
            "grouping": self._grouping(entry, triggers),
            "repeat_ms": self._repeat(entry, triggers),
            "outage": self._outage(entry),
            "schedule": self._schedule(entry),
            "inhibited_by": as_tuple(entry.get("inhibited_by", ())),
            **self._verification(entry, triggers),
        }

    def _say(self, path: KeyPath, message: str, *, at_key: bool = False, warning: bool = False) -> None:
        self._problems.append(self._document.problem((*self._at, *path), message, at_key=at_key, warning=warning))

    def _duration(self, written: Mapping[str, Any], key: str, path: KeyPath, default_ms: int) -> int:
        if key not in written:
            return default_ms
        try:
            return parse_duration(written[key])
        except ValueError as error:
            self._say((*path, key), str(error))
            return default_ms

    def _check_company(self, entry: Mapping[str, Any], triggers: Sequence[str]) -> None:
        """A trigger about many clients stands alone, and has the key of its name; nobody else has it."""
        for trigger in sorted(ABOUT_MANY):
            if trigger in entry and trigger not in triggers:
                self._say((trigger,), f"has no meaning without `trigger: {trigger}`", at_key=True)
            if trigger in triggers and trigger not in entry:
                example = "{by: [group], at_least: 5}" if trigger == "outage" else '{cron: "0 8 * * mon-fri"}'
                self._say(
                    ("trigger",), f"`{trigger}` needs the key `{trigger}` beside it, such as {trigger}: {example}"
                )
            if trigger in triggers and len(triggers) > 1:
                self._say(("trigger",), f"`{trigger}` is about many clients at once: give it a rule of its own")

    def _check_throttle(self, entry: Mapping[str, Any], triggers: Sequence[str]) -> None:
        """Alerts about many clients have no client to be counted by, only the names of their own key."""
        named = as_tuple(entry.get("throttle", {}).get("by", ()))
        known = as_tuple(entry.get("outage", {}).get("by", ("group",))) if "outage" in triggers else ()
        for word in named if ABOUT_MANY & set(triggers) else ():
            if word not in known:
                why = f"an outage is known by {', '.join(known)}" if known else "a roll call is about all its clients"
                self._say(("throttle", "by"), f"`{word[:60]}` is nothing to count by: {why}")

    def _windows(self, entry: Mapping[str, Any], key: str) -> Calendar | None:
        if key not in entry:
            return None
        for index, written in enumerate(entry[key]):
            try:
                windows([written])
            except ValueError as error:
                found = re.match(r"(days|hours|timezone): (.*)", str(error), re.DOTALL)
                path: KeyPath = (key, index, found[1]) if found else (key, index)
                self._say(path, found[2] if found else str(error))
                return None
        return windows(entry[key])

    def _grouping(self, entry: Mapping[str, Any], triggers: Sequence[str]) -> Grouping | None:
        written = entry.get("grouping")
        if written is None:
            return None
        for trigger in ("feed", "outage", "schedule"):
            if trigger in triggers:
                why = "is about no client" if trigger == "feed" else "is one delivery for many clients already"
                self._say(("grouping",), f"has no meaning here: the trigger `{trigger}` {why}", at_key=True)
        at: KeyPath = ("grouping",)
        by = as_tuple(written.get("by", ("group",)))
        self._check_names(by, (*at, "by"), clients=True)
        return Grouping(
            by=by,
            wait_ms=self._duration(written, "wait", at, Grouping().wait_ms),
            interval_ms=self._duration(written, "interval", at, Grouping().interval_ms),
            limit=written.get("limit", Grouping().limit),
        )

    def _repeat(self, entry: Mapping[str, Any], triggers: Sequence[str]) -> int:
        repeat_ms = self._duration(entry, "repeat", (), 0)
        if "repeat" not in entry:
            return 0
        if repeat_ms < MIN_REPEAT_MS:
            self._say(("repeat",), "must be at least 1s")
        if set(triggers) <= AT_ONCE:
            self._say(("repeat",), f"would never remind: `{triggers[0]}` is over at once", at_key=True)
        return repeat_ms

    def _outage(self, entry: Mapping[str, Any]) -> Outage | None:
        written = entry.get("outage")
        if written is None:
            return None
        at: KeyPath = ("outage",)
        by = as_tuple(written.get("by", ("group",)))
        self._check_names(by, (*at, "by"), clients=False)
        within_ms = self._duration(written, "within", at, Outage().within_ms)
        if within_ms == 0:
            self._say((*at, "within"), "must be longer than 0")
        return Outage(
            by=by,
            at_least=written.get("at_least", Outage().at_least),
            percent=written.get("percent", Outage().percent),
            within_ms=within_ms,
            inhibit=written.get("inhibit", True),
        )

    def _schedule(self, entry: Mapping[str, Any]) -> Schedule | None:
        written = entry.get("schedule")
        if written is None:
            return None
        zone = written.get("timezone", "UTC")
        try:
            ticks = cron(written["cron"], zone)
        except ValueError as error:
            key = "timezone" if "is not a time zone" in str(error) else "cron"
            self._say(("schedule", key), str(error))
            return None
        return Schedule(ticks=ticks, catch_up=written.get("catch_up", "once"))

    def _verification(self, entry: Mapping[str, Any], triggers: Sequence[str]) -> dict[str, Any]:
        verify = entry.get("verify", False)
        within_ms = self._duration(entry, "verify_within", (), 30_000)
        for key in ("verify_failure", "verify_within"):
            if key in entry and not verify:
                self._say((key,), "has no meaning without `verify: true`", at_key=True)
        if verify and not VERIFIABLE & set(triggers):
            can = ", ".join(sorted(VERIFIABLE))
            self._say(
                ("verify",), f"has no meaning here: a query tells of {can}, not of {', '.join(triggers)}", at_key=True
            )
        elif verify and self._config is not None and getattr(self._config, "status", None) is None:
            self._say(
                ("verify",),
                "nobody can be asked: the configuration has no `status`, so alerts are sent unverified",
                at_key=True,
                warning=True,
            )
        return {"verify": verify, "verify_failure": entry.get("verify_failure", "send"), "verify_within_ms": within_ms}

    def _check_names(self, by: Sequence[str], path: KeyPath, *, clients: bool) -> None:
        """Is each name one that puts clients together?"""
        known = ["client", "group"] if clients else ["group"]
        for word in by:
            problem = name_problem(word, known, self._columns)
            if word == "client" and not clients:
                problem = "`client` makes an outage of each client: use group, ip/24 or a column of the inventory"
            if problem:
                self._say(path, problem)


def name_problem(word: str, known: Sequence[str], columns: Sequence[str] | None) -> str | None:
    """Why a `by` name puts no clients together; None when it does. `columns` None: those of the inventory are not known."""
    if word.startswith("ip/"):
        length = word[3:]
        is_length = length.isdecimal() and length.isascii() and 0 < int(length) <= 128
        return None if is_length else f"`{word[:60]}` is no network: write ip/24, the length of the prefix behind ip/"
    if word in known or columns is None or word in columns:
        return None
    listed = f"{', '.join(known)}, ip/24 or"
    return f"`{word[:60]}` is not among {listed} the columns of the inventory{did_you_mean(word, [*known, *columns])}"


Written = tuple[Document, int, Mapping[str, Any]]
"""A rule as it stands in its file: the file, its place there, and what is written."""


def inhibition_problems(rules: Sequence[Written], names: Collection[str]) -> Iterator[Problem]:
    """Every name in `inhibited_by` that is no rule or never inhibits, and every cycle, once.

    `names`: of all rules, those too that are too broken to be among `rules`.
    """
    known = {entry["name"]: (document, index, entry) for document, index, entry in rules}
    inhibitors: dict[str, tuple[str, ...]] = {}
    for name, (document, index, entry) in known.items():
        inhibitors[name] = tuple(word for word in as_tuple(entry.get("inhibited_by", ())) if word in known)
        for word in as_tuple(entry.get("inhibited_by", ())):
            path: KeyPath = ("rules", index, "inhibited_by")
            if word not in names:
                yield document.problem(path, f"there is no rule `{word[:100]}`{did_you_mean(word, list(names))}")
            if word not in known:
                continue
            triggers = set(as_tuple(known[word][2]["trigger"]))
            if "feed" in triggers | set(as_tuple(entry["trigger"])):
                yield document.problem(
                    path, f"`{word}` never inhibits `{name}`: a feed is about a source, not about clients"
                )
            elif triggers <= AT_ONCE:
                yield document.problem(path, f"`{word}` never inhibits: its alerts are over at once")
            elif known[word][2].get("shadow", False) and not entry.get("shadow", False):
                yield document.problem(
                    path, f"`{word}` is a shadow rule, and those inhibit only shadow rules", warning=True
                )
    for cycle in _cycles(inhibitors):
        document, index, _ = known[cycle[0]]
        shown = " → ".join([*cycle, cycle[0]][:20])
        yield document.problem(("rules", index, "inhibited_by"), f"goes round in a circle: {shown}")


def _cycles(edges: Mapping[str, Sequence[str]]) -> Iterator[list[str]]:
    """Every cycle that a walk over the names meets, each once. A stack of our own: files may chain thousands of rules."""
    done: set[str] = set()
    for start in edges:
        path: dict[str, None] = {}  # in order
        stack: list[tuple[str, bool]] = [(start, False)]
        while stack:
            name, is_left = stack.pop()
            if is_left:
                done.add(path.popitem()[0])
            elif name not in done:
                path[name] = None
                stack.append((name, True))
                for other in edges[name]:
                    if other in path:
                        names = list(path)
                        yield names[names.index(other) :]
                    elif other not in done:
                        stack.append((other, False))
