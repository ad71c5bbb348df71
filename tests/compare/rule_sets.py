"""Random rule sets and configurations over everything that the contract offers, meant to load and to interfere.

`rule_set` makes one to seven rules whose durations, windows and schedules fit a story, so that they really act in it;
`config` and `INVENTORY` are what they run by. What a rule must not combine is avoided here; what slips through is refused by
`rollcall check` and counted by the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

from tests.compare.actions import actions
from tests.compare.fleets import DAY, HOUR, MINUTE, Story
from tests.oracle.traces import Grid, written

Rule = dict[str, Any]

INVENTORY = """client,site,owner,gateway
G1@@@a1,north,ann@example.com,gw-1
G1@@@a*,north,bob@example.com,gw-2
G2@@@*,south,no address,
G3@@@p-001,,,gw-3
G9@@@ghost,east,,
G1@@@a9,north,,
lonely,east,eve@example.com,
"""
"""`G9@@@ghost` and `G1@@@a9` are named by their whole ids and never connect."""

AT_ONCE = frozenset({"first_seen", "stable", "schedule"})
"""Triggers whose alerts are over at once: no recovery, no reminders, and they inhibit nobody."""

WITHOUT_FOR = frozenset(
    {"first_seen", "never_seen", "flapping", "stable", "duplicate", "unverified", "outage", "schedule", "feed"}
)
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Auckland")
MOST_REMINDERS = 40
"""Reminders of one alert in one story, about: more would only take time."""

STATUS: Sequence[Any] = (
    "offline",
    "offline",
    "online",
    ["offline", "online"],
    ["first_seen", "offline"],
    ["online", "first_seen"],
)
TRIGGERS: Sequence[Any] = (
    *STATUS,
    *STATUS,
    "first_seen",
    "flapping",
    "flapping",
    ["flapping", "duplicate"],
    "stable",
    "stable",
    "duplicate",
    "duplicate",
    ["offline", "flapping"],
    "never_seen",
    "unverified",
    ["never_seen", "unverified", "offline"],
    "outage",
    "outage",
    "outage",
    "outage",
    "schedule",
    "schedule",
    "feed",
)
MATCHES: Sequence[Rule] = (
    {"group": "G1"},
    {"group": ["G1", "G[23]"]},
    {"group": "re:G[1-2]"},
    {"device": ["a*", "c?"]},
    {"device": "[!a]*"},
    {"client": "re:G[12]@@@a[0-9]"},
    {"client": ["*@@@*1", "lonely"]},
    {"ip": "10.1.0.0/16"},
    {"ip": ["10.2.0.0/24", "2001:db8::/32"]},
    {"attributes": {"site": ["north", "east"]}},
    {"attributes": {"site": "re:n.*", "gateway": "gw-*"}},
    {"group": "G*", "device": "?1", "attributes": {"site": "*"}},
    {"client": "G1@@@a1"},
)
CONDITIONS = (
    "graceful",
    "not graceful",
    "flaps > 0",
    "flapping or doubtful",
    "client.attributes.site == 'north' and status == 'offline'",
    "previous != 'unknown'",
    "duration >= 30",
    "client.group in ['G1', 'G3']",
    "evidence | length > 1 or client.ip == ''",
    "verified_at is none",
    "10 // flaps > 2",
    "client.device.startswith('a')",
    "since > '2026-01-01T00:01:00.000Z' and occurred_at != settled_at",
)
CONDITIONS_WITHOUT_CLIENT = {
    "outage": ("alert.count > 2", "alert.key.group != 'G2'", "duration < 600", "rule.severity != 'info'"),
    "feed": ("alert.source != 'a'", "rule.severity != 'info'"),
}
BYS: Sequence[Any] = ("client", ["group"], "site", ["group", "site"], "ip/24", ["site", "ip/16"], ["client", "group"])
OUTAGE_BYS: Sequence[Any] = ("group", ["site"], "ip/24", ["group", "ip/16"])
CRONS: Sequence[tuple[int, Sequence[str]]] = (
    (HOUR, ("* * * * *", "*/2 * * * *", "1-59/7 * * * *")),
    (DAY, ("*/20 * * * *", "0 * * * *", "30 0-6 * * *", "15 8-17 * * mon-fri")),
    (1000 * DAY, ("0 8 * * mon-fri", "0 */6 * * *", "30 2 * * *", "30 1 * * sun", "0 0 1 * *", "0 12 * jan-mar 7")),
)
"""Schedules that tick often enough in a story of at most so long."""


@dataclass(frozen=True, kw_only=True)
class _Times:
    """Durations that mean something in one story."""

    random: Random
    grid: Grid
    start_ms: int
    span_ms: int

    def lasting(self) -> str:
        """A duration near the holds and windows of the story, or one that people would write."""
        grid = self.grid
        near = [
            grid.tick,
            grid.hold,
            grid.hold + grid.tick,
            2 * grid.hold,
            grid.hold // 2,
            grid.window,
            grid.window // 3,
        ]
        usual = [30_000, MINUTE, 5 * MINUTE, HOUR, self.span_ms // 3]
        return written(max(self.random.choice([*near, *usual]), 500))

    def reminder(self) -> str:
        """A duration after which a reminder leaves, not too often in this story."""
        least = max(1000, self.span_ms // MOST_REMINDERS)
        return written(max(least, self.random.choice([self.grid.hold, self.grid.window, MINUTE, 10 * MINUTE, HOUR])))

    def windows(self) -> list[dict[str, Any]]:
        """One or two windows of local time, the first of them around an instant of the story."""
        begin = self.start_ms + self.random.randint(-30 * MINUTE, max(MINUTE, self.span_ms))
        length = timedelta(minutes=self.random.choice([1, 3, 10, 60, 480]))
        zone = self.random.choice(ZONES)
        local = datetime.fromtimestamp(begin / 1000, UTC).astimezone(ZoneInfo(zone))
        found: list[dict[str, Any]] = [{"hours": f"{local:%H:%M}-{local + length:%H:%M}", "timezone": zone}]
        if self.random.random() < 0.3:
            found[0]["days"] = self.random.choice(["mon-fri", "sat-mon", f"{local:%a}".lower()])
        if self.random.random() < 0.4:
            days = self.random.choice([["sat", "sun"], "mon-thu"])
            found.append({"days": days, "hours": self.random.choice(["22:00-06:00", "09:00-12:30", "00:00-24:00"])})
        return found

    def schedule(self) -> dict[str, Any]:
        """Ticks that come at least now and then in this story."""
        often = next(crons for within, crons in CRONS if self.span_ms <= within)
        found: dict[str, Any] = {"cron": self.random.choice(often)}
        if self.random.random() < 0.7:
            found["timezone"] = self.random.choice(ZONES)
        if self.random.random() < 0.5:
            found["catch_up"] = self.random.choice(["once", "skip"])
        return found


def rule_set(random: Random, story: Story, *, narrow: bool = False) -> list[Rule]:
    """One to seven rules for a story. `narrow`: only such as concern one client or one group, which a replay may share out."""
    times = _Times(random=random, grid=story.grid, start_ms=story.start_ms, span_ms=story.span_ms)
    rules: list[Rule] = []
    for number in range(random.choice([1, 2, 3, 4, 5, 7])):
        rule = _rule(times, f"r{number}", narrow=narrow)
        if not narrow and random.random() < 0.35:
            _inhibit(random, rule, rules)
        rules.append(rule)
    random.shuffle(rules)
    return rules


def _rule(times: _Times, name: str, *, narrow: bool) -> Rule:
    random = times.random
    trigger = random.choice([each for each in TRIGGERS if not narrow or each not in ("outage", "schedule", "feed")])
    triggers = {trigger} if isinstance(trigger, str) else set(trigger)
    rule: Rule = {"name": name, "trigger": trigger}
    about = trigger if trigger in ("outage", "schedule", "feed") else "client"
    if about == "client" and random.random() < 0.25:
        about, rule["grouping"] = "group", _grouping(times, narrow=narrow)
    _describe(random, rule)
    _limit(times, rule, triggers, about, narrow=narrow)
    if trigger == "outage":
        rule["outage"] = _outage(times)
    if trigger == "schedule":
        rule["schedule"] = times.schedule()
    if random.random() < 0.96:
        rule["actions"] = actions(random, about)
    if random.random() < 0.6 and not triggers <= AT_ONCE:
        rule["on_recovery"] = actions(random, about)
    return rule


def _describe(random: Random, rule: Rule) -> None:
    if random.random() < 0.3:
        rule["description"] = "What to do: call {{ nobody }} & 'think'"
    if random.random() < 0.4:
        rule["severity"] = random.choice(["info", "warning", "critical"])
    if random.random() < 0.3:
        rule["labels"] = {"team": "water", "runbook": "https://wiki.example.com/pumps?a=1&b=2"}
    if random.random() < 0.1:
        rule["shadow"] = True


def _limit(times: _Times, rule: Rule, triggers: set[str], about: str, *, narrow: bool) -> None:
    """The keys that say for whom, when and how often a rule speaks."""
    random = times.random
    if not triggers & WITHOUT_FOR and random.random() < 0.5:
        rule["for"] = times.lasting()
    if about != "feed" and random.random() < 0.35:
        rule["match"] = random.choice(MATCHES)
    if random.random() < 0.25:
        rule["condition"] = random.choice(CONDITIONS_WITHOUT_CLIENT.get(about, CONDITIONS))
    if random.random() < 0.3:
        rule["flapping"] = random.choice(["skip", "fire"])
    for key in ("active", "mute"):
        if random.random() < 0.15:
            rule[key] = times.windows()
    if triggers & {"offline", "online", "first_seen", "duplicate"} and random.random() < 0.25:
        rule["verify"] = True
        if random.random() < 0.5:
            rule["verify_failure"] = random.choice(["send", "hold"])
        if random.random() < 0.5:
            rule["verify_within"] = times.lasting()
    if random.random() < 0.3:
        _throttle(times, rule, about, narrow=narrow)
    if random.random() < 0.25 and not triggers <= AT_ONCE:
        rule["repeat"] = times.reminder()
    if triggers & {"offline", "online"} and random.random() < 0.2:
        rule["existing"] = random.choice([True, True, False])


def _throttle(times: _Times, rule: Rule, about: str, *, narrow: bool) -> None:
    random = times.random
    rule["throttle"] = {"max": random.choice([1, 1, 2, 3]), "per": times.lasting()}
    if narrow:
        rule["throttle"]["by"] = random.choice(["client", "group", ["group", "site"]])
    elif about in ("client", "group") and random.random() < 0.8:
        rule["throttle"]["by"] = random.choice(BYS)


def _grouping(times: _Times, *, narrow: bool) -> dict[str, Any]:
    random = times.random
    found: dict[str, Any] = {}
    if narrow:
        found["by"] = random.choice(["client", ["client", "group"]])
    elif random.random() < 0.8:
        found["by"] = random.choice(BYS)
    if random.random() < 0.8:
        found["wait"] = random.choice(["0s", times.lasting()])
    if random.random() < 0.8:
        found["interval"] = random.choice(["0s", times.lasting(), times.lasting()])
    if random.random() < 0.4:
        found["limit"] = random.choice([1, 2, 3])
    return found


def _outage(times: _Times) -> dict[str, Any]:
    random = times.random
    found: dict[str, Any] = {"at_least": random.choice([1, 2, 2, 2, 3])}
    if random.random() < 0.7:
        found["by"] = random.choice(OUTAGE_BYS)
    if random.random() < 0.4:
        found["percent"] = random.choice([10, 50, 66.7, 100])
    if random.random() < 0.8:  # ticks: what comes exactly at the edge is common then
        found["within"] = random.choice([written(times.grid.tick * random.randint(1, 3)), times.lasting()])
    if random.random() < 0.4:
        found["recover_within"] = random.choice([written(times.grid.tick * random.randint(1, 3)), times.lasting()])
    if random.random() < 0.5:
        found["inhibit"] = random.choice([True, False])
    return found


def _inhibit(random: Random, rule: Rule, others: Sequence[Rule]) -> None:
    """Let one or two of the rules before this one inhibit it: so nothing goes round in circles."""
    lasting = [other["name"] for other in others if not _triggers(other) & AT_ONCE and "feed" not in _triggers(other)]
    if lasting and rule["trigger"] != "feed":
        names = random.sample(lasting, min(len(lasting), random.choice([1, 1, 2])))
        rule["inhibited_by"] = names[0] if len(names) == 1 and random.random() < 0.5 else names


def _triggers(rule: Rule) -> set[str]:
    return {rule["trigger"]} if isinstance(rule["trigger"], str) else set(rule["trigger"])


def settings(random: Random, grid: Grid) -> dict[str, Any]:
    """Random `resolver`, `debounce`, `flapping`, `feed` and `deliveries`, as both configurations and scenarios have them."""
    stop = random.choice([0, 1, 2, 2, 3])
    debounce: dict[str, Any] = {
        "offline": written(grid.hold),
        "online": written(random.choice([0, 0, 0, grid.tick, grid.hold])),
    }
    if random.random() < 0.35:
        debounce["overrides"] = [_override(random, grid) for _ in range(random.choice([1, 2]))]
    found: dict[str, Any] = {
        "resolver": {"clock_skew": written(grid.skew)},
        "debounce": debounce,
        "flapping": {
            "start": max(2, stop + random.randint(1, 3)),
            "stop": stop,
            "window": written(grid.window),
        },
    }
    if random.random() < 0.2:
        found["feed"] = {"max_lag": "30s", "max_silence": random.choice([None, "1h"])}
    if random.random() < 0.35:
        found["deliveries"] = {"burst": random.choice([1, 2, 3, 5, 8])}
    return found


def _override(random: Random, grid: Grid) -> dict[str, Any]:
    matches = [match for match in MATCHES if "ip" not in match]  # a hold does not depend on an address
    found: dict[str, Any] = {"match": random.choice(matches)}
    keys = random.choice([["offline"], ["online"], ["offline", "online"]])
    return found | {key: written(grid.tick * random.randint(0, 4)) for key in keys}


def config(random: Random, grid: Grid) -> dict[str, Any]:
    """A whole configuration; the file of its secret is `secret.txt` beside it."""
    found = {
        "version": 1,
        "data": "./data",
        "rules": "rules/",
        "inventory": "inventory.csv",
        "secrets": {"pager": {"file": "secret.txt"}},
        "smtp": {"host": "mail.example.com", "from": "Rollcall <rollcall@example.com>"},
        "mqtt": {
            "endpoint": "mqtt.example.com:1883",
            "parent_topic": "fleet",
            "rocketmq": {"name_servers": ["127.0.0.1:9876"]},
        },
        **settings(random, grid),
    }
    if random.random() < 0.3:
        found["events"] = {"max_future": random.choice(["0s", "10s", "1h"])}
    return found
