"""`defaults` of a rule file, and time intervals by name: what rules become, and what is told of mistakes in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.config.durations import parse_rfc3339
from engine.config.inventory import Inventory
from engine.config.loader import load_config
from engine.core.rules import Rule
from engine.errors import InvalidFiles
from engine.rulefiles.loader import load_rules, rule_from_definition

CONFIG = """
version: 1
time_intervals:
  office-hours: [{days: [mon-fri], hours: "08:00-18:00", timezone: Europe/Berlin}]
  holidays: [{dates: [2026-12-24/2026-12-26, 2027-01-01], timezone: Europe/Berlin}]
"""


def loaded(folder: Path, text: str) -> dict[str, Rule]:
    """The rules of one file, with the configuration above."""
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "rules.yaml").write_text(f"version: 1\n{text}")
    config = load_config(folder / "config.yaml")
    found = load_rules([folder / "rules.yaml"], inventory=Inventory(("site",), []), config=config).rules
    return {rule.name: rule for rule in found}


def problems(folder: Path, text: str) -> list[str]:
    """What is told of a rule file, without its name."""
    with pytest.raises(InvalidFiles) as error:
        loaded(folder, text)
    return [str(problem).removeprefix(f"{folder}/rules.yaml:") for problem in error.value.problems]


def test_every_rule_has_the_defaults_that_it_does_not_set_itself(tmp_path: Path) -> None:
    rules = loaded(
        tmp_path,
        """
defaults:
  trigger: offline
  severity: critical
  labels: {team: water}
  for: 5m
  match: {group: GID_PUMP}
  actions: [{log: {message: "{{ rule.labels.team }}"}}]
rules:
  - {name: a}
  - {name: b, severity: info, for: 1m, labels: {team: power, floor: "2"}, match: {device: "x-*"}}
""",
    )
    a, b = rules["a"], rules["b"]
    assert (a.triggers, a.severity, a.labels, a.for_ms) == (("offline",), "critical", {"team": "water"}, 300_000)
    assert a.match.group == ("GID_PUMP",) and [action.kind for action in a.actions] == ["log"]
    assert (b.severity, b.for_ms, b.labels) == ("info", 60_000, {"team": "power", "floor": "2"})
    assert (b.match.group, b.match.device) == ((), ("x-*",))
    assert rule_from_definition(a.definition).for_ms == 300_000


def test_a_default_that_a_trigger_cannot_have_is_left_out(tmp_path: Path) -> None:
    rules = loaded(
        tmp_path,
        """
defaults:
  for: 5m
  repeat: 1h
  existing: true
  verify: true
  grouping: {by: [group]}
  inhibited_by: sick-feed-of-clients
  match: {group: G}
  on_recovery: [{log: {message: back}}]
  actions: [{log: {message: x}}]
rules:
  - {name: dark, trigger: offline}
  - {name: new, trigger: first_seen}
  - {name: roll, trigger: schedule, schedule: {cron: "0 8 * * *"}}
  - {name: big, trigger: outage, outage: {by: [group]}}
  - {name: feed, trigger: feed}
  - {name: sick-feed-of-clients, trigger: flapping}
""",
    )
    assert (rules["dark"].for_ms, rules["dark"].repeat_ms, rules["dark"].verify) == (300_000, 3_600_000, True)
    assert rules["dark"].grouping is not None and rules["dark"].inhibited_by == ("sick-feed-of-clients",)
    assert (rules["new"].for_ms, rules["new"].repeat_ms, rules["new"].on_recovery) == (0, 0, ())
    assert rules["roll"].grouping is None and rules["big"].grouping is None and len(rules["big"].on_recovery) == 1
    assert rules["feed"].match.group == () and not rules["feed"].existing
    assert rules["sick-feed-of-clients"].inhibited_by == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("defaults: {name: a}\nrules: []\n", "2:12: defaults.name: cannot stand in `defaults`"),
        ("defaults: {serverity: info}\nrules: []\n", "2:12: defaults.serverity: unknown key `serverity`; did you mean"),
        ("defaults: []\nrules: []\n", "2:11: defaults: must be a mapping"),
        ("rules: [{name: a}]\n", "2:9: rules[0]: `trigger` is missing"),
        (
            "defaults: {mute: [{hours: 8-9}], actions: [{log: {message: x}}]}\nrules: [{name: a, trigger: offline}, {name: b, trigger: online}]\n",
            "2:27: defaults.mute[0].hours: `8-9` is not a range of hours",
        ),
        (
            (
                "defaults: {actions: [{log: {message: '{{ rule.labels.x }}'}}]}\n"
                "rules: [{name: a, trigger: offline, labels: {x: y}}, {name: b, trigger: online, labels: {z: y}}]\n"
            ),
            "2:38: defaults.actions[0].log.message: `rule.labels.x` does not exist (known: z) (for the rule `b`)",
        ),
        (
            "defaults: {inhibited_by: nobody, actions: [{log: {message: x}}]}\nrules: [{name: a, trigger: offline}, {name: b, trigger: online}]\n",
            "2:26: defaults.inhibited_by: there is no rule `nobody`",
        ),
        ("default: {}\nrules: []\n", "2:1: default: unknown key `default`; write `defaults`"),
    ],
)
def test_a_mistake_in_the_defaults_is_told_once_where_it_stands(text: str, message: str, tmp_path: Path) -> None:
    (told,) = problems(tmp_path, text)
    assert told.startswith(message)


def test_windows_may_be_named_in_a_list_or_alone(tmp_path: Path) -> None:
    rules = loaded(
        tmp_path,
        """
defaults: {trigger: offline, actions: [{log: {message: x}}]}
rules:
  - {name: day, active: office-hours}
  - {name: free, mute: [holidays, {days: sun}]}
""",
    )
    day, free = rules["day"].active, rules["free"].mute
    assert day is not None and free is not None
    assert day.covers(parse_rfc3339("2026-01-05T07:00:00Z")) and not day.covers(parse_rfc3339("2026-01-05T17:00:00Z"))
    for instant, is_free in [
        ("2026-12-23T22:59:59Z", False),
        ("2026-12-23T23:00:00Z", True),
        ("2026-12-26T22:59:59Z", True),
        ("2026-12-26T23:00:00Z", False),
        ("2026-12-27T12:00:00Z", True),  # a Sunday
        ("2027-01-01T12:00:00Z", True),
    ]:
        assert free.covers(parse_rfc3339(instant)) is is_free, instant
    kept = rule_from_definition(rules["day"].definition).active
    assert kept is not None and kept.covers(parse_rfc3339("2026-01-05T07:00:00Z"))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("active: office-hour", "active: there is no time interval `office-hour`; did you mean `office-hours`?"),
        ("mute: [holidays, nights]", "mute[1]: there is no time interval `nights` (known: office-hours, holidays)"),
        ("mute: 7", "mute: must be a list of windows such as"),
        ("mute: [7]", "mute[0]: must be a window such as"),
        ("mute: [{dates: 2026-02-30}]", "mute[0].dates: `2026-02-30` contains a date that does not exist"),
        ("mute: [{dates: [2026-12-26/2026-12-24]}]", "mute[0].dates: `2026-12-26/2026-12-24` ends before it begins"),
        ("mute: [{dates: 24.12.2026}]", "mute[0].dates: `24.12.2026` is not a date such as 2026-12-24"),
    ],
)
def test_what_is_no_time_interval_is_told_with_what_to_write(keys: str, message: str, tmp_path: Path) -> None:
    rule = f"rules: [{{name: a, trigger: offline, {keys}, actions: [{{log: {{message: x}}}}]}}]\n"
    (told,) = problems(tmp_path, rule)
    assert told.partition(": ")[2].startswith(f"rules[0].{message}")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("{a: [{hours: 8-9}]}", "time_intervals.a[0].hours: `8-9` is not a range of hours"),
        ("{a: [{day: mon}]}", "time_intervals.a[0].day: unknown key `day`; write `days`"),
        ("{a: [{days: mon, timezone: Nowhere/City}]}", "time_intervals.a[0].timezone: `Nowhere/City` is not a time"),
        ("{a: b}", "time_intervals.a: must be a list, not `b`"),
        ("{'a b': [{days: mon}]}", "time_intervals.a b: is not a valid name of a time interval"),
    ],
)
def test_a_mistake_in_the_time_intervals_of_the_configuration_is_told(
    section: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(f"version: 1\ntime_intervals: {section}\n")
    with pytest.raises(InvalidFiles) as error:
        load_config(tmp_path / "config.yaml")
    (told,) = error.value.problems
    assert f"{told.path}: {told.message}".startswith(message)
