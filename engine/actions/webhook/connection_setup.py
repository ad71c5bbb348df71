"""How to connect, as the process that sends webhooks is told it. Read `connection_setup`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote, urlsplit

import msgspec

from engine.config.connection import FROM_ENVIRONMENT, ConnectionConfig, environment_proxies, proxy_problem
from engine.config.secret import Secret
from engine.errors import RollcallError

DEFAULT_CONNECTION: Final = ""
"""The name of the connection that the section `webhooks` describes; the others have the names of receivers."""


class ConnectionSetup(msgspec.Struct, array_like=True, frozen=True):
    """A `ConnectionConfig` as the process that sends has it: with the URLs of the proxies, which may hold passwords."""

    http_proxy: str = ""  # for http:// targets; "" for none
    https_proxy: str = ""
    no_proxy: str = ""  # hosts that no proxy is used for, as in NO_PROXY
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    problem: str | None = None  # why it cannot be used at all

    def secrets(self) -> Iterable[str]:
        """What must not appear in a text: the logins of the proxies."""
        for text in (self.http_proxy, self.https_proxy):
            password = urlsplit(text).password
            if password:
                yield from (password, unquote(password), text)


def connection_setup(config: ConnectionConfig) -> ConnectionSetup:
    """The connection that a configuration describes; secrets and the environment are read now."""
    http = https = excepted = ""
    problem = None
    if isinstance(config.proxy, Secret):
        try:
            http = https = config.proxy.reveal().strip()
        except RollcallError as error:
            problem = f"the URL of the proxy cannot be read: {error}"
        if problem is None and (found := proxy_problem(http)):
            problem = f"the secret URL of the proxy {found}"
    elif config.proxy == FROM_ENVIRONMENT:
        http, https, excepted = environment_proxies()
        for name, url in (("HTTP_PROXY", http), ("HTTPS_PROXY", https)):
            if url and (found := proxy_problem(url)):
                problem = f"{name} of the environment {found}"
    else:
        http = https = config.proxy or ""
    ca, cert, key = (None if path is None else str(path) for path in (config.ca, config.cert, config.key))
    return ConnectionSetup(
        http_proxy=http, https_proxy=https, no_proxy=excepted, ca=ca, cert=cert, key=key, problem=problem
    )
