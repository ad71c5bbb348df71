"""Frames between the engine and its child processes: however the stream is cut, the same payloads come out, and none is too long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.frames import Frames, frame

PAYLOADS = st.lists(st.binary(max_size=40), max_size=8)


@given(PAYLOADS, st.lists(st.integers(1, 9), min_size=1))
def test_however_a_stream_is_cut_its_payloads_come_whole_and_in_order(payloads: list[bytes], sizes: list[int]) -> None:
    stream, frames, found, at = b"".join(map(frame, payloads)), Frames(40), [], 0
    while at < len(stream):
        for size in sizes:
            found += frames.feed(stream[at : at + size])
            at += size
    assert found == payloads


def test_a_frame_may_be_as_long_as_the_limit() -> None:
    assert Frames(3).feed(frame(b"abc") + frame(b"")) == [b"abc", b""]


def test_a_frame_that_is_too_long_is_refused_before_its_payload_came() -> None:
    frames = Frames(3)
    assert frames.feed(frame(b"ab") + frame(b"")[:2]) == [b"ab"]
    with pytest.raises(ValueError, match="a frame of 4 bytes is longer than 3"):
        Frames(3).feed((4).to_bytes(4, "big"))
