"""The HTTP server around the interface. Read `serving_http`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import uvicorn

from engine.config.http import HttpConfig
from engine.errors import CannotListen
from engine.telemetry import Event, logger

log = logger(__name__)


@contextlib.asynccontextmanager
async def serving_http(app: Callable[..., Any], http: HttpConfig) -> AsyncIterator[None]:
    """Listen and serve while the context lasts. CannotListen when the address cannot be had."""
    settings = uvicorn.Config(
        app,
        host=http.host,
        port=http.port,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=3,
    )
    server = _Server(settings)
    listening = _listen(http.host, http.port)
    serving = asyncio.create_task(server.serve([listening]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    host, port = listening.getsockname()[:2]
    log.info(Event.LISTENING, address=f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
    try:
        yield
    finally:
        server.should_exit = True
        await serving


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens; CannotListen with a sentence when the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = host == "::" and socket.has_dualstack_ipv6()
    try:
        return socket.create_server((host, port), family=family, dualstack_ipv6=both)
    except OSError as error:
        raise CannotListen(
            f"cannot listen on {host}:{port}: {os.strerror(error.errno) if error.errno else error}"
        ) from error


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling: the service stops as a whole."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
