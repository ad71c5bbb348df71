"""Text from outside can be kept, encoded and shown, whatever its bytes are."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.foreign_text import foreign_text, visible_json, visible_text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("pump-1", "pump-1"),
        ("Pümpe 泵", "Pümpe 泵"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x1b[2J\x9b1m", "\\x1b[2J\\x9b1m"),
        ("a\u2066b\u2069\u061c\u200e\u200f\u202c", "a\\u2066b\\u2069\\u061c\\u200e\\u200f\\u202c"),
        ("pu\u200bmp\ufeff\u2060\u00ad", "pu\\u200bmp\\ufeff\\u2060\\xad"),
        ("\ud83d", "\\ud83d"),
        ("\U000e0041", "\\U000e0041"),
        ("a\U0001bca0\U00013430", "a\\U0001bca0\\U00013430"),
    ],
)
def test_what_cannot_be_seen_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert visible_text(text) == shown


@given(st.text(alphabet=st.characters()))
def test_no_control_or_format_character_is_left(text: str) -> None:
    assert not [c for c in visible_text(text) if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")]
    assert not [
        c
        for c in visible_text(text)
        if unicodedata.bidirectional(c) in ("LRE", "RLE", "PDF", "LRI", "RLI", "FSI", "PDI", "LRO", "RLO")
    ]


@pytest.mark.parametrize(
    ("raw", "limit", "text"),
    [
        (b"550 no such user \x9b", 100, "550 no such user \\x9b"),
        ("你好".encode("gbk"), 100, "\\xc4\\xe3\\xba\\xc3"),
        ("550 \udc9b", 100, "550 \\udc9b"),
        ("x" * 50, 10, "xxxxxxxxx…"),
        (b"x" * 10, 10, "xxxxxxxxxx"),
        (b"\xff" * 10, 10, "\\xff\\xff\\…"),
    ],
)
def test_foreign_bytes_become_text(raw: bytes | str, limit: int, text: str) -> None:
    assert foreign_text(raw, limit) == text


@given(st.one_of(st.binary(), st.text(alphabet=st.characters())), st.integers(1, 60))
def test_foreign_text_can_always_be_encoded_and_is_bounded(raw: bytes | str, limit: int) -> None:
    text = foreign_text(raw, limit)
    assert len(text) <= limit
    text.encode("utf-8")
    assert "\n" not in text


@given(st.dictionaries(st.text(), st.text()))
def test_visible_json_has_the_same_values_and_shows_every_character(values: dict[str, str]) -> None:
    line = visible_json(json.dumps(values, ensure_ascii=False) + "\n")
    assert json.loads(line) == values
    assert line.endswith("}\n")
    assert visible_text(line[:-1]) == line[:-1].replace("\x7f", "\\x7f")
