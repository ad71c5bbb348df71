"""Compressed bodies: what each encoding takes, and where a bomb, a cut and a lie end."""

from __future__ import annotations

import asyncio
import gzip
import random
import zlib
from collections.abc import Callable

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message

from engine.errors import BadQuestion, TooLarge
from engine.web.bodies import MAX_EVENT_BYTES, EventBodies
from engine.web.content_encoding import MAX_STREAMS, PIECE_BYTES, decompressed, encoding_of


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


COMPRESS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "zlib": ("deflate", zlib.compress),
    "raw deflate": ("deflate", raw_deflate),
    "zstd": ("zstd", zstd.compress),
}
ways = pytest.mark.parametrize("way", COMPRESS)
LINES = b'{"clientId":"G@@@d","time":1767225600000,"eventType":"connect","channelId":"c"}\n' * 50_000
NOISE = random.Random(7).randbytes(3 * PIECE_BYTES)


def decompress(body: bytes, encoding: str) -> bytes:
    pieces = list(decompressed(body, encoding))
    assert all(0 < len(piece) <= PIECE_BYTES for piece in pieces)
    return b"".join(pieces)


async def read(body: bytes, encoding: str) -> bytes:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [(b"content-encoding", encoding.encode())]
    bodies = EventBodies()
    try:
        return await bodies.read(Request({"type": "http", "method": "POST", "headers": headers}, receive))
    finally:
        assert bodies.bytes == 0


@ways
@pytest.mark.parametrize("data", [b"", b"x", LINES, NOISE], ids=["nothing", "a byte", "lines", "noise"])
def test_what_was_compressed_comes_back(way: str, data: bytes) -> None:
    encoding, compress = COMPRESS[way]
    assert decompress(compress(data), encoding) == data


@ways
@given(data=st.binary(max_size=2_000))
def test_any_data_comes_back(way: str, data: bytes) -> None:
    encoding, compress = COMPRESS[way]
    assert decompress(compress(data), encoding) == data


@ways
@given(data=st.binary(min_size=1, max_size=300), at=st.integers(min_value=0))
def test_a_cut_anywhere_is_noticed(way: str, data: bytes, at: int) -> None:
    encoding, compress = COMPRESS[way]
    whole = compress(data)
    with pytest.raises(BadQuestion, match=r"is cut off|is not "):
        decompress(whole[: at % len(whole)], encoding)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
@given(noise=st.binary(max_size=200))
def test_noise_is_a_sentence_or_bytes_and_never_anything_else(encoding: str, noise: bytes) -> None:
    try:
        decompress(noise, encoding)
    except BadQuestion as error:
        assert encoding in str(error)


@pytest.mark.parametrize("way", ["gzip", "zstd"])
def test_streams_one_after_the_other_are_one_body(way: str) -> None:
    encoding, compress = COMPRESS[way]
    assert decompress(compress(LINES) + compress(b"") + compress(b"end"), encoding) == LINES + b"end"
    assert decompress(compress(LINES) + b"\0" * 512, encoding) == LINES
    with pytest.raises(BadQuestion):
        decompress(compress(LINES) + b"and more", encoding)
    with pytest.raises(BadQuestion, match="more than 1000"):
        decompress(compress(b"") * (MAX_STREAMS + 1), encoding)


@ways
def test_a_bomb_ends_at_the_bound_of_every_body(way: str) -> None:
    encoding, compress = COMPRESS[way]
    bomb = compress(b"\0" * (20 * MAX_EVENT_BYTES))
    with pytest.raises(TooLarge, match="when decompressed"):
        asyncio.run(read(bomb, encoding))
    assert len(asyncio.run(read(compress(b"\0" * MAX_EVENT_BYTES), encoding))) == MAX_EVENT_BYTES


def test_a_window_that_would_cost_too_much_memory_is_refused() -> None:
    far = zstd.compress(NOISE * 8, options={zstd.CompressionParameter.window_log: 25})
    with pytest.raises(BadQuestion, match="not zstd"):
        decompress(far, "zstd")


@pytest.mark.parametrize(
    ("values", "encoding"),
    [([], None), (["identity"], None), ([""], None), (["GZip"], "gzip"), (["x-gzip"], "gzip"), ([" zstd "], "zstd"),
     (["identity, deflate"], "deflate")],
)  # fmt: skip
def test_the_names_of_the_encodings(values: list[str], encoding: str | None) -> None:
    assert encoding_of(values) == encoding


@pytest.mark.parametrize("values", [["br"], ["gzip, gzip"], ["gzip", "deflate"], ["gzip\0"], ["x"]])
def test_other_encodings_and_several_of_them_are_415(values: list[str]) -> None:
    with pytest.raises(HTTPException) as refusal:
        encoding_of(values)
    assert refusal.value.status_code == 415
    assert refusal.value.headers == {"Accept-Encoding": "gzip, deflate, zstd"}
