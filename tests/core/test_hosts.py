"""Which names and addresses stand for this machine only."""

from __future__ import annotations

import pytest

from engine.core.hosts import is_loopback


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST", "localhost.", "127.0.0.1", "127.9.9.9", "::1", "0:0:0:0:0:0:0:1"]
)
def test_the_loopback_has_many_names(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["", "0.0.0.0", "::", "10.0.0.1", "localhost.evil.example", "127.0.0.1.evil.example", "[::1]", "127.1"]
)
def test_other_names_are_not_the_loopback(host: str) -> None:
    assert not is_loopback(host)
