"""Every test of the suite runs on every store that `backends` names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.stores.base import Store
from engine.testing import temporary_folder
from tests.stores.backends import BACKENDS, Backend


@pytest.fixture(params=sorted(BACKENDS))
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """An empty store of each kind."""
    with temporary_folder() as folder:
        made = BACKENDS[request.param](folder / "data")
        yield made
        made.close()


@pytest.fixture
def store(backend: Backend) -> Store:
    """The store, open for writing."""
    return backend.open()
