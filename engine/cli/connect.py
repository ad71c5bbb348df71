"""Which operator API a command uses: that of the running service, or that of the store when no service runs. Read `operator_api`.

A service is the one for a data folder when its process is the one that holds the lock of the folder; another service that listens on
the same port is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from engine.config.http import HttpConfig
from engine.config.loader import Config, load_config
from engine.errors import StoreInUse
from engine.runtime.store_factory import owner_of

if TYPE_CHECKING:  # imported where they are used: each takes a while to load
    from engine.cli.http_client import HttpOperatorApi
    from engine.runtime.operator_api import OperatorApi
    from engine.web.views import Object

WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""The address at which to reach a service that listens on every address of this machine."""


@contextmanager
def operator_api(config_path: Path, *, write: bool = False) -> Iterator[OperatorApi]:
    """The operator API for a configuration; `write` when acts will be carried out.

    InvalidFiles when the configuration does not load, StoreError (StoreInUse) when the store cannot be opened.
    """
    config = load_config(config_path)
    service = _running(config)
    if service is not None:
        yield service
        return
    from engine.runtime.offline import opened
    from engine.runtime.operator_api import LocalOperatorApi

    try:
        with opened(config, write=write) as store:
            yield LocalOperatorApi(store)
    except StoreInUse as error:
        raise StoreInUse(_no_answer(config)) from error


def statuses(config_path: Path, clients: Sequence[str], note: Callable[[str], None]) -> Iterator[Object]:
    """Whether clients are connected now: from the running service, else from the status provider, within the same budget.

    `note` gets the reason for each client about which the provider gave no answer. NotConfigured without a provider.
    """
    config = load_config(config_path)
    service = _running(config)
    if service is not None:
        yield from service.statuses(clients)
        return
    from engine.runtime.offline import query_directly

    yield from query_directly(config, clients, note)


def _running(config: Config) -> HttpOperatorApi | None:
    """The service that works on this data folder; None when none answers."""
    if config.http is None:
        return None
    from engine.cli.http_client import HttpOperatorApi

    service = HttpOperatorApi(f"http://{_address(config.http)}")
    process, holder = service.process(), owner_of(config.data)
    if process is None or (holder is not None and holder != process):
        return None
    if config.http.token is not None:
        service.use_token(config.http.token.reveal())
    return service


def _address(http: HttpConfig) -> str:
    host = WILDCARDS.get(http.host, http.host)
    return f"[{host}]:{http.port}" if ":" in host else f"{host}:{http.port}"


def _no_answer(config: Config) -> str:
    where = (
        f" on http://{_address(config.http)}" if config.http is not None else ": `http` is null in its configuration"
    )
    return (
        f"{config.data} is in use by another Rollcall process ({owner_of(config.data)}), which does not answer{where}"
    )
