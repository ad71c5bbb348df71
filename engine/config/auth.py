"""The section `auth`: how people and programs show who they are, and the section `metrics`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from engine.config.endpoints import url_problem
from engine.config.reader import ConfigReader
from engine.config.secret import Secret
from engine.core.hosts import is_loopback


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcConfig:
    """An identity provider (OpenID Connect), and which of its people have which role."""

    issuer: str  # without a slash at its end
    client_id: str
    client_secret: Secret = field(repr=False)
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    name_claim: str = "preferred_username"
    role_claim: str = "groups"
    roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Role -> values of the claim that give it; the highest role counts."""
    default_role: str | None = None
    """Of somebody to whom no value gives a role; None: they may not sign in."""
    label: str = "single sign-on"
    ca: Path | None = None  # PEM; trusted instead of the system's certificates


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthConfig:
    """How people and programs show who they are. Durations are milliseconds."""

    users: bool = True  # may local users sign in?
    tokens: bool = True  # are the tokens of the store accepted?
    oidc: OidcConfig | None = None
    session_ms: int = 12 * 3_600_000  # a session ends so long after its login
    idle_ms: int = 2 * 3_600_000  # and so long after its last request
    audit_ms: int = 365 * 86_400_000  # so long entries of the audit log are kept


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsConfig:
    """Who may read the metrics. `token`: one that may read them and nothing else."""

    token: Secret | None = None


def read_metrics(reader: ConfigReader) -> MetricsConfig:
    """The section `metrics`."""
    raw = reader.raw.get("metrics") or {}
    return MetricsConfig(token=reader.secret(("metrics", "token"), raw["token"]) if "token" in raw else None)


def read_auth(reader: ConfigReader) -> AuthConfig:
    """The section `auth`."""
    raw = reader.raw.get("auth") or {}
    given = {
        f"{key}_ms": reader.duration_ms(("auth", key), raw[key]) for key in ("session", "idle", "audit") if key in raw
    }
    found = AuthConfig(
        users=raw.get("users", True), tokens=raw.get("tokens", True), oidc=_read_oidc(reader, raw.get("oidc")), **given
    )
    if "idle" in raw and found.idle_ms > found.session_ms:
        reader.report(("auth", "idle"), "is longer than `session`, so it would never count", warning=True)
    return found


def _read_oidc(reader: ConfigReader, raw: Mapping[str, Any] | None) -> OidcConfig | None:
    if raw is None:
        return None
    at = ("auth", "oidc")
    issuer = raw["issuer"].rstrip("/")
    if problem := url_problem(issuer) or _unsafe(issuer):
        reader.report((*at, "issuer"), problem)
    if not ((reader.raw.get("http") or {}).get("external_url")):
        reader.report(at, "needs `http.external_url`: the provider sends people back to it")
    roles = {
        role: tuple([values] if isinstance(values, str) else values)
        for role, values in (raw.get("roles") or {}).items()
    }
    if not roles and raw.get("default_role") is None:
        reader.report(at, "gives no role to anyone: set `roles`, or `default_role` for all who can sign in there")
    return OidcConfig(
        issuer=issuer,
        client_id=raw["client_id"],
        client_secret=reader.secret((*at, "client_secret"), raw["client_secret"]),
        scopes=tuple(dict.fromkeys(["openid", *raw.get("scopes", ("profile", "email"))])),
        name_claim=raw.get("name_claim", "preferred_username"),
        role_claim=raw.get("role_claim", "groups"),
        roles=roles,
        default_role=raw.get("default_role"),
        label=raw.get("label", "single sign-on"),
        ca=None if raw.get("ca") is None else reader.certificates((*at, "ca"), raw["ca"]),
    )


def _unsafe(issuer: str) -> str | None:
    """Why a provider must not be asked there; None when it may be."""
    parts = urlsplit(issuer)
    if parts.scheme == "https" or is_loopback(parts.hostname or ""):
        return None
    return "must begin with https://: who can change the answers of the provider on their way could sign in as anybody"
