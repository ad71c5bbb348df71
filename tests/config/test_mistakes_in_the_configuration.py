"""What people write by mistake into the configuration: each gets a sentence that says what is wrong, or what to write instead."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from engine.cli import main
from engine.config.durations import duration_hint
from engine.config.loader import load_config
from engine.errors import InvalidFiles

MAIL = "smtp: {host: %s, from: a@b.c}"
QUERY = "status: {provider: route, endpoint: '%s', instance: i, access_key: {env: HOME}, secret: {env: HOME}}"
BROKER = "sources: [{name: b, type: rocketmq, name_servers: ['%s'], consumer_group: GID_r, %s}]"
LISTEN = "http: {listen: %s}"
OVERRIDE = "debounce: {overrides: [{match: {%s}, offline: 5s}]}"
NO_IPV4 = "is not an IPv4 address: write four numbers from 0 to 255"

MISTAKES: list[tuple[str, str, str]] = [
    # What the issue names
    ('version: "1"', "version", "must be the number 1, not the text `1`: remove the quotes"),
    (MAIL % '"mail:587"', "smtp.host", "write `host: mail` and `port: 587`"),
    ("smtp: {host: x}", "smtp", "`from` is missing"),
    (QUERY % "http://127.1/", "status.endpoint", NO_IPV4),
    ("data: ~/x", "data", "begins with `~`, which is not replaced here"),
    ("http: null\nsources: [{name: p, type: http}]", "sources[0].type", "`http: null` switches that off"),
    (BROKER % ("a:1", "mqtt_groups: [GID_A_MQTT]"), "sources[0].mqtt_groups[0]", "write the group alone, `GID_A`"),
    # Hosts, ports and URLs
    (MAIL % '"[::1]"', "smtp.host", "without brackets here: ::1"),
    ("smtp: {host: mail, from: a@b.c, helo: a_b..c}", "smtp.helo", "is not a host name"),
    ("smtp: {host: mail, from: a@b.c, helo: 10.0.0.1}", "smtp.helo", "write an address as `[10.0.0.1]`"),
    ("smtp: {host: mail, from: a@b.c, helo: 'fe80::1'}", "smtp.helo", "write an address as `[IPv6:fe80::1]`"),
    (MAIL % "u@mail", "smtp.host", "must not contain a user name or password"),
    (MAIL % "0x7f.1", "smtp.host", NO_IPV4),
    (MAIL % "a..b", "smtp.host", "is not a host name or address"),
    (QUERY % "300.1.1.1", "status.endpoint", NO_IPV4),
    (QUERY % "2130706433", "status.endpoint", NO_IPV4),
    (QUERY % "h:", "status.endpoint", "must be HOST, HOST:PORT"),
    (BROKER % ("a:0", "topics: [T]"), "sources[0].name_servers[0]", "a port is a number from 1 to 65535"),
    (BROKER % ("127.1:9876", "topics: [T]"), "sources[0].name_servers[0]", NO_IPV4),
    ("heartbeat: {url: 'http://u:p@h/x'}", "heartbeat.url", "must not contain a user name or password"),
    ("heartbeat: {url: 'http://127.1/'}", "heartbeat.url", NO_IPV4),
    ("heartbeat: {url: 'http:///x'}", "heartbeat.url", "has no host"),
    ("heartbeat: {url: 'http://h:0/'}", "heartbeat.url", "has an invalid port"),
    ("mqtt: {parent_topic: t, endpoint: 'tcp://h:1883'}", "mqtt.endpoint", "leave out `tcp://`"),
    ("mqtt: {parent_topic: t, endpoint: '::1'}", "mqtt.endpoint", "put it in brackets"),
    (LISTEN % "':8080'", "http.listen", "write 127.0.0.1:8080 for this machine only, or 0.0.0.0:8080"),
    (LISTEN % "'*:8080'", "http.listen", "names no address"),
    (LISTEN % "8080", "http.listen", "must be ADDRESS:PORT, such as 127.0.0.1:8080"),
    (LISTEN % "'http://127.0.0.1:8080'", "http.listen", "without `http://`"),
    (LISTEN % "'::1:8080'", "http.listen", "put an IPv6 address in brackets"),
    (LISTEN % "127.1:8080", "http.listen", NO_IPV4),
    # Types and forms
    ("version: 1\nVersion: 1", "Version", "did you mean `version`?"),
    ("Version: 1", "", "it is written `Version`, and keys are in lower case"),
    ("smtp: {host: m, from: a@b.c, port: '587'}", "smtp.port", "write 587 without quotes"),
    ("smtp: {host: m, from: a@b.c, tls: 'true'}", "smtp.tls", "write true without quotes"),
    ("flapping: {start: 1_0}", "flapping.start", "write 10 without quotes"),
    ("flapping: {start: 6.0}", "flapping.start", "write 6"),
    ("network: {deny: 10.0.0.0/8}", "network.deny", "write [10.0.0.0/8]"),
    ("data: [x]", "data", "write the value without [ ]"),
    ("sources: [http]", "sources[0]", "must be a mapping, not `http`"),
    ("sources: [{Name: p, type: http}]", "sources[0]", "it is written `Name`"),
    ("debounce: {offline: 30}", "debounce.offline", "it has no unit: write 30s for seconds"),
    ("debounce: {offline: -5s}", "debounce.offline", "it must not be negative"),
    ("secrets: {a: {env: $TOKEN}}", "secrets.a.env", "without `$`"),
    # Paths
    ("inventory: ~/i.csv", "inventory", "begins with `~`"),
    ("rules: ['$X/r']", "rules[0]", "contains `$X`"),
    ("secrets: {a: {file: '${X}/y'}}", "secrets.a.file", "contains `${X}`"),
    ("sources: [{name: l, type: file, path: ~/e}]", "sources[0].path", "begins with `~`"),
    ("data: file:///x", "data", "must be a path, not a URL"),
    ("data: ' x'", "data", "begins or ends with a space"),
    ("data: config.yaml", "data", "is a file: `data` is a folder"),
    ("sources: [{name: l, type: file, path: .}]", "sources[0].path", "is a folder, not a file"),
    # Times
    (
        BROKER % ("a:1", "topics: [T], start: '0001-01-01T00:00:00Z'"),
        "sources[0].start",
        "is not between 1970 and 2200",
    ),
    (BROKER % ("a:1", "topics: [T], start: '2026-01-01 00:00'"), "sources[0].start", "write 2026-01-01T00:00:00Z"),
    # What can never match
    (OVERRIDE % "device: '[z-a]'", "debounce.overrides[0].match.device", "can never match"),
    (OVERRIDE % "attributes: {site: x}", "debounce.overrides[0].match.attributes", "no inventory is configured"),
]

SUSPECT: list[tuple[str, str, str]] = [
    ("smtp: {host: m, from: a@b.c, port: 465}", "smtp.port", "set `tls: true`"),
    ("smtp: {host: m, from: a@b.c, tls: true, port: 587}", "smtp.port", "use port 465"),
    ("mqtt: {parent_topic: t, endpoint: 'h:8883'}", "mqtt.endpoint", "set `tls: true`"),
    (BROKER % ("a:1", "topics: [GID_A]"), "sources[0].topics[0]", "write that, or `mqtt_groups: [GID_A]`"),
    ("network: {deny: [10.0.0.5/8]}", "network.deny[0]", "stands for the whole network 10.0.0.0/8"),
    ("network: {deny: [0.0.0.0/0]}", "network.deny[0]", "denies every IPv4 address"),
    (OVERRIDE % "group: ' a'", "debounce.overrides[0].match.group", "begins or ends with a space"),
    (OVERRIDE % "device: G@@@d", "debounce.overrides[0].match.device", "use `client`"),
    ("secrets: {a: {file: twolines}}", "secrets.a", "has more than one line"),
    ("secrets: {a: {file: blank}}", "secrets.a", "is empty"),
    ("secrets: {a: {file: spaces}}", "secrets.a", "begins or ends with a space"),
    ("secrets: {a: {file: nowhere}}", "secrets.a", "cannot be read: No such file"),
    ("sources: [{name: l, type: file, path: fifo}]", "sources[0].path", "is a FIFO"),
    ("sources: [{name: l, type: file, path: /dev/null}]", "sources[0].path", "is a device"),
]

GOOD = [
    MAIL % '"::1"',
    MAIL % "mail.",
    LISTEN % "localhost:8080",
    LISTEN % "'[::1]:8080'",
    QUERY % "http://[::1]:80",
    QUERY % "127.0.0.1",
    "debounce: {offline: 1h30m}",
    "network: {deny: [10.0.0.1, 10.0.0.0/8, 'fe80::/10']}",
    "secrets: {a: {file: newline}}",
    BROKER % ("a:1", "topics: [GID_A_MQTT, other]"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Secrets of all sorts, and a FIFO."""
    for name, content in {"twolines": "a\nb", "blank": "\n", "spaces": " x", "newline": "x\r\n"}.items():
        (tmp_path / name).write_bytes(content.encode())
    os.mkfifo(tmp_path / "fifo")
    return tmp_path


def written(folder: Path, text: str) -> Path:
    file = folder / "config.yaml"
    file.write_text(text if "ersion" in text else f"version: 1\n{text}\n")
    return file


@pytest.mark.parametrize(("text", "path", "words"), MISTAKES)
def test_a_mistake_is_told_with_its_line_and_what_to_write(folder: Path, text: str, path: str, words: str) -> None:
    with pytest.raises(InvalidFiles) as caught:
        load_config(written(folder, text))
    found = [problem for problem in caught.value.problems if problem.path == path and not problem.warning]
    assert any(words in problem.message for problem in found), caught.value
    assert all(problem.line <= 3 for problem in found)


@pytest.mark.parametrize(("text", "path", "words"), SUSPECT)
def test_what_is_probably_a_mistake_is_a_warning(folder: Path, text: str, path: str, words: str) -> None:
    (warning,) = load_config(written(folder, text)).warnings
    assert warning.path == path and words in warning.message


@pytest.mark.parametrize("text", GOOD)
def test_what_is_meant_so_passes(folder: Path, text: str) -> None:
    assert load_config(written(folder, text)).warnings == ()


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("30 s", "; write 30s"),
        ("30sec", "; write 30s"),
        ("30S", "; write 30s"),
        ("1.5h", "; write whole numbers: 1h30m"),
        ("PT1H30M", "; write 1h30m"),
        ("1s5m", "; write 5m1s"),
        ("1_000s", "; write 1000s"),
        ("5m30", "; its last number has no unit"),
        (0, "; it has no unit: write 0s for seconds"),
        (0.5, "; write whole numbers: 500ms"),
        ("five", ""),
        (True, ""),
        (None, ""),
    ],
)
def test_a_duration_is_guessed(value: object, hint: str) -> None:
    assert duration_hint(value) == hint


@pytest.mark.parametrize(
    ("match", "wanted"),
    [
        ("{sit: north}", "the inventory has no column `sit`; did you mean `site`?"),
        ("{site: nroth}", "did you mean `north`?"),
    ],
)
def test_an_override_of_no_client_is_told_by_check(tmp_path: Path, match: str, wanted: str) -> None:
    (tmp_path / "inventory.csv").write_text("client,site\nG@@@*,north\n")
    (tmp_path / "rules").mkdir()
    override = OVERRIDE % f"attributes: {match}"
    file = tmp_path / "config.yaml"
    file.write_text(f"version: 1\ninventory: inventory.csv\nrules: rules/\n{override}\n")
    done = CliRunner().invoke(main, ["check", "-c", str(file)])
    assert (done.exit_code, wanted in done.output) == (0, True)
    assert "debounce.overrides[0].match.attributes.si" in done.output
