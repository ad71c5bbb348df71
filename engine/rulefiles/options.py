"""The keys of a rule that say when it fires and how it notifies: time intervals, verification, grouping, reminders, outages, schedules.

`OptionsReader` turns them into the values of `engine.core.rules` and checks what a schema cannot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine.config.cron import cron
from engine.config.matchers import as_tuple
from engine.config.schema import did_you_mean
from engine.config.time_intervals import windows
from engine.config.yamlfile import KeyPath
from engine.core.rules import AT_ONCE, VERIFIABLE, Grouping, OutageTerms, Parent, QuorumTerms, Schedule, Throttle
from engine.rulefiles.context import RuleContext
from engine.rulefiles.triggers import ABOUT_MANY, ABOUT_NO_CLIENT

_EXAMPLES = {
    "outage": "{by: [group], at_least: 5}",
    "quorum": "{by: [group], down: 3}",
    "schedule": '{cron: "0 8 * * mon-fri"}',
}
"""For the triggers about many clients: what their keys may look like."""

SHORTEST_OVER_MS, LONGEST_OVER_MS = 60_000, 31 * 86_400_000
"""What a roll call may look back over: what is recorded grows with it."""

MIN_REPEAT_MS = 1_000
"""A shorter interval between reminders is a typing error."""


class OptionsReader:
    """Reads these keys of one rule."""

    def __init__(self, context: RuleContext) -> None:
        self._context = context
        self._report = context.report
        self._duration_ms = context.duration_ms

    def read(self, entry: Mapping[str, Any], triggers: Sequence[str]) -> dict[str, Any]:
        """The arguments of `Rule` that come from these keys."""
        self._check_triggers(entry, triggers)
        self._check_throttle(entry, triggers)
        return {
            "throttle": self._throttle(entry),
            "active": windows(entry["active"]) if "active" in entry else None,
            "mute": windows(entry["mute"]) if "mute" in entry else None,
            "grouping": self._grouping(entry, triggers),
            "repeat_ms": self._repeat(entry, triggers),
            "outage": self._outage(entry),
            "schedule": self._schedule(entry),
            "quorum": self._quorum(entry),
            "inhibited_by": tuple(one for one in inhibitors_in(entry) if isinstance(one, str)),
            "parents": self._parents(entry),
            **self._verification(entry, triggers),
        }

    def _check_triggers(self, entry: Mapping[str, Any], triggers: Sequence[str]) -> None:
        """A trigger about many clients is the only one of its rule and has the key of its name; no other rule has that key."""
        for trigger in sorted(ABOUT_MANY - self._context.lost) if "trigger" not in self._context.lost else ():
            if trigger in entry and trigger not in triggers:
                self._report((trigger,), f"needs `trigger: {trigger}`", at_key=True)
            if trigger in triggers and trigger not in entry:
                message = f"the trigger `{trigger}` needs the key `{trigger}` as well, such as {trigger}: {_EXAMPLES[trigger]}"
                self._report(("trigger",), message)
            if trigger in triggers and len(triggers) > 1:
                self._report(
                    ("trigger",),
                    f"`{trigger}` is about many clients, so it cannot be combined with other triggers: write a separate rule for it",
                )

    def _check_throttle(self, entry: Mapping[str, Any], triggers: Sequence[str]) -> None:
        """Alerts about many clients are not counted by client, only by the names of their own key."""
        if self._context.lost & {"trigger", *ABOUT_MANY}:
            return
        named = as_tuple(entry.get("throttle", {}).get("by", ()))
        about = next((trigger for trigger in ("outage", "quorum") if trigger in triggers), "")
        known = as_tuple(entry.get(about, {}).get("by", ("group",))) if about else ()
        for word in named if ABOUT_MANY & set(triggers) else ():
            if word not in known:
                why = (
                    f"{about}s of this rule are by {', '.join(known)}"
                    if known
                    else "a roll call is one alert for all clients"
                )
                self._report(("throttle", "by"), f"`{word[:60]}` cannot be used here: {why}")

    def _throttle(self, entry: Mapping[str, Any]) -> Throttle | None:
        written = entry.get("throttle")
        if written is None:
            return None
        per_ms = self._duration_ms(written, "per", ("throttle",), 1)
        if per_ms == 0:
            self._report(("throttle", "per"), "must be longer than 0")
        by = as_tuple(written.get("by", ()))
        self._check_names(by, ("throttle", "by"), clients=True)
        return Throttle(max=written["max"], per_ms=per_ms, by=by, excess=written.get("excess", "hold"))

    def _grouping(self, entry: Mapping[str, Any], triggers: Sequence[str]) -> Grouping | None:
        written = entry.get("grouping")
        if written is None:
            return None
        for trigger in (*ABOUT_NO_CLIENT, "outage", "quorum", "schedule"):
            if trigger in triggers:
                why = (
                    f"{ABOUT_NO_CLIENT[trigger]}, not about clients"
                    if trigger in ABOUT_NO_CLIENT
                    else "many clients, and are already sent as one delivery"
                )
                message = f"cannot be used with the trigger `{trigger}`: its alerts are about {why}"
                self._report(("grouping",), message, at_key=True)
        at: KeyPath = ("grouping",)
        by = as_tuple(written.get("by", ("group",)))
        self._check_names(by, (*at, "by"), clients=True)
        return Grouping(
            by=by,
            wait_ms=self._duration_ms(written, "wait", at, Grouping().wait_ms),
            interval_ms=self._duration_ms(written, "interval", at, Grouping().interval_ms),
            limit=written.get("limit", Grouping().limit),
        )

    def _repeat(self, entry: Mapping[str, Any], triggers: Sequence[str]) -> int:
        repeat_ms = self._duration_ms(entry, "repeat", (), 0)
        if "repeat" not in entry:
            return 0
        if repeat_ms < MIN_REPEAT_MS:
            self._report(("repeat",), "must be at least 1s")
        if set(triggers) <= AT_ONCE:
            self._report(
                ("repeat",), f"has no effect: alerts of the trigger `{triggers[0]}` resolve immediately", at_key=True
            )
        return repeat_ms

    def _outage(self, entry: Mapping[str, Any]) -> OutageTerms | None:
        written = entry.get("outage")
        if written is None:
            return None
        at: KeyPath = ("outage",)
        by = as_tuple(written.get("by", ("group",)))
        self._check_names(by, (*at, "by"), clients=False)
        within_ms = self._duration_ms(written, "within", at, OutageTerms().within_ms)
        recover_within_ms = self._duration_ms(written, "recover_within", at, OutageTerms().recover_within_ms)
        for key, length_ms in (("within", within_ms), ("recover_within", recover_within_ms)):
            if length_ms == 0:
                self._report((*at, key), "must be longer than 0")
        return OutageTerms(
            by=by,
            at_least=written.get("at_least", OutageTerms().at_least),
            percent=written.get("percent", OutageTerms().percent),
            within_ms=within_ms,
            recover_within_ms=recover_within_ms,
            inhibit=written.get("inhibit", True),
        )

    def _quorum(self, entry: Mapping[str, Any]) -> QuorumTerms | None:
        written = entry.get("quorum")
        if written is None:
            return None
        at: KeyPath = ("quorum",)
        by = as_tuple(written.get("by", ("group",)))
        self._check_names(by, (*at, "by"), clients=False)
        if "down" in written and "percent" in written:
            self._report((*at, "percent"), "cannot be used together with `down`: write one of them", at_key=True)
        elif "down" not in written and "percent" not in written:
            self._report(at, "needs `down` (how many clients) or `percent` (which part of them)", at_key=True)
        return QuorumTerms(by=by, down=written.get("down", 0), percent=written.get("percent", 0))

    def _parents(self, entry: Mapping[str, Any]) -> tuple[Parent, ...]:
        """The entries of `inhibited_by` that inhibit by values; whether they ever can is for `lint` to find."""
        found = []
        for place, one in enumerate(inhibitors_in(entry)):
            if not isinstance(one, str):
                equal = as_tuple(one["equal"])
                at: KeyPath = ("inhibited_by", place) if isinstance(entry["inhibited_by"], list) else ("inhibited_by",)
                self._check_names(equal, (*at, "equal"), clients=True)
                found.append(Parent(rule=one["rule"], equal=equal))
        return tuple(found)

    def _schedule(self, entry: Mapping[str, Any]) -> Schedule | None:
        written = entry.get("schedule")
        if written is None:
            return None
        zone = written.get("timezone", "UTC")
        try:
            ticks = cron(written["cron"], zone)
        except ValueError as error:
            key = "timezone" if "is not a time zone" in str(error) else "cron"
            self._report(("schedule", key), str(error))
            return None
        over_ms = self._duration_ms(written, "over", ("schedule",))
        if "over" in written and not SHORTEST_OVER_MS <= over_ms <= LONGEST_OVER_MS:
            self._report(("schedule", "over"), "must be at least 1m and at most 31d")
        return Schedule(ticks=ticks, catch_up=written.get("catch_up", "once"), over_ms=over_ms)

    def _verification(self, entry: Mapping[str, Any], triggers: Sequence[str]) -> dict[str, Any]:
        verify = entry.get("verify", False)
        within_ms = self._duration_ms(entry, "verify_within", (), 30_000)
        for key in ("verify_failure", "verify_within"):
            if key in entry and not verify and "verify" not in self._context.lost:
                self._report((key,), "needs `verify: true`", at_key=True)
        if verify and "trigger" not in self._context.lost and not VERIFIABLE & set(triggers):
            can = ", ".join(sorted(VERIFIABLE))
            message = f"cannot be used with the trigger `{', '.join(triggers)}`: a query can verify only {can}"
            self._report(("verify",), message, at_key=True)
        elif verify and self._context.config is not None and self._context.config.status is None:
            message = "has no effect: the configuration has no `status`, so alerts are sent unverified"
            self._report(("verify",), message, at_key=True, warning=True)
        return {"verify": verify, "verify_failure": entry.get("verify_failure", "send"), "verify_within_ms": within_ms}

    def _check_names(self, by: Sequence[str], path: KeyPath, *, clients: bool) -> None:
        """Report each name that clients cannot be grouped by."""
        known = ["client", "group"] if clients else ["group"]
        for word in by:
            problem = _name_problem(word, known, self._context.columns)
            if word == "client" and not clients:
                problem = f"`client` would make each client {'an' if path[0] == 'outage' else 'a'} {path[0]} of its own: use group, ip/24 or an inventory column"
            if problem:
                self._report(path, problem)


def inhibitors_in(entry: Mapping[str, Any]) -> list[Any]:
    """The entries of `inhibited_by`: names of rules, and mappings with `rule` and `equal`."""
    written = entry.get("inhibited_by", ())
    return list(written) if isinstance(written, (list, tuple)) else [written]


def _name_problem(word: str, known: Sequence[str], columns: Sequence[str] | None) -> str | None:
    """Why clients cannot be grouped by a name; None when they can. `columns` None: the inventory is not known."""
    if word.startswith("ip/"):
        length = word[3:]
        is_length = length.isdecimal() and length.isascii() and 0 < int(length) <= 128
        return None if is_length else f"`{word[:60]}` is not an address prefix: write ip/ and its length, such as ip/24"
    if word in known or columns is None or word in columns:
        return None
    hint = did_you_mean(word, [*known, *columns])
    return f"`{word[:60]}` is not one of {', '.join(known)}, ip/24 or the columns of the inventory{hint}"
