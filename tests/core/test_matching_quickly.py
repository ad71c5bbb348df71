"""What matching does by shortcuts comes out as it would without them."""

from __future__ import annotations

import fnmatch
import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from engine.config.patterns import compile_patterns
from engine.core.matching import MatchSet
from engine.core.rules import Match

addresses = (
    st.ip_addresses().map(str)
    | st.ip_addresses(v=4).map(str)
    | st.lists(
        st.sampled_from(["0", "1", "10", "255", "256", "01", "", "+1", " 1", "٣", "1_0"]), min_size=3, max_size=5
    ).map(".".join)
    | st.sampled_from(["::ffff:10.0.0.1", "::ffff:10.1.0.1", "::1", "10.0.0.1%eth0", "fe80::1%1", "", "nonsense"])
)
networks = st.sampled_from(["10.0.0.0/8", "10.0.0.1/32", "0.0.0.0/0", "::/0", "::1/128", "255.0.0.0/8", "fe80::/10"])


def contains(network: str, text: str) -> bool:
    """What the standard library says, an IPv4 address written as IPv6 counted as the former."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address in ipaddress.ip_network(network)


@given(networks, addresses)
def test_addresses_lie_in_the_networks_that_the_standard_library_says(network: str, text: str) -> None:
    matches = MatchSet([Match(ip=(network,))], lambda client: {}, compile_patterns)
    port = f"[{text}]:5" if ":" in text else f"{text}:5"
    assert bool(matches.mask("G@@@a", port)) == contains(network, text)


patterns = st.lists(st.text("ab*?", min_size=1, max_size=4), min_size=1, max_size=6)


@given(patterns, st.text("ab", max_size=5))
def test_many_patterns_at_once_match_as_each_does_in_a_shell(some: list[str], text: str) -> None:
    expected = [index for index, pattern in enumerate(some) if fnmatch.fnmatchcase(text, pattern)]
    assert list(compile_patterns(some).matching(text)) == expected
