"""One broker for all tests of this folder that do not break it; each finds the queue empty."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.amqp.broker import Broker, broker


@pytest.fixture(scope="package")
def one_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that runs."""
    with broker(tmp_path_factory.mktemp("rabbit") / "node") as found:
        yield found


@pytest.fixture
def shared_broker(one_broker: Broker) -> Broker:
    """The same one, with nothing in its queue."""
    one_broker.purge()
    return one_broker
