"""Which operator API a command uses: that of the running service, or that of the store when no service runs. Read `operator_api`.

A service is the one for a data folder when it proves that it holds the lock of the folder; another program that listens on the same
port is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, TypeVar

from engine.config.http import HttpConfig
from engine.config.loader import Config, load_config
from engine.core.access import ADMIN, LOCAL, Caller
from engine.errors import StoreInUse, Unavailable
from engine.runtime.store_factory import holder_of, local_token, proves

if TYPE_CHECKING:  # imported where they are used: each takes a while to load
    from engine.cli.http_client import HttpOperatorApi
    from engine.runtime.offline_access import OfflineAccess
    from engine.runtime.operator_api import OperatorApi
    from engine.web.views import Object

T = TypeVar("T")

WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""The address at which to reach a service that listens on every address of this machine."""


@contextmanager
def operator_api(config_path: Path, *, write: bool = False) -> Iterator[OperatorApi]:
    """The operator API for a configuration; `write` when acts will be carried out.

    InvalidFiles when the configuration does not load, StoreError (StoreInUse) when the store cannot be opened.
    """

    @contextmanager
    def of_store(config: Config) -> Iterator[OperatorApi]:
        from engine.runtime.audit import carry_out
        from engine.runtime.offline import opened
        from engine.runtime.operator_api import LocalOperatorApi

        with opened(config, write=write) as store:
            yield LocalOperatorApi(store, lambda act, backend: carry_out(act, backend, _caller()))

    with _of_service_or(config_path, of_store) as found:
        yield found


@contextmanager
def access_api(config_path: Path) -> Iterator[HttpOperatorApi | OfflineAccess]:
    """What is about users, tokens and the audit log, in the service or in the store. Raises as `operator_api` does."""

    def of_store(config: Config) -> AbstractContextManager[OfflineAccess]:
        from engine.runtime.offline_access import opened_access

        return opened_access(config, _caller())

    with _of_service_or(config_path, of_store) as found:
        yield found


@contextmanager
def _of_service_or(
    config_path: Path, of_store: Callable[[Config], AbstractContextManager[T]]
) -> Iterator[HttpOperatorApi | T]:
    """The API of the service that runs, else that of the store."""
    config = load_config(config_path)
    service = _running(config)
    if service is not None:
        yield service
        return
    try:
        with of_store(config) as found:
            yield found
    except StoreInUse as error:
        raise StoreInUse(_no_answer(config)) from error


def _caller() -> Caller:
    """Whoever runs this command: who can write to the store may do everything."""
    return Caller(name=_operator(), kind=LOCAL, role=ADMIN)


def _operator() -> str:
    """The name of whoever runs this command, on this machine."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "unknown"


def statuses(config_path: Path, clients: Sequence[str], note: Callable[[str], None]) -> Iterator[Object]:
    """Whether clients are connected now: from the running service, else from the status provider, within the same budget.

    `note` gets the reason for each client about which the provider gave no answer. NotConfigured without a provider.
    """
    config = load_config(config_path)
    service = _running(config)
    if service is not None:
        for found in service.statuses(clients):
            problem = found.pop("problem", None)
            if problem:
                note(f"{found['client']}: {problem}")
            yield found
        return
    from engine.runtime.offline import query_directly

    yield from query_directly(config, clients, note)


def _running(config: Config) -> HttpOperatorApi | None:
    """The service that works on this data folder; None when none does, or it does not answer.

    The lock says whether a service runs, and only the service can prove that it is the one: another program may have taken the port,
    and must get neither the token nor be believed. A user who cannot read the lock file cannot check the proof, and then no token
    is sent: Unavailable says what to do.
    """
    holder = holder_of(config.data)
    if holder is None or config.http is None:
        return None
    from engine.cli.http_client import HttpOperatorApi

    service = HttpOperatorApi(f"http://{_address(config.http)}")
    challenge = token_hex(16)
    proof = service.proof(challenge)
    if proof is None:
        return None
    if holder.key is None:
        if config.http.token is not None:
            raise Unavailable(
                f"this user cannot read the lock file in {config.data}, so the program on {service.url} cannot show that it is the service,"
                " and gets no token; run the command as the user of the service"
            )
    elif not proves(holder, f"{challenge} {config.http.port}", proof):
        return None
    token = local_token(holder)
    if token is not None:
        service.use_token(token, _operator())
    return service


def _address(http: HttpConfig) -> str:
    host = WILDCARDS.get(http.host, http.host)
    return f"[{host}]:{http.port}" if ":" in host else f"{host}:{http.port}"


def _no_answer(config: Config) -> str:
    holder = holder_of(config.data)
    where = (
        f" on http://{_address(config.http)}" if config.http is not None else ": `http` is null in its configuration"
    )
    process = holder.process if holder is not None and holder.process is not None else "unknown"
    return f"{config.data} is in use by another Rollcall process ({process}), which does not answer{where}"
