"""Device ids made to break a mail, and what must hold for each: `python -m tests.mail.hostile_ids 100000` tries so many.

Each id goes the whole way: rendered with the default subject and the shipped bodies, and with templates that print it, then made into a message.
"""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Iterator
from email import message_from_bytes
from email.header import decode_header, make_header
from email.message import Message
from email.policy import compat32, default

from engine.actions.email.message import message_of
from engine.templates.rendered import Rendered
from tests.mail.test_mailrendering import rendered, variables

BITS = [
    "=?", "?=", "?q?", "?b?", "utf-8", "us-ascii", "=0D=0A", "=80", "\r", "\n", "\r\n", "Bcc: x@y.z", "é", "水", "\ud800", "\udc80", "\u2028",
    "\x00", "\x85", "\x9b", "\xa0", " ", "\t", ":", ",", ";", "<", ">", "@", '"', "\\", "(", ")", "=", "_", "?", "\U0001f600", "\u202e", "\ufeff",
    "a", "B", "9", "G@@@", "gb2312", "=?utf-8?b?DQpCY2M6IHhAeS56DQoNCg==?=", "=?us-ascii?q?=80?=", "=?x-unknown?q?a?=", "...", "\x7f", "\u0301",
    "-" * 40, "x" * 90, "+AA0ACg-", "[", "\r\n.\r\n", "=?utf-8?q?=0D=0ABcc:_x=40y.z=0D=0A=0D=0A<h1>x</h1>?=", "é=?us-ascii?q?=80?=",
    "=?utf-8?q?a?= =?utf-8?q?b?=", "=?utf-16?b?DQoNCg==?=", "=?utf-8*en?q?a?=", "{{", "}}", "%", "&lt;",
]  # fmt: skip

NAMES = [
    "From",
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "Auto-Submitted",
    "X-Rollcall-Rule",
    "MIME-Version",
    "Content-Type",
]


def hostile_ids(count: int, seed: int) -> Iterator[str]:
    rng = random.Random(seed)
    for _ in range(count):
        if rng.random() < 0.2:
            codes = (rng.choice([rng.randrange(0x110000), rng.randrange(256)]) for _ in range(rng.randrange(1, 60)))
            yield "".join(map(chr, codes))
        else:
            yield "".join(rng.choice(BITS) for _ in range(rng.randrange(1, 14)))


def check(id_: str, *, with_bodies: bool) -> None:
    """The mail about a device of this id is alive, and has the headers and the text that it should have."""
    spec = {} if with_bodies else {"text": "{{ client.id }}\n", "html": "<p>{{ client.id }}"}
    found = rendered(variables(f"G@@@{id_}"), **spec)
    assert found.dead is None, ascii(id_)
    raw = message_of(found.request, "pump-offline")
    lines = raw.split(b"\r\n")
    assert raw.isascii() and max(map(len, lines)) <= 998, ascii(id_)
    assert not any(b"\r" in line or b"\n" in line for line in lines), ascii(id_)
    for policy in (compat32, default):
        message = message_from_bytes(raw, policy=policy)
        assert [name for name, _ in message.raw_items()] == NAMES, ascii(id_)
        assert not message.defects
    _check_text(id_, found, message_from_bytes(raw))


def _check_text(id_: str, found: Rendered, message: Message) -> None:
    """Who reads the mail sees the subject and the text that were rendered."""
    subject = "".join(message["Subject"].splitlines())
    wanted = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", found.request["subject"])
    assert str(make_header(decode_header(subject))) == _encodable(wanted), ascii(id_)
    text = next(part for part in message.walk() if part.get_content_type() == "text/plain")
    raw = text.get_payload(decode=True)
    assert isinstance(raw, bytes)
    read = raw.decode().replace("\r\n", "\n")
    assert read.rstrip("\n") == _encodable(found.request["text"].replace("\r", "\n")).rstrip("\n"), ascii(id_)


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def check_all(count: int, seed: int) -> None:
    for number, id_ in enumerate(hostile_ids(count, seed)):
        check(id_, with_bodies=number % 10 == 0)


if __name__ == "__main__":
    check_all(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    print(f"{sys.argv[1]} ids on Python {sys.version.split()[0]}: no mail is dead, no header is added")
