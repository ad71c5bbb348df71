"""The keys of a rule about when and how often it speaks: what they become, and what is told of mistakes in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.config.durations import parse_rfc3339
from engine.config.inventory import Inventory
from engine.config.loader import load_config
from engine.core.rules import Grouping, OutageTerms, Parent, Rule
from engine.errors import InvalidFiles
from engine.rulefiles.loader import LoadedRules, load_rules, rule_from_definition

COLUMNS = Inventory(("site", "shift"), [])


def loaded(folder: Path, *rules: str, inventory: Inventory | None = COLUMNS) -> LoadedRules:
    """Rules from the text of each, in one file."""
    file = folder / "rules.yaml"
    file.write_text("version: 1\nrules:\n" + "".join(f"  - {{{rule}}}\n" for rule in rules))
    return load_rules([file], inventory=inventory)


def rule_of(folder: Path, keys: str, trigger: str = "offline") -> Rule:
    """One rule with these keys."""
    (rule,) = loaded(folder, f"name: a, trigger: {trigger}, {keys}, actions: [{{log: {{message: x}}}}]").rules
    return rule


def problems(folder: Path, *rules: str) -> list[str]:
    """What is told of rules, without the file's name."""
    try:
        told = loaded(folder, *rules).problems
    except InvalidFiles as error:
        told = tuple(error.problems)
    return [str(problem).removeprefix(f"{folder}/rules.yaml:") for problem in told]


def problem(folder: Path, keys: str, trigger: str = "offline") -> str:
    """The one problem of a rule with these keys."""
    (told,) = problems(folder, f"name: a, trigger: {trigger}, {keys}, actions: [{{log: {{message: x}}}}]")
    return told.partition(": ")[2]


def test_windows_become_calendars_of_their_zone(tmp_path: Path) -> None:
    rule = rule_of(
        tmp_path, 'active: [{days: [mon-fri], hours: "08:00-18:00", timezone: Europe/Berlin}], mute: [{days: sun}]'
    )
    assert rule.active is not None and rule.mute is not None
    assert rule.active.covers(parse_rfc3339("2026-01-05T07:00:00Z"))
    assert not rule.active.covers(parse_rfc3339("2026-01-05T06:59:00Z"))
    assert rule.mute.covers(parse_rfc3339("2026-01-04T12:00:00Z"))


def test_without_windows_a_rule_is_always_active_and_never_mute(tmp_path: Path) -> None:
    rule = rule_of(tmp_path, "severity: info")
    assert (rule.active, rule.mute, rule.grouping, rule.outage, rule.schedule) == (None,) * 5
    assert (rule.repeat_ms, rule.inhibited_by, rule.verify, rule.verify_within_ms) == (0, (), False, 30_000)


def test_groups_and_outages_have_defaults(tmp_path: Path) -> None:
    assert rule_of(tmp_path, "grouping: {}").grouping == Grouping(
        by=("group",), wait_ms=30_000, interval_ms=300_000, limit=100
    )
    assert rule_of(tmp_path, "outage: {}", "outage").outage == OutageTerms(
        by=("group",), at_least=5, percent=0, within_ms=60_000, inhibit=True
    )


def test_groups_outages_and_the_rest_take_what_is_written(tmp_path: Path) -> None:
    assert rule_of(tmp_path, "grouping: {by: [site, ip/24], wait: 0s, interval: 1h, limit: 7}").grouping == Grouping(
        by=("site", "ip/24"), wait_ms=0, interval_ms=3_600_000, limit=7
    )
    written = "outage: {by: ip/64, at_least: 9, percent: 2.5, within: 90s, inhibit: false}"
    assert rule_of(tmp_path, written, "outage").outage == OutageTerms(
        by=("ip/64",), at_least=9, percent=2.5, within_ms=90_000, inhibit=False
    )
    rule = rule_of(tmp_path, "verify: true, verify_failure: hold, verify_within: 5s, repeat: 4h")
    assert (rule.verify, rule.verify_failure, rule.verify_within_ms, rule.repeat_ms) == (
        True,
        "hold",
        5_000,
        14_400_000,
    )


def test_a_schedule_becomes_ticks_of_its_zone(tmp_path: Path) -> None:
    rule = rule_of(tmp_path, 'schedule: {cron: "0 8 * * 1-5", timezone: Europe/Berlin, catch_up: skip}', "schedule")
    assert rule.schedule is not None and rule.schedule.catch_up == "skip"
    assert rule.schedule.ticks.next_after(parse_rfc3339("2026-01-02T12:00:00Z")) == parse_rfc3339(
        "2026-01-05T07:00:00Z"
    )


def test_a_stored_definition_makes_the_same_rule(tmp_path: Path) -> None:
    for trigger, keys in (
        ("offline", "mute: [{days: [sun], timezone: Asia/Tokyo}], grouping: {by: site}, repeat: 1h, verify: true"),
        ("outage", "outage: {by: [site], at_least: 3}"),
        ("schedule", 'schedule: {cron: "0 8 * * *"}'),
    ):
        rule = rule_of(tmp_path, keys, trigger)
        again = rule_from_definition(rule.definition)
        assert (again.grouping, again.outage, again.repeat_ms, again.verify) == (
            rule.grouping,
            rule.outage,
            rule.repeat_ms,
            rule.verify,
        )
        now = parse_rfc3339("2026-01-03T18:00:00Z")
        assert again.definition == rule.definition
        assert (again.mute is None or again.mute.covers(now)) == (rule.mute is None or rule.mute.covers(now))
        assert (again.schedule is None) == (rule.schedule is None)


@pytest.mark.parametrize(
    ("trigger", "keys", "message"),
    [
        ("offline", "outage: {}", "rules[0].outage: needs `trigger: outage`"),
        ("offline", 'schedule: {cron: "0 8 * * *"}', "rules[0].schedule: needs `trigger: schedule`"),
        (
            "outage",
            "severity: info",
            "rules[0].trigger: the trigger `outage` needs the key `outage` as well, such as outage: {by: [group], at_least: 5}",
        ),
        (
            "[offline, outage]",
            "outage: {}",
            "rules[0].trigger: `outage` is about many clients, so it cannot be combined with other triggers: write a separate rule for it",
        ),
        (
            "offline",
            'mute: [{hours: "9-17"}]',
            'rules[0].mute[0].hours: `9-17` is not a range of hours such as "22:00-06:00"',
        ),
        (
            "offline",
            "active: [{days: mon}, {days: mon, timezone: Europe/Brlin}]",
            "rules[0].active[1].timezone: `Europe/Brlin` is not a time zone such as Europe/Berlin or UTC; did you mean",
        ),
        (
            "offline",
            "mute: [{timezone: UTC}]",
            'rules[0].mute[0]: needs `days`, `hours` or `dates`; for every moment write hours: "00:00-24:00"',
        ),
        ("offline", "mute: [{day: mon}]", "rules[0].mute[0].day: unknown key `day`; write `days`"),
        ("schedule", 'schedule: {cron: "0 25 * * *"}', "rules[0].schedule.cron: `25` is not a valid hour: 0 to 23"),
        (
            "schedule",
            'schedule: {cron: "0 8 * * *", timezone: Mars}',
            "rules[0].schedule.timezone: `Mars` is not a time zone such as Europe/Berlin or UTC",
        ),
        (
            "schedule",
            'schedule: {cron: "0 8 * * *", every: 1h}',
            'rules[0].schedule.every: unknown key `every`; write `cron`, such as "*/30 * * * *"',
        ),
        (
            "outage",
            "outage: {by: client}",
            "rules[0].outage.by: `client` would make each client an outage of its own: use group, ip/24 or an inventory column",
        ),
        (
            "offline",
            "grouping: {by: [sight]}",
            "rules[0].grouping.by: `sight` is not one of client, group, ip/24 or the columns of the inventory; did you mean",
        ),
        (
            "offline",
            "grouping: {by: ip/x}",
            "rules[0].grouping.by: `ip/x` is not an address prefix: write ip/ and its length, such as ip/24",
        ),
        (
            "outage",
            "outage: {}, grouping: {}",
            "rules[0].grouping: cannot be used with the trigger `outage`: its alerts are about many clients, and are already sent as one delivery",
        ),
        (
            "feed",
            "grouping: {}",
            "rules[0].grouping: cannot be used with the trigger `feed`: its alerts are about a source, not about clients",
        ),
        ("outage", "outage: {within: 0s}", "rules[0].outage.within: must be longer than 0"),
        ("outage", "outage: {percent: 101}", "rules[0].outage.percent: must be at most 100, not `101`"),
        (
            "outage",
            "outage: {by: site}, throttle: {max: 1, per: 1h, by: [group]}",
            "rules[0].throttle.by: `group` cannot be used here: outages of this rule are by site",
        ),
        (
            "outage",
            "outage: {}, for: 1m",
            "rules[0].for: cannot be used with the trigger `outage`: it is an instant, not a status that can last",
        ),
        ("offline", "shadow: yes", "rules[0].shadow: must be true or false, not `yes`; write true"),
        ("offline", "shadow: On", "rules[0].shadow: must be true or false, not `On`; write true"),
        ("offline", "shadow: off", "rules[0].shadow: must be true or false, not `off`; write false"),
        ("offline", "shadow: no", "rules[0].shadow: must be true or false, not `no`; write false"),
        (
            "offline",
            "mute: {days: sun}",
            "rules[0].mute: must be a list of windows such as [{days: [mon-fri]",
        ),
        (
            "schedule",
            'schedule: "0 8 * * *"',
            'rules[0].schedule: must be a mapping, such as {cron: "0 8 * * mon-fri", timezone: Europe/Berlin}',
        ),
        ("offline", "repeat: 10ms", "rules[0].repeat: must be at least 1s"),
        ("stable", "repeat: 1h", "rules[0].repeat: has no effect: alerts of the trigger `stable` resolve immediately"),
        ("offline", "verify_within: 5s", "rules[0].verify_within: needs `verify: true`"),
        (
            "flapping",
            "verify: true",
            "rules[0].verify: cannot be used with the trigger `flapping`: a query can verify only duplicate, first_seen, offline, online",
        ),
        ("offline", "inhibited_by: [b]", "rules[0].inhibited_by: there is no rule `b`"),
        ("offline", "inhibited_by: [a]", "rules[0].inhibited_by: forms a cycle: a → a"),
        ("offline", "inhibited_by: {rule: a, equal: group}", "rules[0].inhibited_by: forms a cycle: a → a"),
        ("offline", "inhibited_by: [{rule: b, equal: group}]", "rules[0].inhibited_by[0]: there is no rule `b`"),
        ("offline", "inhibited_by: [{rule: b}]", "rules[0].inhibited_by[0]: `equal` is missing"),
        (
            "offline",
            "inhibited_by: [{rule: b, equal: group, by: site}]",
            "rules[0].inhibited_by[0].by: unknown key `by`; write `equal`",
        ),
        (
            "quorum",
            "description: x",
            "rules[0].trigger: the trigger `quorum` needs the key `quorum` as well, such as quorum: {by: [group], down: 3}",
        ),
        ("quorum", "quorum: {by: group}", "rules[0].quorum: needs `down` (how many clients) or `percent`"),
        ("quorum", "quorum: {down: 1, percent: 5}", "rules[0].quorum.percent: cannot be used together with `down`"),
        ("quorum", "quorum: {percent: 0}", "rules[0].quorum.percent: must be a number greater than 0 and at most 100"),
        ("quorum", "quorum: {down: 2}, grouping: {}", "rules[0].grouping: cannot be used with the trigger `quorum`"),
        (
            "schedule",
            'schedule: {cron: "0 8 * * *", over: 32d}',
            "rules[0].schedule.over: must be at least 1m and at most 31d",
        ),
        (
            "schedule",
            'schedule: {cron: "0 8 * * *", period: 7d}',
            "rules[0].schedule.period: unknown key `period`; write `over`",
        ),
        (
            "schedule",
            "schedule: {cron: '0 8 * * *'}, condition: \"alert.members|sort(attribute='flaps')\"",
            "rules[0].condition: ",
        ),
        ("offline", "quorum: {down: 2}", "rules[0].quorum: needs `trigger: quorum`"),
        (
            "quorum",
            "quorum: {down: 2}, throttle: {max: 1, per: 1m, by: client}",
            "rules[0].throttle.by: `client` cannot be used here: quorums of this rule are by group",
        ),
        (
            "outage",
            'outage: {}, condition: client.id == "x"',
            "rules[0].condition: `client` is about a client, and alerts of the trigger `outage` are not about one client; use alert.clients",
        ),
    ],
)
def test_a_mistake_is_reported_with_its_place_and_what_to_write(
    trigger: str, keys: str, message: str, tmp_path: Path
) -> None:
    assert problem(tmp_path, keys, trigger).startswith(message)


def quiet(name: str, *inhibitors: str, trigger: str = "offline", more: str = "") -> str:
    """A rule that says nothing but has a name."""
    return f"name: {name}, trigger: {trigger}, inhibited_by: [{', '.join(inhibitors)}], actions: [{{log: {{message: x}}}}]{more}".replace(
        "inhibited_by: [], ", ""
    )


def test_a_circle_is_shown_once_at_its_first_rule_and_in_the_order_of_its_names(tmp_path: Path) -> None:
    told = problems(tmp_path, quiet("a", "b"), quiet("b", "c"), quiet("c", "a"), quiet("d", "a"))
    assert [line.partition(": ")[2] for line in told] == ["rules[0].inhibited_by: forms a cycle: a → b → c → a"]


def test_a_long_chain_is_no_circle(tmp_path: Path) -> None:
    chain = [quiet(f"r{number}", f"r{number + 1}") for number in range(2_000)]
    assert problems(tmp_path, *chain, quiet("r2000")) == []


def test_inhibitors_are_looked_for_in_all_files(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(f"version: 1\nrules: [{{{quiet('a', 'b')}}}]\n")
    (tmp_path / "two.yaml").write_text(f"version: 1\nrules: [{{{quiet('b')}}}]\n")
    assert [rule.inhibited_by for rule in load_rules([tmp_path]).rules] == [("b",), ()]
    with pytest.raises(InvalidFiles, match="there is no rule `b`"):
        load_rules([tmp_path / "one.yaml"])


@pytest.mark.parametrize(
    ("inhibitor", "message"),
    [
        (quiet("b", trigger="first_seen"), "`b` can never inhibit: its alerts resolve immediately"),
        (
            quiet("b", trigger="feed"),
            "`b` can never inhibit `a`: alerts of the trigger `feed` are about a source, not about clients",
        ),
        (quiet("b", more=", shadow: true"), "warning: `b` is a shadow rule, which inhibits only shadow rules"),
    ],
)
def test_a_rule_that_can_never_inhibit_is_reported(inhibitor: str, message: str, tmp_path: Path) -> None:
    (told,) = problems(tmp_path, quiet("a", "b"), inhibitor)
    assert told.endswith(message)


CHILD = "{rule: b, equal: [site]}"


@pytest.mark.parametrize(
    ("child", "parent", "message"),
    [
        (quiet("a", CHILD), quiet("b", trigger="stable"), "`b` can never inhibit: its alerts resolve immediately"),
        (
            quiet("a", CHILD),
            quiet("b", more=", shadow: true"),
            "`b` is a shadow rule, which inhibits only shadow rules",
        ),
        (
            quiet("a", CHILD),
            quiet("b", trigger="outage", more=", outage: {by: [group]}"),
            "`b` can never inhibit `a`: alerts of `b` are about many clients and have only group, not `site`",
        ),
        (
            quiet("a", CHILD, trigger="quorum", more=", quorum: {down: 2}"),
            quiet("b"),
            "`b` can never inhibit `a`: alerts of `a` are about many clients and have only group, not `site`",
        ),
        (
            quiet("a", CHILD, trigger="schedule", more=', schedule: {cron: "0 8 * * *"}'),
            quiet("b"),
            "`b` can never inhibit `a`: alerts of `a` are about many clients and have nothing of that kind, not `site`",
        ),
    ],
)
def test_a_parent_that_can_never_inhibit_is_an_error_at_its_place(
    child: str, parent: str, message: str, tmp_path: Path
) -> None:
    (told,) = problems(tmp_path, child, parent)
    assert told.partition(": ")[2] == f"rules[0].inhibited_by[0]: {message}"


def test_a_parent_has_a_name_and_what_must_be_equal(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(f"version: 1\nrules: [{{{quiet('a', CHILD, 'b')}}}, {{{quiet('b')}}}]\n")
    rule = load_rules([tmp_path]).rules[0]
    assert (rule.inhibited_by, rule.parents) == (("b",), (Parent(rule="b", equal=("site",)),))


def test_a_broken_rule_is_not_reported_as_missing_as_well(tmp_path: Path) -> None:
    (told,) = problems(tmp_path, quiet("a", "b"), "name: b, trigger: offlin")
    assert "did you mean `offline`?" in told


def test_templates_of_an_outage_know_its_counts_and_no_client(tmp_path: Path) -> None:
    rule = "name: a, trigger: outage, outage: {}, actions: [{log: {message: %s}}]"
    good = (
        "{{ alert.back }}/{{ alert.total }} {% for member in alert.members %}{{ member.attributes.site }}{% endfor %}"
    )
    assert problems(tmp_path, rule % f'"{good}"') == []
    assert (
        "`client` is about a client, and alerts of the trigger `outage` are not about one client"
        in problems(tmp_path, rule % '"{{ client.id }}"')[0]
    )
    other = 'name: a, trigger: offline, actions: [{log: {message: "{{ alert.total }}"}}]'
    assert len(problems(tmp_path, other)) == 1


def test_only_a_roll_call_that_looks_back_knows_the_downtime_of_its_members(tmp_path: Path) -> None:
    rule = 'name: a, trigger: schedule, schedule: {cron: "0 8 * * *"%s}, actions: [{log: {message: "%s"}}]'
    text = "{{ (alert.members|sort(attribute='flaps'))[0].name }}{{ alert.members|sum(attribute='downtime') }}"
    assert problems(tmp_path, rule % (", over: 7d", text)) == []
    told = " ".join(problems(tmp_path, rule % ("", text)))
    assert "an item has no `flaps`" in told and "an item has no `downtime`" in told


def test_the_condition_of_a_roll_call_is_about_each_client_and_its_text_about_all(tmp_path: Path) -> None:
    rule = (
        'name: a, trigger: schedule, schedule: {cron: "0 8 * * *"}, condition: "%s", actions: [{log: {message: "%s"}}]'
    )
    assert problems(tmp_path, rule % ("status == 'offline' and client.attributes.site", "{{ alert.count }}")) == []
    assert len(problems(tmp_path, rule % ("status == 'offline'", "{{ client.id }}"))) == 1


def test_verification_without_a_status_provider_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("version: 1\n")
    (tmp_path / "rules.yaml").write_text(
        "version: 1\nrules: [{name: a, trigger: offline, verify: true, actions: [{log: {message: x}}]}]\n"
    )
    loaded_rules = load_rules([tmp_path / "rules.yaml"], config=load_config(tmp_path / "config.yaml"))
    (told,) = loaded_rules.problems
    assert told.warning and "the configuration has no `status`, so alerts are sent unverified" in str(told)


def test_a_condition_with_one_equals_sign_is_reported_with_a_hint_to_compare(tmp_path: Path) -> None:
    assert problem(tmp_path, "condition: \"status = 'offline'\"").endswith("; compare with `==`")
    assert "compare" not in problem(tmp_path, "condition: \"status == 'offline' and\"")


def test_mistakes_are_reported_in_the_order_of_the_file(tmp_path: Path) -> None:
    log = "actions: [{log: {message: x}}]"
    told = problems(
        tmp_path,
        f"name: a, trigger: offline, repeat: 0s, inhibited_by: [nobody], {log}",
        f"name: b, trigger: offline, severity: high, {log}",
        f"name: c, trigger: offline, condition: nonsense, {log}",
    )
    assert [line.partition(":")[0] for line in told] == ["3", "3", "4", "5"]


@pytest.mark.parametrize(
    ("action", "wanted"),
    [
        ('webhook: "https://x.test/"', "must be a mapping, not `https://x.test/`"),
        ("email: a@b.test", "must be a mapping, not `a@b.test`"),
        ('command: {to: a, payload: x, qos: "1"}', "must be one of 0, 1, 2, not `1`; write 1 without quotes"),
    ],
)
def test_an_action_of_the_wrong_kind_has_one_sentence(tmp_path: Path, action: str, wanted: str) -> None:
    (told,) = problems(tmp_path, f"name: a, trigger: offline, actions: [{{{action}}}]")
    assert told.endswith(f": {wanted}")
