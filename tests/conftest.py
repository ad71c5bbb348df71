"""How properties are searched: a bounded number of examples, never a deadline, and in CI always the same ones.

And a guard: a compiled core that is older than its source would be tested in its place without anybody noticing.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

from tests.written_log import WrittenLog, written_log

CORE = Path(__file__).parents[1] / "engine" / "core"

settings.register_profile("local", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("local"), derandomize=True, print_blob=True)
settings.register_profile("long", settings.get_profile("local"), max_examples=3_000)
settings.load_profile(os.environ.get("ROLLCALL_HYPOTHESIS", "ci" if os.environ.get("CI") else "local"))


def pytest_sessionstart() -> None:
    """Refuse to test a compiled core that is not what the source says; and let Ctrl-C reach what tests start.

    A shell that runs the tests in the background has everything in it ignore Ctrl-C.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for compiled in CORE.glob("*.so"):
        source = CORE / f"{compiled.name.partition('.')[0]}.py"
        if not source.exists() or source.stat().st_mtime > compiled.stat().st_mtime:
            pytest.exit(f"{compiled.name} is older than its source: run `make setup`, or `rm engine/core/*.so`", 2)


SLOWEST = (
    "tests/acceptance/test_commands.py",
    "tests/queries/test_reconciler.py",
    "tests/mq/",
    "tests/acceptance/",
    "tests/queries/",
    "tests/hostile/",
    "tests/amqp/",
    "tests/web/",
    "tests/config/",
    "tests/templates/",
)
"""Files, and folders of files, that take long: several processes share the work, and what takes long must not be begun last."""


ONE_BROKER = ("tests/mq/", "tests/hostile/test_rocketmq.py")
"""Tests that share a RocketMQ broker run in one process, so that it is started once."""


class ByFile(LoadScopeScheduling):  # type: ignore[misc]
    """Tests of one file run in one process, because they share what they have started."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "one broker" if file.startswith(ONE_BROKER) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """How several processes share the tests."""
    return ByFile(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the slowest files; among the others, and within a file, the order stays random."""

    def place(item: pytest.Item) -> int:
        return next((at for at, name in enumerate(SLOWEST) if item.nodeid.startswith(name)), len(SLOWEST))

    items.sort(key=place)


@pytest.fixture
def log() -> Iterator[WrittenLog]:
    """What the engine logs during the test."""
    with written_log() as found:
        yield found
