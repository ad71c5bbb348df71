"""How webhooks connect, with real parts: a proxy, servers with certificates of our own CA, and client certificates."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.actions.base import Attempted, Delivered, Rejected, RetryLater
from engine.actions.configured import connection_setup
from engine.actions.webhook.connecting import is_excepted
from engine.actions.webhook.connection_setup import ConnectionSetup
from engine.actions.webhook.request import WebhookSender
from engine.config.connection import ConnectionConfig
from tests.connections.authority import Authority
from tests.connections.proxies import proxy

PASSWORD = "s3cret-of-the-proxy"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def server_files(authority: Authority) -> tuple[Path, Path]:
    return authority.issue("server")


@pytest.fixture(scope="module")
def open_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with proxy(tmp_path_factory.mktemp("proxy")) as address:
        yield address


@pytest.fixture(scope="module")
def closed_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with proxy(tmp_path_factory.mktemp("proxy"), f"me:{PASSWORD}") as address:
        yield address


class Target:
    """A server that takes every request: its port, and the heads that arrived."""

    def __init__(self) -> None:
        self.port = 0
        self.heads: list[bytes] = []
        self.writers: list[asyncio.StreamWriter] = []

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        try:
            while True:
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                await reader.readexactly(2)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        except (asyncio.IncompleteReadError, OSError):
            return


@asynccontextmanager
async def target(files: tuple[Path, Path] | None = None, clients: Path | None = None) -> Any:
    """Over TLS with `files`; `clients`: the CA whose certificates callers must show."""
    context = None
    if files is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*files)
        if clients is not None:
            context.load_verify_locations(clients)
            context.verify_mode = ssl.CERT_REQUIRED
            context.maximum_version = ssl.TLSVersion.TLSv1_2  # the server's reason arrives before the request is sent
    found = Target()
    server = await asyncio.start_server(found.answer, "127.0.0.1", 0, ssl=context)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.close()
        for writer in found.writers:
            writer.transport.abort()
        for _ in range(5):  # what was aborted says so in the turns of the loop that follow
            await asyncio.sleep(0)


def sent(
    setup: ConnectionSetup,
    files: tuple[Path, Path] | None = None,
    clients: Path | None = None,
    *,
    host: str = "localhost",
    deny: tuple[str, ...] = (),
    headers: dict[str, str] | None = None,
) -> tuple[Attempted, Target]:
    """One webhook over such a connection, and what arrived."""

    async def go() -> tuple[Attempted, Target]:
        async with target(files, clients) as there:
            sender = WebhookSender({}, deny, connections={"": setup})
            url = f"{'http' if files is None else 'https'}://{host}:{there.port}/hook"
            answer = await sender.post("k", {"url": url, "json": {}, "headers": headers or {}, "timeout_ms": 20_000})
            await sender.close()
            return answer, there

    return asyncio.run(go())


def reason_of(answer: Attempted) -> str:
    assert isinstance(answer, RetryLater | Rejected)
    return answer.reason


def by(address: str, login: str = "", **more: Any) -> ConnectionSetup:
    url = f"http://{f'{login}@' if login else ''}{address}"
    return ConnectionSetup(http_proxy=url, https_proxy=url, **more)


def test_a_webhook_goes_through_the_proxy(open_proxy: str) -> None:
    answer, there = sent(by(open_proxy))
    assert answer == Delivered() and b"Via:" in there.heads[0]
    assert b"Via:" not in sent(ConnectionSetup())[1].heads[0]


def test_over_https_it_goes_through_a_tunnel_that_the_proxy_cannot_look_into(
    open_proxy: str, authority: Authority, server_files: tuple[Path, Path]
) -> None:
    answer, there = sent(by(open_proxy, ca=str(authority.ca)), server_files)
    assert answer == Delivered() and b"Via:" not in there.heads[0]
    assert "is not trusted: " in reason_of(sent(by(open_proxy), server_files)[0])


@pytest.mark.parametrize("tls", [False, True])
def test_a_proxy_that_wants_a_login_gets_it_and_no_text_shows_it(
    closed_proxy: str, authority: Authority, server_files: tuple[Path, Path], tls: bool
) -> None:
    files = server_files if tls else None
    assert sent(by(closed_proxy, f"me:{PASSWORD}", ca=str(authority.ca)), files)[0] == Delivered()
    answer, there = sent(by(closed_proxy, f"me:{PASSWORD}x", ca=str(authority.ca)), files)
    assert isinstance(answer, RetryLater) and answer.our_fault and there.heads == []
    assert "HTTP 407" in answer.reason and PASSWORD not in answer.reason


def test_a_proxy_that_is_not_there_is_named_without_its_login() -> None:
    answer, _ = sent(by("127.0.0.1:9", f"me:{PASSWORD}"))
    assert reason_of(answer).startswith("no connection to the proxy 127.0.0.1:9: ") and PASSWORD not in reason_of(
        answer
    )


@pytest.mark.parametrize(
    ("host", "deny"), [("127.0.0.1", "127.0.0.1/32"), ("localhost", "127.0.0.0/8"), ("2130706433", "127.0.0.0/8")]
)
def test_denied_networks_are_denied_through_a_proxy_too(open_proxy: str, host: str, deny: str) -> None:
    answer, there = sent(by(open_proxy), host=host, deny=(deny,))
    assert isinstance(answer, Rejected) and "network.deny" in answer.reason and there.heads == []


def test_a_name_that_does_not_resolve_here_is_asked_of_the_proxy_only_when_nothing_is_denied(open_proxy: str) -> None:
    refused, _ = sent(by(open_proxy), host="nowhere.invalid", deny=("10.0.0.0/8",))
    assert "network.deny needs" in reason_of(refused)
    assert "HTTP 502" in reason_of(sent(by(open_proxy), host="nowhere.invalid")[0])


def test_the_proxy_itself_may_lie_in_a_denied_network(open_proxy: str) -> None:
    assert "network.deny needs" in reason_of(sent(by(open_proxy), host="nowhere.invalid", deny=("127.0.0.0/8",))[0])


def test_of_two_servers_only_the_one_whose_issuer_is_known_is_trusted(
    authority: Authority, server_files: tuple[Path, Path]
) -> None:
    assert sent(ConnectionSetup(ca=str(authority.ca)), server_files)[0] == Delivered()
    assert reason_of(sent(ConnectionSetup(), server_files)[0]).endswith("name the CA that issued it in `ca`")


def test_certificates_that_ran_out_are_named(authority: Authority, server_files: tuple[Path, Path]) -> None:
    old = authority.issue("old", "20200101000000Z", "20200102000000Z")
    assert reason_of(sent(ConnectionSetup(ca=str(authority.ca)), old)[0]) == (
        "the certificate of localhost is not trusted: certificate has expired, and has to be renewed there"
    )
    setup = ConnectionSetup(ca=str(authority.ca), cert=str(old[0]), key=str(old[1]))
    assert "our certificate" in reason_of(sent(setup, server_files, authority.ca)[0])


def test_a_server_that_asks_for_a_certificate_gets_it(authority: Authority, server_files: tuple[Path, Path]) -> None:
    cert, key = authority.issue("client")
    setup = ConnectionSetup(ca=str(authority.ca), cert=str(cert), key=str(key))
    answer, there = sent(setup, server_files, authority.ca)
    assert answer == Delivered() and len(there.heads) == 1
    assert isinstance(sent(ConnectionSetup(ca=str(authority.ca)), server_files, authority.ca)[0], RetryLater)


def test_a_certificate_that_is_renewed_is_read_without_a_restart(
    authority: Authority, server_files: tuple[Path, Path], tmp_path: Path
) -> None:
    async def go() -> list[type[Attempted]]:
        cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
        setup = ConnectionSetup(ca=str(authority.ca), cert=str(cert), key=str(key))
        found = []
        async with target(server_files, authority.ca) as there:
            sender = WebhookSender({}, connections={"": setup})
            for name, ends in (("before", "20200102000000Z"), ("after", "21000101000000Z")):
                for made, place in zip(authority.issue(name, ends=ends), (cert, key), strict=True):
                    place.write_bytes(made.read_bytes())
                request = {"url": f"https://localhost:{there.port}/", "json": {}, "timeout_ms": 20_000}
                found.append(type(await sender.post("k", request)))
            await sender.close()
        return found

    assert asyncio.run(go()) == [RetryLater, Delivered]


def test_a_file_that_went_away_is_our_own_fault(authority: Authority, server_files: tuple[Path, Path]) -> None:
    answer, _ = sent(ConnectionSetup(ca="/gone/ca.pem"), server_files)
    assert isinstance(answer, RetryLater) and answer.our_fault and "/gone/ca.pem" in answer.reason


def test_headers_arrive_as_utf_8() -> None:
    _, there = sent(ConnectionSetup(), headers={"X-Who": "Zoë ☃ 警报"})
    assert "X-Who: Zoë ☃ 警报\r\n".encode() in there.heads[0]


@pytest.mark.parametrize(
    ("host", "port", "no_proxy", "excepted"),
    [
        ("example.com", 443, "example.com", True),
        ("a.example.com", 443, "example.com", True),
        ("a.example.com", 443, ".example.com", True),
        ("a.example.com", 443, "*.example.com", True),
        ("anexample.com", 443, "example.com", False),
        ("EXAMPLE.com.", 443, "Example.COM", True),
        ("10.1.2.3", 80, "localhost, 10.0.0.0/8", True),
        ("11.1.2.3", 80, "10.0.0.0/8", False),
        ("::1", 80, "[::1]", True),
        ("::1", 80, "[::1]:8080", False),
        ("host", 8080, "host:8080", True),
        ("host", 80, "host:8080", False),
        ("host", 80, "*", True),
        ("host", 80, "", False),
    ],
)
def test_what_no_proxy_names(host: str, port: int, no_proxy: str, excepted: bool) -> None:
    assert is_excepted(host, port, no_proxy) is excepted


def test_the_environment_counts_only_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://p:1")
    monkeypatch.setenv("NO_PROXY", "a")
    assert connection_setup(ConnectionConfig()) == ConnectionSetup()
    assert connection_setup(ConnectionConfig(proxy="env")) == ConnectionSetup(http_proxy="http://p:1", no_proxy="a")
