"""A receiver as what sends to it has it: its service and its keys, secrets included. It is only ever in memory and in a pipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from engine.config.receivers import EMAIL, ROUTE, SECRETS, Receiver
from engine.errors import RollcallError


class ReceiverSetup(msgspec.Struct, array_like=True, frozen=True):
    """One receiver. `problem`: why it cannot be used, such as a secret that is missing."""

    service: str
    settings: dict[str, Any]
    timeout_ms: int
    problem: str | None = None

    def secrets(self) -> Iterator[str]:
        """What must not appear in a text."""
        for key in SECRETS.get(self.service, ()):
            if isinstance(value := self.settings.get(key), str):
                yield value
        yield from (value for value in self.settings.get("headers", {}).values() if isinstance(value, str))


def receiver_setups(receivers: Mapping[str, Receiver], secrets: Mapping[str, str]) -> dict[str, ReceiverSetup]:
    """Every receiver that is sent to over HTTP. `secrets`: those of the configuration, which `sign` may name."""
    return {name: _setup(one, secrets) for name, one in receivers.items() if one.type not in (ROUTE, EMAIL)}


def _setup(receiver: Receiver, secrets: Mapping[str, str]) -> ReceiverSetup:
    try:
        settings = receiver.settings()
    except RollcallError as error:
        return ReceiverSetup(receiver.type, {}, receiver.timeout_ms, str(error))
    if settings.get("sign") in secrets:
        settings["sign"] = secrets[settings["sign"]]
    if isinstance(settings.get("chat"), int):
        settings["chat"] = str(settings["chat"])
    return ReceiverSetup(receiver.type, settings, receiver.timeout_ms)
