"""Whatever a fleet calls itself, what is told of it stays inside its place: from the event to the request, through every kind of
rule that speaks of many, and on the terminal.

Ids are what the engine accepts: up to 256 bytes, without control characters (those are quarantined). So nothing here is about
one template, but about what groups, outages, roll calls and their lists make of ids on the way.
"""

from __future__ import annotations

import json
import re
import time
import unicodedata
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.cli import main
from engine.config.loader import load_config
from engine.core.client_ids import MAX_CLIENT_BYTES
from engine.core.rules import Rule
from engine.replay.runner import Replay, ReplaySettings
from engine.rulefiles.loader import load_rules
from engine.runtime.fleet_factory import command_routes, inventory_of, mail_route, policy_of

START_MS = 1_767_225_600_000
KEY = "{{ alert.key.group | default('') }}"
ALL = "{{ alert.clients | join(', ') }} " + KEY
HTML = "<p title='x'>{{ alert.clients | join('<br>') }}</p><ul>{% for one in alert.clients %}<li>{{ one }}</li>{% endfor %}</ul>"
ACTIONS: list[dict[str, Any]] = [
    {
        "webhook": {
            "url": "http://pager.example.com/a/" + KEY + "/b?c={{ alert.clients | join(',') }}",
            "headers": {"X-Who": ALL},
            "json": {"who": ALL, "list": ["{{ alert.clients | join }}"]},
        }
    },
    {"email": {"to": "ops@example.com", "subject": ALL, "text": ALL, "html": HTML}},
    {"command": {"to": "{{ alert.clients | first }}", "payload": {"who": ALL}, "expires": "1m"}},
    {"log": {"message": ALL}},
]
RULES = [
    {"name": "site", "trigger": "outage", "outage": {"by": ["group"], "at_least": 2, "within": "1m", "inhibit": False}},
    {"name": "grouped", "trigger": "offline", "grouping": {"by": ["group"], "wait": "5s", "interval": "1m"}},
    {"name": "call", "trigger": "offline", "throttle": {"max": 1, "per": "1m", "by": ["group"]}},
]
PLACES = ["a", "/", "..", ".", "%2f", "?", "#", "&", "=", "@", "@@@", ":", " ", "+", "<b>", "</p>", "'", '"', "\\", "{{ 7*7 }}",
          "{% raw %}", "evil@example.com", ",", ";", "\u2028", "\u202e", "\u2066", "\ufeff", "é", "水", "\U0001f600", "${x}", "`id`",
          "|", "\u00ad", "=cmd()", "http://evil/", "[::1]", "%0d%0a"]  # fmt: skip
IDS = st.lists(st.sampled_from(PLACES) | st.characters(exclude_categories=("Cc", "Cs")), max_size=12).map("".join)
FLEETS = st.tuples(IDS, st.lists(IDS, min_size=2, max_size=4, unique=True))


@pytest.fixture(scope="module")
def terms(tmp_path_factory: pytest.TempPathFactory) -> ReplaySettings:
    """Rules of every kind that speaks of many, with every kind of action."""
    folder = tmp_path_factory.mktemp("hostile")
    told = [rule | {"actions": ACTIONS, "on_recovery": ACTIONS, "flapping": "fire"} for rule in RULES]
    (folder / "rules.yaml").write_text(json.dumps({"version": 1, "rules": told}))
    config = {"version": 1, "rules": ["rules.yaml"],
              "smtp": {"host": "mail.example.com", "from": "r@example.com"},
              "mqtt": {"endpoint": "mqtt.example.com:1883", "parent_topic": "iot"}}  # fmt: skip
    (folder / "config.yaml").write_text(json.dumps(config))
    return terms_in(folder)


def terms_in(folder: Path) -> ReplaySettings:
    config = load_config(folder / "config.yaml")
    inventory = inventory_of(config)
    rules: tuple[Rule, ...] = load_rules(config.rules, inventory=inventory, config=config, performs=False).rules
    return ReplaySettings(policy=policy_of(config), rules=rules, inventory=inventory, max_future_ms=60_000,
                 commands=command_routes(config), mail=mail_route(config))  # fmt: skip


def events(clients: list[str], ip: str = "10.0.0.1:1") -> bytes:
    def line(client: str, kind: str, channel: str, at_s: int) -> str:
        told = {
            "clientId": client,
            "eventType": kind,
            "channelId": channel,
            "time": START_MS + at_s * 1000,
            "clientIp": ip,
        }
        return json.dumps(told, ensure_ascii=False)

    lines = [line(client, "connect", "a", 0) for client in clients]
    lines += [line(client, "tcpclean", "a", 5) for client in clients]
    lines += [line(client, "connect", "b", 90) for client in clients]
    return ("\n".join(lines) + "\n").encode()


def replayed(terms: ReplaySettings, lines: bytes) -> list[dict[str, Any]]:
    found: list[bytes] = []
    Replay(terms, found.append).run([lines])
    return [json.loads(line) for line in b"".join(found).split(b"\n") if line]


def deliveries(terms: ReplaySettings, clients: list[str]) -> list[dict[str, Any]]:
    lines = replayed(terms, events(clients))
    assert lines[-1]["rejected"] == 0
    return [line for line in lines if line["type"] == "delivery"]


class Tags(HTMLParser):
    """Every tag of a text with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[Any] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.found.append((tag, attrs))

    def handle_comment(self, data: str) -> None:
        self.found.append(data)

    def handle_decl(self, decl: str) -> None:
        self.found.append(decl)

    def handle_pi(self, data: str) -> None:
        self.found.append(data)


def steers(text: str) -> bool:
    """Could it move a cursor, break a line, or turn the direction of what follows?"""
    marks = {
        "\u061c",
        "\u200e",
        "\u200f",
        "\u2028",
        "\u2029",
        *map(chr, range(0x202A, 0x202F)),
        *map(chr, range(0x2066, 0x206A)),
    }
    return any(unicodedata.category(sign) == "Cc" or sign in marks for sign in text)


def check_webhook(request: dict[str, Any]) -> None:
    assert re.fullmatch(r"http://pager\.example\.com/a/[A-Za-z0-9_.~%-]*/b\?c=[A-Za-z0-9_.~%-]*", request["url"])
    assert set(request["headers"]) == {"X-Who"} and not re.search(r"[\x00-\x1f\x7f-\x9f]", request["headers"]["X-Who"])
    assert set(request["json"]) == {"who", "list"} and len(request["json"]["list"]) == 1


def check_email(request: dict[str, Any]) -> None:
    assert request["to"] == ["ops@example.com"] and request["cc"] == []
    assert not steers(request["subject"])
    expected = [("p", [("title", "x")]), ("ul", []), *[("li", [])] * request["html"].count("<li>")]
    assert Tags(request["html"]).found == expected


def check_command(request: dict[str, Any], dead: bool) -> None:
    if not dead:
        assert request["topic"] == f"iot/p2p/{request['to']}" and not set("/+#") & set(request["to"])
        assert len(request["to"]) <= 64 and not steers(request["to"])


@given(FLEETS)
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=60)
def test_whatever_clients_are_called_a_request_has_the_shape_that_its_rule_gave_it(
    terms: ReplaySettings, fleet: tuple[str, list[str]]
) -> None:
    group, devices = fleet
    clients = [f"{group}@@@{device}" for device in devices]
    clients = [client for client in clients if len(client.encode()) <= MAX_CLIENT_BYTES]
    told = deliveries(terms, clients)
    if len(clients) > 1:
        has_group = bool(clients[0].partition("@@@")[0])
        assert {line["rule"] for line in told} == {"grouped", "call"} | ({"site"} if has_group else set())
    for line in told:
        request, dead = line["request"], line.get("state") == "dead"
        assert "template_error" not in request or line["action"] != "log"
        if line["action"] == "webhook" and not dead:
            check_webhook(request)
        elif line["action"] == "email":
            check_email(request)
        elif line["action"] == "command":
            check_command(request, dead)
        elif line["action"] == "log":
            assert not re.search(r"[\x00-\x1f\x7f-\x9f]", request["message"])


@given(FLEETS)
@settings(
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], deadline=None, max_examples=25
)
def test_a_timeline_and_a_replay_on_a_terminal_are_not_steered(tmp_path: Path, fleet: tuple[str, list[str]]) -> None:
    group, devices = fleet
    clients = [f"{group}@@@{device}" for device in devices]
    clients = [client for client in clients if len(client.encode()) <= MAX_CLIENT_BYTES]
    rule = {
        "name": "site",
        "trigger": "outage",
        "outage": {"by": ["group"], "at_least": 1, "within": "1m"},
        "actions": ACTIONS[3:],
    }
    (tmp_path / "rules.yaml").write_text(json.dumps({"version": 1, "rules": [rule]}))
    (tmp_path / "config.yaml").write_text(json.dumps({"version": 1, "rules": ["rules.yaml"]}))
    (tmp_path / "events.jsonl").write_bytes(events(clients))
    quoted = [json.dumps(client) for client in clients]
    test = {
        "name": "odd",
        "events": [f"0s {one} connect A" for one in quoted] + [f"5s {one} tcpclean A" for one in quoted],
        "expect": [],
    }
    (tmp_path / "odd.test.yaml").write_text(json.dumps({"version": 1, "rules": "rules.yaml", "tests": [test]}))
    config = ["-c", str(tmp_path / "config.yaml")]
    for arguments in (["test", str(tmp_path / "odd.test.yaml")], ["replay", str(tmp_path / "events.jsonl"), *config]):
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code in (0, 1), done.output
        assert len(done.output) > 20 and not any(map(steers, done.output.split("\n")))


BOMBS = [
    "{% for a in alert.clients %}{% for b in alert.clients %}{% for c in alert.clients %}{{ a }}{{ b }}{{ c }}{% endfor %}{% endfor %}{% endfor %}",
    "{% for a in alert.clients %}{{ alert.clients | join(a) }}{% endfor %}",
    "{{ alert.members | map(attribute='attributes') | list }}" * 200,
    "{{ (alert.clients | join(',')) | replace('a', alert.clients | join(',')) | replace('a', alert.clients | join(',')) }}",
    "{% for a in alert.members %}{% for b in alert.members %}{{ a }}{% endfor %}{% endfor %}",
    "{{ alert.clients | sort | unique | list | tojson }}" * 300,
]


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize("part", ["text", "html", "subject", "webhook", "payload", "log"])
def test_a_template_bomb_over_a_list_of_a_thousand_is_bounded_and_the_page_goes_out(
    bomb: str, part: str, tmp_path: Path
) -> None:
    action: dict[str, Any] = {"email": {"to": "ops@example.com", "subject": "x", "text": "x"} | {part: bomb}}
    if part == "webhook":
        action = {"webhook": {"url": "http://pager.example.com/", "json": {"x": bomb}}}
    elif part == "payload":
        action = {"command": {"to": "{{ alert.clients | first }}", "payload": bomb, "expires": "1m"}}
    elif part == "log":
        action = {"log": {"message": bomb}}
    rule = {
        "name": "r",
        "trigger": "offline",
        "grouping": {"by": ["group"], "wait": "5s", "limit": 1_000},
        "actions": [action],
    }
    (tmp_path / "rules.yaml").write_text(json.dumps({"version": 1, "rules": [rule]}))
    config = {"version": 1, "rules": ["rules.yaml"], "smtp": {"host": "mail.example.com", "from": "r@example.com"},
              "mqtt": {"endpoint": "mqtt.example.com:1883", "parent_topic": "iot"}}  # fmt: skip
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    terms = terms_in(tmp_path)
    began_s = time.process_time()
    (line,) = (
        line
        for line in replayed(terms, events([f"G@@@a{'a' * 40}{number}" for number in range(1_000)]))
        if line["type"] == "delivery"
    )
    took_s = time.process_time() - began_s
    assert took_s < 20, "bounded, however slow the machine"
    assert sum(map(len, strings(line["request"]))) < 3_000_000
    if part == "payload":
        assert line.get("state") == "dead" or len(line["request"]["payload"]) <= 65_536
    elif part != "subject":
        assert any(text.strip() for text in strings(line["request"]))


def strings(value: Any) -> Iterator[str]:
    """Every text in a request."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for entry in value.values():
            yield from strings(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from strings(entry)
