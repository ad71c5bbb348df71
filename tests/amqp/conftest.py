"""One broker for all tests of this folder that do not break it; what a test leaves in the queue, its consumer took."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.amqp.broker import Broker, broker


@pytest.fixture(scope="package")
def shared_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that runs."""
    with broker(tmp_path_factory.mktemp("rabbit") / "node") as found:
        yield found
