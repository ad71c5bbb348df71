"""The configuration file: typed, validated once, immutable. Read `Config`, then `load_config`."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from engine.config.addresses import mailbox_problem
from engine.config.durations import parse_duration
from engine.config.matchers import check_match, match_of, words
from engine.config.mqtt import MqttConfig, mqtt_of
from engine.config.schema import schema_problems
from engine.config.status import ReconcileConfig, StatusConfig, lacking, read_reconcile, read_status
from engine.config.yamlfile import Document, read_document
from engine.core.hosts import is_loopback
from engine.core.rules import Match
from engine.core.times import EPOCH
from engine.errors import InvalidFiles, Problem, RollcallError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

DEFAULT_DENY = ("169.254.0.0/16", "fe80::/10", "100.100.100.200/32")
"""Addresses of cloud metadata services: never a target of a webhook."""

MAX_SECRET_BYTES = 64 * 1024

EXTRAS = {"amqp": "aiormq"}
"""Sources that need a package which is not always installed, and that package; the extra has the source's name."""


class Secret:
    """Where a secret is. Prints as `***`; only `reveal` reads it."""

    __slots__ = ("_kind", "_where")

    def __init__(self, kind: str, where: str) -> None:
        self._kind, self._where = kind, where

    def reveal(self) -> str:
        """The secret itself, from the environment or its file; RollcallError when it is not there."""
        if self._kind == "env":
            found = os.environ.get(self._where)
            if not found:
                raise RollcallError(f"the environment variable {self._where} is not set")
            return found
        try:
            with open(self._where, encoding="utf-8") as file:
                return file.read(MAX_SECRET_BYTES).rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise RollcallError(f"the secret file {self._where} cannot be read: {error}") from error

    def problem(self) -> str | None:
        """Why it cannot be revealed, None when it can."""
        try:
            self.reveal()
        except RollcallError as error:
            return str(error)
        return None

    def __repr__(self) -> str:
        return "***"


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpConfig:
    """Where the API, the status page and the metrics are."""

    host: str = "127.0.0.1"
    port: int = 8080
    token: Secret | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceConfig:
    """One source of events; `options` are those of its type: paths absolute, durations as `*_ms`, secrets as `Secret`."""

    name: str
    type: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsConfig:
    """What is accepted."""

    max_future_ms: int = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolverConfig:
    """How events become a status."""

    clock_skew_ms: int = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DebounceOverride:
    """Other holds for the clients that match; None: the general one."""

    match: Match
    offline_ms: int | None = None
    online_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DebounceConfig:
    """How long a change must last before it counts."""

    offline_ms: int = 30_000
    online_ms: int = 0
    overrides: tuple[DebounceOverride, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FlappingConfig:
    """When a client counts as flapping."""

    start: int = 6
    stop: int = 2
    window_ms: int = 600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedConfig:
    """When a source counts as degraded."""

    max_lag_ms: int = 60_000
    max_hold_ms: int = 300_000
    max_silence_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryConfig:
    """How long history is kept."""

    keep_ms: int = 7 * 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientsConfig:
    """When clients are forgotten."""

    forget_ms: int = 30 * 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveriesConfig:
    """How deliveries leave."""

    max_age_ms: int = 86_400_000
    burst: int = 1_000
    per_target: int = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """Where webhooks may not go, after name resolution."""

    deny: tuple[Network, ...] = tuple(ipaddress.ip_network(text) for text in DEFAULT_DENY)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatConfig:
    """A dead-man's switch outside, pinged while verdicts flow."""

    url: str
    every_ms: int = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpConfig:
    """The server that takes e-mails. `security`: `starttls`, `tls` (from the first byte on) or `plain`."""

    host: str
    port: int
    sender: str  # as it stands in `From`
    security: str = "starttls"
    username: str | None = None
    password: Secret | None = None
    ca: Path | None = None  # trusted instead of the system's certificates
    timeout_ms: int = 30_000  # of one attempt

    @property
    def target(self) -> str:
        """The thing that concurrency and the breaker are counted by."""
        return f"smtp://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """The service's own log."""

    level: str = "info"
    format: str = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything a service needs to know. `warnings` hold what loads but deserves a look, such as secrets not set now.

    `lacking` holds what this installation needs besides to run it: `check` and `run` refuse, the other commands do not care.
    """

    path: Path
    data: Path
    http: HttpConfig | None = HttpConfig()
    sources: tuple[SourceConfig, ...] = ()
    rules: tuple[Path, ...] = ()
    inventory: Path | None = None
    events: EventsConfig = EventsConfig()
    resolver: ResolverConfig = ResolverConfig()
    debounce: DebounceConfig = DebounceConfig()
    flapping: FlappingConfig = FlappingConfig()
    feed: FeedConfig = FeedConfig()
    history: HistoryConfig = HistoryConfig()
    clients: ClientsConfig = ClientsConfig()
    deliveries: DeliveriesConfig = DeliveriesConfig()
    network: NetworkConfig = NetworkConfig()
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    mqtt: MqttConfig | None = None
    smtp: SmtpConfig | None = None
    heartbeat: HeartbeatConfig | None = None
    status: StatusConfig[Secret] | None = None
    reconcile: ReconcileConfig | None = None
    log: LogConfig = LogConfig()
    warnings: tuple[Problem, ...] = ()
    lacking: tuple[Problem, ...] = ()


def load_config(path: Path) -> Config:
    """The configuration in a file. InvalidFiles with every problem found."""
    problems: list[Problem] = []
    if not Path(path).exists():
        missing = "there is no such file; `-c FILE` names another one, `rollcall init` writes one to begin with"
        raise InvalidFiles([Problem(file=str(path), line=1, column=1, path="", message=missing)])
    document = read_document(Path(path), problems)
    if document is None:
        raise InvalidFiles(problems)
    problems += schema_problems(document, "config")
    if problems:
        raise InvalidFiles(problems)
    config = _Reader(document, Path(path), problems).read()
    if any(not problem.warning for problem in problems):
        raise InvalidFiles(problems)
    return config


def config_under(key: str, document: Document, problems: list[Problem]) -> Config:
    """The configuration that stands under a key of another file, which has checked it against its own schema.

    What is wrong with it is added to `problems`; without the key every default holds.
    """
    path = Path(document.file)
    node = document.root.children.get(key)
    if node is None:
        return Config(path=path, data=path.parent / "data")
    found: list[Problem] = []
    config = _Reader(Document(file=document.file, root=node), path, found).read()
    problems += [replace(problem, path=f"{key}.{problem.path}") for problem in found]
    return config


class _Reader:
    """From a document that fits the schema to the values, with the checks that a schema cannot make."""

    def __init__(self, document: Document, path: Path, problems: list[Problem]) -> None:
        self._document = document
        self._raw: Mapping[str, Any] = document.value
        self._folder = path.absolute().parent
        self._path = path
        self._problems = problems

    def read(self) -> Config:
        raw = self._raw
        inventory = raw.get("inventory")
        return Config(
            path=self._path,
            data=self._folder / raw.get("data", "./data"),
            http=self._http(),
            sources=self._sources(),
            rules=self._rules(),
            inventory=self._folder / inventory if inventory else None,
            events=EventsConfig(**self._durations("events")),
            resolver=ResolverConfig(**self._durations("resolver")),
            debounce=self._debounce(),
            flapping=self._flapping(),
            feed=FeedConfig(**self._durations("feed")),
            history=HistoryConfig(**self._durations("history")),
            clients=ClientsConfig(**self._durations("clients")),
            deliveries=DeliveriesConfig(**self._durations("deliveries", plain=("burst", "per_target"))),
            network=self._network(),
            secrets=self._secrets(),
            mqtt=mqtt_of(
                raw.get("mqtt"), raw.get("sources") or (), self._folder, self._say, self._endpoint, self._secret
            ),
            smtp=self._smtp(),
            heartbeat=self._heartbeat(),
            status=read_status(raw.get("status"), self),
            reconcile=read_reconcile(raw.get("reconcile"), raw.get("status"), self),
            log=LogConfig(**(raw.get("log") or {})),
            warnings=self._warnings(),
            lacking=self._lacking(),
        )

    def _warnings(self) -> tuple[Problem, ...]:
        """What loads but deserves a look; a key that has no effect yet is never passed over in silence."""
        if "max_hold" in (self._raw.get("feed") or {}) and self._raw.get("status") is None:
            message = "has no effect without `status`: long holds are asked about, and there is nobody to ask"
            self._say(("feed", "max_hold"), message, warning=True)
        return tuple(self._problems)

    def _say(self, path: tuple[str | int, ...], message: str, *, warning: bool = False) -> None:
        self._problems.append(self._document.problem(path, message, warning=warning))

    # What `statusconfig` is lent

    def say(self, path: tuple[str | int, ...], message: str, *, warning: bool = False) -> None:
        """Tell a problem."""
        self._say(path, message, warning=warning)

    def ms(self, path: tuple[str | int, ...], text: str) -> int:
        """A duration; one that cannot be is told."""
        return self._ms(path, text)

    def secret(self, path: tuple[str | int, ...], raw: Mapping[str, str]) -> Secret:
        """A secret; one that is not there now is told as a warning."""
        return self._secret(path, raw)

    def _durations(self, section: str, plain: tuple[str, ...] = ()) -> dict[str, Any]:
        """A section's durations as `*_ms`; keys named in `plain` as they are."""
        found: dict[str, Any] = {}
        for key, value in (self._raw.get(section) or {}).items():
            if key in plain:
                found[key] = value
            else:
                found[f"{key}_ms"] = None if value is None else self._ms((section, key), value)
        return found

    def _ms(self, path: tuple[str | int, ...], text: str) -> int:
        """A duration; one that cannot be is told, and any value takes its place."""
        try:
            duration_ms = parse_duration(text)
        except ValueError as error:
            self._say(path, str(error))
            return 1
        if duration_ms == 0 and path[-1] not in _MAY_BE_NOTHING:
            self._say(path, "must be more than nothing")
        return duration_ms

    def _http(self) -> HttpConfig | None:
        raw = self._raw.get("http", {})
        if raw is None:
            return None
        listen = raw.get("listen", "127.0.0.1:8080")
        host, _, port = listen.rpartition(":")
        host = host.strip("[]")
        if not host or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
            self._say(("http", "listen"), f"`{listen}` is not ADDRESS:PORT, such as 127.0.0.1:8080")
            return None
        token = _secret(raw["token"], self._folder) if "token" in raw else None
        if token is None and not is_loopback(host):
            self._say(("http", "listen"), f"{host} is reachable from outside, so `http.token` is required")
        if token is not None and (problem := token.problem()):
            self._say(("http", "token"), problem, warning=True)
        return HttpConfig(host=host, port=int(port), token=token)

    def _sources(self) -> tuple[SourceConfig, ...]:
        found: list[SourceConfig] = []
        seen: set[str] = set()
        for index, raw in enumerate(self._raw.get("sources") or ()):
            name = raw["name"]
            if name in seen:
                self._say(("sources", index, "name"), f"a source named `{name}` is there already")
            seen.add(name)
            found.append(SourceConfig(name=name, type=raw["type"], options=self._options(("sources", index), raw)))
        if sum(source.type == "http" for source in found) > 1:
            self._say(("sources",), "only one source can be of type http: it is POST /v1/events")
        self._check_clusters()
        return tuple(found)

    def _check_clusters(self) -> None:
        """All RocketMQ sources share what the native client shares in a process: one cluster, one login, no group twice."""
        groups: set[str] = set()
        first: Mapping[str, Any] | None = None
        for index, raw in enumerate(self._raw.get("sources") or ()):
            if raw["type"] != "rocketmq":
                continue
            first = raw if first is None else first
            for key in _ONE_A_PROCESS:
                if raw.get(key) != first.get(key):
                    message = (
                        f"`{key}` must be as in the source `{first['name']}`: one engine reads one RocketMQ cluster"
                    )
                    self._say(("sources", index, key if key in raw else "name"), message)
            if raw["consumer_group"] in groups:
                message = f"`{raw['consumer_group']}` is used by another source; name all topics in one source, or use two groups"
                self._say(("sources", index, "consumer_group"), message)
            groups.add(raw["consumer_group"])

    def _options(self, at: tuple[str | int, ...], raw: Mapping[str, Any]) -> dict[str, Any]:
        if raw["type"] == "rocketmq":
            return self._rocketmq(at, raw)
        found: dict[str, Any] = {}
        for key, value in raw.items():
            if key in {"name", "type"}:
                continue
            if key == "path":
                found[key] = str(self._folder / value)
            elif key == "endpoint":
                found["host"], found["port"] = self._endpoint((*at, key), value, 5671 if raw.get("tls") else 5672)
            elif key == "tls":
                found[key] = str(self._folder / value["ca"]) if isinstance(value, dict) else "" if value else None
            elif key in {"access_key", "secret"}:
                found[key] = self._secret((*at, key), value)
            elif key in {"session", "away"}:
                found[f"{key}_ms"] = self._ms((*at, key), value)
            elif key in _SHARES:
                found[_SHARES[key]] = value / 100
            else:
                found[key] = value
        return found

    def _endpoint(self, at: tuple[str | int, ...], text: str, port: int) -> tuple[str, int]:
        """Host and port of HOST or HOST:PORT; an IPv6 address with a port stands in brackets."""
        found = _ENDPOINT.fullmatch(text)
        if found is None or (found["port"] and not 0 < int(found["port"]) <= 65535):
            self._say(at, f"`{text}` is not HOST or HOST:PORT, such as broker.example.com:5672")
            return "", port
        return found["name"] or found["address"], int(found["port"] or port)

    def _secret(self, at: tuple[str | int, ...], raw: Mapping[str, str]) -> Secret:
        """A secret; that it is not there now is worth a word, but only who uses it needs it."""
        found = _secret(raw, self._folder)
        if problem := found.problem():
            self._say(at, problem, warning=True)
        return found

    def _lacking(self) -> tuple[Problem, ...]:
        found = []
        for index, raw in enumerate(self._raw.get("sources") or ()):
            package = EXTRAS.get(raw["type"])
            if package is not None and importlib.util.find_spec(package) is None:
                message = f"needs the package {package}: pip install 'rollcall[{raw['type']}]'"
                found.append(self._document.problem(("sources", index, "type"), message))
        if (lack := lacking(self._raw.get("status"))) is not None:
            found.append(self._document.problem(("status", "provider"), lack))
        return tuple(found)

    def _rocketmq(self, at: tuple[str | int, ...], raw: Mapping[str, Any]) -> dict[str, Any]:
        """Options of a RocketMQ source: lists as they are, secrets not read yet, `start` as epoch ms when it is a time."""
        found = {key: value for key, value in raw.items() if key not in {"name", "type"}}
        if ("name_servers" in raw) == ("name_server_domain" in raw):
            self._say(at, "needs either `name_servers` or `name_server_domain`")
        if ("access_key" in raw) != ("secret" in raw):
            self._say(at, "`access_key` and `secret` belong together: one of them is missing")
        for key in ("access_key", "secret"):
            if key in raw:
                found[key] = _secret(raw[key], self._folder)
                if problem := found[key].problem():
                    self._say((*at, key), problem, warning=True)
        if raw.get("start", "latest") not in {"latest", "earliest"}:
            found["start"] = self._instant((*at, "start"), raw["start"])
        return found

    def _instant(self, at: tuple[str | int, ...], text: str) -> int:
        """An RFC 3339 time as epoch milliseconds; one that cannot be is told, and any value takes its place."""
        try:
            instant = datetime.fromisoformat(text)
        except ValueError:
            self._say(at, f"`{text}` is no time such as 2026-01-01T00:00:00Z")
            return 0
        if instant.tzinfo is None:
            self._say(at, f"`{text}` does not say in which time zone; write {text}Z for UTC")
            return 0
        return (instant - EPOCH) // timedelta(milliseconds=1)

    def _rules(self) -> tuple[Path, ...]:
        raw = self._raw.get("rules")
        if raw is None:
            folder = self._folder / "rules"
            return (folder,) if folder.exists() else ()
        found = []
        for index, text in enumerate(words(raw)):
            path = self._folder / text
            if not path.exists():
                self._say(("rules", index) if isinstance(raw, list) else ("rules",), f"{path} does not exist")
            found.append(path)
        return tuple(found)

    def _debounce(self) -> DebounceConfig:
        raw = self._raw.get("debounce") or {}
        overrides = []
        for index, entry in enumerate(raw.get("overrides") or ()):
            at = ("debounce", "overrides", index)
            place = (*at, "match")
            if entry["match"].get("ip"):
                self._say((*place, "ip"), "a hold cannot depend on the address: it may change while the hold lasts")
            check_match(entry["match"], place, self._document, None, self._problems)
            overrides.append(
                DebounceOverride(
                    match=match_of(entry["match"]),
                    offline_ms=self._ms((*at, "offline"), entry["offline"]) if "offline" in entry else None,
                    online_ms=self._ms((*at, "online"), entry["online"]) if "online" in entry else None,
                )
            )
        return DebounceConfig(
            offline_ms=self._ms(("debounce", "offline"), raw.get("offline", "30s")),
            online_ms=self._ms(("debounce", "online"), raw.get("online", "0s")),
            overrides=tuple(overrides),
        )

    def _flapping(self) -> FlappingConfig:
        raw = self._raw.get("flapping") or {}
        found = FlappingConfig(
            start=raw.get("start", 6),
            stop=raw.get("stop", 2),
            window_ms=self._ms(("flapping", "window"), raw.get("window", "10m")),
        )
        if found.start <= found.stop:
            self._say(("flapping",), f"`start` ({found.start}) must be more than `stop` ({found.stop})")
        return found

    def _network(self) -> NetworkConfig:
        raw = self._raw.get("network") or {}
        if "deny" not in raw:
            return NetworkConfig()
        found = []
        for index, text in enumerate(raw["deny"]):
            try:
                found.append(ipaddress.ip_network(text, strict=False))
            except ValueError as error:
                self._say(("network", "deny", index), f"{error}; write a network such as 169.254.0.0/16")
        return NetworkConfig(deny=tuple(found))

    def _secrets(self) -> dict[str, Secret]:
        found = {}
        for name, raw in (self._raw.get("secrets") or {}).items():
            found[name] = self._secret(("secrets", name), raw)
        return found

    def _heartbeat(self) -> HeartbeatConfig | None:
        raw = self._raw.get("heartbeat")
        if raw is None:
            return None
        return HeartbeatConfig(url=raw["url"], every_ms=self._ms(("heartbeat", "every"), raw.get("every", "1m")))

    def _smtp(self) -> SmtpConfig | None:
        raw = self._raw.get("smtp")
        if raw is None:
            return None
        tls, starttls = raw.get("tls", False), raw.get("starttls", not raw.get("tls", False))
        if tls and starttls:
            self._say(
                ("smtp", "starttls"), "cannot be combined with `tls: true`, which encrypts from the first byte on"
            )
        if not (tls or starttls or is_loopback(raw["host"])):
            where = ("smtp", "starttls" if "starttls" in raw else "tls")
            self._say(where, "e-mails, and the password, would leave this machine unencrypted", warning=True)
        if ("username" in raw) != ("password" in raw):
            self._say(("smtp",), "`username` and `password` belong together: one of them is missing")
        if problem := mailbox_problem(raw["from"]):
            self._say(("smtp", "from"), problem)
        ca = self._folder / raw["ca"] if "ca" in raw else None
        if ca is not None and not ca.is_file():
            self._say(("smtp", "ca"), f"{ca} does not exist")
        return SmtpConfig(
            host=raw["host"],
            port=raw.get("port", 465 if tls else 587),
            sender=raw["from"],
            security="tls" if tls else "starttls" if starttls else "plain",
            username=raw.get("username"),
            password=self._secret(("smtp", "password"), raw["password"]) if "password" in raw else None,
            ca=ca,
            timeout_ms=self._ms(("smtp", "timeout"), raw.get("timeout", "30s")),
        )


_MAY_BE_NOTHING = frozenset({"max_future", "clock_skew", "offline", "online", "max_hold"})
"""Durations that mean something when they are 0."""

_ENDPOINT = re.compile(r"(?:\[(?P<address>[0-9A-Fa-f:.]+)\]|(?P<name>[^\s:/@\[\]]+))(?::(?P<port>[0-9]{1,5}))?")
_ONE_A_PROCESS = ("name_servers", "name_server_domain", "access_key", "secret")
"""Keys of RocketMQ sources that are the same in all of them."""

_SHARES = {"flap_percent": "flaps", "late_percent": "late", "duplicate_percent": "duplicates", "loss_percent": "losses"}
"""Shares of the simulator: people write percents, the fleet takes fractions of 1."""


def _secret(raw: Mapping[str, str], folder: Path) -> Secret:
    if "env" in raw:
        return Secret("env", raw["env"])
    return Secret("file", str(folder / raw["file"]))
