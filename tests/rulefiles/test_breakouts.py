"""Where a body is written by hand, `check` warns of each place that a device could break out of, and says what to write."""

from __future__ import annotations

import json
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from engine.errors import InvalidFiles
from engine.rulefiles.loader import load_rules
from engine.templates.compiler import Compiler

EVIL = 'x","routing_key":"EVIL","y":"\\'


def warnings(folder: Path, action: dict[str, Any], **rule: Any) -> list[str]:
    """What is warned about in a rule with one action."""
    path = folder / "rules.yaml"
    written = {"name": "r", "trigger": "offline", "actions": [action], **rule}
    path.write_text(json.dumps({"version": 1, "rules": [written]}, indent=1))
    loaded = load_rules([path])
    assert loaded.rules
    return [str(problem) for problem in loaded.problems]


def body(text: str, **headers: str) -> dict[str, Any]:
    return {"webhook": {"url": "http://pager.test/", "body": text, **({"headers": headers} if headers else {})}}


WARNED = [
    (body('{"id": "{{ client.id }}"}'), "tojson"),
    (body('{"id": {{ client.id }}}'), "tojson"),
    (body('  [ "{{ client.device }}" ]'), "tojson"),
    (body('{% set x = client.device %}{"id": "{{ x|upper }}"}'), "tojson"),
    (body('{"ids": [{% for c in alert.clients %}"{{ c }}"{{ "," if not loop.last }}{% endfor %}]}'), "tojson"),
    (body('{% if status %}{"id": "{{ client.id|e }}"}{% endif %}'), "tojson"),
    (body('{"id": "{{ client.id ~ 1 }}", "at": "{{ occurred_at }}"}'), "`client.id` is set by a device"),
    (body('{"id": "{{ client.id|replace("x", "y") }}"}'), "tojson"),
    (body('{"e": "{{ evidence[0].channel }}"}'), "tojson"),
    (body('{"k": "{{ alert.key.group }}"}'), "tojson"),
    (body("{{ client.id }}", **{"Content-Type": "application/json"}), "tojson"),
    (body("<host>{{ client.id }}</host>"), "client.id|e"),
    (body("host={{ client.id }}&state=down"), "client.id|urlencode"),
    (body("{{ client.id }}", **{"Content-Type": "application/x-www-form-urlencoded"}), "client.id|urlencode"),
    (body("presence,client={{ client.id }} value=1"), "tojson"),
    (body("x", **{"X-Tag": "site=a;device={{ client.device }};b"}), "tojson"),
    ({"webhook": {"url": "http://a.test/", "json": {"data": '{"id": "{{ client.id }}"}'}}}, "tojson"),
    ({"webhook": {"url": "http://a.test/", "json": {"text": "<b>{{ client.id }}</b>"}}}, "client.id|e"),
    ({"log": {"message": '{"client": "{{ client.id }}"}'}}, "tojson"),
    ({"log": {"message": "client={{ client.id }} status=offline"}}, "tojson"),
]


@pytest.mark.parametrize(("action", "wanted"), WARNED, ids=[str(action)[-60:] for action, _ in WARNED])
def test_a_place_that_a_device_could_break_out_of_is_a_warning(
    action: dict[str, Any], wanted: str, tmp_path: Path
) -> None:
    grouping = {"grouping": {"by": ["group"]}} if "alert.key" in str(action) else {}
    (warning,) = warnings(tmp_path, action, **grouping)
    assert wanted in warning and ("tojson" in warning) and ": warning: " in warning
    assert warning.startswith(f"{tmp_path / 'rules.yaml'}:")


FINE = [
    body('{"id": {{ client.id|tojson }}, "n": {{ alert.count }}, "at": "{{ occurred_at }}", "s": "{{ status }}"}'),
    body('{"id": {{ (client.id ~ "!")|tojson }}, "all": {{ alert.clients|tojson }}, "c": {{ client|tojson }}}'),
    body(
        '{"n": "{{ alert.clients|length }}", "site": "{{ client.attributes.site }}", "x": "{{ 1 if client.id else 2 }}"}'
    ),
    body("{{ client.device }} {{ status }}"),
    body("host={{ client.id|urlencode }}&state={{ status }}"),
    body("<host>{{ client.id|e }}</host>"),
    {"webhook": {"url": "http://pager.test/{{ client.id }}", "json": {"id": "{{ client.id }}"}}},
    {"webhook": {"url": "http://a.test/", "json": {"text": "[{{ rule.severity }}] {{ client.id }} a={{ client.id }}"}}},
    {"log": {"message": "{{ client.id }} is offline since {{ occurred_at }}"}},
    body("x", **{"X-Client": "{{ client.id }}", "X-Text": "client {{ client.device }}"}),
]


@pytest.mark.parametrize("action", FINE, ids=[str(action)[-60:] for action in FINE])
def test_a_place_that_nothing_can_leave_is_none(action: dict[str, Any], tmp_path: Path) -> None:
    assert warnings(tmp_path, action) == []


def test_every_value_of_the_contract_goes_through_tojson_and_adds_no_key() -> None:
    client = {"id": EVIL, "group": "", "device": EVIL, "ip": "", "attributes": MappingProxyType({"site": "n"})}
    seen: dict[str, Any] = {
        "client": client,
        "alert": {
            "members": [client],
            "shared": MappingProxyType({"site": "n"}),
            "clients": [EVIL],
            "key": {"group": EVIL},
        },
        "evidence": [{"type": "connect", "channel": EVIL, "used": True, "time": "t", "why": "w"}],
        "verified_at": None,
        "duration": 1.5,
        "rule": {"name": "r", "labels": MappingProxyType({"team": "x"})},
    }
    compiler = Compiler()
    for name in ("client", "client.id", "client.attributes", "alert", "alert.members", "alert.clients", "alert.key", "evidence",
                 "verified_at", "duration", "rule", "rule.labels", "alert.shared", "alert.members|map(attribute='id')"):  # fmt: skip
        sent = json.loads(compiler.text('{"x": {{ ' + name + '|tojson }}, "routing_key": "OURS"}')(seen))
        assert set(sent) == {"x", "routing_key"} and sent["routing_key"] == "OURS"
    assert json.loads(compiler.text("{{ client|tojson }}")(seen)) == client | {"attributes": {"site": "n"}}


@pytest.mark.parametrize("number", [2**63, 2**64, -(2**63) - 1, 10**30])
def test_a_number_that_json_cannot_hold_is_a_mistake(number: int, tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(
        "version: 1\nrules:\n- name: r\n  trigger: offline\n  actions:\n"
        f"  - webhook: {{url: 'http://a.test/', json: {{a: [1, {number}]}}}}\n"
    )
    with pytest.raises(InvalidFiles, match=r"rules\.yaml:6:\d+: .*json\.a\[1\]: is a number that JSON cannot hold"):
        load_rules([path])
