"""Transitions and alerts as the lines of JSON that `replay` prints. Written by hand: a replay has hundreds of thousands."""

from __future__ import annotations

from json.encoder import encode_basestring as quote
from typing import Final

from engine.core.alerting.alert import AlertLine
from engine.core.presence.client_state import STATUS_NAMES, Transition
from engine.core.times import rfc3339

_STATUS: Final = [f'"{name}"' for name in STATUS_NAMES]


def transition_line(entry: Transition) -> str:
    """One transition, with its line break."""
    return (
        f'{{"type":"transition","client":{quote(entry.client)},"status":{_STATUS[entry.status]}'
        f',"previous":{_STATUS[entry.previous]},"occurred_at":"{rfc3339(entry.occurred_at_ms)}"'
        f',"since":"{rfc3339(entry.since_ms)}","settled_at":"{rfc3339(entry.settled_at_ms)}"'
        f',"graceful":{"true" if entry.graceful else "false"},"flaps":{entry.flaps}'
        f',"first_seen":{"true" if entry.first_seen else "false"}}}\n'
    )


def alert_line(entry: AlertLine) -> str:
    """One step of an alert's life, with its line break."""
    client = "null" if entry.client is None else quote(entry.client)
    key = "" if entry.key is None else f',"key":{_object(entry.key)}'
    reason = "" if entry.reason is None else f',"reason":{quote(entry.reason)}'
    return (
        f'{{"type":"alert","rule":{quote(entry.rule)},"client":{client},"state":{quote(entry.state)}{key}{reason}'
        f',"at":"{rfc3339(entry.at_ms)}"}}\n'
    )


def _object(key: dict[str, str]) -> str:
    return "{" + ",".join([f"{quote(name)}:{quote(value)}" for name, value in key.items()]) + "}"
