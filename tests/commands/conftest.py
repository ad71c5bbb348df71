"""A Mosquitto for each test that asks for one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands.mosquitto import Mosquitto, running


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker without logins."""
    with running(tmp_path / "mosquitto") as found:
        yield found
