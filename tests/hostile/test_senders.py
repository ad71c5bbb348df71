"""Whoever can reach the listener and has no token neither keeps others out nor costs more than a bound."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.runtime.http_connections import ConnectionLimits
from engine.telemetry import Event
from tests.acceptance.service import eventually
from tests.hostile.listener import TOKEN, Listener, listening
from tests.hostile.senders import BEHAVIOURS, CHUNKED, HOST, LARGE, MIB, Sender, misbehave
from tests.written_log import written_log

LONG_S = 3_600.0
PATIENT = ConnectionLimits(
    connections=64, of_one_address=24, head_s=LONG_S, extra_head_s=LONG_S, body_grace_s=LONG_S, body_s=LONG_S,
    young_body_s=LONG_S, answer_s=LONG_S, leaving_s=LONG_S, every_s=0.05,
)  # fmt: skip
"""Nobody is too slow: only the number of connections is bounded."""

STRICT = ConnectionLimits(
    head_s=0.2, extra_head_s=0.2, body_grace_s=0.2, body_bytes_per_s=1 << 30, body_s=0.2, answer_s=0.2,
    leaving_s=0.2, every_s=0.05,
)  # fmt: skip
"""Everybody who does not go on at once is too slow."""


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Listener]:
    with listening(tmp_path, PATIENT) as found:
        yield found


@pytest.fixture
def strict(tmp_path: Path) -> Iterator[Listener]:
    with listening(tmp_path, STRICT) as found:
        yield found


def asked(port: int, path: str = "/healthz", token: bool = False) -> tuple[int, Any]:
    """The answer to one ordinary request: (status, JSON)."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path, headers={"Authorization": "Bearer s3cret"} if token else {})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def status_of(answer: bytes) -> int:
    """The status of the first response in some bytes; 0 when there is none."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


# How many


def test_however_many_requests_are_half_sent_the_next_one_is_answered(patient: Listener) -> None:
    senders = []
    for _ in range(100):
        senders.append(misbehave(patient.port, "half_head"))
        if len(senders) % 20 == 0:
            assert asked(patient.port)[0] == 200
            assert asked(patient.port, "/v1/alerts", token=True)[0] == 200
    open_ones = eventually(
        lambda: sum(sender.is_open() for sender in senders), lambda count: count <= PATIENT.of_one_address
    )
    assert open_ones > 0
    assert patient.refusals.totals["too_many_connections"] >= 100 - PATIENT.of_one_address


def test_when_all_connections_are_at_work_the_health_is_still_answered_and_others_are_asked_to_wait(
    patient: Listener,
) -> None:
    senders = [Sender(patient.port, TOKEN).post(LARGE, b"x\n") for _ in range(PATIENT.of_one_address)]
    _, problem = eventually(lambda: asked(patient.port, "/v1/alerts", token=True), lambda found: found[0] == 503)
    assert "too many connections" in problem["title"]
    assert asked(patient.port)[0] == 200
    assert asked(patient.port, "/readyz", token=True)[0] == 503  # its own answer: the states are not loaded
    assert all(sender.is_open() for sender in senders)
    senders += [misbehave(patient.port, "half_head") for _ in range(100)]
    assert asked(patient.port)[0] == 200


# How long


@pytest.mark.parametrize("behaviour", ["silent", "half_head"])
def test_who_never_sends_a_whole_head_is_sent_away(strict: Listener, behaviour: str) -> None:
    answer = misbehave(strict.port, behaviour).answer()
    assert status_of(answer) == (408 if behaviour == "half_head" else 0)


@pytest.mark.parametrize("behaviour", ["half_body", "half_chunk"])
def test_who_never_sends_the_whole_body_is_sent_away(strict: Listener, behaviour: str) -> None:
    answer = misbehave(strict.port, behaviour, TOKEN).answer()
    assert status_of(answer) == 408
    assert b"the body did not arrive in time" in answer
    assert strict.refusals.totals["slow_body"] == 1


def test_a_second_request_on_a_connection_has_no_more_time_than_the_first(strict: Listener) -> None:
    sender = Sender(strict.port)
    sender.say(b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n")
    assert status_of(sender.first()) == 200
    sender.say(b"GET /healthz HTTP/1.1\r\n")
    assert status_of(sender.answer()) == 408


def test_who_asks_and_never_reads_the_answer_is_sent_away(strict: Listener) -> None:
    sender = Sender(strict.port, TOKEN)
    request = b"GET /openapi.json HTTP/1.1\r\n" + HOST + TOKEN + b"\r\n"
    eventually(lambda: sender.say(request * 50) and strict.refusals.totals["unread_answer"])


# How much


def test_who_asks_and_does_not_read_the_answers_makes_room_for_others(tmp_path: Path) -> None:
    request = b"GET /openapi.json HTTP/1.1\r\n" + HOST + TOKEN + b"\r\n"
    with listening(tmp_path, replace(PATIENT, unread_s=0.1)) as found:
        senders = [Sender(found.port).say(request * 500) for _ in range(PATIENT.of_one_address)]
        assert all(status_of(sender.first()) == 200 for sender in senders)  # and hundreds of answers are left
        assert eventually(lambda: asked(found.port, "/v1/alerts", token=True)[0], lambda status: status == 200)
        eventually(lambda: found.refusals.totals["too_many_connections"])
        for sender in senders:
            sender.connection.close()


def test_without_the_token_the_answer_comes_before_the_body(patient: Listener) -> None:
    for behaviour in ("half_body", "half_chunk"):
        sender = misbehave(patient.port, behaviour)
        answer = sender.first()
        assert status_of(answer) == 401
        assert b"connection: close" in answer.lower()
    assert patient.refusals.totals["unauthorized"] == 2


def test_a_sender_that_does_not_look_up_from_its_body_still_gets_the_refusal(strict: Listener) -> None:
    sender = Sender(strict.port).post(LARGE, *(b"x" * MIB for _ in range(16)))
    assert status_of(sender.answer()) == 401


@pytest.mark.parametrize(
    ("behaviour", "status"),
    [
        ("large_head", 431),
        ("many_headers", 431),
        ("long_target", 431),
        ("not_http", 400),
        ("bad_length", 400),
        ("bad_chunk", 400),
        ("tiny_chunks", 400),
        ("long_extension", 431),
        ("endless_trailers", 431),
        ("oversized", 413),
    ],
)
def test_what_is_no_request_is_refused_with_the_reason(strict: Listener, behaviour: str, status: int) -> None:
    answer = misbehave(strict.port, behaviour, TOKEN).answer()
    assert status_of(answer) == status
    problem = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert problem["status"] == status
    assert problem["title"]


def test_chunks_behind_an_answer_do_no_harm(strict: Listener) -> None:
    with written_log() as log:
        sender = Sender(strict.port).post(CHUNKED)
        assert status_of(sender.first()) == 401
        sender.say(b"zz\r\nnonsense")
        sender.answer()
        assert asked(strict.port)[0] == 200
    assert "error" not in log.text


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_every_bad_sender_is_sent_away_in_the_end_and_nothing_of_it_is_our_fault(
    strict: Listener, behaviour: str
) -> None:
    with written_log() as log:
        for headers in (b"", TOKEN):
            misbehave(strict.port, behaviour, headers).answer()
        assert asked(strict.port)[0] == 200
    assert '"level":"error"' not in log.text
    assert "library." not in log.text


def test_offers_of_other_protocols_are_ignored(strict: Listener) -> None:
    for offer in (b"websocket", b"h2c", b"TLS/1.0"):
        upgrade = b"Connection: Upgrade\r\nUpgrade: " + offer + b"\r\nSec-WebSocket-Key: AAAA\r\n"
        sender = Sender(strict.port).say(b"GET /healthz HTTP/1.1\r\n" + HOST + upgrade + b"\r\n")
        assert status_of(sender.first()) == 200


def test_requests_in_one_go_are_answered_in_their_order(strict: Listener) -> None:
    paths = [b"/healthz", b"/v1/nothing", b"/healthz"]
    requests = [b"GET " + path + b" HTTP/1.1\r\n" + HOST + TOKEN + b"\r\n" for path in paths]
    answer = Sender(strict.port).say(b"".join(requests)).answer()
    assert [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]] == [200, 404, 200]


# What the log says


def test_a_flood_of_refusals_is_one_line_with_their_number(strict: Listener) -> None:
    with written_log() as log:
        for _ in range(100):
            misbehave(strict.port, "not_http").answer()
        (line,) = eventually(lambda: log.lines(Event.HTTP_REFUSED))
        assert strict.refusals.totals["invalid_http"] == 100
    assert line["refused"].keys() == {"invalid_http"}
    assert "127.0.0.1" in line["newest"]
    assert len(log.text.splitlines()) == 1
