"""What a reply of a mail server means: its first digit decides (RFC 5321, section 4.3.2), in every place of the dialogue.

The library wants one exact code in each place. So a `200` to the message was taken for a refusal, and the mail was sent again. Here a
reply becomes the code that the library waits for when its first digit is the right one. Any other reply is returned as it came, and when
it is none of SMTP's answers in that place, the connection is ended (a login tries its next method first): nobody knows any more which reply belongs to which command.
"""

from __future__ import annotations

from typing import Final

import aiosmtplib
from aiosmtplib.protocol import SMTPProtocol

from engine.actions.base import MaySend, NothingMayLeave, always

GREETING: Final = b"greeting"
MESSAGE: Final = b"message"
LOGIN: Final = b"AUTH"
DATA: Final = b"DATA"

_YES: Final = {GREETING: 220, b"STARTTLS": 220, b"QUIT": 221, LOGIN: 235}
"""The success code where it is not 250."""

_GO_ON: Final = {DATA: 354, LOGIN: 334}
"""The only places where a server may ask for more."""


def is_refusal(code: int) -> bool:
    """4yz and 5yz: a definite no, for now or for good."""
    return 400 <= code < 600


def meant_by(place: bytes, code: int) -> int | None:
    """The code that the library waits for, when a reply in that place says yes or asks for more; `code` when it says no; None when it says neither."""
    if is_refusal(code):
        return code
    if 200 <= code < 300 and place != DATA:
        return _YES.get(place, 250)
    if 300 <= code < 400:
        return _GO_ON.get(place)
    return None


def place_after(place: bytes, written: bytes) -> bytes:
    """What the next reply is about, when the last one was about `place` and `written` was sent then."""
    if place == DATA:
        return MESSAGE
    verb = written[:10].split(b" ")[0].strip().upper()
    if place == LOGIN and verb not in (b"AUTH", b"MAIL", b"QUIT", b"EHLO"):
        return LOGIN  # the next step of a login is no command
    return verb


class Replies(SMTPProtocol):
    """The library's protocol, which reads replies by their first digit."""

    _place: bytes = GREETING
    may_send: MaySend = staticmethod(always)

    def write(self, data: bytes) -> None:
        """Send, and remember what the reply will be about. NothingMayLeave instead of sending a message now: the connection must be ended then."""
        self._place = place_after(self._place, data)
        if self._place == MESSAGE and not self.may_send():
            raise NothingMayLeave
        super().write(data)

    async def read_response(self, timeout: float | None = None) -> aiosmtplib.SMTPResponse:
        """The next reply. Raises SMTPResponseException for a reply to the message that is neither yes nor no."""
        response = await super().read_response(timeout=timeout)
        place = self._place
        meant = meant_by(place, response.code)
        if meant is not None:
            if place == DATA and meant != 354:
                self._place = b""  # no message follows
            return aiosmtplib.SMTPResponse(meant, response.message)
        self._place = b""
        if self.transport is not None and place not in (GREETING, LOGIN):
            self.transport.abort()  # type: ignore[attr-defined]  # of a connection, always
        if place == MESSAGE:
            raise aiosmtplib.SMTPResponseException(response.code, response.message)
        return response


class Client(aiosmtplib.SMTP):
    """The library's client, which reads replies by their first digit. `may_send` is asked before each message."""

    may_send: MaySend = staticmethod(always)

    @property
    def protocol(self) -> SMTPProtocol | None:
        """The protocol of the connection."""
        return self._protocol

    @protocol.setter
    def protocol(self, made: SMTPProtocol | None) -> None:
        # The library makes the protocol itself, and sets it here before it reads the greeting.
        if made is not None:
            made.__class__ = Replies
            made.may_send = self.may_send  # type: ignore[attr-defined]
        self._protocol = made
