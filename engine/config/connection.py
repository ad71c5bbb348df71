"""How HTTP requests of webhooks and receivers are made: through which proxy, whom they trust, and with which certificate of our own.

The same keys stand in the section `webhooks` and in each receiver, which takes what it does not say from `webhooks`. Read
`ConnectionConfig`, then `read_connection`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from engine.config.endpoints import url_problem
from engine.config.paths import path_problem
from engine.config.reader import ConfigReader
from engine.config.regular_file import file_problem, shown_path
from engine.config.secret import Secret
from engine.config.yamlfile import KeyPath

FROM_ENVIRONMENT: Final = "env"
"""As `proxy`: what HTTP_PROXY, HTTPS_PROXY and NO_PROXY say."""

NO_PROXY_AT_ALL: Final = "none"
"""As `proxy` of a receiver: directly, whatever `webhooks` says."""

CONNECTION_KEYS: Final = ("proxy", "ca", "cert", "key")
"""The keys that `read_connection` reads."""

_LOGIN: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)([^/?#]*)@")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionConfig:
    """How to connect. The files are read when a connection is made, so a certificate can be renewed while the service runs."""

    proxy: str | Secret | None = field(default=None, repr=False)
    """A URL, a secret that holds one, or `env`; None: no proxy. A URL may hold a password, so it is not printed."""
    ca: Path | None = None  # PEM; trusted instead of the system's certificates
    cert: Path | None = None  # PEM; our own certificate, with those that lead to its issuer
    key: Path | None = None  # PEM; the key of `cert`; None: it stands in the same file


DIRECT: Final = ConnectionConfig()
"""No proxy, the system's certificates, and none of our own."""


def read_webhooks(reader: ConfigReader) -> ConnectionConfig:
    """The section `webhooks`."""
    return read_connection(reader, ("webhooks",), reader.raw.get("webhooks") or {})


def read_connection(
    reader: ConfigReader, at: KeyPath, raw: Mapping[str, Any], inherited: ConnectionConfig = DIRECT
) -> ConnectionConfig:
    """The keys proxy, ca, cert and key of the mapping `raw` at `at`; what is not written is as in `inherited`.

    A file that cannot be read, a key that does not fit its certificate and a proxy that cannot be one are reported.
    """
    found = inherited
    if raw.get("proxy") is not None:
        found = replace(found, proxy=_proxy(reader, (*at, "proxy"), raw["proxy"]))
    if raw.get("ca") is not None:
        found = replace(found, ca=_authorities(reader, (*at, "ca"), raw["ca"]))
    if raw.get("cert") is not None:
        key = raw.get("key")
        cert = reader.path((*at, "cert"), raw["cert"])
        found = replace(found, cert=cert, key=None if key is None else reader.path((*at, "key"), key))
        _check_pair(reader, at, raw, found)
    elif raw.get("key") is not None:
        reader.report((*at, "key"), "is the key of a certificate: name the certificate in `cert`")
    return found


def proxy_problem(url: str) -> str | None:
    """Why a proxy cannot be reached at `url` (perhaps with a login), as a sentence without subject that holds no secret; None when it can."""
    bare = _LOGIN.sub(r"\1", url, count=1)
    scheme = url.partition("://")[0].lower() if "://" in url else ""
    if scheme.startswith("socks"):
        return "is a SOCKS proxy, which is not supported: name an HTTP proxy, such as http://proxy.example.com:3128"
    if scheme not in ("http", "https"):
        return "must be a URL such as http://proxy.example.com:3128"
    if problem := url_problem(bare):
        return problem
    rest = bare.partition("://")[2].partition("/")[2]
    return "must end with host and port: a proxy has no path" if rest or "?" in bare or "#" in bare else None


def environment_proxies() -> tuple[str, str, str]:
    """What the environment says: the proxy for http, the one for https, and NO_PROXY. The lower-case names come first, as with curl."""
    return (_variable("http_proxy"), _variable("https_proxy"), _variable("no_proxy"))


def _variable(name: str) -> str:
    return (os.environ.get(name) or os.environ.get(name.upper()) or "").strip()


def _proxy(reader: ConfigReader, at: KeyPath, raw: str | Mapping[str, str]) -> str | Secret | None:
    if isinstance(raw, Mapping):
        secret = reader.secret(at, raw)
        if secret.problem() is None and (problem := proxy_problem(secret.reveal())):
            reader.report(at, f"holds a URL that {problem}")
        return secret
    if raw == NO_PROXY_AT_ALL:
        return None
    if raw == FROM_ENVIRONMENT:
        http, https, _ = environment_proxies()
        for name, url in (("HTTP_PROXY", http), ("HTTPS_PROXY", https)):
            if url and (problem := proxy_problem(url)):
                reader.report(at, f"{name} of the environment {problem}")
        if not http and not https:
            reader.report(at, "neither HTTP_PROXY nor HTTPS_PROXY is set here, so no proxy is used", warning=True)
        return raw
    if problem := proxy_problem(raw):
        reader.report(at, problem)
    elif _LOGIN.match(raw):
        reader.report(at, "holds a password in plain text: put the URL into {env: NAME} or {file: PATH}", warning=True)
    return raw


def _authorities(reader: ConfigReader, at: KeyPath, text: str) -> Path:
    before = len(reader.problems)
    found = reader.certificates(at, text)
    if len(reader.problems) == before:
        from engine.config.certificates import (
            authorities_problem,
        )  # most configurations name none, and load sooner without it

        if problem := authorities_problem(found):
            reader.report(at, problem)
    return found


def _check_pair(reader: ConfigReader, at: KeyPath, raw: Mapping[str, Any], found: ConnectionConfig) -> None:
    """Report a certificate or a key that cannot be used, or that do not belong together."""
    paths = {"cert": found.cert, "key": found.key}
    broken = False
    for name, path in paths.items():
        if path is None:
            continue
        problem = file_problem(path)
        if problem is None:
            continue
        broken = True
        if path_problem(raw[name]) is None:
            reader.report((*at, name), f"{shown_path(path)} {problem}")
    if broken or found.cert is None:
        return
    from engine.config.certificates import expired_at, pair_problem  # as above

    if problem := pair_problem(found.cert, found.key):
        reader.report((*at, "cert" if found.key is None else "key"), problem)
    elif ended := expired_at(found.cert):
        message = f"{shown_path(found.cert)} has expired on {ended:%Y-%m-%d}: no server will accept it"
        reader.report((*at, "cert"), message, warning=True)
