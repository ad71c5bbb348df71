"""What is accepted as an event and what is not, both sides of every boundary; the quick way decides the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core import events as words
from engine.core.events import LifecycleEvent
from engine.errors import ClockSuspect
from engine.sources import acceptance
from engine.sources.wire import Decoded, decode_lines, decode_replay_lines, portions, suspect_clock, with_line_feeds

T = 1_767_225_600_000
MINUTE = 60_000
MARK = b"\xef\xbb\xbf"
GOOD: dict[str, Any] = {
    "clientId": "G@@@d1",
    "time": T,
    "eventType": "connect",
    "channelId": "0123456789abcdef0123456789abcdef",
    "clientIp": "10.0.0.1:4711",
}


def line(**changes: Any) -> bytes:
    """The JSON of a good event with some keys changed; a key set to `...` is left out."""
    return json.dumps({k: v for k, v in (GOOD | changes).items() if v is not ...}).encode()


def decode(*lines: bytes, tag: str | None = None) -> Decoded:
    return decode_lines(b"\n".join(lines), T, MINUTE, tag=tag)


def only(raw: bytes, tag: str | None = None) -> LifecycleEvent:
    decoded = decode(raw, tag=tag)
    assert decoded.rejected == []
    (event,) = decoded.events
    return event


def refusal(raw: bytes, tag: str | None = None) -> str:
    decoded = decode(raw, tag=tag)
    assert decoded.events == []
    (rejection,) = decoded.rejected
    assert rejection.line == 1
    return rejection.reason


def test_a_good_event_is_taken_as_it_is() -> None:
    assert only(line()) == LifecycleEvent("G@@@d1", "connect", T, GOOD["channelId"], "10.0.0.1:4711")
    assert type(only(line())) is LifecycleEvent


@pytest.mark.parametrize("kind", ["CONNECT", "DISCONNECT", "TCPCLEAN"])
@pytest.mark.parametrize("extra", ["", "\\u0041", "ä"])
def test_types_are_the_very_constants_however_the_line_was_decoded(kind: str, extra: str) -> None:
    constant = getattr(words, kind)
    raw = line(eventType=constant).replace(b"d1", extra.encode() + b"d1")
    assert only(raw).type is constant


@pytest.mark.parametrize(
    ("written", "milliseconds"),
    [
        (T, T),
        (str(T), T),
        (T / 1000, T),
        (T // 1000, T),
        (str(T // 1000), T),
        (f"{T // 1000}.25", T + 250),
        (T / 1000 + 0.25, T + 250),
        (1767225600.0014, T + 1),
        (1767225600.0016, T + 2),
        (float(T), T),
        (T + 0.4, T),
        ("1.7672256e12", T),
        ("1.7672256E+9", T),
        (0, 0),
        (-1, -1000),
        ("-62135596800", acceptance.EARLIEST_MS),
        (T + MINUTE, T + MINUTE),
    ],
)
def test_times_are_milliseconds_however_they_are_written(written: object, milliseconds: int) -> None:
    assert only(line(time=written)).occurred_at_ms == milliseconds


def test_a_time_is_in_seconds_below_a_hundred_thousand_million() -> None:
    assert decode_replay_lines(line(time=10**11), 0).events[0][2] == 10**11
    assert decode_replay_lines(line(time=10**11 - 1), 0).events[0][2] == (10**11 - 1) * 1000


@pytest.mark.parametrize(
    "written",
    [True, False, None, "", "soon", " 1767225600000", "1_767_225_600_000", "nan", "inf", "Infinity", "0x10", [], {}]
    + ["1" * 65, "1e999", -62135596801, -(10**15), 253402300800000, "٣", ...],
)
def test_what_is_no_instant_is_malformed(written: object) -> None:
    assert refusal(line(time=written)).startswith("time ")


@pytest.mark.parametrize(
    "written",
    [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"01", b"1.", b"9" * 5000, b"9" * 400, b"-" + b"9" * 400, b"-2e305"],
)
def test_numbers_that_are_none_are_malformed(written: bytes) -> None:
    refusal(line(time=7).replace(b": 7", b": " + written))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"clientId": ""}, "clientId is empty"),
        ({"clientId": 7}, "clientId is not text"),
        ({"clientId": None}, "clientId is not text"),
        ({"clientId": ...}, "clientId is missing"),
        ({"clientId": "x" * 257}, "clientId is 257 bytes long, 256 are allowed"),
        ({"clientId": "ä" * 128 + "x"}, "clientId is 257 bytes long, 256 are allowed"),
        ({"clientId": "a\tb"}, "clientId holds a control character"),
        ({"clientId": "a\x7fb"}, "clientId holds a control character"),
        ({"clientId": "a\x85b"}, "clientId holds a control character"),
        ({"clientId": "a\x00b"}, "clientId holds a control character"),
        ({"channelId": ""}, "channelId is empty"),
        ({"channelId": ...}, "channelId is missing"),
        ({"channelId": ["c"]}, "channelId is not text"),
        ({"channelId": "x" * 65}, "channelId is 65 bytes long, 64 are allowed"),
        ({"channelId": "c\n"}, "channelId holds a control character"),
        ({"clientIp": 7}, "clientIp is not text"),
        ({"clientIp": False}, "clientIp is not text"),
        ({"clientIp": "x" * 65}, "clientIp is 65 bytes long, 64 are allowed"),
        ({"clientIp": "1\x1f"}, "clientIp holds a control character"),
        ({"eventType": "reboot"}, "unknown eventType 'reboot'"),
        ({"eventType": "Connect"}, "unknown eventType 'Connect'"),
        ({"eventType": ""}, "eventType is empty"),
        ({"eventType": 1}, "eventType is not text"),
        ({"eventType": None}, "eventType is not text"),
        ({"eventType": ...}, "eventType is missing"),
        ({"time": T + MINUTE + 1}, "time lies 60.001 s in the future"),
    ],
)
def test_each_broken_rule_has_its_reason(changes: dict[str, Any], reason: str) -> None:
    assert refusal(line(**changes)) == reason
    raw = json.dumps({k: v for k, v in (GOOD | changes).items() if v is not ...}, ensure_ascii=False).encode()
    assert refusal(raw) == reason


@pytest.mark.parametrize(
    "changes",
    [
        {"clientId": "x" * 256},
        {"clientId": "ä" * 128},
        {"clientId": "no separator"},
        {"clientId": "a\u00a0b\u2028"},
        {"channelId": "x" * 64},
        {"channelId": "ä" * 32},
        {"clientIp": "x" * 64},
        {"remark": "tab\there"},
        {"certificateChainSn": None, "remark": [1, {"deep": [True]}]},
    ],
)
def test_what_is_just_within_the_rules_is_accepted(changes: dict[str, Any]) -> None:
    for ascii_only in (True, False):
        assert decode(json.dumps(GOOD | changes, ensure_ascii=ascii_only).encode()).rejected == []


@pytest.mark.parametrize("ip", [..., None, ""])
def test_an_address_that_is_not_known_is_empty(ip: object) -> None:
    assert only(line(clientIp=ip)).ip == ""


def test_unknown_keys_are_kept_up_to_a_kibibyte_together() -> None:
    fits = acceptance.MAX_UNKNOWN_BYTES - len('"x":"",')
    raw = line(x="y" * fits)
    decoded = decode(raw)
    assert (decoded.raw, decoded.rejected) == ([raw], [])
    assert refusal(line(x="y" * (fits + 1))) == "unknown keys hold 1025 bytes, 1024 are allowed"
    assert "unknown keys" in refusal(line(x="y" * 600, z=["y" * 600]))


@pytest.mark.parametrize("key", ["x", "clientIp"])
def test_a_key_that_is_written_again_and_again_is_bounded_too(key: str) -> None:
    again = line()[:-1] + b"".join(b', "%s": "%s"' % (key.encode(), b"y" * 40) for _ in range(100)) + b"}"
    assert refusal(again).startswith("keys that are written more than once hold ")
    pretty = line()[:-1] + b" " * 3_000 + b"}"
    assert decode_lines([pretty], T, MINUTE).rejected == []


@pytest.mark.parametrize(
    "raw",
    [
        b"{not json",
        b"[]",
        b"7",
        b"null",
        b'"text"',
        b"{}{}",
        b"\xff",
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":1,}',
        b"\x00",
        b"{",
    ]
    + [b"[" * 60_000, b'{"a":' * 10_000, b'{"a":"\\ud800"}', b"\xef\xbb\xbf{}"],
)
def test_what_is_no_json_object_is_malformed(raw: bytes) -> None:
    refusal(raw)


def test_lone_surrogates_and_broken_text_are_malformed_also_in_unknown_keys() -> None:
    assert "JSON" in refusal(line(remark="X").replace(b"X", b"\\ud800"))
    assert "UTF-8" in refusal(line(remark="X").replace(b"X", b"\xff"))
    assert "UTF-8" in refusal(line(clientId="X").replace(b"X", b"\xed\xa0\x80"))


def test_of_a_key_written_twice_the_last_one_counts() -> None:
    assert only(line().replace(b"{", b'{"clientId":7,"time":"soon",', 1)).client == "G@@@d1"
    assert refusal(line().replace(b"}", b',"clientId":""}')) == "clientId is empty"


def test_a_line_over_64_kib_is_malformed_and_kept_in_part() -> None:
    padded = line().replace(b"{", b"{" + b" " * (acceptance.MAX_LINE_BYTES - len(line())), 1)
    assert len(padded) == acceptance.MAX_LINE_BYTES
    assert only(padded).client == "G@@@d1"
    too_long = padded.replace(b"{", b"{ ", 1)
    assert "65537 bytes" in refusal(too_long)
    assert decode(too_long).rejected[0].raw == too_long[: acceptance.MAX_LINE_BYTES]


def test_the_tag_stands_in_for_a_missing_type_and_must_not_contradict_one() -> None:
    assert only(line(eventType=...), tag="tcpclean").type is words.TCPCLEAN
    assert only(line(), tag="connect").type is words.CONNECT
    assert refusal(line(), tag="tcpclean") == "eventType is connect, but the message is tagged 'tcpclean'"
    assert refusal(line(eventType=...), tag="reboot") == "unknown eventType 'reboot'"
    assert refusal(line(eventType=None), tag="connect") == "eventType is not text"


@pytest.mark.parametrize("before", [MARK, MARK + MARK, b"\0" * 70_000, b" \0\t", MARK + b"\0 ", b"\0" + MARK])
def test_what_may_stand_before_the_first_event_costs_nothing(before: bytes) -> None:
    for decoded in (decode(before + line(), line()), decode_lines([before + line(), line()], T, MINUTE)):
        assert (len(decoded.events), decoded.raw, decoded.rejected) == (2, [line(), line()], [])
    replayed = decode_replay_lines(before + line(), MINUTE)
    assert (len(replayed.events), replayed.rejected) == (1, [])


def test_nothing_but_a_byte_order_mark_is_a_blank_line_and_nothing_but_nuls_is_refused() -> None:
    decoded = decode(MARK, line(), b"\0\0")
    assert (len(decoded.events), [(r.line, r.raw) for r in decoded.rejected]) == (1, [(3, b"\0\0")])


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
def test_an_event_in_a_wide_encoding_is_named_as_such(encoding: str) -> None:
    assert refusal(line().decode().encode(encoding)) == f"this is {encoding[:6].upper()}; it must be UTF-8"


def test_a_carriage_return_alone_ends_a_line_but_no_document() -> None:
    pretty = line(remark={"a": [{}]}).replace(b"{", b"{\r").replace(b"}", b"\r}\r ").replace(b":", b":\r ")
    assert with_line_feeds(pretty.strip()) == pretty.strip()
    decoded = decode(line() + b"\r" + line() + b"\rno event\r" + line(), line())
    assert (len(decoded.events), [r.line for r in decoded.rejected]) == (4, [3])


def test_one_bad_line_never_stops_the_others_and_lines_are_counted_with_blank_ones() -> None:
    lines = [b"", line(), b"  ", b"{not json", line(clientId="G@@@d2"), b"\r", line(clientId="")]
    decoded = decode_lines(b"\n".join(lines) + b"\n", T, MINUTE, first_line=10)
    assert [e.client for e in decoded.events] == ["G@@@d1", "G@@@d2"]
    assert [(r.line, r.raw) for r in decoded.rejected] == [(13, b"{not json"), (16, lines[-1])]


def test_line_ends_of_any_system_are_taken_off() -> None:
    raw = b"\r\n".join([line(), line(clientId="G@@@d2")]) + b"\r\n"
    for text in (raw, raw + b"{\r\n"):
        assert decode_lines(text, T, MINUTE).raw == [line(), line(clientId="G@@@d2")]


def test_two_documents_on_a_line_are_malformed_and_a_document_on_two_lines_is_two_bad_ones() -> None:
    assert "JSON" in refusal(line() + line())
    assert len(decode(line() + line(), line()).rejected) == 1
    broken = line().replace(b",", b",\n", 1)
    assert [r.line for r in decode(broken, line() + line()).rejected] == [1, 2, 3]


def test_an_item_may_span_lines_and_is_kept_on_one() -> None:
    pretty = json.dumps(GOOD, indent=2).encode()
    decoded = decode_lines([pretty, line(), line() + b"\n" + line()], T, MINUTE)
    assert [json.loads(raw) for raw in decoded.raw] == [GOOD, GOOD]
    assert all(b"\n" not in raw for raw in decoded.raw)
    assert [r.line for r in decoded.rejected] == [3]


@pytest.mark.parametrize(
    ("lines", "future", "suspect"), [(20, 11, True), (20, 10, False), (19, 19, False), (21, 11, True)]
)
def test_the_clock_is_suspect_when_most_of_a_large_batch_lies_in_the_future(
    lines: int, future: int, suspect: bool
) -> None:
    decoded = decode(*[line(time=T + MINUTE + 1)] * future, *[line()] * (lines - future))
    assert decoded.future == future
    if suspect:
        with pytest.raises(ClockSuspect):
            suspect_clock(decoded)
    else:
        suspect_clock(decoded)


@pytest.mark.parametrize(
    ("written", "received"),
    [(..., None), (T, T), (str(T), T), (T + 0.4, T), (0, 0), (float(T), T)],
)
def test_a_recorded_line_may_say_when_it_was_received(written: object, received: int | None) -> None:
    replayed = decode_replay_lines(line(time=0, received_at=written), MINUTE, first_line=5)
    assert (list(replayed.lines), replayed.received, replayed.rejected) == ([5], [received], [])


@pytest.mark.parametrize("written", [-1, "soon", "", None, True, [], "null", -0.6])
def test_a_recorded_line_that_says_it_wrongly_is_malformed(written: object) -> None:
    (rejection,) = decode_replay_lines(line(received_at=written), MINUTE).rejected
    assert rejection.reason.startswith("received_at ")


def test_a_recorded_line_is_judged_by_its_own_clock() -> None:
    received = [T - MINUTE, T - MINUTE - 1, ...]
    replayed = decode_replay_lines(b"\n".join(line(received_at=r) for r in received), MINUTE)
    assert (list(replayed.lines), replayed.received) == ([1, 3], [T - MINUTE, None])
    assert [r.line for r in replayed.rejected] == [2]


def test_a_line_beyond_the_limit_is_refused_though_it_is_only_blanks_that_make_it_long() -> None:
    good, long = line(), line(time=T)[:-1] + b" " * 70_000 + b"}"
    replayed = decode_replay_lines(b"\n".join([good, long, good]), MINUTE)
    assert (list(replayed.lines), [r.line for r in replayed.rejected]) == ([1, 3], [2])


def test_portions_hold_everything_once_in_order_and_are_never_too_large() -> None:
    decoded = decode(*[line(clientId=f"c{n}") if n % 3 else b"{" for n in range(100)])
    cut = list(portions(decoded, 7))
    assert [e for p in cut for e in p.events] == decoded.events
    assert [raw for p in cut for raw in p.raw] == decoded.raw
    assert [r for p in cut for r in p.rejected] == decoded.rejected
    assert all(len(p.events) == len(p.raw) <= 7 and len(p.rejected) <= 7 for p in cut)
    assert list(portions(decode(b""), 7)) == []


# The quick way and the careful way.

_near = st.sampled_from(
    [
        "G@@@d",
        "connect",
        "tcpclean",
        "",
        "null",
        "1767225600000",
        "x" * 64,
        "x" * 65,
        "ä" * 129,
        "\x7f",
        "\x85",
        "\\",
        "\n",
    ]
)
_times = st.one_of(
    st.integers(T - 10**6, T + 10**6),
    st.integers(10**11 - 3, 10**11 + 3),
    st.floats(),
    st.integers(T - 9, T + 9).map(str),
    st.sampled_from(
        ["1.7672256e12", ".5e13", "5.e11", "+1767225600000", "-0", "00", "1e12 ", "0e5", "1E11", "-1767e9"]
    ),
)
_values = st.one_of(_near, _times, st.none(), st.booleans(), st.text(max_size=5), st.lists(_near, max_size=2))
_keys = st.sampled_from([*GOOD, "received_at", "remark", "x"])
_objects = st.dictionaries(_keys, _values, max_size=4).map(lambda changes: GOOD | changes)
_documents = st.one_of(
    _objects.map(lambda o: json.dumps(o).encode()),
    _objects.map(lambda o: json.dumps(o, ensure_ascii=False, separators=(",", ":")).encode()),
    st.tuples(_keys, _times).map(lambda kv: line().replace(b"{", json.dumps(dict([kv])).encode()[:-1] + b",", 1)),
    st.tuples(st.binary(max_size=3), st.integers(0, 150)).map(lambda b: line()[: b[1]] + b[0] + line()[b[1] :]),
    st.tuples(
        st.integers(0, 150), st.sampled_from([b"\n", b"\r", b"\r\n", b"}\n{", b"}\r{", b" ", b"\t", b"\0", MARK])
    ).map(lambda b: line()[: b[0]] + b[1] + line()[b[0] :]),
    st.binary(max_size=20),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(_documents, min_size=1, max_size=4), st.sampled_from([None, "connect", "tcpclean"]))
def test_a_batch_is_decided_as_its_lines_are_one_by_one(documents: list[bytes], tag: str | None) -> None:
    raw = b"\n".join(documents)
    together = decode_lines(raw, T, MINUTE, tag=tag)
    one_by_one = [careful(line, tag) for line in lines_of(raw)]
    assert together.events == [event for event in one_by_one if event is not None]
    assert len(together.rejected) == one_by_one.count(None)
    assert all(b"\n" not in kept for kept in together.raw)


@settings(max_examples=150, deadline=None)
@given(st.lists(_documents, min_size=1, max_size=4))
def test_recorded_lines_are_decided_together_as_they_are_alone(documents: list[bytes]) -> None:
    raw = b"\n".join(documents)
    lines = with_line_feeds(raw).split(b"\n")
    together = decode_replay_lines(raw, MINUTE)
    alone = [decode_replay_lines(line, MINUTE, first_line=number) for number, line in enumerate(lines, 1)]
    columns: tuple[Any, ...] = together
    for column, parts in zip(columns, zip(*alone, strict=True), strict=True):
        assert list(column) == [item for part in parts for item in part]


def lines_of(raw: bytes) -> list[bytes]:
    """The lines of a text that hold something, without what may stand around a document."""
    stripped = []
    for line in with_line_feeds(raw).split(b"\n"):
        text = line.strip(b" \t\r")
        while text[:1] in {b"\0", b" ", b"\t", b"\r"} or text.startswith(MARK):
            text = text.lstrip(b"\0 \t\r").removeprefix(MARK)
        if text or b"\0" in line:
            stripped.append(text)
    return stripped


def careful(document: bytes, tag: str | None) -> LifecycleEvent | None:
    """The verdict of the careful way alone."""
    try:
        event = acceptance.accept(acceptance.read_object(document), tag)
    except acceptance.Malformed:
        return None
    return event if event.occurred_at_ms <= T + MINUTE else None


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.binary(), _documents), st.integers(-(10**15), 10**15))
def test_decoding_never_raises_and_accounts_for_every_line(raw: bytes, received_at_ms: int) -> None:
    decoded = decode_lines(raw, received_at_ms, MINUTE)
    assert len(decoded.events) + len(decoded.rejected) == len(lines_of(raw))
    for event, kept in zip(decoded.events, decoded.raw, strict=True):
        assert json.loads(kept)["clientId"] == event.client


_kinds_of_bytes = st.sampled_from(
    [line(), MARK, b"\0", b"\r", b"\n", b"\r\n", b"{", b"}", b'"', b"\xff\xfe", b"\x85", b"\\u0000"]
)
_hostile = st.lists(st.one_of(_kinds_of_bytes, st.binary(max_size=4), _documents), max_size=12).map(b"".join)


@settings(max_examples=300, deadline=None)
@given(_hostile, st.integers(0, 40))
def test_arbitrary_bytes_among_good_lines_never_raise_and_never_cost_a_good_line(hostile: bytes, good: int) -> None:
    """Good lines stand before and behind, in enough number for the quick way to take them in blocks."""
    many = b"".join(line(clientId=f"G@@@good{number}") + b"\n" for number in range(good))
    raw = many + hostile + b"\n" + many
    decoded, replayed = decode_lines(raw, T, MINUTE), decode_replay_lines(raw, MINUTE)
    for events in (decoded.events, replayed.events):
        assert sum(event[0].startswith("G@@@good") for event in events) == 2 * good
    assert len(decoded.raw) == len(decoded.events)
    assert all(len(rejection.raw) <= acceptance.MAX_LINE_BYTES for rejection in decoded.rejected)
    again = decode_lines(b"\n".join(decoded.raw), T, MINUTE)  # what is kept as history means the same
    assert (again.events, again.rejected) == (decoded.events, [])
