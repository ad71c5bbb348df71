"""The HTTP server around the interface. Read `serving_http`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

import uvicorn

from engine.config.http import HttpConfig
from engine.errors import CannotListen
from engine.runtime.http_connections import Connection, ConnectionLimits, Connections, limits_of_this_process
from engine.runtime.supervision import Supervisor
from engine.telemetry import Event, logger
from engine.web.refusals import Refusals

log = logger(__name__)


@contextlib.asynccontextmanager
async def serving_http(
    app: Callable[..., Any],
    http: HttpConfig,
    refusals: Refusals,
    supervisor: Supervisor,
    limits: ConnectionLimits | None = None,
) -> AsyncIterator[None]:
    """Listen and serve while the context lasts. CannotListen when the address cannot be had.

    `refusals` counts what is refused; `limits` None: those that fit this process.
    """
    connections = Connections(limits or limits_of_this_process(), refusals)
    settings = uvicorn.Config(
        app,
        host=http.host,
        port=http.port,
        http=partial(Connection, connections),  # type: ignore[arg-type]  # called as the class would be
        ws="none",
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=3,
    )
    server = _Server(settings)
    listening = _listen(http.host, http.port)
    serving = asyncio.create_task(server.serve([listening]))
    checking = supervisor.keep("http connections", partial(_keep_checking, connections), is_vital=False)
    supervisor.watch("http server", lambda: "it has ended" if serving.done() and not server.should_exit else None)
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    host, port = listening.getsockname()[:2]
    log.info(Event.LISTENING, address=f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
    try:
        yield
    finally:
        server.should_exit = True
        await serving
        checking.cancel()


async def _keep_checking(connections: Connections) -> None:
    while True:
        await asyncio.sleep(connections.limits.every_s)
        connections.check()


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
