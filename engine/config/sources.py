"""The section `sources`: where lifecycle events come from. Read `SourceConfig`, then `read_sources`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.config.packages import missing_package
from engine.config.reader import ConfigReader
from engine.config.yamlfile import KeyPath
from engine.errors import Problem

PACKAGES = {"amqp": "aiormq"}
"""Source types that need a package which is not always installed. The extra that brings it has the name of the type."""

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
    _check_clusters(reader)
    return tuple(found)


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
            found[key] = str(reader.folder / value)
        elif key == "endpoint":
            default_port = 5671 if raw.get("tls") else 5672
            found["host"], found["port"] = reader.host_and_port((*at, key), value, default_port)
        elif key == "tls":
            found[key] = reader.ca_file(value)
        elif key in {"access_key", "secret"}:
            found[key] = reader.secret((*at, key), value)
        elif key in {"session", "away"}:
            found[f"{key}_ms"] = reader.duration_ms((*at, key), value)
        elif key in _SHARES:
            found[_SHARES[key]] = value / 100
        else:
            found[key] = value
    return found


def _rocketmq_options(reader: ConfigReader, at: KeyPath, raw: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a RocketMQ source: lists as they are, secrets not revealed, `start` as epoch ms when it is a time."""
    found = {key: value for key, value in raw.items() if key not in {"name", "type"}}
    if ("name_servers" in raw) == ("name_server_domain" in raw):
        reader.report(at, "needs either `name_servers` or `name_server_domain`")
    found |= reader.login(at, raw)
    if raw.get("start", "latest") not in {"latest", "earliest"}:
        found["start"] = reader.instant_ms((*at, "start"), raw["start"])
    return found


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
