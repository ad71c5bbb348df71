"""From a command as written in a rule to the request that is sent: whom it is for, on which topic, with what in it.

A command does something, so nothing takes its place when it cannot be made: an id that is none, a payload that fails or is too
long make the delivery dead, with the reason. Read `render_command`, then `why_no_client`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from engine.core.delivery import LIFE

MQTT: Final = "mqtt"
ROCKETMQ: Final = "rocketmq"

MAX_CLIENT_CHARACTERS: Final = 64
"""Of a client id, by the vendor's documentation."""

MAX_PAYLOAD_BYTES: Final = 64 * 1024
"""Of a message, by the vendor's documentation."""

SHOWN_CHARACTERS: Final = 128
"""Of an id that is none."""

Text = Callable[[Any, Mapping[str, Any]], Any]
"""Renders every string in a value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandRoutes:
    """Where commands go, by the configuration: addresses as `host:port`, empty for a way that is not configured."""

    parent_topic: str = ""
    mqtt: str = ""
    rocketmq: str = ""

    @property
    def default(self) -> str:
        """The way of a command that names none."""
        return ROCKETMQ if self.rocketmq and not self.mqtt else MQTT

    def target(self, via: str) -> str:
        """What concurrency is counted by."""
        return f"{via}://{self.rocketmq if via == ROCKETMQ else self.mqtt}"


class _NoCommand(Exception):
    """Why there is none."""


def render_command(
    spec: Mapping[str, Any], variables: Mapping[str, Any], routes: CommandRoutes, text: Text, said: Callable[[Any], str]
) -> tuple[dict[str, Any], str, str | None]:
    """(request, target, why it must never be sent). Never raises for what a template or a value does."""
    via = spec.get("via") or routes.default
    request: dict[str, Any] = {
        "to": "",
        "topic": "",
        "payload": "",
        "qos": spec["qos"],
        "expires": spec["expires"],
        LIFE: spec[LIFE],
        "via": via,
    }
    dead = None
    try:
        to = _rendered("to", spec["to"], variables, text, said)
        request["to"] = to[:SHOWN_CHARACTERS]
        if why := why_no_client(to):
            raise _NoCommand(f"`to` is no client id: {why}")
        request["topic"] = f"{routes.parent_topic}/p2p/{to}"
        payload = _rendered("payload", spec["payload"], variables, text, said)
        size = _size(payload)
        if size > MAX_PAYLOAD_BYTES:
            raise _NoCommand(f"the payload has {size} bytes, more than {MAX_PAYLOAD_BYTES}")
        request["payload"] = payload
    except _NoCommand as why_not:
        dead = str(why_not)
    return request, routes.target(via), dead


def _rendered(key: str, written: Any, variables: Mapping[str, Any], text: Text, said: Callable[[Any], str]) -> Any:
    try:
        return text(written, variables)
    except Exception as error:
        raise _NoCommand(f"`{key}` cannot be rendered: {said(error)}") from error


def _size(payload: Any) -> int:
    try:
        return len(payload.encode() if isinstance(payload, str) else msgspec.json.encode(payload))
    except (UnicodeError, msgspec.MsgspecError, TypeError, ValueError) as error:
        raise _NoCommand(f"the payload cannot be sent: {error}") from error


def why_no_client(text: str) -> str | None:
    """Why a text cannot be the client id of one device; None when it can.

    What has a meaning in a topic would lead the command elsewhere: `/` a level, `+` and `#` many devices at once.
    """
    if not text:
        return "it is empty"
    if len(text) > MAX_CLIENT_CHARACTERS:
        return f"it has {len(text)} characters, more than {MAX_CLIENT_CHARACTERS}"
    for sign in "/+#":
        if sign in text:
            return f"it holds `{sign}`"
    if not text.isprintable():
        return "it holds a character that cannot be printed"
    group, separator, device = text.partition("@@@")
    if separator and not (group and device):
        return f"there is nothing {'after' if group else 'before'} the @@@"
    return None
