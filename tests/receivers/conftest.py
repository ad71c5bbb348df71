"""One loopback server for all stand-ins of a file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.receivers.neighbours import NEIGHBOURS
from tests.receivers.stand_in import Loopback, StandIn


@pytest.fixture(scope="module")
def server() -> Iterator[Loopback]:
    """The server, without stand-ins."""
    found = Loopback()
    yield found
    found.close()


@pytest.fixture
def loopback(server: Loopback) -> Loopback:
    """The server with a new stand-in of each service."""
    server.stand_ins.update({name: one.make() for name, one in NEIGHBOURS.items()})
    return server


@pytest.fixture
def stand_ins(loopback: Loopback) -> dict[str, StandIn]:
    """The stand-ins by name."""
    return loopback.stand_ins
