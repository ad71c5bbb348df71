"""Mistakes in `smtp` and in e-mails of rules are told when they are loaded, with file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.config.inventory_file import load_inventory
from engine.config.loader import Config, load_config
from engine.errors import InvalidFiles
from engine.rulefiles.files import fingerprint
from engine.rulefiles.loader import LoadedRules, load_rules, rule_from_definition

SMTP = {"host": "mail.example.com", "from": "Rollcall <rollcall@example.com>"}


def config(folder: Path, smtp: dict[str, Any] | None) -> Config:
    (folder / "config.yaml").write_text(json.dumps({"version": 1, "smtp": smtp}))
    return load_config(folder / "config.yaml")


def config_problems(folder: Path, **smtp: Any) -> list[str]:
    try:
        found = config(folder, SMTP | smtp).warnings
    except InvalidFiles as error:
        found = tuple(error.problems)
    return [f"{problem.path}: {'warning: ' if problem.warning else ''}{problem.message}" for problem in found]


def load(folder: Path, email: dict[str, Any], smtp: dict[str, Any] | None = SMTP, **more: Any) -> LoadedRules:
    rule = {"name": "r", "trigger": "offline", "actions": [{"email": email}]}
    (folder / "r.yaml").write_text(json.dumps({"version": 1, "rules": [rule | more]}))
    (folder / "inventory.csv").write_text("client,owner\n*,a@b.c\n")
    inventory = load_inventory(folder / "inventory.csv")
    return load_rules([folder / "r.yaml"], inventory=inventory, config=config(folder, smtp))


def problems(folder: Path, smtp: dict[str, Any] | None = SMTP, **email: Any) -> list[str]:
    with pytest.raises(InvalidFiles) as caught:
        load(folder, {"to": "ops@example.com", **email}, smtp)
    return [str(problem).replace(f"{folder}/", "") for problem in caught.value.problems]


def test_a_server_by_its_defaults(tmp_path: Path) -> None:
    found = config(tmp_path, SMTP).smtp
    assert found is not None
    assert (found.port, found.security, found.target) == (587, "starttls", "smtp://mail.example.com:587")
    found = config(tmp_path, SMTP | {"tls": True}).smtp
    assert found is not None and (found.port, found.security) == (465, "tls")


CONFIG_MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"from": "nobody"}, "smtp.from: `nobody` is not an e-mail address such as rollcall@example.com or Rollcall <rollcall@example.com>"),
    ({"tls": True, "starttls": True}, "smtp.starttls: cannot be combined with `tls: true`, which encrypts from the first byte"),
    ({"starttls": False}, "smtp.starttls: warning: e-mails and the password would leave this machine unencrypted"),
    ({"username": "u"}, "smtp: `username` and `password` belong together: one of them is missing"),
    ({"ca": "no.pem"}, "smtp.ca: {folder}/no.pem does not exist"),
    ({"username": "u", "password": {"env": "NOT_SET_ANYWHERE"}}, "smtp.password: warning: the environment variable NOT_SET_ANYWHERE is not set"),
    ({"password": "secret"}, "smtp.password: must say where the secret is"),
    ({"timeout": "0s"}, "smtp.timeout: must be longer than 0"),
    ({"server": "x"}, "smtp.server: unknown key `server`; write `host`"),
    ({"port": 0}, "smtp.port: must be at least 1, not `0`"),
    ({"host": "a:25 b"}, "smtp.host: must be a host name or address; put the port into `port`"),
]  # fmt: skip


@pytest.mark.parametrize(("smtp", "told"), CONFIG_MISTAKES)
def test_a_mistake_in_smtp_is_reported(smtp: dict[str, Any], told: str, tmp_path: Path) -> None:
    found = config_problems(tmp_path, **smtp)
    assert any(problem.startswith(told.format(folder=tmp_path)) for problem in found), found


def test_plain_to_this_very_machine_needs_no_word(tmp_path: Path) -> None:
    assert config_problems(tmp_path, host="127.0.0.1", starttls=False) == []


def test_an_email_without_a_server_says_what_is_missing(tmp_path: Path) -> None:
    (told,) = problems(tmp_path, None)
    assert told.endswith(
        "rules[0].actions[0].email: needs a mail server: set `smtp: {host: ..., from: ...}` in the configuration"
    )
    # Where nothing is sent, none is needed.
    assert load_rules([tmp_path / "r.yaml"], config=config(tmp_path, None), performs=False).rules


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"to": "ops"}, "email.to: `ops` is not an e-mail address such as ops@example.com"),
    ({"to": ["a@b.c", "a@b.c, d@e.f"]}, "email.to[1]: `a@b.c, d@e.f` is not an e-mail address such as ops@example.com: write a list for several"),
    ({"to": []}, "email.to: must not be an empty list"),
    ({"cc": "{{ client.device }}@x.y"}, "`client.device` does not exist (known: attributes); recipients can use client.attributes, alert.key and rule only"),
    ({"to": "{{ client.attributes.ownr }}"}, "`client.attributes.ownr` does not exist; did you mean `owner`?"),
    ({"to": "{{ secrets.x }}"}, "`secrets` can be used only in URL, headers and body of a webhook"),
    ({"subject": "{{ cleint.id }}"}, "email.subject: `cleint` does not exist; did you mean `client`?"),
    ({"text": "{% if x %}"}, "email.text: is not a valid template: "),
    ({"html": "{{ client.id|safe }}"}, "email.html: the filter `safe` does not exist"),
    ({"text": "x", "template": "firing"}, "email: has both `text` and `template`; keep one"),
    ({"template": "recovry"}, "email.template: is neither a file that ends in .j2 nor a shipped template; did you mean `recovery`?"),
    ({"template": "none.j2"}, "email.template: the template none.j2 cannot be read: No such file or directory"),
    ({"html": "big.html.j2"}, "big.html.j2:1:1: rules[0].actions[0].email.html: is not a valid template: longer than 16384 characters"),
    ({"template": "bad.j2"}, "bad.j2:3:1: rules[0].actions[0].email.template: `cleint` does not exist; did you mean `client`?"),
    ({"template": "syntax.j2"}, "syntax.j2:2:1: rules[0].actions[0].email.template: is not a valid template: "),
    ({"template": "deep/loop.html.j2", "html": "deep/loop.html.j2"}, "deep/loop.html.j2:2:1: rules[0].actions[0].email.html: the filter `safe` does not exist"),
    ({"body": "x"}, "unknown key `body`; write `text`"),
    ({"from": "x"}, "unknown key `from`; put it under `smtp` of the configuration"),
]  # fmt: skip


@pytest.mark.parametrize(("email", "told"), MISTAKES)
def test_a_mistake_in_an_email_is_reported(email: dict[str, Any], told: str, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "bad.j2").write_text("a\nb\n{{ cleint.id }}\n")
    (tmp_path / "syntax.j2").write_text("a\n{{ client.id }\n")
    (tmp_path / "deep" / "loop.html.j2").write_text("\n{{ client.id|safe }}")
    (tmp_path / "big.html.j2").write_text("<p>" * 10_000)
    found = problems(tmp_path, **email)
    assert any(told in problem for problem in found), found


def test_template_files_are_part_of_the_rule(tmp_path: Path) -> None:
    (tmp_path / "mail.txt.j2").write_text("{{ client.id }} is gone\n")
    (tmp_path / "mail.html.j2").write_text("<b>{{ client.id }}</b>\n")
    email = {
        "to": ["ops@example.com", "{{ client.attributes.owner }}"],
        "template": "mail.txt.j2",
        "html": "mail.html.j2",
    }
    (rule,) = load(tmp_path, email).rules
    assert dict(rule.actions[0].spec) == {
        "to": ("ops@example.com", "{{ client.attributes.owner }}"),
        "text": "{{ client.id }} is gone\n",
        "html": "<b>{{ client.id }}</b>\n",
    }
    # A rule whose files have gone still knows what to send, and an edited template is an edited rule.
    assert rule_from_definition(rule.definition).actions == rule.actions
    seen = fingerprint([tmp_path])
    (tmp_path / "mail.txt.j2").write_text("{{ client.id }} is no more\n")
    assert fingerprint([tmp_path]) != seen and fingerprint([tmp_path / "r.yaml"]) != ()
    assert load(tmp_path, email).rules[0].definition != rule.definition


def test_a_feed_rule_writes_to_fixed_addresses(tmp_path: Path) -> None:
    assert load(tmp_path, {"to": "ops@example.com", "text": "{{ alert.source }}"}, trigger="feed").rules
    with pytest.raises(InvalidFiles, match="client"):
        load(tmp_path, {"to": "{{ client.attributes.owner }}"}, trigger="feed")
