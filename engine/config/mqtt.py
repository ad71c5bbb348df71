"""The section `mqtt` of the configuration: where commands to devices go, over MQTT, RocketMQ or both. Read `MqttConfig`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from engine.config.loader import Secret

CLIENT_ID: Final = "GID_rollcall@@@rollcall"
"""The service's own client id when none is written."""

CLUSTER: Final = ("name_servers", "name_server_domain", "access_key", "secret", "namespace")
"""What of a RocketMQ source says how its cluster is reached."""

At = tuple[str | int, ...]
Say = Callable[[At, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RocketmqCluster:
    """The RocketMQ instance that the MQTT service reads from: the one of the sources, or one of its own."""

    name_servers: str  # `host:port;host:port`, or with `is_domain` the address of a list of them
    is_domain: bool = False
    namespace: str = ""
    producer_group: str = "GID_rollcall"
    access_key: Secret | None = None
    secret: Secret | None = None

    @property
    def address(self) -> str:
        """`host:port` of the first one, for people and for counting."""
        return self.name_servers.split("://")[-1].split(";")[0].split("/")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttConfig:
    """Where commands go. `endpoint` None: not over MQTT; `rocketmq` None: not over RocketMQ."""

    parent_topic: str
    endpoint: tuple[str, int] | None = None
    ca: str | None = None  # a file of certificates to trust, "" for the system's, None without TLS
    client_id: str = CLIENT_ID
    instance: str = ""
    access_key: Secret | None = None
    secret: Secret | None = None
    rocketmq: RocketmqCluster | None = None

    @property
    def address(self) -> str:
        """`host:port` of the MQTT endpoint, empty without one."""
        if self.endpoint is None:
            return ""
        host, port = self.endpoint
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def mqtt_of(
    raw: Mapping[str, Any] | None,
    sources: Sequence[Mapping[str, Any]],
    folder: Path,
    say: Say,
    endpoint_of: Callable[[At, str, int], tuple[str, int]],
    secret_of: Callable[[At, Mapping[str, str]], Secret],
) -> MqttConfig | None:
    """The section as values, its mistakes told. `sources` are written ones: a RocketMQ source names the cluster for both."""
    if raw is None:
        return None
    at: At = ("mqtt",)
    tls = raw.get("tls")
    keys = _keys(at, raw, say, secret_of)
    if len(keys) == 2 and "instance" not in raw:
        say((*at, "access_key"), "needs `instance` too: the login is made of both")
    rocketmq = _cluster(raw.get("rocketmq"), sources, say, secret_of)
    if "endpoint" not in raw and rocketmq is None:
        say(at, "needs `endpoint` (or, for commands by RocketMQ, a source of type `rocketmq` or `rocketmq` here)")
    return MqttConfig(
        parent_topic=raw["parent_topic"],
        endpoint=endpoint_of((*at, "endpoint"), raw["endpoint"], 8883 if tls else 1883) if "endpoint" in raw else None,
        ca=str(folder / tls["ca"]) if isinstance(tls, dict) else "" if tls else None,
        client_id=raw.get("client_id", CLIENT_ID),
        instance=raw.get("instance", ""),
        rocketmq=rocketmq,
        **keys,
    )


def _keys(
    at: At, raw: Mapping[str, Any], say: Say, secret_of: Callable[[At, Mapping[str, str]], Secret]
) -> dict[str, Secret]:
    if ("access_key" in raw) != ("secret" in raw):
        say(at, "`access_key` and `secret` belong together: one of them is missing")
    return {key: secret_of((*at, key), raw[key]) for key in ("access_key", "secret") if key in raw}


def _cluster(
    own: Mapping[str, Any] | None,
    sources: Sequence[Mapping[str, Any]],
    say: Say,
    secret_of: Callable[[At, Mapping[str, str]], Secret],
) -> RocketmqCluster | None:
    at: At = ("mqtt", "rocketmq")
    index = next((index for index, source in enumerate(sources) if source["type"] == "rocketmq"), None)
    read: Mapping[str, Any] = {} if index is None else sources[index]
    written: Mapping[str, Any] = own or {}
    for key in CLUSTER:
        if read and key in written and written[key] != read.get(key):
            say((*at, key), f"must be as in the source `{read['name']}`, or be left out: one engine uses one cluster")
    merged = {key: read[key] for key in CLUSTER if key in read} | dict(written)
    if "name_servers" not in merged and "name_server_domain" not in merged:
        if own is not None:
            say(at, "needs `name_servers`: no source of type `rocketmq` names any")
        return None
    place: At = at if index is None or "access_key" in written else ("sources", index)
    return RocketmqCluster(
        name_servers=merged.get("name_server_domain") or ";".join(merged["name_servers"]),
        is_domain="name_server_domain" in merged,
        namespace=merged.get("namespace", ""),
        producer_group=merged.get("producer_group", "GID_rollcall"),
        **_keys(place, merged, say, secret_of),
    )
