"""How many connections there may be: out of what this process may open, and whose count together."""

from __future__ import annotations

import resource

import pytest

from engine.runtime.http_connections import (
    EXTRA_CONNECTIONS,
    MAX_CONNECTIONS,
    MIN_CONNECTIONS,
    _network,
    limits_of_this_process,
)


@pytest.mark.parametrize("files", [20, 64, 256, 1_024, 4_096, 1_000_000, resource.RLIM_INFINITY])
def test_half_of_the_files_stay_for_the_rest_of_the_service(monkeypatch: pytest.MonkeyPatch, files: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    limits = limits_of_this_process()
    assert MIN_CONNECTIONS <= limits.connections <= MAX_CONNECTIONS
    assert limits.of_one_address <= limits.connections
    if files >= 256:
        assert limits.connections + EXTRA_CONNECTIONS <= files // 2


@pytest.mark.parametrize(
    ("host", "address", "is_local"),
    [
        ("10.1.2.3", "10.1.2.3", False),
        ("::ffff:10.1.2.3", "10.1.2.3", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("::ffff:127.0.0.1", "127.0.0.1", True),
        ("::1", "::1", True),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64", False),
        ("fe80::1%eth0", "fe80::/64", False),
        ("not an address", "not an address", False),
    ],
)
def test_addresses_of_one_customer_count_together(host: str, address: str, is_local: bool) -> None:
    assert _network(host) == (address, is_local)
