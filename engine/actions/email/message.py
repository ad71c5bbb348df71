"""The message of a stored e-mail, ready for `DATA`: the same request always makes the same bytes, and no line of it can end it.

Devices choose what stands in a subject. So header values are encoded here and not by the library, whose older versions decode an encoded word
(`=?utf-8?q?=0D=0ABcc:…?=`) that somebody put into a value, and write the lines that were hidden in it. Whatever is not plain ASCII, or looks
like an encoded word, is written as encoded words; then the finished head is read again and compared with what was meant. Read `message_of`.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from engine.config.addresses import is_address, mailbox

LONGEST_LINE: Final = 998
"""Characters of a line that every server must accept (RFC 5322), without its end."""

LONGEST_PLAIN: Final = 900
"""Characters of a header's value that is written on one line as it is."""

WORD_BYTES: Final = 42
"""Of text in one encoded word: in base64 and with its frame it has at most 75 characters (RFC 2047)."""

_PLAIN: Final = re.compile(r"[\x21-\x7e]+(?: [\x21-\x7e]+)*")
_ATOMS: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/^_`{|}~-]+)*")
_BREAKS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_LINE_ENDS: Final = re.compile(r"\r\n?")
_FIELD: Final = re.compile(rb"([A-Za-z-]+): [\x20-\x7e]*(?:\r\n [\x20-\x7e]+)*\r\n")

Headers = Sequence[tuple[str, str]]


def message_of(request: Mapping[str, Any], rule: str) -> bytes:
    """The message of a request, ready for `DATA`: the same request always makes the same bytes.

    Raises ValueError (or KeyError) for a request that is none, such as an address with a line break. A text never is a reason.
    """
    name, address = mailbox(request["from"])
    headers = [("From", f"{_phrase(name)} <{address}>" if name else address)]
    headers += [(header, _addresses(request[key])) for header, key in (("To", "to"), ("Cc", "cc")) if request.get(key)]
    headers += [
        ("Subject", _text(request["subject"])),
        ("Date", _token(request["date"])),
        ("Message-ID", _token(request["message_id"])),
    ]
    if request.get("in_reply_to"):
        headers += [(header, _token(request["in_reply_to"])) for header in ("In-Reply-To", "References")]
    headers += [("Auto-Submitted", "auto-generated"), ("X-Rollcall-Rule", _token(rule)), ("MIME-Version", "1.0")]
    text, html = _part("plain", request["text"]), request.get("html")
    if not html:
        return _head([*headers, *text[0]]) + text[1]
    # Quoted-printable writes `=` as `=3D`, so no line of a part can be the boundary.
    boundary = f"=_{hashlib.sha256(request['message_id'].encode('utf-8', 'backslashreplace')).hexdigest()[:32]}"
    parts = b"".join(
        b"--%s\r\n%s%s\r\n" % (boundary.encode(), _head(part), body) for part, body in (text, _part("html", html))
    )
    head = _head([*headers, ("Content-Type", f'multipart/alternative; boundary="{boundary}"')])
    return head + parts + b"--%s--\r\n" % boundary.encode()


def _head(headers: Headers) -> bytes:
    """Header fields and the empty line after them. Raises ValueError when the bytes say anything else than `headers`."""
    written = "".join(f"{name}: {value}\r\n" for name, value in headers).encode("ascii")
    fields, at = [], 0
    while found := _FIELD.match(written, at):
        fields.append(found[1].decode())
        at = found.end()
    if at != len(written) or fields != [name for name, _ in headers]:
        raise ValueError("a header would not be what it should be")
    if max(map(len, written.split(b"\r\n"))) > LONGEST_LINE:
        raise ValueError("a header line would be too long")
    return written + b"\r\n"


def _text(value: str) -> str:
    """A header's value as people read it: as it is when it is plain ASCII, else as encoded words."""
    line = _BREAKS.sub(" ", value)
    if (_PLAIN.fullmatch(line) and "=?" not in line and len(line) <= LONGEST_PLAIN) or not line:
        return line
    return "\r\n ".join(_encoded_words(line))


def _phrase(name: str) -> str:
    """A name in front of an address: as it is, in quotes, or as encoded words."""
    line = _text(name)
    if "\r\n" in line or line.startswith("=?") or _ATOMS.fullmatch(line):
        return line
    escaped = line.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _encoded_words(text: str) -> list[str]:
    """RFC 2047; each word holds whole characters. Halves of surrogate pairs, which no encoding can hold, are written as escapes."""
    words, word = [], b""
    for character in text:
        more = character.encode("utf-8", "backslashreplace")
        if len(word) + len(more) > WORD_BYTES:
            words.append(word)
            word = b""
        word += more
    return [f"=?utf-8?b?{binascii.b2a_base64(one, newline=False).decode()}?=" for one in [*words, word]]


def _token(value: str) -> str:
    """A value of ours that programs compare: never folded or encoded. Raises ValueError for one that is not a line of plain ASCII."""
    if not _PLAIN.fullmatch(value) or "=?" in value or len(value) > LONGEST_PLAIN:
        raise ValueError(f"{value[:80]!a} is no value of a header")
    return value


def _addresses(addresses: Sequence[str]) -> str:
    """Addresses of recipients, each on a line of its own. Raises ValueError for one that is none."""
    for one in addresses:
        if not is_address(one):
            raise ValueError(f"{one[:80]!a} is no e-mail address")
    return ",\r\n ".join(addresses)


def _part(kind: str, text: str) -> tuple[Headers, bytes]:
    """The headers and the body of one form of the message."""
    raw = _LINE_ENDS.sub("\n", text).encode("utf-8", "backslashreplace")
    body = binascii.b2a_qp(raw, istext=True).replace(b"\n", b"\r\n")
    headers = (("Content-Type", f'text/{kind}; charset="utf-8"'), ("Content-Transfer-Encoding", "quoted-printable"))
    return headers, body if body.endswith(b"\r\n") else body + b"\r\n"
