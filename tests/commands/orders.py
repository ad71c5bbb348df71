"""What the tests of the senders have in common: a command as the outbox hands it over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from engine.actions.base import OutboxItem
from engine.actions.command.mqtt import MqttCommands
from engine.actions.command.mqtt_client import MqttLogin
from engine.clock import SystemClock
from tests.commands.mosquitto import PARENT

CLOCK = SystemClock()
DEVICE = "GID_GW@@@gw-1"


def command(key: str = "k1", to: str = DEVICE, *, age_ms: int = 0, expires_ms: int = 30_000, **more: Any) -> OutboxItem:
    """A command decided `age_ms` ago."""
    request = {"to": to, "topic": f"{PARENT}/p2p/{to}", "payload": "reboot", "qos": 1, "expires": "", "via": "mqtt"}
    return OutboxItem(
        id=1,
        key=key,
        rule="r",
        lane="l",
        action="command",
        target="mqtt://x",
        request=request | {"expires_ms": expires_ms} | more,
        attempts=0,
        decided_at_ms=CLOCK.now_ms() - age_ms,
        phase="firing",
        alert="a",
    )


def login(port: int, **more: Any) -> MqttLogin:
    """How the engine logs in at a broker without logins."""
    return MqttLogin(host="127.0.0.1", port=port, client_id="GID_rollcall@@@rollcall", **more)


def sending(port: int, work: Callable[[MqttCommands], Awaitable[None]], **more: Any) -> None:
    """Do something with a sender, which is closed in the end."""

    async def go() -> None:
        sender = MqttCommands(lambda: login(port, **more), CLOCK.now_ms)
        try:
            await work(sender)
        finally:
            await sender.close()

    asyncio.run(go())
