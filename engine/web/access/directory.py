"""Users and tokens in memory, so that a request is let in by a look into a table. Read `Directory.caller_of_token`.

The store has the truth; `refresh` reads it again after each change of this process, and every few seconds where other processes write too.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from engine.core.access import ADMIN, CONFIG, LOCAL, TOKEN, VIEWER, Caller
from engine.stores.base import TokenRow, UserRow
from engine.web.access.settings import AuthSettings, HttpSettings
from engine.web.access.tokens import LOCAL_PREFIX, hash_of

CONFIG_NAME: Final = "http.token"
METRICS_NAME: Final = "metrics.token"

MAX_TOKEN_BYTES: Final = 4_096


class Directory:
    """Who there is."""

    def __init__(
        self, auth: AuthSettings, http: HttpSettings, metrics_token: str | None, local_proof: Callable[[], str]
    ) -> None:
        """`local_proof`: what a command on this machine shows; empty: nothing."""
        self._auth, self._http = auth, http
        token = http.token.reveal() if http.token is not None else None
        self.config_hash = None if token is None else hash_of(token)
        self._metrics_hash = None if metrics_token is None else hash_of(metrics_token)
        self._local_proof = local_proof
        self._is_empty = True
        self.users: Mapping[str, UserRow] = {}
        self._by_hash: Mapping[str, TokenRow] = {}
        self.tokens: Mapping[str, TokenRow] = {}

    def refresh(self, users: Sequence[UserRow], tokens: Sequence[TokenRow]) -> None:
        """These are all that there are now."""
        self._is_empty = (
            not users and not tokens
        )  # also of those that are not accepted: switching them off opens nothing
        self.users = {user.name: user for user in users} if self._auth.users else {}
        self.tokens = {token.name: token for token in tokens} if self._auth.tokens else {}
        self._by_hash = {token.hash: token for token in self.tokens.values()}

    @property
    def can_anybody_enter(self) -> bool:
        """Is there any way to sign in?"""
        return bool(self.users or self.tokens or self._auth.oidc is not None or self.config_hash is not None)

    @property
    def is_open(self) -> bool:
        """Is no login needed? Only this machine can ask, and there is no user and no token."""
        return self._http.is_local and self._is_empty and not self.can_anybody_enter

    def caller_of_token(self, token: bytes, path: str, now_ms: int, operator: str = "") -> Caller | None:
        """Who comes with a token; None when it is unknown or has expired. `operator`: who a command on this machine says it is run by."""
        if not token or len(token) > MAX_TOKEN_BYTES:
            return None
        # What is looked up is the hash, of which a sender cannot choose a part: how long it takes says nothing.
        given = hash_of(token)
        found = self._by_hash.get(given)
        if found is not None:
            if found.expires_at_ms is not None and found.expires_at_ms <= now_ms:
                return None
            return Caller(name=found.name, kind=TOKEN, role=found.role)
        if self.config_hash is not None and hmac.compare_digest(given, self.config_hash):
            return Caller(name=CONFIG_NAME, kind=CONFIG, role=ADMIN)
        if path == "/metrics" and self._metrics_hash is not None and hmac.compare_digest(given, self._metrics_hash):
            return Caller(name=METRICS_NAME, kind=CONFIG, role=VIEWER)
        if token.startswith(LOCAL_PREFIX.encode()):
            proof = self._local_proof()
            if proof and hmac.compare_digest(token[len(LOCAL_PREFIX) :], proof.encode()):
                return Caller(name=operator or "this machine", kind=LOCAL, role=ADMIN)
        return None
