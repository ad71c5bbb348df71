"""The section `mqtt`: where commands to devices go, over MQTT, RocketMQ or both. Read `MqttConfig`, then `read_mqtt`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from engine.config.reader import ConfigReader
from engine.config.secret import Secret
from engine.config.sources import check_name_servers, written_sources
from engine.config.yamlfile import KeyPath

CLIENT_ID: Final = "GID_rollcall@@@rollcall"
"""The service's own client id, unless another one is configured."""

CLUSTER: Final = ("name_servers", "name_server_domain", "access_key", "secret", "namespace")
"""Keys of a RocketMQ source that say how its cluster is reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RocketmqCluster:
    """The RocketMQ cluster that commands are sent to: the one of the sources, or one of its own."""

    name_servers: str  # `host:port;host:port`, or with `is_domain` the address of a list of them
    is_domain: bool = False
    namespace: str = ""
    producer_group: str = "GID_rollcall"
    access_key: Secret | None = None
    secret: Secret | None = None

    @property
    def address(self) -> str:
        """`host:port` of the first name server, to show and to count by."""
        return self.name_servers.split("://")[-1].split(";")[0].split("/")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttConfig:
    """Where commands go. `endpoint` None: not over MQTT. `rocketmq` None: not over RocketMQ."""

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


def read_mqtt(reader: ConfigReader) -> MqttConfig | None:
    """The section; None: no command can be sent. A source of type `rocketmq` names the cluster for both."""
    raw = reader.raw.get("mqtt")
    if raw is None:
        return None
    at: KeyPath = ("mqtt",)
    tls = raw.get("tls")
    login = reader.login(at, raw)
    if len(login) == 2 and "instance" not in raw:
        reader.report((*at, "access_key"), "needs `instance` too: the login is computed from both")
    rocketmq = _cluster(reader, raw.get("rocketmq"))
    if "endpoint" not in raw and rocketmq is None:
        message = "needs `endpoint`; or, to send commands over RocketMQ, a source of type `rocketmq` or `mqtt.rocketmq`"
        reader.report(at, message)
    endpoint = None
    if "endpoint" in raw:
        endpoint = reader.host_and_port((*at, "endpoint"), raw["endpoint"], 8883 if tls else 1883)
        reader.check_tls_port((*at, "endpoint"), endpoint[1], bool(tls), plain=1883, encrypted=8883)
    return MqttConfig(
        parent_topic=raw["parent_topic"],
        endpoint=endpoint,
        ca=reader.ca_file((*at, "tls"), tls),
        client_id=raw.get("client_id", CLIENT_ID),
        instance=raw.get("instance", ""),
        rocketmq=rocketmq,
        **login,
    )


def _cluster(reader: ConfigReader, own: Mapping[str, Any] | None) -> RocketmqCluster | None:
    """The cluster of `mqtt.rocketmq` (`own`), completed from the first RocketMQ source; None when neither names one."""
    at: KeyPath = ("mqtt", "rocketmq")
    sources = written_sources(reader)
    index = next((index for index, source in enumerate(sources) if source["type"] == "rocketmq"), None)
    source: Mapping[str, Any] = {} if index is None else sources[index]
    written: Mapping[str, Any] = own or {}
    for key in CLUSTER:
        if source and key in written and written[key] != source.get(key):
            message = (
                f"must be the same as in the source `{source['name']}`, or be left out: one engine uses one cluster"
            )
            reader.report((*at, key), message)
    check_name_servers(reader, at, written)
    merged = {key: source[key] for key in CLUSTER if key in source} | dict(written)
    if "name_servers" not in merged and "name_server_domain" not in merged:
        if own is not None:
            reader.report(at, "needs `name_servers`: no source of type `rocketmq` names any")
        return None
    login_at: KeyPath = at if index is None or "access_key" in written else ("sources", index)
    return RocketmqCluster(
        name_servers=merged.get("name_server_domain") or ";".join(merged["name_servers"]),
        is_domain="name_server_domain" in merged,
        namespace=merged.get("namespace", ""),
        producer_group=merged.get("producer_group", "GID_rollcall"),
        **reader.login(login_at, merged),
    )
