"""A body taken apart: lines, one document, an array; and what a body that is none of them costs."""

from __future__ import annotations

import json
import tracemalloc

import pytest

from engine.errors import TooLarge
from engine.sources.http_body import (
    MAX_ARRAY_COMMAS,
    MAX_BODY_LINES,
    MAX_HOPELESS_LINES,
    MAX_KEPT_REJECTIONS,
    PIECE_BYTES,
    DecodedBody,
    decode_body,
    is_laborious,
)

NOW = 1_767_225_600_000
JSON, NDJSON = "application/json", "application/x-ndjson"


def event(channel: object = 0, at_ms: int = NOW) -> dict[str, object]:
    return {"clientId": "G@@@d", "time": at_ms, "eventType": "connect", "channelId": str(channel)}


def line(channel: object = 0) -> bytes:
    return json.dumps(event(channel)).encode()


def decoded(body: bytes, content_type: str = NDJSON) -> DecodedBody:
    return decode_body(body, content_type, NOW, 60_000)


def channels(found: DecodedBody) -> list[str]:
    return [event.channel for event in found.decoded.events]


def reasons(found: DecodedBody) -> list[tuple[int, str]]:
    return [(rejection.line, rejection.reason) for rejection in found.decoded.rejected]


@pytest.mark.parametrize("content_type", [JSON, NDJSON])
@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_is_its_items_however_it_is_written(content_type: str, indent: int | None) -> None:
    found = decoded(json.dumps([event("a"), event("b")], indent=indent).encode(), content_type)
    assert channels(found) == ["a", "b"]
    assert all(b"\n" not in raw for raw in found.decoded.raw)


def test_the_items_of_an_array_are_numbered_and_a_bad_one_costs_only_itself() -> None:
    body = b"[" + b",".join([line("a"), b"17", b'{"clientId": 7}', line("b")]) + b"]"
    found = decoded(body, JSON)
    assert channels(found) == ["a", "b"]
    assert [number for number, _ in reasons(found)] == [2, 3]


def test_an_array_of_many_pieces_keeps_its_order_and_its_numbers() -> None:
    items = [event(n) for n in range(2_500)]
    body = json.dumps([*items, "no event"]).encode()
    found = decoded(body, JSON)
    assert channels(found) == [str(n) for n in range(2_500)]
    assert reasons(found) == [(2_501, "not a JSON object")]


def test_lines_of_many_pieces_keep_their_order_and_their_numbers() -> None:
    lines = [line(n) for n in range(6_000)]
    lines[5_000] = b"nonsense"
    body = b"\n".join(lines)
    assert len(body) > 3 * PIECE_BYTES
    found = decoded(body)
    assert channels(found) == [str(n) for n in range(6_000) if n != 5_000]
    assert [number for number, _ in reasons(found)] == [5_001]


def test_a_line_longer_than_a_piece_is_one_line() -> None:
    body = line("a") + b"\n" + b"x" * (2 * PIECE_BYTES) + b"\n" + line("b")
    found = decoded(body)
    assert channels(found) == ["a", "b"]
    assert [number for number, _ in reasons(found)] == [2]


def test_an_empty_array_and_an_empty_body_hold_nothing() -> None:
    for body in (b"[]", b" [ ] ", b"", b"\n \n"):
        assert decoded(body, JSON) == DecodedBody(([], [], [], 0), 0)  # type: ignore[arg-type]


def test_an_array_that_is_cut_off_is_no_array() -> None:
    body = json.dumps([event("a"), event("b")]).encode()[:-1]
    found = decoded(body, JSON)
    assert channels(found) == []
    assert found.rejected == 1


def test_lines_of_which_one_begins_like_an_array_are_lines() -> None:
    assert channels(decoded(b"[oops\n" + line("a"))) == ["a"]


@pytest.mark.parametrize("kind", [JSON, NDJSON])
@pytest.mark.parametrize("body", [line("a"), line("a") + b"\n" + line("a"), b"[" + line("a") + b"]"])
def test_a_mark_of_the_encoding_costs_nothing(kind: str, body: bytes) -> None:
    assert decoded(b"\xef\xbb\xbf" + body, kind) == decoded(body, kind)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("text", [line("a").decode(), f"[{line('a').decode()}]", f"\n{line('a').decode()}"])
def test_another_encoding_is_named(encoding: str, text: str) -> None:
    ((_, reason),) = reasons(decoded(text.encode(encoding), JSON))
    assert reason == f"the body is {encoding[:6].upper()}: send UTF-8"


@pytest.mark.parametrize("torn", [b"{\0\0\0\0\0", b" \0\0", b"[\0\0\0", b"{\0"])
def test_a_torn_first_line_with_nuls_is_no_other_encoding_and_stops_no_other_line(torn: bytes) -> None:
    found = decoded(torn + b"\n" + line("a"))
    assert channels(found) == ["a"]


def test_of_many_bad_lines_the_first_are_kept_and_all_are_counted() -> None:
    good, bad = [line(n) for n in range(3)], 2 * MAX_KEPT_REJECTIONS
    found = decoded(b"\n".join([*good[:2], *[b"x"] * bad, good[2]]))
    assert channels(found) == ["0", "1", "2"]
    assert (len(found.decoded.rejected), found.rejected) == (MAX_KEPT_REJECTIONS, bad)
    assert reasons(found)[0][0] == 3


def test_a_body_without_any_event_is_given_up_and_counted_to_its_end() -> None:
    lines = 12 * MAX_HOPELESS_LINES
    found = decoded(b"x\n" * lines)
    assert found.rejected == lines
    assert len(found.decoded.rejected) == MAX_KEPT_REJECTIONS


def test_a_body_of_too_many_lines_items_or_commas_is_refused_whole() -> None:
    for body in (
        b"\n" * MAX_BODY_LINES,
        b"[" + b"1," * MAX_BODY_LINES + b"1]",
        b"[" + b"1," * MAX_ARRAY_COMMAS + b"1," + b"1]",
    ):
        with pytest.raises(TooLarge, match="too many for one request"):
            decoded(body, JSON)


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000, b"[\n" * 100_000])
def test_what_is_nested_without_end_is_no_event(body: bytes) -> None:
    assert decoded(body, JSON).decoded.events == []


@pytest.mark.parametrize("filler", [b"\0", b"\xef\xbb\xbf", b"\xef\xbb\xbf\0 \r"])
def test_what_may_stand_before_an_event_costs_no_more_memory_than_itself(filler: bytes) -> None:
    body = filler * (4 * 1024 * 1024 // len(filler))
    tracemalloc.start()
    try:
        decoded(body)
        assert tracemalloc.get_traced_memory()[1] < 8 * len(body)
    finally:
        tracemalloc.stop()


def test_what_takes_long_is_known_beforehand() -> None:
    assert not is_laborious(b"\n".join([line()] * 1_000))
    assert is_laborious(b"x\n" * 3_000)
    assert is_laborious(b"[" + b"1," * 10_000 + b"1]")
    assert is_laborious(b" " * (1 << 20))
