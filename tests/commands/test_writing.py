"""Commands as people write them: what loads, what is told, and what becomes of a template. No broker is needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.actions.command.sender import command_of
from engine.config.loader import Config, load_config
from engine.core.delivery import OutboxItem
from engine.core.rules import Action, Rule
from engine.errors import InvalidFiles
from engine.rulefiles.loader import load_rules, rule_from_definition
from engine.runtime.fleet_factory import command_routes
from engine.templates.command import CommandRoutes, client_id_problem
from engine.templates.rendered import Rendered
from engine.templates.renderer import Renderer, to_json
from tests.templates.test_rendering import HOSTILE, variables

MQTT = {"endpoint": "broker.example.com", "parent_topic": "iot"}
ROCKETMQ_SOURCE = {"name": "mq", "type": "rocketmq", "name_servers": ["10.0.0.1:9876"], "consumer_group": "GID_r"}
ROCKETMQ_SOURCE |= {"topics": ["t"]}
RENDERER = Renderer(commands=CommandRoutes(parent_topic="iot", mqtt="broker.example.com:1883"))


def config(folder: Path, **more: Any) -> Config:
    (folder / "config.yaml").write_text(json.dumps({"version": 1, **more}))
    return load_config(folder / "config.yaml")


def mistakes(folder: Path, **more: Any) -> list[str]:
    with pytest.raises(InvalidFiles) as found:
        config(folder, **more)
    return [f"{problem.path}: {problem.message}" for problem in found.value.problems if not problem.warning]


def rule(folder: Path, known: Config | None = None, **command: Any) -> Rule:
    written = {"name": "r", "trigger": "offline", "actions": [{"command": command}]}
    (folder / "rules.yaml").write_text(json.dumps({"version": 1, "rules": [written]}))
    (found,) = load_rules([folder / "rules.yaml"], config=known).rules
    return found


def rule_mistakes(folder: Path, known: Config | None = None, **command: Any) -> list[str]:
    with pytest.raises(InvalidFiles) as found:
        rule(folder, known, **command)
    return [f"{problem.path}: {problem.message}" for problem in found.value.problems]


def render(told: dict[str, Any], device: str = "d1", **more: Any) -> Rendered:
    spec = {"payload": "x", "qos": 1, "expires": "30s", "expires_ms": 30_000} | more
    return RENDERER.render(Action(kind="command", spec=spec | told), variables(device))


def test_a_command_is_rendered_as_replay_shows_it() -> None:
    found = render(
        {"to": "GID_GW@@@{{ client.attributes.site }}", "payload": {"reboot": "{{ client.device }}", "n": 3}}
    )
    assert found.request == {
        "to": "GID_GW@@@north",
        "topic": "iot/p2p/GID_GW@@@north",
        "payload": {"reboot": "d1", "n": 3},
        "qos": 1,
        "expires": "30s",
        "expires_ms": 30_000,
        "via": "mqtt",
    }
    assert (found.target, found.dead, found.problem) == ("mqtt://broker.example.com:1883", None, None)


@pytest.mark.parametrize(
    ("to", "why"),
    [
        ("", "it is empty"),
        ("a/b", "it holds `/`"),
        ("a+", "it holds `+`"),
        ("#", "it holds `#`"),
        ("a\nb", "it holds a character that cannot be printed"),
        ("a\x00", "it holds a character that cannot be printed"),
        ("a\u2028", "it holds a character that cannot be printed"),
        ("\ud800", "it holds a character that cannot be printed"),
        ("GID_GW@@@", "there is nothing after the @@@"),
        ("@@@gw", "there is nothing before the @@@"),
        ("x" * 65, "it has 65 characters, more than 64"),
        ("x" * 64, None),
        ("GID_GW@@@gw 1", None),
        ("plain", None),
    ],
)
def test_what_a_client_id_may_be(to: str, why: str | None) -> None:
    assert client_id_problem(to) == why


@given(st.one_of(HOSTILE, st.text(max_size=80)))
def test_whatever_a_device_calls_itself_a_command_goes_to_one_device_or_nowhere(device: str) -> None:
    found = render({"to": "{{ client.device }}", "payload": {"from": "{{ client.device }}"}}, device)
    assert found.dead is None or found.dead.startswith("`to` is no client id: ")
    if found.dead is None:
        assert found.request["topic"] == f"iot/p2p/{device}" and found.request["topic"].count("/") == 2
        assert not set("+#\0") & set(found.request["topic"])
    json.loads(json.dumps(found.request))


@given(HOSTILE, st.text(max_size=200))
def test_a_payload_is_the_same_bytes_at_every_attempt(device: str, text: str) -> None:
    text = text.replace("{", "(")
    found = render(
        {"to": "GID@@@d", "payload": {"a": "{{ client.device }}", "b": text, "c": [1, None, {"d": 2.5}]}}, device
    )
    if found.dead is not None:
        return
    stored = msgspec.json.decode(to_json(found.request))
    item = OutboxItem(
        id=1, key="k", rule="r", lane="l", action="command", target="t", request=stored, attempts=0,
        decided_at_ms=0, phase="firing", alert="a",
    )  # fmt: skip
    sent = command_of(item).payload
    assert json.loads(sent) == {"a": device, "b": text, "c": [1, None, {"d": 2.5}]}
    assert command_of(item).payload == sent


def test_a_payload_beyond_64_kb_is_dead_with_the_reason() -> None:
    assert render({"to": "d", "payload": "é" * 32_768}).dead is None
    assert render({"to": "d", "payload": "é" * 32_769}).dead == "the payload has 65538 bytes, more than 65536"


def test_a_payload_that_cannot_be_rendered_is_dead_and_nothing_takes_its_place() -> None:
    found = render({"to": "d", "payload": "{{ 1 // (client.device | length - 2) }}"})
    assert found.dead is not None and found.dead.startswith("`payload` cannot be rendered: ")
    assert found.request["payload"] == ""


def test_the_way_is_the_one_that_is_configured(tmp_path: Path) -> None:
    for told, target in (
        ({"mqtt": MQTT}, "mqtt://broker.example.com:1883"),
        ({"mqtt": MQTT | {"tls": True}}, "mqtt://broker.example.com:8883"),
        ({"mqtt": {"parent_topic": "iot"}, "sources": [ROCKETMQ_SOURCE]}, "rocketmq://10.0.0.1:9876"),
        ({"mqtt": {"parent_topic": "iot", "rocketmq": {"name_servers": ["10.0.0.2:1"]}}}, "rocketmq://10.0.0.2:1"),
        ({"mqtt": MQTT, "sources": [ROCKETMQ_SOURCE]}, "mqtt://broker.example.com:1883"),
    ):
        known = config(tmp_path, **told)
        made = rule(tmp_path, known, to="GID@@@d", payload="x")
        found = Renderer(commands=command_routes(known)).render(made.actions[0], variables())
        assert (found.target, found.request["via"]) == (target, target.partition(":")[0])


def test_a_command_without_the_section_it_needs_is_an_error(tmp_path: Path) -> None:
    bare = config(tmp_path)
    needed = "needs the section `mqtt` in the configuration, which says where commands are sent"
    assert rule_mistakes(tmp_path, bare, to="GID@@@d", payload="x") == [f"rules[0].actions[0].command: {needed}"]
    only_mqtt, only_rocketmq = (
        config(tmp_path, mqtt=MQTT),
        config(tmp_path, mqtt={"parent_topic": "iot"}, sources=[ROCKETMQ_SOURCE]),
    )
    (said,) = rule_mistakes(tmp_path, only_mqtt, to="GID@@@d", payload="x", via="rocketmq")
    assert "needs a source of type `rocketmq`, or `mqtt.rocketmq`" in said
    (said,) = rule_mistakes(tmp_path, only_rocketmq, to="GID@@@d", payload="x", via="mqtt")
    assert "needs `mqtt.endpoint`" in said


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ({"payload": "x"}, "`to` is missing"),
        ({"to": "d"}, "`payload` is missing"),
        ({"to": "a/b", "payload": "x"}, "command.to: is not a client id: it holds `/`"),
        ({"to": "{{ client.gateway }}", "payload": "x"}, "gateway"),
        ({"to": "d", "payload": {"a": "{{ nope }}"}}, "nope"),
        ({"to": "d", "payload": "{{ secrets.key }}"}, "secrets"),
        ({"to": "d", "payload": 7}, "must be a text, or a mapping"),
        ({"to": "d", "payload": "x", "qos": 3}, "must be one of 0, 1, 2"),
        ({"to": "d", "payload": "x", "expires": "1s"}, "must be at least 2s (by mqtt) and at most 24h"),
        ({"to": "d", "payload": "x", "expires": "2d"}, "must be at least 2s (by mqtt) and at most 24h"),
        ({"to": "d", "payload": "x", "via": "rocketmq", "expires": "4s"}, "must be at least 5s (by rocketmq)"),
        ({"to": "d", "payload": "x", "ttl": "4s"}, "unknown key `ttl`; write `expires`"),
    ],
)
def test_a_mistake_in_a_command_is_reported(tmp_path: Path, command: dict[str, Any], said: str) -> None:
    known = config(tmp_path, mqtt=MQTT, sources=[ROCKETMQ_SOURCE])
    found = rule_mistakes(tmp_path, known, **command)
    assert said in found[0]


def test_a_rule_that_went_is_the_same_rule_when_it_comes_from_the_store(tmp_path: Path) -> None:
    made = rule(tmp_path, config(tmp_path, mqtt=MQTT), to="{{ client.id }}", payload={"a": 1}, expires="1m")
    assert rule_from_definition(made.definition).actions == made.actions


def test_a_section_says_where_commands_go(tmp_path: Path) -> None:
    keys = {"instance": "mqtt-cn-1", "access_key": {"env": "HOME"}, "secret": {"env": "HOME"}}
    found = config(tmp_path, mqtt=MQTT | keys | {"tls": {"ca": "ca.pem"}, "client_id": "GID_ops@@@rollcall-1"}).mqtt
    assert found is not None
    assert (found.address, found.ca, found.client_id) == (
        "broker.example.com:8883",
        str(tmp_path / "ca.pem"),
        "GID_ops@@@rollcall-1",
    )
    assert "***" in repr(found)


@pytest.mark.parametrize(
    ("mqtt", "said"),
    [
        ({}, "`parent_topic` is missing"),
        ({"parent_topic": "iot"}, "needs `endpoint`"),
        ({"parent_topic": "a/b", "endpoint": "h"}, "must be a parent topic"),
        (MQTT | {"endpoint": "h:99999"}, "is not HOST or HOST:PORT"),
        (MQTT | {"access_key": {"env": "HOME"}}, "belong together"),
        (MQTT | {"access_key": {"env": "HOME"}, "secret": {"env": "HOME"}}, "needs `instance` too"),
        (MQTT | {"client_id": "a/b"}, "must be a client id"),
        (MQTT | {"rocketmq": {}}, "needs `name_servers`"),
        (MQTT | {"topic": "x"}, "unknown key `topic`; write `parent_topic`"),
    ],
)
def test_a_mistake_in_the_section_is_reported(tmp_path: Path, mqtt: dict[str, Any], said: str) -> None:
    found = mistakes(tmp_path, mqtt=mqtt)
    assert len(found) == 1 and said in found[0]


def test_one_process_speaks_to_one_rocketmq_cluster(tmp_path: Path) -> None:
    other = {"parent_topic": "iot", "rocketmq": {"name_servers": ["10.9.9.9:1"]}}
    (said,) = mistakes(tmp_path, mqtt=other, sources=[ROCKETMQ_SOURCE])
    assert "must be the same as in the source `mq`, or be left out" in said
