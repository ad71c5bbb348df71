"""Bad status endpoints, and a bad address for the heartbeat: every call ends in time, says why, and keeps no processor busy."""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from collections.abc import Iterator

import pytest

from engine import StatusClient
from engine.runtime.heartbeat import Heartbeat, ping
from engine.status.base import QueryFailed
from engine.status.openapi import OpenApiProvider
from engine.status.route import RouteProvider
from tests.hostile.endpoint import BODIES
from tests.hostile.receiver import BEHAVIOURS, echoes
from tests.hostile.serving import running

TIMEOUT_S = 1.5


@pytest.fixture(scope="module")
def ports() -> Iterator[dict[str, int]]:
    with running("tests.hostile.endpoint") as found:
        yield found


def route(port: int) -> RouteProvider:
    def now_ms() -> int:
        return time.time_ns() // 1_000_000

    return RouteProvider(f"http://127.0.0.1:{port}", "i", lambda: "key", lambda: "tok/en+9f3A~Zq7", now_ms, TIMEOUT_S)


def openapi(port: int) -> OpenApiProvider:
    return OpenApiProvider(f"http://127.0.0.1:{port}", "i", lambda: "key", lambda: "tok/en+9f3A~Zq7", TIMEOUT_S)


def queried(provider: RouteProvider | OpenApiProvider) -> int | str | None:
    """The number of connections, or the reason why there is none; whatever it is, in time and within bounds."""
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began_s, used_s = time.monotonic(), time.thread_time()
    found: int | str | None
    try:
        found = provider.query("G@@@d")
    except QueryFailed as failed:
        found = str(failed)
    took_s, used_s = time.monotonic() - began_s, time.thread_time() - used_s
    provider.close()
    # A generous factor on a machine that has other things to do: without a deadline it is a minute, at full speed.
    assert took_s < 10 * TIMEOUT_S and used_s < TIMEOUT_S
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 64 * 1024
    return found


@pytest.mark.parametrize("name", [*BEHAVIOURS, *BODIES, "headers-odd"])
def test_every_query_of_the_signed_route_ends_in_time_and_says_why(name: str, ports: dict[str, int]) -> None:
    found = queried(route(ports[name]))
    if name in ("good", "headers-odd"):
        assert found == 1
        return
    assert isinstance(found, str) and found.startswith("the status query at http://127.0.0.1:") and len(found) < 500
    assert found.isprintable() and "tok/en" not in found


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("100-endless", "answers without end"),
        ("103-endless", "answers without end"),
        ("103-dripping", "did not answer within 1.5 s"),
        ("head-dripping", "did not answer within 1.5 s"),
        ("header-giant", "does not answer with HTTP"),
        ("200-dripping", "did not answer within 1.5 s"),
        ("200-extension-endless", "before the answer was complete"),
        ("099", "does not answer with HTTP"),
        ("banner", "does not answer with HTTP"),
        ("200-endless", "answered with more than 64 KiB"),
        ("101-upgrade", "HTTP status 101"),
        ("large", "answered with more than 64 KiB"),
        ("closes", "cannot be reached"),
    ],
)
def test_the_reason_is_one_that_a_person_understands(name: str, words: str, ports: dict[str, int]) -> None:
    assert words in str(queried(route(ports[name])))


@pytest.mark.parametrize("name", ["good", "deep", "silent", "100-endless", "103-dripping", "200-dripping", "200-endless", "500-bomb", "200-extension-endless", "header-giant"])  # fmt: skip
def test_every_query_of_the_openapi_ends_in_time(name: str, ports: dict[str, int]) -> None:
    assert isinstance(queried(openapi(ports[name])), str)


@pytest.mark.parametrize("name", sorted(echoes("x" * 20)))
def test_a_signature_that_comes_back_in_any_encoding_is_not_shown(name: str, ports: dict[str, int]) -> None:
    found = str(queried(route(ports[f"echo-{name}"])))
    assert "***" in found or "not shown" in found


@pytest.mark.parametrize("name", ["100-endless", "103-dripping", "silent"])
def test_a_client_of_the_library_is_told_in_time(name: str, ports: dict[str, int]) -> None:
    where = f"http://127.0.0.1:{ports[name]}"
    with StatusClient(endpoint=where, instance="i", access_key="k", secret="s" * 20, timeout_s=TIMEOUT_S) as client:
        began_s = time.monotonic()
        found = client.online("G@@@d")
        assert found.online is None and found.problem and time.monotonic() - began_s < 10 * TIMEOUT_S


def test_a_header_that_cannot_be_parsed_puts_no_signature_into_a_log(
    caplog: pytest.LogCaptureFixture, ports: dict[str, int]
) -> None:
    with caplog.at_level(logging.DEBUG):
        queried(route(ports["headers-odd"]))
    assert "signature=" not in caplog.text


@pytest.mark.parametrize(
    "name", ["100-endless", "103-dripping", "silent", "head-dripping", "header-giant", "101-upgrade", "099", "closes"]
)
def test_a_heartbeat_that_is_not_answered_has_failed(
    name: str, ports: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.runtime.heartbeat.TIMEOUT_S", TIMEOUT_S)

    async def go(port: int) -> bool:
        async def post(url: str) -> None:
            await ping((), url)

        async with asyncio.timeout(20):
            return await Heartbeat(f"http://127.0.0.1:{port}/", 1_000, post, lambda: True).run_once()

    assert asyncio.run(go(ports[name])) is False


@pytest.mark.parametrize("name", ["good", "200-endless", "200-dripping", "200-broken-chunks", "200-after-103"])
def test_a_heartbeat_has_arrived_whatever_the_body_does(name: str, ports: dict[str, int]) -> None:
    async def go(port: int) -> None:
        async with asyncio.timeout(20):
            await ping((), f"http://127.0.0.1:{port}/")

    asyncio.run(go(ports[name]))
