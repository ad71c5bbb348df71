"""Receivers as they are written: each mistake is named at its place, and what loads but does no good is a warning."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.config.loader import Config, load_config
from engine.config.receivers import missing_secrets
from engine.errors import InvalidFiles
from engine.rulefiles.loader import load_rules
from engine.rulefiles.receivers import routes_of_no_rule, unused_receivers

PAGER = "pager: {type: pagerduty, routing_key: {env: RCV_KEY}}"
CHAT = "chat: {type: slack, url: {env: RCV_URL}}"


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The secrets that the receivers below name."""
    monkeypatch.setenv("RCV_KEY", "k" * 32)
    monkeypatch.setenv("RCV_URL", "https://hooks.slack.com/services/T/B/X")
    monkeypatch.delenv("RCV_ABSENT", raising=False)


def config(folder: Path, *receivers: str, more: str = "") -> Config:
    """A configuration with these receivers, one a line."""
    lines = "".join(f"  {line}\n" for line in receivers)
    (folder / "config.yaml").write_text(f"version: 1\n{more}receivers:\n{lines}")
    return load_config(folder / "config.yaml")


def said(folder: Path, *receivers: str, more: str = "") -> list[str]:
    """Errors and warnings of these receivers, without the file's name."""
    try:
        found = list(config(folder, *receivers, more=more).warnings)
    except InvalidFiles as error:
        found = error.problems
    return [f"{problem.path}: {'warning: ' if problem.warning else ''}{problem.message}" for problem in found]


MISTAKES = [
    ("a: {type: slak, url: x}", "receivers.a.type: must be one of"),
    ("a: {type: slack}", "receivers.a: needs `url`, or `token` and `channel`"),
    ("a: {type: slack, webhook_url: {env: RCV_URL}, url: {env: RCV_URL}}", "unknown key `webhook_url`; write `url`"),
    ("a: {type: pagerduty, service_key: k}", "unknown key `service_key`; write `routing_key`"),
    ("a: {type: teams, url: 'ftp://x'}", "receivers.a.url: must begin with http:// or https://"),
    ("a: {type: teams, url: {env: RCV_KEY}}", "receivers.a.url: the value that it names must begin with http://"),
    (
        "a: {type: ntfy, topic: t, timezone: Berlin}",
        "is not a time zone such as Europe/Berlin or UTC; did you mean `Europe/Berlin`?",
    ),
    ("a: {type: ntfy, topic: t, username: u}", "`username` and `password` belong together"),
    ("a: {type: telegram, token: {env: RCV_KEY}}", "`chat` is missing"),
    ("a: {type: email, to: nobody}", "`nobody` is not an e-mail address"),
    (
        "a: {type: route, routes: [{to: chta}]}",
        "receivers.a.routes[0].to: there is no receiver `chta`; did you mean `chat`?",
    ),
    ("a: {type: route, routes: [{to: a}]}", "receivers.a.routes: form a cycle: a → a"),
    ("a: {type: route, routes: [{when: {active: day}, to: chat}, {to: chat}]}", "there is no time interval `day`"),
    (
        "a: {type: route, routes: [{when: {severity: hot}, to: chat}, {to: chat}]}",
        "must be one of info, warning, critical, not `hot`",
    ),
    ("a: {type: route, routes: [{when: {group: 're:('}, to: chat}, {to: chat}]}", "is not a valid RE2 expression"),
    ("a: {type: route, routes: [{to: chat}, {to: chat}]}", "receivers.a.routes[1]: warning: can never be reached"),
    (
        "a: {type: route, routes: [{when: {severity: [info, warning]}, to: chat}, {when: {severity: info, rule: x}, to: chat}, {to: chat}]}",
        "receivers.a.routes[1]: warning: can never be reached",
    ),
    (
        "a: {type: route, routes: [{when: {rule: x}, to: chat}]}",
        "receivers.a.routes: warning: has no route without `when` at its end",
    ),
    (
        "a: {type: pagerduty, routing_key: written}",
        "receivers.a.routing_key: warning: is a secret, and stands in this file",
    ),
    (
        "a: {type: discord, url: {env: RCV_ABSENT}}",
        "receivers.a.url: warning: the environment variable RCV_ABSENT is not set",
    ),
]


@pytest.mark.parametrize(("written", "wanted"), MISTAKES, ids=[wanted[:60] for _, wanted in MISTAKES])
def test_a_mistake_is_named_at_its_place(written: str, wanted: str, tmp_path: Path) -> None:
    found = said(tmp_path, CHAT, written)
    assert any(wanted in line for line in found), found


def test_what_is_right_is_said_nothing_about_and_no_secret_is_kept(tmp_path: Path) -> None:
    routes = "on: {type: route, routes: [{when: {active: day, labels: {team: 'p*'}}, to: chat}, {to: pager}]}"
    found = config(tmp_path, CHAT, PAGER, routes, more='time_intervals: {day: [{hours: "08:00-18:00"}]}\n')
    assert found.warnings == () and missing_secrets(found.receivers) == []
    assert "hooks.slack" not in repr(found.receivers) and found.receivers["chat"].settings() == {
        "url": "https://hooks.slack.com/services/T/B/X"
    }


def test_a_secret_that_is_missing_later_is_named_with_its_receiver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = config(tmp_path, PAGER)
    monkeypatch.delenv("RCV_KEY")
    assert missing_secrets(found.receivers) == [
        "the receiver pager has no `routing_key`: the environment variable RCV_KEY is not set"
    ]


def rules(folder: Path, written: str, found: Config) -> list[str]:
    """What is said of rules, and of the receivers of the configuration with them."""
    (folder / "rules.yaml").write_text(f"version: 1\nrules:\n  - {written}\n")
    try:
        loaded = load_rules([folder / "rules.yaml"], config=found)
    except InvalidFiles as error:
        return [f"{problem.path}: {problem.message}" for problem in error.problems]
    return [
        f"{problem.path}: {problem.message}" for problem in [*loaded.problems, *unused_receivers(found, loaded.rules)]
    ]


def test_rules_name_receivers_that_there_are_and_close_what_they_open(tmp_path: Path) -> None:
    routes = "on: {type: route, routes: [{when: {severity: critical}, to: pager}, {to: chat}]}"
    found = config(tmp_path, CHAT, PAGER, routes)
    unknown = rules(tmp_path, "{name: r, trigger: offline, actions: [{notify: [chat, pgaer]}]}", found)
    assert unknown == [
        "rules[0].actions[0].notify[1]: the configuration has no receiver `pgaer`; did you mean `pager`?"
    ]
    opened = rules(tmp_path, "{name: r, trigger: offline, actions: [{notify: on}]}", found)
    assert opened == [
        "rules[0].actions: `pager` (pagerduty) keeps an incident open that is never closed: add `notify: pager` to `on_recovery`"
    ]
    assert (
        rules(tmp_path, "{name: r, trigger: offline, actions: [{notify: on}], on_recovery: [{notify: on}]}", found)
        == []
    )
    unused = rules(tmp_path, "{name: r, trigger: offline, actions: [{notify: chat}]}", found)
    assert [line.partition(":")[0] for line in unused] == ["receivers.pager", "receivers.on"]


def test_a_route_that_names_what_no_rule_has_is_worth_a_look(tmp_path: Path) -> None:
    routes = (
        "on: {type: route, routes: [{when: {rule: pump-ofline}, to: pager}, {when: {labels: {tema: w}}, to: pager}, "
        "{when: {labels: {team: watr}}, to: pager}, {when: {rule: 'pump-*', labels: {team: w*}}, to: pager}, {to: chat}]}"
    )
    found = config(tmp_path, CHAT, PAGER, routes)
    (tmp_path / "rules.yaml").write_text(
        "version: 1\nrules: [{name: pump-offline, trigger: offline, labels: {team: water}, actions: [{notify: on}], on_recovery: [{notify: on}]}]"
    )
    loaded = load_rules([tmp_path / "rules.yaml"], config=found)
    assert [f"{one.path}: {one.message}" for one in routes_of_no_rule(found, loaded.rules)] == [
        "receivers.on.routes[0].when.rule: no rule has the name `pump-ofline`; did you mean `pump-offline`?",
        "receivers.on.routes[1].when.labels.tema: no rule has the label `tema`; did you mean `team`?",
        "receivers.on.routes[2].when.labels.team: no rule has the label `team` with `watr`; did you mean `water`?",
    ]


def test_a_text_that_can_never_be_made_is_an_error_of_the_configuration(tmp_path: Path) -> None:
    found = config(
        tmp_path, "chat: {type: ntfy, topic: t, title: '{{ clinet.id }}', text: '{{ alert.target }}{{ alert.total }}'}"
    )
    assert rules(tmp_path, "{name: r, trigger: offline, actions: [{notify: chat}]}", found) == [
        "receivers.chat.title: `clinet` does not exist; did you mean `client`?"
    ]
