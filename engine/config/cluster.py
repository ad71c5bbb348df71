"""The sections `store`, `cells` and `cluster`: where the state is kept, and how several replicas share the work.

Read `read_store`, `read_cells` and `read_cluster`.
"""

from __future__ import annotations

import importlib.util
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from engine.config.patterns import problem_of
from engine.config.reader import ConfigReader
from engine.config.schema import did_you_mean
from engine.config.secret import Secret
from engine.errors import Problem

SQLITE: Final = "sqlite"
POSTGRES: Final = "postgres"

DEFAULT_CELL: Final = "all"
"""The name of the one cell that holds every group, when `cells` is not written."""

SHORTEST_LEASE_MS: Final = 1_000
LONGEST_LEASE_MS: Final = 60_000
"""A shorter lease is lost in every pause of a busy machine; a longer one leaves a cell without an owner for too long."""

_PASSWORD = re.compile(r"^\w+://[^/@\s]*:[^@/\s]+@|(?:^|[\s?&])password\s*=\s*[^\s&]")
"""A password inside a connection string: as a URL has it, or as `password=`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreConfig:
    """Where the state is kept. `dsn`: how to connect to PostgreSQL; `password` is added to it."""

    type: str = SQLITE
    dsn: Secret | None = None
    password: Secret | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CellConfig:
    """A set of MQTT groups that one replica at a time works on. `groups`: patterns."""

    name: str = DEFAULT_CELL
    groups: tuple[str, ...] = ("*",)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """How replicas that share a PostgreSQL store work together. `name`: of this replica, the same after a restart."""

    name: str = ""
    cells: tuple[str, ...] = (DEFAULT_CELL,)  # those that this replica runs or stands by for
    lease_ms: int = 5_000  # a cell that its owner has not renewed for so long is taken by another replica


def read_store(reader: ConfigReader) -> StoreConfig:
    """The section `store`."""
    raw = reader.raw.get("store") or {}
    if raw.get("type", SQLITE) == SQLITE:
        for key in ("dsn", "password"):
            if key in raw:
                reader.report(("store", key), f"belongs to `type: {POSTGRES}`; SQLite lies in the folder `data`")
        return StoreConfig()
    if "dsn" not in raw:
        reader.report(("store",), "`dsn` is missing: how to connect, such as postgresql://rollcall@db.example/rollcall")
        return StoreConfig(type=POSTGRES)
    return StoreConfig(
        type=POSTGRES,
        dsn=_dsn(reader, raw),
        password=reader.secret(("store", "password"), raw["password"]) if "password" in raw else None,
    )


def _dsn(reader: ConfigReader, raw: Mapping[str, Any]) -> Secret:
    dsn = raw["dsn"]
    if not isinstance(dsn, str):
        return reader.secret(("store", "dsn"), dsn)
    if _PASSWORD.search(dsn):
        message = "holds a password: write it as `password: {env: NAME}`, or the whole as `dsn: {env: NAME}`"
        reader.report(("store", "dsn"), message)
    elif "://" in dsn and not dsn.startswith(("postgresql://", "postgres://")):
        reader.report(("store", "dsn"), "must begin with postgresql://")
    elif "://" not in dsn and "=" not in dsn:
        reader.report(("store", "dsn"), "must be a URL such as postgresql://rollcall@db.example/rollcall")
    return Secret("text", dsn)


def read_cells(reader: ConfigReader) -> tuple[CellConfig, ...]:
    """The section `cells`; without it one cell holds every group."""
    raw = reader.raw.get("cells")
    if raw is None:
        return (CellConfig(),)
    if (reader.raw.get("store") or {}).get("type", SQLITE) != POSTGRES:
        reader.report(("cells",), f"needs `store: {{type: {POSTGRES}}}`: with SQLite one process works on all groups")
    found: list[CellConfig] = []
    for index, entry in enumerate(raw):
        if entry["name"] in {cell.name for cell in found}:
            reader.report(("cells", index, "name"), f"there is already a cell {entry['name']}")
        for place, pattern in enumerate(entry["groups"]):
            if problem := problem_of(pattern):
                reader.report(("cells", index, "groups", place), problem)
        found.append(CellConfig(name=entry["name"], groups=tuple(entry["groups"])))
    if len(found) > 1:
        _check_sources(reader)
    return tuple(found)


def _check_sources(reader: ConfigReader) -> None:
    """With several cells each owner reads every source, so a source must be one that several can read."""
    for index, source in enumerate(reader.raw.get("sources") or ()):
        if source["type"] == "amqp":
            message = "cannot be shared by several cells, because reading an event takes it out of the queue: read the topics with `type: rocketmq`, or use one cell"
            reader.report(("sources", index, "type"), message)


def read_cluster(reader: ConfigReader, cells: Sequence[CellConfig]) -> ClusterConfig:
    """The section `cluster`. A replica without a name is called as its machine is; it may run every cell unless it names some."""
    raw = reader.raw.get("cluster") or {}
    at = ("cluster", "lease")
    lease_ms = reader.duration_ms(at, raw["lease"]) if "lease" in raw else ClusterConfig().lease_ms
    if not SHORTEST_LEASE_MS <= lease_ms <= LONGEST_LEASE_MS:
        reader.report(at, f"must be between {SHORTEST_LEASE_MS // 1000}s and {LONGEST_LEASE_MS // 1000}s")
    return ClusterConfig(
        name=raw.get("name") or socket.gethostname()[:100], cells=_own_cells(reader, raw, cells), lease_ms=lease_ms
    )


def _own_cells(reader: ConfigReader, raw: Mapping[str, Any], cells: Sequence[CellConfig]) -> tuple[str, ...]:
    """The names of the cells that the replica may run, in the order of `cells`."""
    names = [cell.name for cell in cells]
    wanted = raw.get("cells", names)
    for index, name in enumerate(wanted):
        if name not in names:
            reader.report(
                ("cluster", "cells", index),
                f"there is no cell `{name[:63]}`{did_you_mean(name, names, all_of_them=True)}",
            )
    return tuple(name for name in names if name in wanted) or tuple(names)


def missing_packages(reader: ConfigReader) -> list[Problem]:
    """The problem of a store whose package is not installed here; empty when nothing is missing."""
    if (reader.raw.get("store") or {}).get("type") != POSTGRES or importlib.util.find_spec("psycopg") is not None:
        return []
    message = "needs the package psycopg: pip install 'rollcall-presence[postgres]'"
    return [reader.document.problem(("store", "type"), message)]
