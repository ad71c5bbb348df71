"""The section `sources`: where lifecycle events come from. Read `SourceConfig`, then `read_sources`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.config.endpoints import url_problem
from engine.config.packages import missing_package
from engine.config.paths import path_problem
from engine.config.reader import ConfigReader
from engine.config.regular_file import file_problem, shown_path
from engine.config.yamlfile import KeyPath
from engine.errors import Problem

PACKAGES = {"amqp": "aiormq"}
"""Source types that need a package which is not always installed. The extra that brings it has the name of the type."""

TOPIC_OF_GROUP = "_MQTT"
"""What follows a group's id in the name of its topic."""

_SAME_IN_ALL = ("name_servers", "name_server_domain", "access_key", "secret")
"""Keys that have the same value in every RocketMQ source: one engine reads one cluster, to which its commands go."""

_SHARES = {"flap_percent": "flaps", "late_percent": "late", "duplicate_percent": "duplicates", "loss_percent": "losses"}
"""Options of the simulator that people write as percentages and its fleet takes as fractions of 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceConfig:
    """One source of events.

    `options` are those of its type: paths are absolute, durations are `*_ms`, secrets are `Secret`.
    """

    name: str
    type: str
    options: Mapping[str, Any] = field(default_factory=dict)


def read_sources(reader: ConfigReader) -> tuple[SourceConfig, ...]:
    """Every source, in the order of the file."""
    found: list[SourceConfig] = []
    seen: set[str] = set()
    for index, raw in enumerate(written_sources(reader)):
        name = raw["name"]
        if name in seen:
            reader.report(("sources", index, "name"), f"there is already a source named `{name}`")
        seen.add(name)
        read = _rocketmq_options if raw["type"] == "rocketmq" else _options
        found.append(SourceConfig(name=name, type=raw["type"], options=read(reader, ("sources", index), raw)))
    if sum(source.type == "http" for source in found) > 1:
        reader.report(("sources",), "only one source can have the type http: it receives POST /v1/events")
    _check_http(reader)
    _check_clusters(reader)
    return tuple(found)


def _check_http(reader: ConfigReader) -> None:
    """A source of type http needs the HTTP server; only a key that is left out has a default."""
    if "http" in reader.raw and reader.raw["http"] is None:
        for index, raw in enumerate(written_sources(reader)):
            if raw["type"] == "http":
                message = "receives its events over HTTP, and `http: null` switches that off: remove the source, or write `http: {listen: 127.0.0.1:8080}`"
                reader.report(("sources", index, "type"), message)


def written_sources(reader: ConfigReader) -> Sequence[Mapping[str, Any]]:
    """The sources as they stand in the file."""
    return reader.raw.get("sources") or ()


def missing_packages(reader: ConfigReader) -> list[Problem]:
    """One problem for each source whose package is not installed here."""
    found = []
    for index, raw in enumerate(written_sources(reader)):
        if (missing := missing_package(PACKAGES, raw["type"])) is not None:
            found.append(reader.document.problem(("sources", index, "type"), missing))
    return found


def _options(reader: ConfigReader, at: KeyPath, raw: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in raw.items():
        if key in {"name", "type"}:
            continue
        if key == "path":
            found[key] = str(_events_file(reader, (*at, key), value))
        elif key == "endpoint":
            default_port = 5671 if raw.get("tls") else 5672
            found["host"], found["port"] = reader.host_and_port((*at, key), value, default_port)
            reader.check_tls_port((*at, key), found["port"], bool(raw.get("tls")), plain=5672, encrypted=5671)
        elif key == "tls":
            found[key] = reader.ca_file((*at, key), value)
        elif key in {"access_key", "secret"}:
            found[key] = reader.secret((*at, key), value)
        elif key in {"session", "away"}:
            found[f"{key}_ms"] = reader.duration_ms((*at, key), value)
        elif key in _SHARES:
            found[_SHARES[key]] = value / 100
        else:
            found[key] = value
    return found


def _events_file(reader: ConfigReader, at: KeyPath, text: str) -> Path:
    """The file of a source. What is no regular file now may be replaced by one, so it is a warning: the service starts, and the source says it."""
    found = reader.path(at, text)
    if path_problem(text) is None and found.exists() and (problem := file_problem(found)) is not None:
        reader.report(at, f"{shown_path(found)} {problem}", warning=not found.is_dir())
    return found


def _rocketmq_options(reader: ConfigReader, at: KeyPath, raw: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a RocketMQ source: lists as they are, secrets not revealed, `start` as epoch ms when it is a time."""
    found = {key: value for key, value in raw.items() if key not in {"name", "type"}}
    if ("name_servers" in raw) == ("name_server_domain" in raw):
        reader.report(at, "needs either `name_servers` or `name_server_domain`")
    found |= reader.login(at, raw)
    check_name_servers(reader, at, raw)
    _check_topics(reader, at, raw)
    if raw.get("start", "latest") not in {"latest", "earliest"}:
        found["start"] = reader.instant_ms((*at, "start"), raw["start"])
    return found


def check_name_servers(reader: ConfigReader, at: KeyPath, raw: Mapping[str, Any]) -> None:
    """Report every name server of the mapping at `at` that cannot be one."""
    for index, text in enumerate(raw.get("name_servers", ())):
        reader.host_and_port((*at, "name_servers", index), text, 9876)
    if "name_server_domain" in raw and (problem := url_problem(raw["name_server_domain"])):
        reader.report((*at, "name_server_domain"), problem)


def _check_topics(reader: ConfigReader, at: KeyPath, raw: Mapping[str, Any]) -> None:
    """Groups and topics are easily taken for one another: the topic of a group is its id with `_MQTT`."""
    for index, group in enumerate(raw.get("mqtt_groups", ())):
        if group.endswith(TOPIC_OF_GROUP):
            name = group.removesuffix(TOPIC_OF_GROUP) or "GID_XXX"
            message = (
                f"`{group}` is the topic of a group: write the group alone, `{name}`, or put the topic under `topics`"
            )
            reader.report((*at, "mqtt_groups", index), message)
    for index, topic in enumerate(raw.get("topics", ())):
        if topic.startswith("GID_") and not topic.endswith(TOPIC_OF_GROUP):
            message = f"`{topic}` looks like a group: its events are in the topic {topic}{TOPIC_OF_GROUP}; write that, or `mqtt_groups: [{topic}]`"
            reader.report((*at, "topics", index), message, warning=True)


def _check_clusters(reader: ConfigReader) -> None:
    """All RocketMQ sources share what the native client shares in a process; no two use one consumer group."""
    groups: set[str] = set()
    first: Mapping[str, Any] | None = None
    for index, raw in enumerate(written_sources(reader)):
        if raw["type"] != "rocketmq":
            continue
        first = raw if first is None else first
        for key in _SAME_IN_ALL:
            if raw.get(key) != first.get(key):
                message = f"`{key}` must be the same as in the source `{first['name']}`: one engine reads one RocketMQ cluster"
                reader.report(("sources", index, key if key in raw else "name"), message)
        group = raw["consumer_group"]
        if group in groups:
            message = f"another source uses the group `{group}`: list all topics in one source, or use two groups"
            reader.report(("sources", index, "consumer_group"), message)
        groups.add(group)
