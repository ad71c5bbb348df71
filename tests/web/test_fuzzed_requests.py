"""Whatever is asked on any route of the OpenAPI document is answered or refused in a sentence: never 5xx, never as our fault."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.acceptance.service import Service, event, now_ms, offline_rule, service, sink
from tests.hostile.senders import HOST, Sender

PROBLEM = "application/problem+json"
NOT_CONFIGURED = 501  # queries, without `status`

ODD = [
    "", " ", "0", "-1", "1", "7", "0" * 19, "0" * 19 + "9" * 100, "9" * 18, "9" * 19, "9" * 20, "9" * 100, "9" * 5_000,
    "1e9", "0x10", "٣", "²", "NaN", "Infinity", "null", "true", "1-", "-", "1-x", "9" * 18 + "-" + "x" * 300, "\0", "a\0b", "\x7f",
    "\u202e", "\ufeff", "\U0001f600", "..", "../..", "/", "//", "a/b", "%", "%zz", "%00", "%ff", "%C0%AF", "%ED%A0%80", "%25",
    "+", "#", "?", "&", "=", "a=b", "device=", "=x", "device=*", "device=re:", "device=re:(", r"device=re:\pL{1000}",
    "device=re:" + "(a?){999}" * 20, "device=re:" + "((a{30}){30}){30}", "client=re:" + "x" * 2_000, "device=[", "device=[!",
    "ip=1.2.3.4/99", "ip=::/0", "ip=", "attributes.=x", "attributes.x=y", "site=\0", "online", "firing", "due", "active",
    "2026-01-01T00:00:00Z", "yesterday", "1767225600000", "99999999999999", "G@@@d1", "G@@@" + "d" * 300, "@@@", "gone", "x" * 8_000,
]  # fmt: skip
"""Values that have broken something somewhere."""

RAW = [
    b"%",
    b"%z",
    b"%00",
    b"%ff%fe",
    b"%ed%a0%80",
    b"%F0%9F%98%80",
    b"\xff",
    b"\xc3\xa4",
    b"..",
    b"%2e%2e%2f",
    b"//",
    b";",
    b"\x7f",
    b"*",
]
"""Parts of an address as bytes, as no library would write them."""

texts = st.sampled_from(ODD) | st.text(max_size=30)
encoded = texts.map(lambda text: quote(text, safe="", errors="replace").encode())
parts = encoded | st.sampled_from(RAW)
deep = st.sampled_from([1, 400, 30_000]).flatmap(lambda n: st.sampled_from(["[" * n, '{"a":' * n, "[" * n + "]" * n]))
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)
ACT = {"match": {"group": "G"}, "for": "2h", "author": "Z", "comment": "c", "dry_run": True}
acts = st.dictionaries(st.sampled_from([*ACT, "x"]), documents, max_size=5).map(lambda told: json.dumps(ACT | told))
bodies = (acts | documents.map(json.dumps) | deep | texts).map(lambda text: text.encode("utf-8", "surrogatepass"))
bodies |= st.binary(max_size=40) | st.sampled_from(
    [b'{"author": "\\ud800"}', b'{"for": 1e400}', b'{"match": {"x": "\\ud800"}}']
)
HEADERS = [
    b"Content-Encoding: gzip\r\n", b"Content-Encoding: br\r\n", b"Content-Type: application/json; charset=utf-16\r\n",
    b"Content-Type: \xff\xfe\r\n", b"Accept: \xff\r\n", b"Origin: null\r\n", b"Origin: \xff\r\n", b"Referer: \xff\r\n",
    b"Authorization: Basic \xff\r\n", b"Authorization: \xff\xff\r\n", b"Sec-Fetch-Site: \xff\r\n", b"User-Agent: Mozilla/5.0 \xff\r\n",
    b"X-Forwarded-For: \xff\r\n", b"Cookie: a=\xff; \x01\r\n", b"Range: bytes=0-1\r\n", b"If-None-Match: *\r\n", b"Expect: 100-continue\r\n",
    b"Upgrade: h2c\r\nConnection: upgrade\r\n", b"Transfer-Encoding: gzip\r\n", b"Host: \xff\r\n", b"X: " + b"a" * 9_000 + b"\r\n",
]  # fmt: skip


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with some of everything, whose log says nothing of an internal error in the end."""
    folder = tmp_path_factory.mktemp("fuzzed")
    (folder / "inventory.csv").write_text("client,site\nG@@@d*,north\n")
    with sink() as target, service(folder, inventory="inventory.csv") as found:
        found.rules(offline_rule(target.url))
        found.start()
        found.tell(*(event(f"G@@@d{n}", "connect", f"c{n}", now_ms() - 5_000) for n in range(4)))
        found.tell(event("G@@@d1", "tcpclean", "c1"))
        found.post("{broken")
        yield found
        for name in ("http.failed", "internal.fault", "task.failed", "writer.poisoned"):
            assert found.log_lines(name) == []
        assert "library." not in found.log_text()


@pytest.fixture(scope="module")
def operations(running: Service) -> list[tuple[str, str, list[str]]]:
    """Every (method, path, names of the query's parameters) of the OpenAPI document."""
    paths = running.get("/openapi.json")["paths"]
    return [
        (method.upper(), path, [one["name"] for one in told.get("parameters", []) if one["in"] == "query"])
        for path, methods in paths.items()
        for method, told in methods.items()
    ]


def asked(running: Service, method: str, target: bytes, headers: bytes, body: bytes) -> tuple[int, str, bytes]:
    """(status, content type, body) of one request, sent as it is."""
    head = method.encode() + b" " + target + b" HTTP/1.1\r\n" + HOST + b"Connection: close\r\n"
    if b"Content-Type" not in headers:
        headers += b"Content-Type: application/json\r\n"
    answer = Sender(running.port).say(head + headers + b"Content-Length: %d\r\n\r\n" % len(body), body).answer()
    while answer.startswith(b"HTTP/1.1 100"):
        answer = answer.partition(b"\r\n\r\n")[2]
    head, _, said = answer.partition(b"\r\n\r\n")
    kind = re.search(rb"(?i)content-type: ([^\r;]+)", head)
    return int(head.split(b" ")[1]), kind[1].decode() if kind else "", said


def check(told: tuple[int, str, bytes]) -> None:
    status, kind, said = told
    if status == 503 and said.startswith(b'{"ready":false'):
        return  # what was posted before made the source degraded, and /readyz says so
    assert status < 500 or status == NOT_CONFIGURED, told
    if status >= 400:
        assert kind == PROBLEM, told
        problem: dict[str, Any] = json.loads(said)
        assert problem["status"] == status
        assert problem["title"]


fuzzed = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@fuzzed
@given(data=st.data())
def test_any_address_of_any_route_is_answered_or_refused(
    running: Service, operations: list[tuple[str, str, list[str]]], data: st.DataObject
) -> None:
    method, path, known = data.draw(st.sampled_from(operations))
    target = b"".join(
        data.draw(parts) if part.startswith("{") else part.encode() for part in re.split(r"({\w+(?::\w+)?})", path)
    )
    names = st.sampled_from([name.encode() for name in known]) if known else parts
    query = data.draw(st.lists(st.tuples(names | parts if data.draw(st.booleans()) else names, parts), max_size=4))
    target += b"?" + b"&".join(name + b"=" + value for name, value in query) if query else b""
    headers = data.draw(st.sampled_from(HEADERS) | st.just(b""))
    check(asked(running, method, target, headers, data.draw(bodies) if method != "GET" else b""))


@fuzzed
@given(body=bodies, headers=st.sampled_from(HEADERS) | st.just(b""))
def test_any_body_of_events_is_answered_or_refused(running: Service, body: bytes, headers: bytes) -> None:
    check(asked(running, "POST", b"/v1/events", headers, body))


@pytest.mark.parametrize("value", ODD)
def test_every_parameter_takes_every_odd_value_or_says_why_not(
    running: Service, operations: list[tuple[str, str, list[str]]], value: str
) -> None:
    word = quote(value, safe="", errors="replace").encode()
    for method, path, known in operations:
        plain = re.sub(r"{\w+(?::\w+)?}", "1", path).encode()
        if "{" in path:
            odd = b"".join(
                word if part.startswith("{") else part.encode() for part in re.split(r"({\w+(?::\w+)?})", path)
            )
            check(asked(running, method, odd, b"", b"" if method == "GET" else b"{}"))
        if method == "GET":
            for name in known:
                check(asked(running, method, plain + b"?" + name.encode() + b"=" + word, b"", b""))
