"""Files of certificates and keys: what is wrong with them, in words. Read `pair_problem`."""

from __future__ import annotations

import re
import ssl
from pathlib import Path

from engine.config.regular_file import shown_path


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
