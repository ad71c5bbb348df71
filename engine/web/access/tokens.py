"""Tokens: what they look like, and the hash that is kept instead of them.

A token is 32 random bytes, so its hash needs neither salt nor effort: nobody can try them all.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Final

PREFIX: Final = "rollcall_"
"""So that people and scanners for leaked secrets recognise one."""

LOCAL_PREFIX: Final = "local_"
"""Of the token that a command on this machine derives from the key of the data folder."""

LOCAL_CHALLENGE: Final = "local command"
"""What it is the proof of. `/healthz` answers only challenges that end with a port, so nobody can ask for this one."""

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
"""Names of users and tokens: nothing that looks like something else."""


def new_secret() -> str:
    """A new secret of 256 bits, as text for URLs and cookies."""
    return secrets.token_urlsafe(32)


def new_token() -> str:
    """A new token."""
    return PREFIX + new_secret()


def hash_of(secret: str | bytes) -> str:
    """What is kept of a token or of a session's cookie."""
    return hashlib.sha256(secret.encode() if isinstance(secret, str) else secret).hexdigest()
