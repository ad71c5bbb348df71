"""Bad webhook receivers, each in every way it can be bad: what becomes of its delivery, and of a good neighbour's."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from yarl import URL

from engine.actions.base import Attempted, Delivered, Rejected, RetryLater
from engine.actions.webhook.answers import BoundedAnswers
from engine.actions.webhook.connecting import OutgoingConnections
from engine.actions.webhook.connection_setup import DEFAULT_CONNECTION
from engine.actions.webhook.deny import DenyList
from engine.actions.webhook.request import WebhookSender
from tests.hostile.receiver import BEHAVIOURS, echoes
from tests.hostile.serving import running

TIMEOUT_MS = 1_500
"""For servers that never answer: their deliveries end with it."""

AMPLE_MS = 30_000
"""For servers that answer: a busy machine is no reason not to hear them."""

LARGE = "x" * 8_000_000

REASONS = {
    "100-endless": "more than 16 interim answers (1xx)",
    "102-endless": "more than 16 interim answers (1xx)",
    "103-endless": "more than 16 interim answers (1xx)",
    "103-dripping": "no answer within 1500 ms",
    "103-in-packets": "more than 16 interim answers (1xx)",
    "103-large": "the answer has",
    "head-dripping": "no answer within 1500 ms",
    "header-giant": "the answer",
    "headers-endless": "the answer",
    "status-line-endless": "the answer",
    "folded-endless": "the answer",
    "blank-endless": "the answer",
    "silent": "no answer within 1500 ms",
    "garbage-endless": "not valid HTTP",
    "101-upgrade": "HTTP 101: it switches to another protocol",
    "101-flooding": "HTTP 101: it switches to another protocol",
    "101-bare": "HTTP 101: it switches to another protocol",
    "000": "HTTP 000: that is no final status",
    "099": "HTTP 099: that is no final status",
    "600": "HTTP 600: that is no final status",
    "999": "HTTP 999: that is no final status",
    "1000": "not valid HTTP",
    "20": "not valid HTTP",
    "2xx": "not valid HTTP",
    "banner": "not valid HTTP",
    "http-0.9": "not valid HTTP",
    "negative-length": "not valid HTTP",
    "closes": "no answer",
    "resets": "no answer",
    "half-a-head": "no answer",
    "500-gzip": "HTTP 500: <html>the server is being repaired",
    "500-gzip-unsaid": "HTTP 500: <html>the server is being repaired",
    "500-deflate": "HTTP 500: <html>the server is being repaired",
    "500-raw-deflate": "HTTP 500: <html>the server is being repaired",
    "500-br": "HTTP 500: (body not shown: 26 bytes that cannot be decoded)",
    "500-bomb": "HTTP 500: all work and no play",
    "500-bytes": "HTTP 500: (body not shown: 256 bytes that are not text)",
    "500-gbk": "HTTP 500: 服务器错误",
    "500-gbk-unsaid": "HTTP 500: error: ",
    "500-controls": r"HTTP 500: you\u202egnp.exe \u2066are",
    "500-endless": "HTTP 500: xxxx",
    "500-broken-chunks": "HTTP 500",
    "500-dripping": "HTTP 500: x",
    "404-html": "HTTP 404: <html>",
    "redirect": "redirects are not followed",
    "retry-after-odd": "HTTP 429",
    "retry-after-dated": "HTTP 503",
    "never-reads": "no answer within 1500 ms",
}
"""What a delivery to each says; all others have taken it."""


@pytest.fixture(scope="module")
def ports() -> Iterator[dict[str, int]]:
    with running("tests.hostile.receiver") as found:
        yield found


@pytest.fixture
def receiver(ports: dict[str, int]) -> str:
    return f"http://127.0.0.1:{ports['receiver']}"


@pytest.fixture
def neighbour(ports: dict[str, int]) -> str:
    return f"http://127.0.0.1:{ports['neighbour']}"


def posted(url: str, secrets: dict[str, str] | None = None, **request: Any) -> Attempted:
    """The answer to one webhook; the whole takes hardly longer than the attempt may."""

    async def go() -> Attempted:
        sender = WebhookSender(secrets or {})
        try:
            async with asyncio.timeout(60):
                return await sender.post("k", {"url": url, "json": {"a": 1}, "timeout_ms": AMPLE_MS, **request})
        finally:
            await sender.close()

    return asyncio.run(go())


@pytest.mark.filterwarnings("ignore:Sending a large body")
@pytest.mark.parametrize("name", [*BEHAVIOURS, "never-reads", "answers-early"])
def test_every_bad_answer_has_its_meaning_and_says_why(receiver: str, name: str) -> None:
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    body: Any = LARGE if name in ("never-reads", "answers-early") else {"a": 1}
    is_silent = REASONS.get(name, "").startswith("no answer within")
    answer = posted(f"{receiver}/{name}", json=body, timeout_ms=TIMEOUT_MS if is_silent else AMPLE_MS)
    if name in REASONS:
        assert isinstance(answer, RetryLater | Rejected) and REASONS[name] in answer.reason
        assert answer.reason.isprintable() and len(answer.reason) < 400
        assert isinstance(answer, Rejected) == (name in ("404-html", "redirect"))
    else:
        assert answer == Delivered()
    if body != LARGE:
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 64 * 1024


@pytest.mark.filterwarnings("ignore:Sending a large body")
def test_a_server_that_does_not_read_keeps_no_socket_open(receiver: str) -> None:
    """What was not written when the time is over is more than the system's buffers hold."""

    async def go() -> tuple[int, int, int]:
        sender = WebhookSender({})
        before = open_sockets()
        request = {"url": f"{receiver}/never-reads", "body": LARGE * 6, "timeout_ms": TIMEOUT_MS}
        answer = await sender.post("k", request)
        assert isinstance(answer, RetryLater) and "no answer within" in answer.reason
        ended = await eventually(lambda: open_sockets() == before)
        await sender.close()
        return before, ended, open_sockets()

    before, ended, closed = asyncio.run(go())
    assert ended == before == closed


async def eventually(holds: Callable[[], bool]) -> int:
    """Let the event loop turn until it holds, at most for 10 s; how many sockets are open then."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(10):
            while not holds():
                await asyncio.sleep(0.01)
    return open_sockets()


def open_sockets() -> int:
    """Sockets of this process."""
    found = 0
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found += os.readlink(f"/proc/self/fd/{number}").startswith("socket:")
    return found


@pytest.mark.parametrize("name", sorted(echoes("x" * 20)))
def test_a_secret_that_a_server_repeats_in_any_encoding_is_not_kept(receiver: str, name: str) -> None:
    token = "tok/en+9f3A~Zq7&x"
    headers = {"Authorization": "Bearer \0pager\0"}
    answer = posted(f"{receiver}/echo-{name}", {"pager": token}, headers=headers)
    assert isinstance(answer, RetryLater) and answer.reason.startswith("HTTP 500: ")
    assert ("***" in answer.reason) if name == "plain" else ("text not shown" in answer.reason)
    assert token not in answer.reason and echoes(token)[name].strip() not in answer.reason


@pytest.mark.parametrize(
    "name", ["103-endless", "102-endless", "200-extension-endless", "200-idle-flood", "garbage-endless"]
)
def test_a_neighbour_is_served_while_receivers_flood(receiver: str, neighbour: str, name: str) -> None:
    """The bad one costs a bounded share of the process's time: what it sends is cut off, and its attempts end."""

    async def go() -> float:
        sender = WebhookSender({})
        bad = [
            asyncio.create_task(sender.post(f"b{at}", {"url": f"{receiver}/{name}", "json": {}, "timeout_ms": 10_000}))
            for at in range(16)
        ]
        used_s = time.process_time()
        for at in range(100):
            good = await sender.post(f"g{at}", {"url": f"{neighbour}/good", "json": {}})
            assert good == Delivered()
        await asyncio.gather(*bad)
        used_s = time.process_time() - used_s
        await sender.close()
        return used_s

    # Without a bound the attempts flood for all of their ten seconds.
    assert asyncio.run(go()) < 5


def test_connections_are_read_by_what_bounds_them(receiver: str) -> None:
    """The library's hook has no public name: a new version must not lose it unnoticed."""

    async def go() -> object:
        connections, url = OutgoingConnections({}, DenyList(())), URL(f"{receiver}/200-held")
        way = await connections.open(DEFAULT_CONNECTION, url)
        async with way.session.post(url, data=b"{}") as response:
            assert response.connection is not None
            found = response.connection.protocol
            response.close()
        await connections.close()
        return found

    assert isinstance(asyncio.run(go()), BoundedAnswers)
