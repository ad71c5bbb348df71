"""`POST /v1/events` as senders meet it: what a body may be, and what is said of one that holds no event."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from backports import zstd

from tests.acceptance.service import Service, event, eventually, service
from tests.hostile.senders import LARGE, Sender

JSON, NDJSON = "application/json", "application/x-ndjson"


def raw_deflate(data: bytes) -> bytes:
    return zlib.compress(data, wbits=-15)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(tmp_path_factory.mktemp("bodies")) as found:
        found.rules()
        found.start()
        yield found


def sent(running: Service, body: bytes, kind: str = NDJSON, **headers: str) -> tuple[int, dict[str, Any]]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = requests.post(f"{running.url}/v1/events", body, headers={"Content-Type": kind, **named}, timeout=60)
    return answer.status_code, answer.json()


def lines(*clients: str) -> bytes:
    return "\n".join(event(client, "connect", "c") for client in clients).encode()


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", raw_deflate), ("zstd", zstd.compress)],
)
def test_compressed_bodies_are_taken(running: Service, encoding: str, compress: Callable[[bytes], bytes]) -> None:
    names = [f"G@@@{encoding}-{compress.__name__}-{n}" for n in range(300)]
    assert sent(running, compress(lines(*names)), Content_Encoding=encoding) == (202, {"accepted": 300, "rejected": []})
    assert set(names) <= set(running.statuses())


def test_a_compressed_body_that_is_cut_off_or_a_bomb_or_unknown_is_refused_with_the_reason(running: Service) -> None:
    whole = gzip.compress(lines("G@@@cut"), mtime=0)
    status, problem = sent(running, whole[:-4], Content_Encoding="gzip")
    assert (status, "the gzip body is cut off" in problem["title"]) == (400, True)
    status, problem = sent(running, zstd.compress(b"\n" * (1 << 30)), Content_Encoding="zstd")
    assert (status, "when decompressed" in problem["title"]) == (413, True)
    for encoding in ("br", "gzip, gzip"):
        status, problem = sent(running, whole, Content_Encoding=encoding)
        assert (status, "gzip, deflate, zstd" in problem["title"]) == (415, True)
    assert "G@@@cut" not in running.statuses()


@pytest.mark.parametrize(
    "kind", [JSON, NDJSON, "application/json; charset=UTF-8", 'application/x-ndjson;charset="utf8"']
)
def test_an_array_of_events_is_taken(running: Service, kind: str) -> None:
    body = b"[" + lines("G@@@array1", "G@@@array2").replace(b"\n", b",\n") + b', {"clientId": 7}]'
    status, told = sent(running, body, kind)
    assert (status, told["accepted"], [entry["line"] for entry in told["rejected"]]) == (202, 2, [3])
    assert {"G@@@array1", "G@@@array2"} <= set(running.statuses())


def test_a_byte_order_mark_costs_no_event(running: Service) -> None:
    for number, body in enumerate((lines("G@@@bom", "G@@@bom"), b"[" + lines("G@@@bom") + b"]")):
        status, told = sent(running, b"\xef\xbb\xbf" + body, JSON)
        assert (status, told["accepted"]) == (202, 2 - number)


def test_other_encodings_of_text_are_named(running: Service) -> None:
    status, problem = sent(running, lines("G@@@wide").decode().encode("utf-16"))
    assert (status, "UTF-16" in problem["title"]) == (400, True)
    status, problem = sent(running, lines("G@@@wide"), "application/json; charset=utf-16le")
    assert (status, problem["title"]) == (415, "the charset must be utf-8, not utf-16le")


def test_a_body_without_any_event_is_a_mistake_and_is_quarantined_all_the_same(running: Service) -> None:
    before = running.metric("rollcall_rejected")
    status, problem = sent(running, b"{broken\n[]\nnull\n17\n" + b"x" * 100)
    assert (status, problem["code"], problem["accepted"]) == (400, "bad-request", 0)
    assert [entry["line"] for entry in problem["rejected"]] == [1, 2, 3, 4, 5]
    assert re.fullmatch(
        r"nothing in the body is an event: line 1: not JSON.*; line 2: .*; line 3: .*; and 2 more", problem["title"]
    )
    assert "{broken" in {entry["raw"] for entry in running.items("/v1/quarantine")}
    assert running.metric("rollcall_rejected") == before + 5


def test_one_event_among_many_bad_lines_is_accepted(running: Service) -> None:
    status, told = sent(running, b"x\n" * 1_500 + lines("G@@@lonely"))
    assert (status, told["accepted"]) == (202, 1)
    assert (len(told["rejected"]), told["rejected_more"]) == (1_000, 500)
    assert "G@@@lonely" in running.statuses()


def test_a_body_of_a_single_future_event_is_taken_into_the_quarantine_and_says_so(running: Service) -> None:
    status, found = sent(running, event("G@@@tomorrow", "connect", "c", 4_102_444_800_000).encode())
    assert (status, found["accepted"]) == (202, 0)  # it is an event, and may be accepted later
    assert "in the future" in found["rejected"][0]["reason"]


def test_unfinished_large_bodies_keep_nobody_out(running: Service) -> None:
    senders = [Sender(running.port).post(LARGE, b"\n" * (16 * (1 << 20) - 2)) for _ in range(4)]
    assert sent(running, lines("G@@@small"))[0] == 202
    assert all(sender.is_open() for sender in senders)


def hung_up(running: Service) -> float:
    """How many senders have hung up so far."""
    text = requests.get(f"{running.url}/metrics", timeout=60).text
    found = re.search(r'^rollcall_http_refused_total{reason="hung_up"} (\S+)$', text, re.MULTILINE)
    return float(found[1]) if found else 0


def test_a_sender_that_hangs_up_is_counted_and_is_not_our_fault(running: Service) -> None:
    before = hung_up(running)
    for _ in range(3):
        Sender(running.port).post(LARGE, b"x\n").close()
    eventually(lambda: hung_up(running), lambda count: count >= before + 3)
    assert not any(json.loads(line)["level"] == "error" for line in running.log_text().splitlines())
