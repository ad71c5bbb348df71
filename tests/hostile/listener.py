"""The HTTP listener alone, in this process and with bounds as short as a test wants: what strangers do to it needs no engine."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvloop

from engine.clock import SystemClock
from engine.config.loader import load_config
from engine.runtime.app import build
from engine.runtime.http_connections import ConnectionLimits
from engine.runtime.http_server import serving_http
from engine.runtime.supervision import Supervisor
from engine.web.refusals import Refusals
from engine.web.routes import create
from tests.acceptance.service import free_port

TOKEN = b"Authorization: Bearer s3cret\r\n"


class Listener:
    """A listener: its port, and what it has refused."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.refusals = Refusals()


@contextmanager
def listening(folder: Path, limits: ConnectionLimits, *, token: bool = True) -> Iterator[Listener]:
    """A service that has not loaded its states: it answers `/healthz` and turns events away."""
    (folder / "token").write_text("s3cret\n")
    secret = ", token: {file: token}" if token else ""
    found = Listener(free_port())
    (folder / "config.yaml").write_text(
        f'version: 1\nhttp: {{listen: "127.0.0.1:{found.port}"{secret}}}\nsources: [{{name: push, type: http}}]\n'
    )
    service = build(load_config(folder / "config.yaml"))
    ready, end = threading.Event(), asyncio.Event()
    loop = uvloop.new_event_loop()

    async def serve() -> None:
        assert service.config.http is not None
        async with serving_http(
            create(service, found.refusals), service.config.http, found.refusals, Supervisor(SystemClock()), limits
        ):
            ready.set()
            await end.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    try:
        assert ready.wait(60)
        yield found
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join(60)
        loop.close()
        service.cells.first.store.close()
