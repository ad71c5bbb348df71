"""One broker for all tests of this folder; without Java, Maven or the native library they are skipped, in CI they fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

from engine.sources.rocketmq.client import require_library
from engine.sources.rocketmq.pipe import NativeLibraryMissing
from engine.sources.rocketmq.publisher import Publisher
from tests.acceptance.service import missing
from tests.fetched import Absent
from tests.mq.broker import Broker, running
from tests.mq.jars import jars, java

SMALL_FILES: dict[str, Any] = {
    "mappedFileSizeCommitLog": 262_144,
    "mappedFileSizeConsumeQueue": 6_000,
    "deleteWhen": 99,
}
"""A broker deletes whole files, and these only when it is told to."""

FORGETFUL: dict[str, Any] = {
    "fileReservedTime": 0,
    "cleanResourceInterval": 1_000,
    "deleteCommitLogFilesInterval": 10,
    "deleteConsumeQueueFilesInterval": 10,
}

_numbers = count(1)


@pytest.fixture(scope="session")
def rocketmq() -> None:
    """What a broker and its client need is here."""
    try:
        require_library()
        java()
        jars()
    except (NativeLibraryMissing, Absent) as reason:
        missing(str(reason))


@pytest.fixture(scope="session")
def broker(rocketmq: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that runs as long as the tests; each uses topics of its own."""
    with running(tmp_path_factory.mktemp("rocketmq"), **SMALL_FILES) as found:
        yield found


@pytest.fixture
def forgetful_broker(rocketmq: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker of its own that forgets what it is asked to forget, and for some time afterwards everything else."""
    with running(tmp_path_factory.mktemp("forgetful"), **SMALL_FILES, **FORGETFUL) as found:
        yield found


@pytest.fixture
def topic() -> str:
    """A name that no other test uses; the topic does not exist yet."""
    return f"GID_TEST{next(_numbers)}_MQTT"


@pytest.fixture
def publisher(broker: Broker, topic: str) -> Iterator[Publisher]:
    """Publishes to the topic."""
    found = Publisher(broker.address, topic, group=f"PID_{topic}")
    yield found
    found.close()


@pytest.fixture
def source(broker: Broker, topic: str) -> Callable[..., dict[str, object]]:
    """The configuration of a source that reads the topic, with further keys."""

    def made(**more: object) -> dict[str, object]:
        told = {"name": "mq", "type": "rocketmq", "name_servers": [broker.address], "consumer_group": f"GID_{topic}"}
        return told | {"topics": [topic], "start": "earliest"} | more

    return made
