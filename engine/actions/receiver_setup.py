"""A receiver as what sends to it has it: its service and its keys, secrets included. It is only ever in memory and in a pipe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from engine.config.receiver_secrets import SECRETS


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
