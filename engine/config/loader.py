"""The configuration file: typed, validated once, immutable. Read `Config`, then `load_config`.

Each section has its values and its `read_…` function in a module of its own; here they are put together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from engine.config import cluster as cluster_section
from engine.config import receivers as receiver_section
from engine.config import sources as source_section
from engine.config import status as status_section
from engine.config.auth import AuthConfig, MetricsConfig, read_auth, read_metrics
from engine.config.cluster import CellConfig, ClusterConfig, StoreConfig
from engine.config.connection import ConnectionConfig, read_webhooks
from engine.config.deliveries import (
    DeliveriesConfig,
    HeartbeatConfig,
    NetworkConfig,
    read_deliveries,
    read_heartbeat,
    read_network,
)
from engine.config.http import HttpConfig, read_http
from engine.config.loading import loading
from engine.config.matchers import as_tuple
from engine.config.mqtt import MqttConfig, read_mqtt
from engine.config.named_intervals import NamedIntervals, read_time_intervals
from engine.config.paths import path_problem
from engine.config.presence import (
    DebounceConfig,
    EventsConfig,
    FeedConfig,
    FlappingConfig,
    ResolverConfig,
    check_overrides_without_inventory,
    read_debounce,
    read_feed,
    read_flapping,
    warn_of_max_hold,
)
from engine.config.pruning import pruned
from engine.config.reader import ConfigReader
from engine.config.receivers import Receiver, read_receivers
from engine.config.regular_file import shown_path
from engine.config.schema import MAX_PROBLEMS, schema_problems
from engine.config.secret import Secret
from engine.config.smtp import SmtpConfig, read_smtp
from engine.config.sources import SourceConfig, read_sources
from engine.config.status import ReconcileConfig, StatusConfig, read_reconcile, read_status
from engine.config.yamlfile import Document, KeyPath, problem_in, read_document
from engine.errors import InvalidFiles, Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryConfig:
    """How long history is kept."""

    keep_ms: int = 7 * 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientsConfig:
    """When clients that stay offline are forgotten, how long that is remembered, and how many clients there may be.

    `limit` None: as many as the machine's memory is for.
    """

    forget_ms: int = 30 * 86_400_000
    tombstone_ms: int = 3 * 86_400_000
    limit: int | None = None


def read_clients(reader: ConfigReader) -> ClientsConfig:
    """The section `clients`."""
    raw = reader.raw.get("clients") or {}
    given = {name: reader.duration_ms(("clients", name), raw[name]) for name in ("forget", "tombstone") if name in raw}
    return ClientsConfig(**{f"{name}_ms": value for name, value in given.items()}, limit=raw.get("limit"))


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """The service's own log."""

    level: str = "info"
    format: str = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything a service needs to know.

    `warnings`: what loads but probably is a mistake, such as a secret that cannot be read now. `missing_packages`: what has
    to be installed before the service can run with this configuration; only `check` and `run` refuse it. `written`: the document
    as it stands in the file, to see what an edit changes.
    """

    path: Path
    data: Path
    store: StoreConfig = field(default_factory=StoreConfig)
    cells: tuple[CellConfig, ...] = (CellConfig(),)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    http: HttpConfig | None = field(default_factory=HttpConfig)
    auth: AuthConfig = field(default_factory=AuthConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    sources: tuple[SourceConfig, ...] = ()
    rules: tuple[Path, ...] = ()
    inventory: Path | None = None
    events: EventsConfig = field(default_factory=EventsConfig)
    resolver: ResolverConfig = field(default_factory=ResolverConfig)
    debounce: DebounceConfig = field(default_factory=DebounceConfig)
    flapping: FlappingConfig = field(default_factory=FlappingConfig)
    feed: FeedConfig = field(default_factory=FeedConfig)
    history: HistoryConfig = field(default_factory=HistoryConfig)
    clients: ClientsConfig = field(default_factory=ClientsConfig)
    deliveries: DeliveriesConfig = field(default_factory=DeliveriesConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    webhooks: ConnectionConfig = field(default_factory=ConnectionConfig)
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    receivers: Mapping[str, Receiver] = field(default_factory=dict)
    time_intervals: NamedIntervals = field(default_factory=dict)
    mqtt: MqttConfig | None = None
    smtp: SmtpConfig | None = None
    heartbeat: HeartbeatConfig | None = None
    status: StatusConfig | None = None
    reconcile: ReconcileConfig | None = None
    log: LogConfig = field(default_factory=LogConfig)
    warnings: tuple[Problem, ...] = ()
    missing_packages: tuple[Problem, ...] = ()
    written: Mapping[str, Any] = field(default_factory=dict)

    @property
    def own_cells(self) -> tuple[CellConfig, ...]:
        """The cells that this replica runs or stands by for."""
        return tuple(cell for cell in self.cells if cell.name in self.cluster.cells) or self.cells

    @property
    def cell(self) -> CellConfig:
        """The cell that this configuration is of: the only one, or the one of `of_cell`."""
        return self.own_cells[0]

    def of_cell(self, name: str) -> Config:
        """The same for one of its cells alone."""
        return self if self.cluster.cells == (name,) else replace(self, cluster=replace(self.cluster, cells=(name,)))


def load_config(path: Path) -> Config:
    """The configuration in a file. Raises InvalidFiles with every problem found, and nothing else."""
    problems: list[Problem] = []
    config: Config | None = None
    with loading(problems, Path(path)):
        config = _load(Path(path), problems)
    if config is None or any(not problem.warning for problem in problems):
        raise InvalidFiles(problems)
    return config


def _load(path: Path, problems: list[Problem]) -> Config | None:
    if not path.exists():
        missing = "the file does not exist: name another one with `-c FILE`, or create one with `rollcall init`"
        problems.append(problem_in(shown_path(path), 1, missing))
        return None
    document = read_document(path, problems)
    if document is None:
        return None
    broken: set[KeyPath] = set()
    problems += schema_problems(document, "config", broken=broken)
    if problems:
        if broken and len(problems) < MAX_PROBLEMS:
            problems += _problems_of_the_rest(document, path, broken)
            problems.sort(key=lambda problem: (problem.line, problem.column))
        return None
    found = _read(document, path, problems)
    check_overrides_without_inventory(ConfigReader(document, path.absolute().parent, problems))
    return found


_FOLLOWS: Final = {
    "sources": {"mqtt", "http"},
    "status": {"reconcile", "feed"},
    "mqtt": {"sources"},
    "http": {"sources", "auth"},
    "store": {"cells", "cluster"},
}
"""Sections in which something may be wrong only because of another one."""


_BY_NAME: Final = frozenset({"secrets", "time_intervals"})
"""Sections whose entries know nothing of one another."""


def _stands(document: Document, way: KeyPath) -> bool:
    """Whether there is something to leave out."""
    value = document.value
    for step in way:
        if not isinstance(value, dict) or step not in value:
            return False
        value = value[step]
    return True


def _problems_of_the_rest(document: Document, path: Path, broken: set[KeyPath]) -> list[Problem]:
    """What is wrong in the sections that fit the schema; warnings are left for when all of them do."""
    sections = {str(way[0]) for way in broken if way and way[0] not in _BY_NAME}
    sections |= {other for section in sections for other in _FOLLOWS.get(section, ())}
    lost: set[KeyPath] = {(section,) for section in sections} | {
        way[:2] for way in broken if way and way[0] in _BY_NAME
    }
    lost |= broken & {()}
    lost = {way for way in lost if way == ("version",) or _stands(document, way)}
    rest = pruned(document, "config", lost, lambda way, around: 1 if way == ("version",) else None)
    if rest is None:
        return []
    found: list[Problem] = []
    _read(rest, path, found)
    return [problem for problem in found if not problem.warning]


def config_under(key: str, document: Document, problems: list[Problem]) -> Config:
    """The configuration under a key of another file, which was checked against that file's schema.

    Problems are added to `problems`; without the key, every default applies.
    """
    path = document.path
    node = document.root.children.get(key)
    if node is None:
        return Config(path=path, data=path.parent / "data")
    found: list[Problem] = []
    config = _read(replace(document, root=node), path, found)
    problems += [replace(problem, path=f"{key}.{problem.path}") for problem in found]
    return config


def _read(document: Document, path: Path, problems: list[Problem]) -> Config:
    """The values of a document that fits the schema; what a schema cannot check is added to `problems`."""
    folder = path.absolute().parent
    reader = ConfigReader(document, folder, problems)
    raw = reader.raw
    inventory = raw.get("inventory")
    webhooks = read_webhooks(reader)
    cells = cluster_section.read_cells(reader)
    intervals = read_time_intervals(reader)
    config = Config(
        path=path,
        data=_data(reader),
        store=cluster_section.read_store(reader),
        cells=cells,
        cluster=cluster_section.read_cluster(reader, cells),
        http=read_http(reader),
        auth=read_auth(reader),
        metrics=read_metrics(reader),
        sources=read_sources(reader),
        rules=_rules(reader),
        inventory=reader.path(("inventory",), inventory) if inventory else None,
        events=EventsConfig(**reader.durations("events")),
        resolver=ResolverConfig(**reader.durations("resolver")),
        debounce=read_debounce(reader),
        flapping=read_flapping(reader),
        feed=read_feed(reader),
        history=HistoryConfig(**reader.durations("history")),
        clients=read_clients(reader),
        deliveries=read_deliveries(reader),
        network=read_network(reader),
        webhooks=webhooks,
        secrets={name: reader.secret(("secrets", name), where) for name, where in (raw.get("secrets") or {}).items()},
        time_intervals=intervals,
        receivers=read_receivers(reader, intervals, webhooks),
        mqtt=read_mqtt(reader),
        smtp=read_smtp(reader),
        heartbeat=read_heartbeat(reader),
        status=read_status(reader),
        reconcile=read_reconcile(reader),
        log=LogConfig(**(raw.get("log") or {})),
        written=raw,
        missing_packages=(
            *cluster_section.missing_packages(reader),
            *source_section.missing_packages(reader),
            *status_section.missing_packages(reader),
            *receiver_section.missing_packages(reader),
        ),
    )
    warn_of_max_hold(reader)
    return replace(config, warnings=tuple(problems))


def _data(reader: ConfigReader) -> Path:
    """The folder of the database; it is made when it is not there."""
    found = reader.path(("data",), reader.raw.get("data", "./data"))
    if path_problem(reader.raw.get("data", "")) is None and found.exists() and not found.is_dir():
        reader.report(("data",), f"{shown_path(found)} is a file: `data` is a folder")
    return found


def _rules(reader: ConfigReader) -> tuple[Path, ...]:
    """The rule files and folders; without the key, `rules/` beside the configuration when it exists."""
    raw = reader.raw.get("rules")
    if raw is None:
        folder = reader.folder / "rules"
        return (folder,) if folder.exists() else ()
    found = []
    for index, text in enumerate(as_tuple(raw)):
        at: KeyPath = ("rules", index) if isinstance(raw, list) else ("rules",)
        path = reader.path(at, text)
        if path_problem(text) is None and not path.exists():
            reader.report(at, f"{shown_path(path)} does not exist")
        found.append(path)
    return tuple(found)
