"""The address of a client, however its broker prints it, and the networks that it lies in."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config.patterns import compile_patterns
from engine.core.addresses import address, network, network_of
from engine.core.keys import values_of
from engine.core.matching import MatchSet
from engine.core.rules import Match


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("10.0.0.1:4711", "10.0.0.1"),
        ("10.0.0.1", "10.0.0.1"),
        ("/10.0.0.1:4711", "10.0.0.1"),
        ("device-7.example/10.0.0.1:4711", "10.0.0.1"),
        ("/10.0.0.1", "10.0.0.1"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("/[2001:db8::1]:4711", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("2001:db8::1:4711", "2001:db8::1"),
        ("2001:db8::1:65535", "2001:db8::1"),
        ("2001:db8::1:22", "2001:db8::1:22"),
        ("2001:db8::4711", "2001:db8::4711"),
        ("2001:db8::beef", "2001:db8::beef"),
        ("2001:db8:0:0:0:0:0:4711", "2001:db8:0:0:0:0:0:4711"),
        ("/2001:db8:0:0:0:0:0:1:22", "2001:db8:0:0:0:0:0:1"),
        ("::ffff:10.0.0.1:4711", "::ffff:10.0.0.1"),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.1"),
        ("[fe80::1%eth0]:4711", "fe80::1%eth0"),
        ("fe80::1%eth0:4711", "fe80::1%eth0"),
        ("fe80::1%25", "fe80::1%25"),
        ("somewhere", "somewhere"),
        ("somewhere:4711", "somewhere"),
        ("a:b:c", "a:b:c"),
        ("", ""),
        ("10.0.0.0/24", "10.0.0.0/24"),
    ],
)
def test_an_address_is_without_what_a_broker_prints_around_it(printed: str, expected: str) -> None:
    assert address(printed) == expected


@given(st.text(alphabet="0123456789abcdef:.[]%/xé٣", max_size=24))
def test_no_text_is_too_strange_and_a_plain_address_stays_one(text: str) -> None:
    found = address(text)
    assert found in text
    network_of(found, "24")
    MatchSet([Match(ip=("10.0.0.0/8",))], lambda client: {}, compile_patterns).mask("c", text)


@given(st.ip_addresses(v=4), st.integers(1, 65535))
def test_an_ipv4_address_written_as_ipv6_is_the_same_client_network(four: ipaddress.IPv4Address, port: int) -> None:
    ways = [f"{four}:{port}", f"/{four}:{port}", f"[::ffff:{four}]:{port}", f"::ffff:{four}:{port}", f"::ffff:{four}"]
    assert {values_of(("ip/24",), "G@@@d", way, {})["ip/24"] for way in ways} == {network_of(str(four), "24")}
    nets = (f"{four}/32", f"::ffff:{four}/128", f"{four}/9")
    for net in nets:
        matches = MatchSet([Match(ip=(net,))], lambda client: {}, compile_patterns)
        assert all(matches.mask("G@@@d", way) for way in ways), net


def test_the_zone_of_an_address_is_no_part_of_its_network() -> None:
    assert network_of(address("[fe80::1%eth0]:4711"), "64") == "fe80::/64"
    assert MatchSet([Match(ip=("fe80::/10",))], lambda client: {}, compile_patterns).mask("c", "[fe80::1%eth0]:4711")


def test_a_network_of_ipv4_addresses_written_as_ipv6_is_that_of_the_ipv4_addresses() -> None:
    assert str(network("::ffff:10.0.0.0/104")) == "10.0.0.0/8"
    assert str(network("::ffff:10.0.0.9/120")) == "10.0.0.0/24"
    assert str(network("::/0")) == "::/0"
