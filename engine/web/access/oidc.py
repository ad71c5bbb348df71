"""Signing in at an identity provider: OpenID Connect, authorization code with PKCE. Read `Provider.begin` and `Provider.finish`.

What has to be remembered between the two is in a cookie of the browser, signed, so any replica can finish what another began. Who somebody is
stands in the ID token and in nothing else that comes through the browser: its signature, issuer, audience, time and nonce are checked.
Everything here blocks: it is called in threads.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import requests
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.requests_client import OAuth2Session
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from engine.core.access import USER_ROLES
from engine.core.hosts import is_loopback
from engine.web.access.settings import OidcSettings

WITHIN_S: Final = 10.0
"""How long one answer of the provider is waited for."""

LOGIN_S: Final = 600.0
"""How long somebody may take to sign in there."""

KEPT_S: Final = 3_600.0
"""How long the provider's own description, and its keys, are used before they are read again."""

KEYS_AGAIN_S: Final = 30.0
"""A key that is not known may be new; the keys are not read more often than this because of it."""

LEEWAY_S: Final = 60
"""By how much the clocks may differ."""

MAX_NAME_CHARS: Final = 100

ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures of ID tokens that are believed: made with a key that nobody but the provider has."""


class LoginRefused(Exception):
    """A login did not work; `reason` is one of `login.REFUSALS`, the message is for the log."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


class Begun(NamedTuple):
    """A login that has begun: where the browser is sent, and what it keeps meanwhile."""

    url: str
    cookie: str


class Known(NamedTuple):
    """Somebody whom the provider named."""

    name: str
    role: str
    next: str  # the page that was wanted


class Provider:
    """One identity provider. From any thread."""

    def __init__(self, settings: OidcSettings, redirect_uri: str, now_s: Callable[[], float] = time.time) -> None:
        """`redirect_uri`: where the provider sends people back to."""
        self._settings, self._redirect_uri, self._now_s = settings, redirect_uri, now_s
        self._lock = threading.Lock()
        self._described: tuple[dict[str, Any], float] | None = None
        self._keys: tuple[KeySet, float] | None = None

    def begin(self, next_page: str) -> Begun:
        """Begin a login that leads to a page. LoginRefused when the provider cannot be asked."""
        endpoint = self._endpoint("authorization_endpoint")
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        with self._session() as session:
            url, _ = session.create_authorization_url(endpoint, state=state, code_verifier=verifier, nonce=nonce)
        kept = {"state": state, "nonce": nonce, "verifier": verifier, "next": next_page, "at": self._now_s()}
        return Begun(url, self._signed(kept))

    def finish(self, query: Mapping[str, str], cookie: str) -> Known:
        """Somebody came back with these parameters. LoginRefused when they cannot be let in."""
        kept = self._opened(cookie)
        if not hmac.compare_digest(query.get("state", "").encode(), str(kept["state"]).encode()):
            raise LoginRefused("stale", "the state is of another login")
        if query.get("iss", self._settings.issuer).rstrip("/") != self._settings.issuer:
            raise LoginRefused("provider", "the answer is of another issuer")
        if "error" in query or not query.get("code"):
            raise LoginRefused("denied", f"the provider answered {query.get('error', 'without a code')[:100]}")
        try:
            with self._session() as session:
                token = session.fetch_token(
                    self._endpoint("token_endpoint"),
                    grant_type="authorization_code",
                    code=query["code"],
                    code_verifier=kept["verifier"],
                    timeout=WITHIN_S,
                )
                claims = self._claims(str(token.get("id_token", "")), str(kept["nonce"]))
                claims = self._completed(session, claims)
        except (AuthlibBaseError, requests.RequestException, JoseError, ValueError) as error:
            raise LoginRefused("provider", f"{type(error).__name__}: {error}") from error
        return Known(self._name(claims), self._role(claims), str(kept["next"]))

    # The provider

    def _session(self) -> Any:
        settings = self._settings
        session = OAuth2Session(
            settings.client_id,
            settings.client_secret.reveal(),
            scope=" ".join(settings.scopes),
            redirect_uri=self._redirect_uri,
            code_challenge_method="S256",
        )
        if settings.ca is not None:
            session.verify = str(settings.ca)
        return session

    def _get(self, url: str) -> dict[str, Any]:
        verify = True if self._settings.ca is None else str(self._settings.ca)
        try:
            answer = requests.get(url, timeout=WITHIN_S, verify=verify, allow_redirects=False)
            answer.raise_for_status()
            found = answer.json()
        except (requests.RequestException, ValueError) as error:
            raise LoginRefused("provider", f"{url}: {type(error).__name__}: {error}") from error
        if not isinstance(found, dict):
            raise LoginRefused("provider", f"{url} is no JSON object")
        return found

    def _description(self) -> dict[str, Any]:
        with self._lock:
            if self._described is not None and self._now_s() - self._described[1] < KEPT_S:
                return self._described[0]
        found = self._get(f"{self._settings.issuer}/.well-known/openid-configuration")
        if str(found.get("issuer", "")).rstrip("/") != self._settings.issuer:
            raise LoginRefused("provider", f"the provider calls itself {str(found.get('issuer'))[:200]!r}")
        with self._lock:
            self._described = found, self._now_s()
        return found

    def _endpoint(self, name: str) -> str:
        url = str(self._description().get(name, ""))
        parts = urlsplit(url)
        if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
            raise LoginRefused("provider", f"{name} of the provider is not an https address: {url[:200]!r}")
        return url

    def _key_set(self, *, again: bool = False) -> KeySet:
        with self._lock:
            known = self._keys
        if known is not None and self._now_s() - known[1] < (KEYS_AGAIN_S if again else KEPT_S):
            return known[0]
        try:
            found = KeySet.import_key_set(self._get(self._endpoint("jwks_uri")))  # type: ignore[arg-type]
        except (JoseError, ValueError, KeyError) as error:
            raise LoginRefused("provider", f"the keys of the provider cannot be read: {error}") from error
        with self._lock:
            self._keys = found, self._now_s()
        return found

    # Who it is

    def _claims(self, id_token: str, nonce: str) -> dict[str, Any]:
        """The claims of an ID token. JoseError or ValueError when it is not one that was made for this login."""
        try:
            token = jwt.decode(id_token, self._key_set(), algorithms=list(ALGORITHMS))
        except (JoseError, ValueError):
            token = jwt.decode(id_token, self._key_set(again=True), algorithms=list(ALGORITHMS))
        claims, settings = token.claims, self._settings
        jwt.JWTClaimsRegistry(
            now=int(self._now_s()),
            leeway=LEEWAY_S,
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
            nonce={"essential": True, "value": nonce},
        ).validate(claims)
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        if settings.client_id not in audiences:
            raise ValueError("the ID token is for another client")
        if claims.get("azp", settings.client_id) != settings.client_id or (len(audiences) > 1 and "azp" not in claims):
            raise ValueError("the ID token was issued to another client")
        if str(claims.get("iss", "")).rstrip("/") != settings.issuer:
            raise ValueError("the ID token is of another issuer")
        return dict(claims)

    def _completed(self, session: Any, claims: dict[str, Any]) -> dict[str, Any]:
        """The claims, with those that the provider only tells when it is asked."""
        wanted = (self._settings.name_claim, self._settings.role_claim)
        if all(_at(claims, name) is not None for name in wanted) or "userinfo_endpoint" not in self._description():
            return claims
        answer = session.get(self._endpoint("userinfo_endpoint"), timeout=WITHIN_S)
        answer.raise_for_status()
        told = answer.json()
        if not isinstance(told, dict) or told.get("sub") != claims["sub"]:
            raise ValueError("what the provider says about the person is about another one")
        return {**told, **claims}

    def _name(self, claims: Mapping[str, Any]) -> str:
        found = _at(claims, self._settings.name_claim) or claims.get("email") or claims["sub"]
        name = str(found).strip()[:MAX_NAME_CHARS]
        if not name or not name.isprintable():
            raise LoginRefused("provider", "the name of the person cannot be shown")
        return name

    def _role(self, claims: Mapping[str, Any]) -> str:
        settings, found = self._settings, _at(claims, self._settings.role_claim)
        given = {str(value) for value in (found if isinstance(found, list) else [found]) if value is not None}
        for role in reversed(USER_ROLES):
            if given & set(settings.roles.get(role, ())):
                return str(role)
        if settings.default_role is None:
            raise LoginRefused("role", f"no value of the claim {settings.role_claim} gives a role")
        return str(settings.default_role)

    # What the browser keeps

    def _mac(self, text: str) -> str:
        key = f"login of Rollcall {self._settings.client_secret.reveal()}".encode()
        return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()

    def _signed(self, kept: Mapping[str, Any]) -> str:
        text = base64.urlsafe_b64encode(json.dumps(kept).encode()).decode().rstrip("=")
        return f"{text}.{self._mac(text)}"

    def _opened(self, cookie: str) -> dict[str, Any]:
        text, _, mac = cookie.partition(".")
        if not hmac.compare_digest(mac.encode(), self._mac(text).encode()):
            raise LoginRefused("stale", "the login was begun in another browser, or there is no cookie")
        try:
            found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        except (ValueError, binascii.Error) as error:
            raise LoginRefused("stale", "the cookie of the login is damaged") from error
        if not 0 <= self._now_s() - float(found["at"]) <= LOGIN_S:
            raise LoginRefused("stale", "the login took too long")
        return found


def _at(claims: Mapping[str, Any], path: str) -> Any:
    """A claim; a dot leads inside, unless a claim has that very name. None: there is none."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for step in path.split("."):
        if not isinstance(found, Mapping) or step not in found:
            return None
        found = found[step]
    return found
