"""`network.deny`: an address is refused in whatever form it is written, and whatever it stands for."""

from __future__ import annotations

import asyncio

import pytest

from engine.actions.base import Attempted, Rejected
from engine.actions.webhook.deny import Denied, DenyList
from engine.actions.webhook.request import WebhookSender

LOOPBACK = ["127.0.0.0/8", "::1/128"]


def posted(url: str, deny: list[str]) -> Attempted:
    async def go() -> Attempted:
        sender = WebhookSender({}, deny=deny)
        try:
            return await sender.post("k", {"url": url, "json": {}, "timeout_ms": 5_000})
        finally:
            await sender.close()

    return asyncio.run(go())


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.8.9.10", "localhost", "0.0.0.0", "0", "[::]", "[::1]", "[::ffff:0:0]", "[::ffff:127.0.0.1]", "[::127.0.0.1]",
        "[::ffff:0:127.0.0.1]", "[64:ff9b::127.0.0.1]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[2002::]", "[fe80::5efe:127.0.0.1]",
        "[2001:0:808:808:0:0:80ff:fffe]", "2130706433", "127.1", "127.0.1", "0x7f.1", "0x7f000001", "0177.0.0.1", "017700000001",
        "127.0.0.1.",
    ],
)  # fmt: skip
def test_loopback_is_denied_in_every_form(host: str) -> None:
    answer = posted(f"http://{host}:9/", LOOPBACK)
    assert isinstance(answer, Rejected) and "network.deny" in answer.reason


@pytest.mark.parametrize("deny", [["127.0.0.0/8"], ["::1/128"]])
@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "[::ffff:0:0]"])
def test_an_unspecified_address_is_this_host_in_either_family(host: str, deny: list[str]) -> None:
    assert isinstance(posted(f"http://{host}:9/", deny), Rejected)


@pytest.mark.parametrize("address", ["fe80::1%eth0", "fe80::1%25", "FE80:0::1"])
def test_a_zone_does_not_hide_an_address(address: str) -> None:
    with pytest.raises(Denied):
        DenyList(["fe80::/10"]).check("x.test", address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "::ffff:8.8.8.8", "2001:db8::1", "2002:808:808::1", "64:ff9b::808:808", "128.0.0.1"]
)
def test_what_is_not_denied_is_let_through_in_every_form(address: str) -> None:
    DenyList([*LOOPBACK, "169.254.0.0/16", "fe80::/10"]).check("x.test", address)


def test_a_name_is_no_address() -> None:
    for name in ("example.test", "0x7f.example", "1.2.3.4.5", "", "256.256.256.256"):
        DenyList(LOOPBACK).check_literal(name)
