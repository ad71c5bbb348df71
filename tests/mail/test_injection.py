"""Nothing that a device calls itself adds a header or a body to a mail, or makes it dead: on every Python, whatever its library does."""

from __future__ import annotations

from email import message_from_bytes
from email.policy import default
from typing import Any

import pytest

from engine.actions.email.message import message_of
from tests.mail.hostile_ids import check, check_all

REQUEST: dict[str, Any] = {
    "from": "Rollcall <rollcall@example.com>", "to": ["ops@example.com"], "cc": [], "subject": "s", "text": "t\n",
    "message_id": "<1@example.com>", "date": "Thu, 01 Jan 2026 00:01:30 +0000",
}  # fmt: skip


def headers(**more: Any) -> list[str]:
    raw = message_of({**REQUEST, **more}, "r")
    return [
        line.partition(b":")[0].decode() for line in raw.partition(b"\r\n\r\n")[0].split(b"\r\n") if line[:1] != b" "
    ]


@pytest.mark.parametrize(
    "device",
    [
        "=?utf-8?q?=0D=0ABcc:_x=40y.z=0D=0A=0D=0A<h1>pay here</h1>?=", "é=?us-ascii?q?=80?=", "=?utf-8?b?DQpCY2M6IHhAeS56?=", "\ud800",
        "=?us-ascii?q?=80?=", "a\r\nBcc: x@y.z", "=?utf-8?q?=0A?= " * 20,
    ],
)  # fmt: skip
def test_a_device_cannot_write_into_the_head(device: str) -> None:
    check(device, with_bodies=True)
    check(device, with_bodies=False)


def test_hundreds_of_hostile_ids_make_living_mails() -> None:
    check_all(300, seed=7)


@pytest.mark.parametrize(
    "name", ["=?utf-8?q?=0D=0ABcc=3A_x=40y.z?=", "水泵 =?us-ascii?q?=80?=", "Rollcall Inc.", "Dr. \u202e"]
)
def test_a_senders_name_is_encoded_alike(name: str) -> None:
    raw = message_of({**REQUEST, "from": f"{name} <rollcall@example.com>"}, "r")
    (sender,) = message_from_bytes(raw, policy=default)["From"].addresses
    assert (sender.display_name, sender.addr_spec) == (name, "rollcall@example.com")
    assert headers(**{"from": f"{name} <rollcall@example.com>"}) == headers()


@pytest.mark.parametrize("key", ["message_id", "in_reply_to", "date"])
@pytest.mark.parametrize(
    "value", ["<1>\r\nBcc: x@y.z", "<1>\nX: y", "=?utf-8?q?=0D=0ABcc:_x?=", "<é@x>", "x" * 2000, "<1> "]
)
def test_a_value_for_programs_is_one_plain_line_or_no_message(key: str, value: str) -> None:
    with pytest.raises(ValueError, match="no value of a header"):
        message_of({**REQUEST, key: value}, "r")


@pytest.mark.parametrize(
    "address", ["a@b.c\r\nBcc: x@y.z", "a@b.c, x@y.z", "A <a@b.c>", "é@b.c", "a@b.c\n", "=?utf-8?q?a?=@b.c\0"]
)
def test_an_address_that_is_none_makes_no_message(address: str) -> None:
    for key in ("to", "cc"):
        with pytest.raises(ValueError, match="is no e-mail address"):
            message_of({**REQUEST, key: [address]}, "r")
