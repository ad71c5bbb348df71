"""E-mail addresses: the engine accepts a safe subset of what the standards allow.

`local@domain` in ASCII, without quotes, comments, lists or literals: an accepted address has no second meaning inside a header
or an SMTP command.
"""

from __future__ import annotations

import re

MAX_ADDRESS_CHARACTERS = 254
"""Longest address that every server must accept (RFC 5321)."""

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS = re.compile(rf"(?P<local>{_ATOM}(?:\.{_ATOM})*)@(?P<domain>{_LABEL}(?:\.{_LABEL})*)")
_MAILBOX = re.compile(r"(?P<name>[^<>\"(),:;@\\\[\]\x00-\x1f\x7f-\x9f\u2028\u2029]{1,100}) <(?P<address>[^<>\s]+)>")


def is_address(text: str) -> bool:
    """Whether a text is one e-mail address and nothing else."""
    found = _ADDRESS.fullmatch(text)
    return found is not None and len(text) <= MAX_ADDRESS_CHARACTERS and len(found["local"]) <= 64


def mailbox(text: str) -> tuple[str, str]:
    """Name (may be empty) and address of `address` or `Name <address>`. Raises ValueError for anything else."""
    found = _MAILBOX.fullmatch(text)
    name, address = (found["name"].strip(), found["address"]) if found else ("", text)
    if not is_address(address):
        raise ValueError("is not an e-mail address such as rollcall@example.com or Rollcall <rollcall@example.com>")
    return name, address


def mailbox_problem(text: str) -> str | None:
    """Why `mailbox` refuses a text; None when it does not."""
    try:
        mailbox(text)
    except ValueError as error:
        return f"`{text[:80]}` {error}"
    return None


def domain_of(address: str) -> str:
    """The part after the `@`."""
    return address.rpartition("@")[2]
