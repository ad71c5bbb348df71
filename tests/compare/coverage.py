"""What a comparison exercised: rules by what is written in them, and what came of them, counted from the old version's output.

`REQUIRED` names what must have occurred; a comparison that never saw one of these says too little. What replays and scenarios cannot
bring about is counted only as written: the trigger `feed` (every source is caught up there), `existing` and `catch_up` (they matter
when a service starts or its rules change).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.compare.cases import Case

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
    "schedule",
    "feed",
)
KINDS = ("webhook", "email", "command", "log")
ONLY_WRITTEN = frozenset({"trigger feed"})

WRITTEN = (
    *(f"trigger {name}" for name in TRIGGERS),
    *(f"match {name}" for name in ("group", "device", "client", "ip", "attributes", "re:")),
    *("several triggers", "for", "condition", "active", "mute", "time zone", "flapping skip", "flapping fire"),
    *("verify", "verify_failure send", "verify_failure hold", "verify_within"),
    *(f"throttle by {name}" for name in ("rule", "client", "group", "site", "ip/24", "several")),
    *(f"grouping by {name}" for name in ("client", "group", "site", "ip/24", "several")),
    *("grouping wait", "grouping interval", "grouping limit", "repeat"),
    *(f"outage by {name}" for name in ("group", "site", "ip/24", "several")),
    *("outage percent", "outage within", "outage recover_within", "outage inhibit", "outage no inhibit"),
    *("schedule timezone", "catch_up once", "catch_up skip"),
    *(
        "inhibited_by one",
        "inhibited_by several",
        "existing",
        "shadow",
        "labels",
        "severity",
        "description",
        "no actions",
    ),
    *(f"actions {kind}" for kind in KINDS),
    *(f"on_recovery {kind}" for kind in KINDS),
)
"""Features of rules; each must be written somewhere, and some rule that has it must have spoken."""

SEEN = (
    *("alert pending", "alert firing", "alert resolved"),
    *(f"suppressed {reason}" for reason in ("flapping", "mute", "silence", "inhibited", "throttle", "verify")),
    *(f"firing of {name}" for name in TRIGGERS if name != "feed"),
    *(f"{kind} {phase}" for kind in KINDS for phase in ("firing", "recovery", "reminder")),
    *("delivery summary", "delivery shadow", "delivery held", "delivery dead", "delivery unverified", "template_error"),
    *("delivery of a group", "delivery of many"),
    *("transition online", "transition offline", "graceful", "flaps suppressed", "rejected line"),
    *("debounce.online", "overrides", "zero hold", "small burst", "max_future"),
    *("act silence", "act ack", "answer", "test failed", "test passed", "line of a difference (--against)"),
    *("shared replay lines", "table lines"),
)

REQUIRED = (*WRITTEN, *SEEN)


class Coverage:
    """Counts of rules by feature, of lines that rules with a feature brought about, and of everything seen."""

    def __init__(self) -> None:
        self.written: Counter[str] = Counter()
        self.spoke: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()

    def count(self, case: Case) -> None:
        """Count one case that was run; its folder holds the old version's output."""
        for rule in (*case.rules, *case.narrow_rules):
            self.written.update(features(rule))
        self._count_settings(case.settings)
        self._count_lines(_lines(case.folder / "old.jsonl.out"), case.rules)
        self._count_lines(self._shared(case), case.narrow_rules)
        for line in _lines(case.folder / "old.test.out"):
            self.seen["test passed" if line.get("passed") else "test failed"] += line["type"] == "test"
            self._count_lines(line.get("timeline", ()), case.rules)
        for test in case.scenarios:
            self.seen.update(f"act {kind}" for act in test["acts"] for kind in ("silence", "ack") if kind in act)
        self.seen["line of a difference (--against)"] += sum(1 for _ in _lines(case.folder / "old.against.out"))
        table = case.folder / "old.table.out"
        self.seen["table lines"] += table.read_bytes().count(b"\n") if table.exists() else 0

    def _shared(self, case: Case) -> Iterator[Mapping[str, Any]]:
        for line in _lines(case.folder / "old.shared.out"):
            self.seen["shared replay lines"] += 1
            yield line

    def _count_settings(self, settings: Mapping[str, Any]) -> None:
        debounce = settings.get("debounce", {})
        self.seen["debounce.online"] += debounce.get("online", "0s") != "0s"
        self.seen["overrides"] += "overrides" in debounce
        self.seen["zero hold"] += debounce.get("offline") == "0s"
        self.seen["small burst"] += "burst" in settings.get("deliveries", {})
        self.seen["max_future"] += "events" in settings

    def _count_lines(self, lines: Iterable[Mapping[str, Any]], rules: Iterable[Mapping[str, Any]]) -> None:
        by_name = {rule["name"]: features(rule) for rule in rules}
        for line in lines:
            self.seen["lines"] += 1
            self.seen.update(_words_about(line))
            name = line.get("rule")
            if name in by_name and line.get("state") != "pending":
                self.spoke.update(by_name[name])
                if line["type"] == "alert" and line["state"] == "firing":
                    self.seen.update(f"firing of {word[8:]}" for word in by_name[name] if word.startswith("trigger "))

    def lacking(self) -> list[str]:
        """What of `REQUIRED` never occurred."""
        silent = [name for name in WRITTEN if not self.written[name] or not (self.spoke[name] or name in ONLY_WRITTEN)]
        return silent + [name for name in SEEN if not self.seen[name]]

    def tables(self) -> str:
        """Both tables, as text."""
        rows = [f"  {name:<28}{self.written[name]:>8}{self.spoke[name]:>10}" for name in WRITTEN]
        others = sorted(name for name in self.seen if name not in SEEN)
        seen = [f"  {name:<40}{self.seen[name]:>10}" for name in (*SEEN, *others)]
        head = f"  {'rules with':<28}{'rules':>8}{'lines':>10}"
        return "\n".join([head, *rows, "", f"  {'seen':<40}{'times':>10}", *seen])


def features(rule: Mapping[str, Any]) -> set[str]:
    """What is written in a rule, in the words of `WRITTEN`."""
    triggers = _words(rule["trigger"])
    found = {f"trigger {trigger}" for trigger in triggers}
    found |= {"several triggers"} if len(triggers) > 1 else set()
    found |= {key for key in ("for", "condition", "active", "mute", "repeat", "existing", "shadow") if rule.get(key)}
    found |= {key for key in ("labels", "severity", "description", "verify", "verify_within") if key in rule}
    found |= {f"match {key}" for key in rule.get("match", {})}
    found |= {"match re:"} if "re:" in json.dumps(rule.get("match", {})) else set()
    found |= {f"{key} {rule[key]}" for key in ("flapping", "verify_failure") if key in rule}
    windows = [*rule.get("active", ()), *rule.get("mute", ())]
    found |= {"time zone"} if any(window.get("timezone", "UTC") != "UTC" for window in windows) else set()
    for key, usual in (("throttle", "rule"), ("grouping", "group"), ("outage", "group")):
        if key in rule:
            found |= _by(key, _words(rule[key].get("by", usual)))
    found |= {f"grouping {key}" for key in ("wait", "interval", "limit") if key in rule.get("grouping", {})}
    found |= _of_outage_and_schedule(rule)
    if "inhibited_by" in rule:
        found.add("inhibited_by several" if len(_words(rule["inhibited_by"])) > 1 else "inhibited_by one")
    found |= {f"{key} {kind}" for key in ("actions", "on_recovery") for action in rule.get(key, ()) for kind in action}
    return found if "actions" in rule else found | {"no actions"}


def _of_outage_and_schedule(rule: Mapping[str, Any]) -> set[str]:
    outage, schedule = rule.get("outage", {}), rule.get("schedule", {})
    found = {f"outage {key}" for key in ("percent", "within", "recover_within") if key in outage}
    if outage:
        found.add("outage inhibit" if outage.get("inhibit", True) else "outage no inhibit")
    found |= {f"catch_up {schedule['catch_up']}"} if "catch_up" in schedule else set()
    return found | ({"schedule timezone"} if "timezone" in schedule else set())


def _by(key: str, names: tuple[str, ...]) -> set[str]:
    return {f"{key} by {name}" for name in names} | ({f"{key} by several"} if len(names) > 1 else set())


def _words(written: Any) -> tuple[str, ...]:
    return (written,) if isinstance(written, str) else tuple(written)


def _words_about(line: Mapping[str, Any]) -> Iterator[str]:
    """What one line of output shows, in the words of `SEEN`."""
    kind, state = line["type"], line.get("state")
    if kind == "alert":
        yield f"suppressed {line['reason']}" if state == "suppressed" else f"alert {state}"
    elif kind == "transition":
        yield f"transition {line['status']}"
        yield from (word for word, key in (("graceful", "graceful"), ("flaps suppressed", "flaps")) if line[key])
    elif kind == "delivery":
        yield f"{line['action']} {line['phase']}"
        yield from ("delivery summary",) if line["phase"] == "summary" else ()
        yield from (f"delivery {state}",) if state else ()
        yield from ("delivery unverified",) if line.get("unverified") else ()
        yield from ("template_error",) if "template_error" in line else ()
        yield from ("delivery of a group",) if "group_key" in line else ()
        yield from ("delivery of many",) if len(line.get("clients") or ()) > 1 else ()
    elif kind == "rejected":
        yield "rejected line"
    elif kind == "answer":
        yield "answer"


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    if file.exists():
        with file.open(encoding="utf-8", errors="backslashreplace") as opened:
            for text in opened:
                yield json.loads(text)
