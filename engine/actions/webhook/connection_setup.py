"""How to connect, as the process that sends webhooks is told it. It is made by `engine.actions.configured`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote, urlsplit

import msgspec

DEFAULT_CONNECTION: Final = ""
"""The name of the connection that the section `webhooks` describes; the others have the names of receivers."""


class ConnectionSetup(msgspec.Struct, array_like=True, frozen=True):
    """A `ConnectionConfig` as the process that sends has it: with the URLs of the proxies, which may hold passwords."""

    http_proxy: str = ""  # for http:// targets; "" for none
    https_proxy: str = ""
    no_proxy: str = ""  # hosts that no proxy is used for, as in NO_PROXY
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    problem: str | None = None  # why it cannot be used at all

    @property
    def is_plain(self) -> bool:
        """Does every request connect alike: through no proxy, with no file that may be renewed?"""
        return not (self.http_proxy or self.https_proxy or self.ca or self.cert or self.key or self.problem)

    def secrets(self) -> Iterable[str]:
        """What must not appear in a text: the logins of the proxies."""
        for text in (self.http_proxy, self.https_proxy):
            password = urlsplit(text).password
            if password:
                yield from (password, unquote(password), text)
