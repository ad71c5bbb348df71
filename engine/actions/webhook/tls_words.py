"""What went wrong with certificates, in words that say which one and what to do. Read `certificate_trouble`."""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import Final

from yarl import URL

from engine.config.certificates import expired_at
from engine.config.regular_file import shown_path

_ALERT: Final = re.compile(r"ALERT_([A-Z_]+)|alert ([a-z ]+)")

_OURS: Final = {
    "certificate expired": "our certificate (`cert`) has expired",
    "certificate required": "it asks for a certificate: name one in `cert` and `key`",
    "certificate revoked": "our certificate (`cert`) was revoked",
    "unknown ca": "it does not know who issued our certificate (`cert`)",
    "bad certificate": "it does not accept our certificate (`cert`), or wants one",
    "certificate unknown": "it does not accept our certificate (`cert`)",
    "unsupported certificate": "it does not accept this kind of certificate (`cert`)",
    "access denied": "it does not let our certificate (`cert`) in",
}
"""What a server says of our certificate when it ends the connection (RFC 8446, 6.2), and what that means."""


def certificate_trouble(error: BaseException, host: str) -> str | None:
    """What to say when a connection to `host` failed because of a certificate, theirs or ours; None for any other error."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, ssl.SSLCertVerificationError):
            return f"the certificate of {host} is not trusted: {_theirs(found)}"
        found = found.__cause__ or getattr(found, "certificate_error", None)
    if "alert" in str(error).lower():
        for upper, lower in _ALERT.findall(str(error)):
            said = (upper.replace("_", " ").lower() or lower).strip()
            if said in _OURS:
                return f"{host} refuses the connection: {_OURS[said]}"
    return None


def expired(cert: str | None, url: URL) -> str | None:
    """What to say when a server ended an encrypted connection and our certificate has run out; None when it has not.

    Many servers say nothing, or say it when the request is on its way already.
    """
    ended = expired_at(Path(cert)) if cert is not None and url.scheme == "https" else None
    return (
        None if ended is None else f"our certificate {shown_path(str(cert))} (`cert`) has expired on {ended:%Y-%m-%d}"
    )


def _theirs(error: ssl.SSLCertVerificationError) -> str:
    """What is wrong with the server's certificate."""
    said = error.verify_message or "it cannot be verified"
    if "expired" in said:
        return f"{said}, and has to be renewed there"
    if "issuer" in said or "self-signed" in said or "self signed" in said:
        return f"{said}: name the CA that issued it in `ca`"
    return said.rstrip(".")
