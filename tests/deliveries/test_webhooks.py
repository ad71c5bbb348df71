"""Single webhooks against a real loopback target: what goes out, and what each answer means."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

import pytest

from engine.actions.base import Attempted, Delivered, Rejected, RetryLater, Untried
from engine.actions.webhook.deny import Denied, DenyList
from engine.actions.webhook.request import WebhookSender, judge
from engine.actions.webhook.signing import reveal_in_url, signature
from tests.benchmarks.sink import Request, Sink


def post(path: str, secrets: Mapping[str, str] | None = None, **request: Any) -> tuple[Attempted, list[Request]]:
    """One webhook to a sink; the answer, and what arrived."""

    async def go() -> tuple[Attempted, list[Request]]:
        async with Sink() as sink:
            sender = WebhookSender(secrets or {})
            answer = await sender.post("key-1", {"url": sink.url + path, **request})
            await sender.close()
            return answer, sink.requests

    return asyncio.run(go())


def header(request: Request, name: str) -> str:
    lines = dict(line.split(": ", 1) for line in request.head.decode().split("\r\n")[1:])
    return lines[name]


def test_a_json_body_goes_out_with_its_key_and_type() -> None:
    answer, (request,) = post("/ok", json={"client": "G@@@d1"}, headers={"X-Site": "north"})
    assert answer == Delivered()
    assert request.body == b'{"client":"G@@@d1"}'
    assert header(request, "Idempotency-Key") == "key-1"
    assert header(request, "Content-Type") == "application/json"
    assert header(request, "User-Agent").startswith("rollcall/")
    assert header(request, "X-Site") == "north"


def test_a_text_body_and_another_method_go_out_as_written() -> None:
    _, (request,) = post("/ok", method="PUT", body="dark: ü")
    assert request.head.startswith(b"PUT /ok ") and request.body.decode() == "dark: ü"


def test_secrets_in_a_body_are_added_when_it_is_sent_and_escaped_for_json_where_they_stand_in_it() -> None:
    secrets = {"k": 'a"b\\'}
    _, (request,) = post("/ok", secrets, json={"key": "\0k\0", "in": ["x \0k\0"]})
    assert json.loads(request.body) == {"key": 'a"b\\', "in": ['x a"b\\']}
    _, (request,) = post("/ok", secrets, body='{"key": "\0json:k\0", "n": 1}')
    assert json.loads(request.body) == {"key": 'a"b\\', "n": 1}
    _, (request,) = post("/ok", secrets, body="key=\0k\0")
    assert request.body == b'key=a"b\\'


def test_a_secret_of_a_body_that_is_not_configured_is_waited_for() -> None:
    answer, arrived = post("/ok", {}, json={"key": "\0k\0"})
    assert isinstance(answer, RetryLater) and "the secret 'k' is not configured" in answer.reason and arrived == []


def test_a_signature_can_be_checked_with_the_shared_secret() -> None:
    _, (request,) = post("/ok", {"hook": "s3cret"}, json={"a": 1}, sign="hook")
    stamp, value = header(request, "X-Rollcall-Signature").split(",")
    signed = stamp.removeprefix("t=").encode() + b"." + request.body
    assert value == "v1=" + hmac.new(b"s3cret", signed, hashlib.sha256).hexdigest()


def test_a_signature_is_the_documented_one() -> None:
    assert signature("key", b"{}", 1).startswith("t=1,v1=") and signature("key", b"{}", 1) != signature("key", b"{}", 2)


def test_a_secret_is_put_in_when_sending_in_headers_and_urls() -> None:
    _, (request,) = post(
        "/ok/\0pager\0?t=\0pager\0", {"pager": "a/b+c d"}, headers={"Authorization": "Bearer \0pager\0"}
    )
    path, _, query = request.path.partition("?")
    assert path == "/ok/a/b+c%20d" and parse_qs(query) == {"t": ["a/b+c d"]}
    assert header(request, "Authorization") == "Bearer a/b+c d"


def test_a_missing_secret_is_named_and_tried_again_later() -> None:
    answer, requests = post("/ok", headers={"Authorization": "\0pager\0"})
    assert isinstance(answer, RetryLater) and "'pager'" in answer.reason and not requests


def test_a_secret_never_appears_in_a_reason() -> None:
    assert reveal_in_url("ftp://\0pager\0/", {"pager": "hidden value"}) == "ftp://hidden%20value/"

    async def refused() -> Attempted:
        sender = WebhookSender({"pager": "hidden-value"})
        return await sender.post("k", {"url": "ftp://example.test/\0pager\0", "json": {}})

    answer = asyncio.run(refused())
    assert isinstance(answer, Rejected) and "hidden" not in answer.reason


def test_a_secret_with_a_line_break_cannot_add_a_header() -> None:
    answer, requests = post("/ok", {"pager": "a\r\nX-Evil: 1"}, headers={"Authorization": "\0pager\0"})
    assert isinstance(answer, Rejected) and "control character" in answer.reason and not requests


@pytest.mark.parametrize(
    ("path", "kind", "words"),
    [
        ("/500", RetryLater, "HTTP 500: out\\x07of order"),
        ("/429", RetryLater, "HTTP 429"),
        ("/404", Rejected, "HTTP 404: not me!"),
        ("/redirect", Rejected, "redirects are not followed"),
        ("/close", RetryLater, "no answer"),
    ],
)
def test_each_answer_means_what_it_should(path: str, kind: type[Attempted], words: str) -> None:
    answer, requests = post(path, json={})
    assert isinstance(answer, kind) and not isinstance(answer, Delivered | Untried) and words in answer.reason
    assert len(requests) == 1


def test_too_many_requests_says_how_long_to_wait() -> None:
    answer, _ = post("/429", json={})
    assert isinstance(answer, RetryLater) and answer.retry_after_ms == 1_000


def test_a_target_that_hangs_may_have_taken_it() -> None:
    answer, _ = post("/hang", json={}, timeout_ms=150)
    assert isinstance(answer, RetryLater) and answer.may_have_arrived


def test_a_target_that_answers_500_has_not_taken_it() -> None:
    answer, _ = post("/500", json={})
    assert isinstance(answer, RetryLater) and not answer.may_have_arrived


def test_a_port_where_nobody_listens_has_not_taken_it() -> None:
    async def go() -> Attempted:
        async with Sink() as sink:
            url = sink.url
        sender = WebhookSender({})
        answer = await sender.post("k", {"url": url, "json": {}})
        await sender.close()
        return answer

    answer = asyncio.run(go())
    assert isinstance(answer, RetryLater) and not answer.may_have_arrived and "no connection" in answer.reason


def test_of_a_long_answer_only_the_beginning_is_kept() -> None:
    answer, _ = post("/long", json={})
    assert isinstance(answer, RetryLater) and len(answer.reason) < 400


def test_statuses_listed_as_ok_are_the_only_good_ones() -> None:
    assert isinstance(judge(404, None, "", [404], 0), Delivered)
    assert isinstance(judge(200, None, "", [404], 0), Rejected)


@pytest.mark.parametrize(("header", "wanted_ms"), [(None, None), ("7", 7_000), ("999999", 3_600_000), ("soon", None)])
def test_a_retry_waits_as_long_as_the_target_says(header: str | None, wanted_ms: int | None) -> None:
    answer = judge(503, header, "", [], 10.0)
    assert isinstance(answer, RetryLater) and answer.retry_after_ms == wanted_ms


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "http://[::ffff:127.0.0.1]:9/", "http://localhost:9/"])
def test_a_denied_address_is_refused_by_number_and_by_name(url: str) -> None:
    async def go() -> Attempted:
        sender = WebhookSender({}, deny=["127.0.0.0/8", "::1/128"])
        answer = await sender.post("k", {"url": url, "json": {}})
        await sender.close()
        return answer

    answer = asyncio.run(go())
    assert isinstance(answer, Rejected) and "is denied by network.deny" in answer.reason


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1"]
)
def test_an_ipv4_address_is_denied_in_every_form_in_which_ipv6_carries_it(address: str) -> None:
    with pytest.raises(Denied):
        DenyList(["169.254.0.0/16"]).check("metadata.test", address)


def test_an_address_outside_the_list_is_let_through() -> None:
    DenyList(["169.254.0.0/16", "fe80::/10"]).check("x.test", "170.0.0.1")
