"""Every test of the suite runs on every store; the stores are named here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.stores.base import Store
from tests.stores.backends import Backend, SqliteBackend


@pytest.fixture(params=["sqlite"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    """An empty store of each kind."""
    made = {"sqlite": SqliteBackend}[request.param](tmp_path / "data")
    yield made
    made.close()


@pytest.fixture
def store(backend: Backend) -> Store:
    """The store, open for writing."""
    return backend.open()
