"""Files of certificates and keys: what is wrong with them, in words. Read `pair_problem`."""

from __future__ import annotations

import re
import ssl
from datetime import UTC, datetime
from pathlib import Path

from engine.config.regular_file import MAX_CERTIFICATES_BYTES, UnreadableFile, read_regular_file, shown_path


def authorities_problem(ca: Path) -> str | None:
    """Why the certificates in a file cannot be trusted, as a sentence; None when they can."""
    try:
        ssl.create_default_context(cafile=str(ca))
    except (OSError, ssl.SSLError) as error:
        return f"{shown_path(ca)} cannot be used: {ssl_words(error)}"
    return None


def pair_problem(cert: Path, key: Path | None) -> str | None:
    """Why a certificate cannot be shown with its key, as a sentence; None when it can."""
    try:
        load_pair(ssl.create_default_context(), cert, key)
    except EncryptedKey:
        return f"{shown_path(key or cert)} is encrypted with a password: write the key without one, readable only for this user"
    except (OSError, ssl.SSLError, ValueError) as error:
        if "KEY_VALUES_MISMATCH" in str(error):
            return f"{shown_path(key or cert)} is not the key of the certificate {shown_path(cert)}"
        if key is None and "PEM" in str(error):
            return f"{shown_path(cert)} must hold a certificate and its key (PEM): name the file of the key in `key`"
        return f"{shown_path(cert)} and its key cannot be used: {ssl_words(error)}"
    return None


class EncryptedKey(ValueError):
    """A key has a password; nobody is there to type it."""


def load_pair(context: ssl.SSLContext, cert: Path, key: Path | None) -> None:
    """Have a context show this certificate. Raises EncryptedKey, OSError or ssl.SSLError."""

    def password() -> str:
        raise EncryptedKey("the key is encrypted with a password")

    context.load_cert_chain(cert, key, password)


def ssl_words(error: Exception) -> str:
    """What the library says of a file, without the place in its own source."""
    text = str(error)
    if "NO_CERTIFICATE_OR_CRL_FOUND" in text or "NO_START_LINE" in text:
        return "it holds no certificate (PEM: `-----BEGIN CERTIFICATE-----`)"
    return re.sub(r"\s*\(_ssl\.c:\d+\)|^\[[A-Z0-9_: ]+\]\s*", "", text) or "it is no PEM file"


def expired_at(cert: Path) -> datetime | None:
    """When the first certificate of a file ran out, if it has; None when it has not, or cannot be read."""
    try:
        text = read_regular_file(cert, MAX_CERTIFICATES_BYTES).decode("ascii", "replace")
        begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
        first = text[text.index(begin) : text.index(end) + len(end)]
        ends = _valid_until(ssl.PEM_cert_to_DER_cert(first))
    except (UnreadableFile, ValueError, IndexError):
        return None
    return ends if ends < datetime.now(UTC) else None


def _valid_until(der: bytes) -> datetime:
    """The end of a certificate's validity (RFC 5280, 4.1). Raises ValueError or IndexError for what is no certificate."""
    at, _ = _inside(der, 0)  # Certificate
    at, _ = _inside(der, at)  # TBSCertificate
    if der[at] == 0xA0:  # the version, which may be missing
        at = _after(der, at)
    for _field in ("serial number", "signature", "issuer"):
        at = _after(der, at)
    at, _ = _inside(der, at)  # Validity
    at = _after(der, at)  # notBefore
    start, length = _inside(der, at)
    text = der[start : start + length].decode("ascii")
    if der[at] == 0x17:  # UTCTime, with two digits of the year
        text = ("19" if text[:2] >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _inside(der: bytes, at: int) -> tuple[int, int]:
    """Where the content of the value at `at` begins, and how long it is."""
    length = der[at + 1]
    if length < 0x80:
        return at + 2, length
    count = length & 0x7F
    return at + 2 + count, int.from_bytes(der[at + 2 : at + 2 + count], "big")


def _after(der: bytes, at: int) -> int:
    start, length = _inside(der, at)
    return start + length
