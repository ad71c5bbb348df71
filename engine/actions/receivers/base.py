"""What a receiver is told, and the interface of every service that it can be: one file a service beside this one.

A service speaks one protocol. `request` writes the HTTP request that carries a message, `judge` reads what was answered; both are pure,
so they can be tried without a network. Who renders messages and who sends them is no business of a service.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol
from urllib.parse import urlsplit

from engine.core.delivery import Answer

FIRING, UPDATE, REMINDER, RECOVERY = "firing", "update", "reminder", "recovery"
ESCALATION, ACKNOWLEDGED, SUMMARY = "escalation", "acknowledged", "summary"
PHASES = (FIRING, UPDATE, REMINDER, RECOVERY, ESCALATION, ACKNOWLEDGED, SUMMARY)

Settings = Mapping[str, Any]
"""The keys of a receiver with its secrets revealed: only ever in memory, never stored or logged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What a receiver is told, rendered. It is what the outbox stores, and holds no secret. Instants are epoch milliseconds."""

    receiver: str  # its name in the configuration
    service: str  # slack, pagerduty, ...
    phase: str  # one of `PHASES`
    incident: str  # the same in everything that is said of one alert, group, bundle or outage
    severity: str  # info, warning or critical
    rule: str
    title: str  # one line of plain text
    text: str  # several lines of plain text
    started_at_ms: int
    at_ms: int  # when this was decided
    ended_at_ms: int | None = None  # None while it lasts
    clients: tuple[str, ...] = ()  # those that are listed: bounded
    count: int = 0  # how many there are in all
    key: Mapping[str, str] = field(default_factory=dict)  # of a group, an outage, a quorum
    labels: Mapping[str, str] = field(default_factory=dict)  # of the rule; `runbook` is a link
    link: str = ""  # to the alert in the console; empty without an address of our own
    acknowledged_by: str = ""

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Message:
        """The message that `as_json` wrote. Keys that are not known here are passed over: a newer version wrote them.

        Raises ValueError when a key is missing or holds something else.
        """
        known = {one.name: stored[one.name] for one in fields(cls) if one.name in stored}
        for name, value in known.items():
            if not _fits(name, value):
                raise ValueError(f"a message whose {name} is no {_KINDS[name]}")
        try:
            return cls(**{**known, "clients": tuple(known.get("clients", ()))})
        except TypeError as error:
            raise ValueError(f"a message that is not complete: {error}") from error

    def as_json(self) -> dict[str, Any]:
        """The message as JSON holds it; `Message.of` reads it again."""
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        return {**found, "clients": list(self.clients), "key": dict(self.key), "labels": dict(self.labels)}


_KINDS = {one.name: "text" for one in fields(Message)} | {
    "started_at_ms": "whole number", "at_ms": "whole number", "ended_at_ms": "whole number", "count": "whole number",
    "clients": "list of texts", "key": "mapping of texts", "labels": "mapping of texts",
}  # fmt: skip


def _fits(name: str, value: object) -> bool:
    kind = _KINDS[name]
    if kind == "whole number":
        is_number = isinstance(value, int) and not isinstance(value, bool)
        return is_number or (value is None and name == "ended_at_ms")
    if kind == "list of texts":
        return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(one, str) for one in value)
    if kind == "mapping of texts":
        return isinstance(value, Mapping) and all(isinstance(one, str) for pair in value.items() for one in pair)
    return isinstance(value, str)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """One request, ready to be sent. It may hold secrets, in any of its parts."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """What was answered."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes  # at most 64 KiB of it
    now_s: float  # when it came, seconds since the epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """So many messages in so many seconds, by the service's documentation."""

    messages: int
    per_s: float


class ReceiverService(Protocol):
    """One service's protocol."""

    rate: Rate
    """What may be sent with one set of settings."""

    def target(self, settings: Settings) -> str:
        """A name for where messages go, without secrets: for circuit breakers, metrics and people."""
        ...

    def request(self, message: Message, settings: Settings, now_s: float) -> HttpRequest | None:
        """The request that carries a message; None when the service has nothing to say in this phase.

        `now_s`: the instant of sending in seconds since the epoch, which some services want signed. Never raises for what a
        message holds; raises KeyError when a setting is missing that the configuration requires.
        """
        ...

    def judge(self, message: Message, answer: HttpAnswer) -> Answer:
        """What the answer means for the message. Never raises, whatever was answered."""
        ...


def host_of(address: str) -> str:
    """Host and port of a URL, without a name and a password: what may be shown of an address that is a secret."""
    return urlsplit(address).netloc.rpartition("@")[2]
