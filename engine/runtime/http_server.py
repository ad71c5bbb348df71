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
from engine.errors import CannotListen, RollcallError
from engine.runtime.http_connections import Connection, ConnectionLimits, Connections, limits_of_this_process
from engine.runtime.supervision import Supervisor
from engine.telemetry import Event, logger
from engine.web.refusals import Refusals

STOP_S = 8.0
"""How long a stop waits for requests under way; the server itself gives them 3 s."""

log = logger(__name__)


@contextlib.asynccontextmanager
async def serving_http(
    app: Callable[..., Any],
    http: HttpConfig,
    refusals: Refusals,
    supervisor: Supervisor,
    limits: ConnectionLimits | None = None,
) -> AsyncIterator[None]:
    """Listen and serve while the context lasts, also when the server ends by itself. CannotListen when the address cannot be had.

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
        proxy_headers=False,  # whom they are believed is decided in `web.access.forwarded`
        lifespan="off",
        timeout_graceful_shutdown=3,
    )
    listening = _listen(http.host, http.port)
    serving = _Serving(settings, listening, http)
    task = supervisor.keep("http server", serving.run, may_end=True)
    checking = supervisor.keep("http connections", partial(_keep_checking, connections), is_vital=False)
    while not serving.server.started and not supervisor.troubles():
        await asyncio.sleep(0.01)
    host, port = listening.getsockname()[:2]
    log.info(Event.LISTENING, address=f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
    try:
        yield
    finally:
        serving.stop()
        await asyncio.wait([task], timeout=STOP_S)
        task.cancel()
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


class _Serving:
    """One server after the other: the next one when one ends although it was not stopped."""

    def __init__(self, settings: uvicorn.Config, listening: socket.socket, http: HttpConfig) -> None:
        self._settings, self._http = settings, http
        self._listening: socket.socket | None = listening
        self._stopping = False
        self.server = _Server(settings)

    async def run(self) -> None:
        """Serve until `stop`. RollcallError when the server ends before."""
        listening, self._listening = self._listening, None
        if listening is None:
            self.server = _Server(self._settings)
            listening = _listen(self._http.host, self._http.port)
        await self.server.serve([listening])
        if not self._stopping:
            raise RollcallError("the HTTP server has ended")

    def stop(self) -> None:
        """Answer what is under way, and end."""
        self._stopping = self.server.should_exit = True


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling: the service stops as a whole."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
