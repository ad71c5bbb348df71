"""Text that came from outside, made safe to keep and to show.

Read `foreign_text` (at the edge), `visible_text` and `visible_json` (where people read).

Devices, servers and neighbours choose their bytes. Bytes that are not UTF-8 must not end a delivery, and characters that a reader
cannot see (control characters, marks that turn the reading direction, characters without width, halves of surrogate pairs) must not
control a terminal or make two different ids look the same.
"""

from __future__ import annotations

import re
from typing import Final

_INVISIBLE: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    r"\u3164\ud800-\udfff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\uffff\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Control and format characters, and what Unicode calls *default ignorable*: drawn as nothing, or controlling what is drawn."""

_INVISIBLE_IN_JSON: Final = re.compile(_INVISIBLE.pattern.replace(r"\x00-\x1f", "", 1))
"""The same without what JSON never holds as it is; a line break ends a line."""

_SHORT: Final = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}


def visible_text(text: str) -> str:
    r"""The text on one line, with an escape (`\n`, `\x9b`, `\u202e`) for every character that cannot be seen.

    It is for whatever a person reads: terminals, logs, pages. Text that is printable ASCII is returned as it is.
    """
    if text.isascii() and text.isprintable():
        return text
    return _INVISIBLE.sub(_escape, text)


def visible_json(line: str) -> str:
    r"""JSON with `\u....` for every character in its strings that cannot be seen: the same values, safe on a terminal."""
    return line if line.isascii() else _INVISIBLE_IN_JSON.sub(_escape_in_json, line)


def foreign_text(raw: bytes | str, limit: int) -> str:
    r"""What a neighbour said, as text that can be stored, logged and shown.

    Args:
        raw: what came; bytes are read as UTF-8, and those that are none become escapes (`\x9b`).
        limit: the most characters that are kept; longer text is cut and ends with `…`.

    Returns: one line that every encoding of Unicode can hold.
    """
    # An escape is at most ten characters for one: there is no need to look at more than `limit` of what came.
    cut = raw[: limit * 4] if isinstance(raw, bytes) else raw[:limit]
    text = cut.decode("utf-8", "backslashreplace") if isinstance(cut, bytes) else cut
    shown = visible_text(text[:limit])
    whole = len(cut) == len(raw) and len(text) <= limit and len(shown) <= limit
    return shown[:limit] if whole else shown[: max(0, limit - 1)] + "…"


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    short = _SHORT.get(character)
    if short is not None:
        return short
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _escape_in_json(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
