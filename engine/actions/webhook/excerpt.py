"""The beginning of an answer's body, as text that can be kept with a failed delivery. Read `readable`."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from typing import Final

EXCERPT_BYTES: Final = 4096
"""Read of an answer's body, and made of it by decompression, at most: a long error page must not cost memory."""

CHARSETS: Final = frozenset(
    {"utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "iso-8859-15", "latin-1", "latin1", "windows-1250", "windows-1251", "windows-1252",
     "koi8-r", "gbk", "gb2312", "gb18030", "big5", "shift_jis", "euc-jp", "euc-kr"}
)  # fmt: skip
"""Encodings of text that a server may name. Others are read as UTF-8: some names stand for decoders that cost more than they are worth."""

MOST_UNREADABLE: Final = 0.1
"""A body of which a larger share is control characters and broken characters is not text."""

_CHARSET: Final = re.compile(r"charset\s*=\s*\"?([\w.:-]{1,40})", re.IGNORECASE)
_UNREADABLE: Final = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\ufffd]")
_COMPRESSED: Final = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_GZIP_BEGINS: Final = b"\x1f\x8b"


def readable(body: bytes, headers: Mapping[str, str]) -> str:
    """What `body` says, decompressed and decoded within bounds; a note in brackets when it cannot be shown. Never raises."""
    encoding = headers.get("Content-Encoding", "").strip().lower()[:40]
    if body.startswith(_GZIP_BEGINS):
        encoding = "gzip"  # whatever the header says
    if encoding not in ("", "identity"):
        unpacked = _unpacked(body, encoding)
        if unpacked is None:
            return f"(body not shown: {len(body)} bytes that cannot be decoded)" if body else ""
        body = unpacked
    text = _decoded(body, headers.get("Content-Type", ""))
    if len(_UNREADABLE.findall(text)) > MOST_UNREADABLE * len(text):
        return f"(body not shown: {len(body)} bytes that are not text)"
    return text


def _unpacked(body: bytes, encoding: str) -> bytes | None:
    """At most `EXCERPT_BYTES` of what a compressed body holds; None when it is compressed in another way, or broken at once."""
    if encoding not in _COMPRESSED:
        return None
    for window in (_COMPRESSED[encoding], -15):  # some servers send `deflate` without its header
        try:
            found = zlib.decompressobj(window).decompress(body, EXCERPT_BYTES)
        except zlib.error:
            continue
        return found or None
    return None


def _decoded(body: bytes, kind: str) -> str:
    named = _CHARSET.search(kind)
    charset = named[1].lower() if named is not None else "utf-8"
    # A character that was cut off at the end, or is broken, is shown as such.
    return body.decode(charset if charset in CHARSETS else "utf-8", "replace")
