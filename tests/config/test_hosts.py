"""What can never be a host is refused with a sentence wherever a host is written, by one rule."""

from __future__ import annotations

import pytest

from engine.config.endpoints import host_problem
from engine.config.endpoints import url_problem as configured_url_problem
from engine.rulefiles.webhook import url_problem as webhook_problem

WRONG = [
    ("a..b", "it has an empty part beside a dot"),
    (".a", "it has an empty part beside a dot"),
    ("a.b..", "it has an empty part beside a dot"),
    ("-a.b", "is not a host name or address"),
    ("a-.b", "is not a host name or address"),
    ("a.-b", "is not a host name or address"),
    ("xn--", "is not a host name"),
    ("xn--a.example", "`xn--a` stands for no name in other letters"),
    ("xn--99999999.example", "stands for no name in other letters"),
    ("XN--99999999.example", "stands for no name in other letters"),
    ("a" * 64 + ".example", "is longer than a part of a host name can be (63 characters)"),
    ("a." * 128, "is longer than a host name can be (253 characters)"),
    ("a%2eb.example", "is not a host name or address"),
    ("b\u00fccher.example", "write `xn--bcher-kva.example`"),
    ("a!b", "is not a host name or address"),
    ("127.1", "is not an IPv4 address"),
    ("1.2.3.4.5", "is not an IPv4 address"),
]
RIGHT = [
    "localhost", "a", "a.b.", "my_service", "xn--bcher-kva.example", "xn--ls8h.la", "r3---sn-4g5e.example", "10.0.0.1",
    "a" * 63 + ".example", "0a.example", "A-B.example", ("a" * 49 + ".") * 5 + "abc",
]  # fmt: skip


@pytest.mark.parametrize(("host", "words"), WRONG)
def test_what_can_never_be_a_host_is_refused_in_every_place(host: str, words: str) -> None:
    for said in (host_problem(host), configured_url_problem(f"https://{host}/x"), webhook_problem(f"https://{host}/x")):
        assert said is not None and words.lower() in said.lower()
        assert len(said) < 250 and said.isprintable()


@pytest.mark.parametrize("host", RIGHT)
def test_what_may_be_a_host_is_taken_in_every_place(host: str) -> None:
    assert host_problem(host) is None
    assert configured_url_problem(f"http://{host}:8080/x") is None
    assert webhook_problem(f"http://{host}:8080/x") is None


def test_an_ipv6_address_is_taken_and_a_wrong_one_is_not() -> None:
    assert webhook_problem("http://[::1]:80/") is None
    assert webhook_problem("http://[::1::2]/") is not None
