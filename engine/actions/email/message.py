"""The message of a stored e-mail, ready for `DATA`: the same request always makes the same bytes, and no line of it can end it."""

from __future__ import annotations

from collections.abc import Mapping
from email.headerregistry import Address, HeaderRegistry, UnstructuredHeader
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.policy import Policy
from email.utils import parseaddr
from typing import Any


class _Token(UnstructuredHeader):
    """A header that programs compare: on one line as it is, where the library would encode one that is long."""

    name: str  # given by the class it is mixed with

    def fold(self, *, policy: Policy) -> str:
        """The header's line."""
        return f"{self.name}: {self}{policy.linesep}"


_HEADERS = HeaderRegistry()
for _name in ("Message-ID", "In-Reply-To", "References", "X-Rollcall-Rule"):
    _HEADERS.map_to_type(_name, _Token)  # type: ignore[arg-type]  # it takes what is to be mixed with its base class
POLICY = SMTP_POLICY.clone(cte_type="7bit", max_line_length=78, header_factory=_HEADERS)


def message_of(request: Mapping[str, Any], rule: str) -> bytes:
    """The message of a request, ready for `DATA`: the same request always makes the same bytes.

    Raises ValueError (or KeyError) for a request that is none, such as an address with a line break.
    """
    message = EmailMessage(policy=POLICY)
    name, address = parseaddr(request["from"])
    message["From"] = Address(display_name=name, addr_spec=address)
    for header, key in (("To", "to"), ("Cc", "cc")):
        if request.get(key):
            message[header] = [Address(addr_spec=one) for one in request[key]]
    message["Subject"] = request["subject"]
    message["Date"] = request["date"]
    message["Message-ID"] = request["message_id"]
    if request.get("in_reply_to"):
        message["In-Reply-To"] = message["References"] = request["in_reply_to"]
    message["Auto-Submitted"] = "auto-generated"
    message["X-Rollcall-Rule"] = rule
    # Quoted-printable writes `=` as `=3D`, so no line of a part can be the boundary.
    message.set_content(request["text"], charset="utf-8", cte="quoted-printable")
    if request.get("html"):
        message.add_alternative(request["html"], subtype="html", charset="utf-8", cte="quoted-printable")
        message.set_boundary(f"=_{request['message_id'].strip('<>').partition('@')[0]}")
    return message.as_bytes()
