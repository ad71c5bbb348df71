"""From a command as written in a rule to its request: the device, the topic and the payload.

A command makes a device do something, so there is no default for one that cannot be made: an invalid client id, or a payload that
fails or is too long, makes the delivery dead and gives the reason. Read `render_command`, then `client_id_problem`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from engine.core.delivery import LIFE
from engine.templates.compiler import Compiler
from engine.templates.rendered import Rendered
from engine.templates.request_budget import RequestBudget
from engine.templates.text import error_text

MQTT: Final = "mqtt"
ROCKETMQ: Final = "rocketmq"

MAX_CLIENT_CHARACTERS: Final = 64
"""Longest client id, by the vendor's documentation."""

MAX_PAYLOAD_BYTES: Final = 64 * 1024
"""Largest payload, by the vendor's documentation."""

SHOWN_CHARACTERS: Final = 128
"""Of an invalid id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandRoutes:
    """Where commands are sent, by the configuration: addresses as `host:port`, empty where none is configured."""

    parent_topic: str = ""
    mqtt: str = ""
    rocketmq: str = ""

    @property
    def default(self) -> str:
        """`mqtt` or `rocketmq`, for a command that does not say."""
        return ROCKETMQ if self.rocketmq and not self.mqtt else MQTT

    def target(self, via: str) -> str:
        """What concurrency and the circuit breaker are counted by."""
        return f"{via}://{self.rocketmq if via == ROCKETMQ else self.mqtt}"


class _InvalidCommand(Exception):
    """Why a command can never be sent."""


def render_command(
    spec: Mapping[str, Any], variables: Mapping[str, Any], routes: CommandRoutes, compiler: Compiler
) -> Rendered:
    """The request of a command. Never raises for what a template or a value does."""
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
        to = _rendered("to", spec["to"], variables, compiler)
        request["to"] = to[:SHOWN_CHARACTERS]
        if why := client_id_problem(to):
            raise _InvalidCommand(f"`to` is no client id: {why}")
        request["topic"] = f"{routes.parent_topic}/p2p/{to}"
        payload = _rendered("payload", spec["payload"], variables, compiler)
        size = _size(payload)
        if size > MAX_PAYLOAD_BYTES:
            raise _InvalidCommand(f"the payload has {size} bytes, more than {MAX_PAYLOAD_BYTES}")
        request["payload"] = payload
    except _InvalidCommand as invalid:
        dead = str(invalid)
    return Rendered(request=request, target=routes.target(via), dead=dead)


def _rendered(key: str, written: Any, variables: Mapping[str, Any], compiler: Compiler) -> Any:
    try:
        return compiler.render_all(written, variables, RequestBudget().text)
    except Exception as error:
        raise _InvalidCommand(f"`{key}` cannot be rendered: {error_text(error)}") from error


def _size(payload: Any) -> int:
    try:
        return len(payload.encode() if isinstance(payload, str) else msgspec.json.encode(payload))
    except (UnicodeError, msgspec.MsgspecError, TypeError, ValueError) as error:
        raise _InvalidCommand(f"the payload cannot be sent: {error}") from error


def client_id_problem(text: str) -> str | None:
    """Why a text cannot be the client id of one device; None when it can.

    Characters with a meaning in a topic would send it elsewhere: `/` is a level, `+` and `#` match many devices.
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
