"""Receivers and connections of a configuration as the process that sends is told them. Read `receiver_setups` and `connection_setup`.

They stand apart from what they make, because that process reads no configuration and starts sooner without the modules that do.
"""

from __future__ import annotations

from collections.abc import Mapping

from engine.actions.receiver_setup import ReceiverSetup
from engine.actions.webhook.connection_setup import ConnectionSetup
from engine.config.connection import FROM_ENVIRONMENT, ConnectionConfig, environment_proxies, proxy_problem
from engine.config.receivers import EMAIL, ROUTE, Receiver
from engine.config.secret import Secret
from engine.errors import RollcallError


def receiver_setups(receivers: Mapping[str, Receiver], secrets: Mapping[str, str]) -> dict[str, ReceiverSetup]:
    """Every receiver that is sent to over HTTP. `secrets`: those of the configuration, which `sign` may name."""
    return {name: _setup(one, secrets) for name, one in receivers.items() if one.type not in (ROUTE, EMAIL)}


def _setup(receiver: Receiver, secrets: Mapping[str, str]) -> ReceiverSetup:
    try:
        settings = receiver.settings()
    except RollcallError as error:
        return ReceiverSetup(receiver.type, {}, receiver.timeout_ms, str(error))
    if settings.get("sign") in secrets:
        settings["sign"] = secrets[settings["sign"]]
    if isinstance(settings.get("chat"), int):
        settings["chat"] = str(settings["chat"])
    return ReceiverSetup(receiver.type, settings, receiver.timeout_ms)


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
