"""Where a command's questions go: to the running service, or into the store when none runs. Read `desk`.

Both desks answer with the objects of the HTTP interface. A service is ours when it says the process that holds the lock of
our data folder; another one that happens to listen on the same port is left alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from engine.config.http import HttpConfig
from engine.config.loader import Config, load_config
from engine.errors import BadQuestion, RollcallError, StoreInUse
from engine.runtime.store_factory import owner_of

if TYPE_CHECKING:  # whoever asks the service does not wait for these to be loaded
    import requests

    from engine.runtime.offline import Offline

CONNECT_S, ANSWER_S = 2.0, 60.0
PAGE = 1000
LOOK_S = 0.25
"""How often a sweep that goes on is looked at."""

NEWEST = 20
"""Sweeps among which the one under way is looked for."""

FULL_WHYS = ("operator", "schedule")
DRY_RUN_WHYS = ("dry run",)
"""What a sweep that goes on must be for to be joined by whoever wants one that corrects, or a dry run."""

ASKED_AT_ONCE = 16
ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}

Object = dict[str, Any]
Filters = Mapping[str, Any]


class Desk(Protocol):
    """Answers a command's questions. RollcallError, with a sentence, when the answer is no."""

    def clients(self, wanted: Filters) -> Iterator[Object]:
        """Clients by name; filters `status` and `match` (a list of key=pattern)."""
        ...

    def explanation(self, client: str, at_ms: int | None) -> Object:
        """The verdict about a client and its grounds."""
        ...

    def forget(self, client: str) -> None:
        """Keep a client no longer."""
        ...

    def sources(self) -> Iterator[Object]:
        """Every source."""
        ...

    def alerts(self, wanted: Filters) -> Iterator[Object]:
        """Alerts, newest first; filters `state`, `rule`, `client`."""
        ...

    def deliveries(self, wanted: Filters) -> Iterator[Object]:
        """Deliveries, newest first; filters `state`, `rule`, `client`, `alert`."""
        ...

    def delivery(self, number: int) -> Object:
        """One delivery with its request."""
        ...

    def act_on_delivery(self, number: int, what: str) -> Object:
        """Carry out `retry` or `discard`; the delivery as it is then."""
        ...

    def act_on_held(self, rule: str, what: str) -> Object:
        """`release` or `discard` all held deliveries of a rule: how many `changed`."""
        ...

    def silence(self, wanted: Object) -> Object:
        """Add a silence: `match`, `for`, `author`, `comment`."""
        ...

    def silences(self, wanted: Filters) -> Iterator[Object]:
        """Silences, newest first; filters `state`, `author`."""
        ...

    def expire_silence(self, id_: str) -> Object:
        """End a silence now; the silence as it is then."""
        ...

    def why_not(self, rule: str, client: str) -> Object:
        """Every gate between a client and a firing of the rule."""
        ...

    def acknowledge(self, id_: str, by: str) -> Object:
        """Somebody knows of an alert: how many were `acknowledged`."""
        ...

    def quarantine(self) -> Iterator[Object]:
        """What was not accepted, newest first."""
        ...

    def retry_quarantine(self) -> Object:
        """Offer it again: how many were `accepted`, and still `rejected`."""
        ...

    def sweep(self, *, dry: bool, tell: Callable[[str], None]) -> Iterator[Object]:
        """Begin a sweep, or join one, and tell how it goes on, again and again; the last one has a `finished_at`.

        `tell` is told when one goes on already.
        """
        ...


def statuses(config_path: Path, clients: Sequence[str], tell: Callable[[str], None]) -> Iterator[Object]:
    """Whether clients are connected now: the running service is asked, else the provider itself, within the same budget.

    `tell` is told why the provider does not answer.
    """
    config = load_config(config_path)
    service = _running(config)
    if service is not None:
        yield from service.statuses(clients)
        return
    from engine.runtime.offline import ask_directly

    yield from ask_directly(config, clients, tell)


@contextmanager
def desk(config_path: Path, *, write: bool = False) -> Iterator[Desk]:
    """Whom to ask under this configuration. InvalidFiles, or StoreError when the store cannot be opened either."""
    config = load_config(config_path)
    service = _running(config)
    if service is not None:
        yield service
        return
    from engine.runtime.offline import opened

    try:
        with opened(config, write=write) as store:
            yield _Store(store)
    except StoreInUse as error:
        raise StoreInUse(_silent(config)) from error


def _silent(config: Config) -> str:
    where = (
        f" on http://{_address(config.http)}" if config.http is not None else ": `http` is null in its configuration"
    )
    return (
        f"{config.data} is in use by another rollcall (process {owner_of(config.data)}), which does not answer{where}"
    )


def _address(http: HttpConfig) -> str:
    host = ANY.get(http.host, http.host)
    return f"[{host}]:{http.port}" if ":" in host else f"{host}:{http.port}"


def _running(config: Config) -> _Service | None:
    """The service that works on our data, None when none answers."""
    if config.http is None:
        return None
    import requests

    session = requests.Session()
    session.trust_env = False  # an engine on loopback is not to be sought behind a proxy, nor is a password in ~/.netrc
    session.headers["Content-Type"] = "application/json"
    service = _Service(session, f"http://{_address(config.http)}")
    try:
        answer = session.get(f"{service.url}/healthz", timeout=(CONNECT_S, CONNECT_S))
        process = answer.json()["process"] if answer.ok else None
    except (requests.RequestException, ValueError, TypeError, KeyError):
        return None
    working = owner_of(config.data)
    if process is None or (working is not None and working != process):
        return None
    if config.http.token is not None:
        session.headers["Authorization"] = f"Bearer {config.http.token.reveal()}"
    return service


class _Busy(RollcallError):
    """Not now."""


REFUSALS: dict[int, type[RollcallError]] = {400: BadQuestion, 429: _Busy}


class _Service:
    """The running service, over HTTP."""

    def __init__(self, session: requests.Session, url: str) -> None:
        self._session = session
        self.url = url

    def _ask(self, method: str, path: str, wanted: Filters | None = None, told: Object | None = None) -> Object:
        import requests

        try:
            answer = self._session.request(
                method,
                self.url + path,
                params=dict(wanted or {}),
                json=told,
                timeout=(CONNECT_S, ANSWER_S),
                allow_redirects=False,
            )
            found = answer.json()
        except requests.Timeout as error:
            raise RollcallError(f"the service at {self.url} does not answer in time") from error
        except (requests.RequestException, ValueError) as error:
            raise RollcallError(f"the service at {self.url} stopped answering: {error}") from error
        if not isinstance(found, dict):
            raise RollcallError(f"the service at {self.url} answered something else than an object")
        if not answer.ok:
            raise REFUSALS.get(answer.status_code, RollcallError)(
                str(found.get("title", f"the service answered {answer.status_code}"))
            )
        return found

    def _list(self, path: str, wanted: Filters) -> Iterator[Object]:
        cursor: str | None = ""
        while cursor is not None:
            given = {key: value for key, value in wanted.items() if value not in (None, ())}
            page = self._ask("GET", path, given | {"limit": PAGE, "cursor": cursor})
            yield from page["items"]
            cursor = page["next"]

    def clients(self, wanted: Filters) -> Iterator[Object]:
        return self._list("/v1/clients", wanted)

    def explanation(self, client: str, at_ms: int | None) -> Object:
        return self._ask("GET", f"{_client(client)}/explanation", {} if at_ms is None else {"at": at_ms})

    def forget(self, client: str) -> None:
        self._ask("DELETE", _client(client))

    def sources(self) -> Iterator[Object]:
        return self._list("/v1/sources", {})

    def alerts(self, wanted: Filters) -> Iterator[Object]:
        return self._list("/v1/alerts", wanted)

    def deliveries(self, wanted: Filters) -> Iterator[Object]:
        return self._list("/v1/deliveries", wanted)

    def delivery(self, number: int) -> Object:
        return self._ask("GET", f"/v1/deliveries/{number}")

    def act_on_delivery(self, number: int, what: str) -> Object:
        return self._ask("POST", f"/v1/deliveries/{number}/{what}")

    def act_on_held(self, rule: str, what: str) -> Object:
        return self._ask("POST", f"/v1/deliveries/{what}", {"rule": rule})

    def silence(self, wanted: Object) -> Object:
        return self._ask("POST", "/v1/silences", told=wanted)

    def silences(self, wanted: Filters) -> Iterator[Object]:
        return self._list("/v1/silences", wanted)

    def expire_silence(self, id_: str) -> Object:
        return self._ask("DELETE", f"/v1/silences/{quote(id_, safe='')}")

    def why_not(self, rule: str, client: str) -> Object:
        return self._ask("GET", f"/v1/rules/{quote(rule, safe='')}/why-not", {"client": client})

    def acknowledge(self, id_: str, by: str) -> Object:
        return self._ask("POST", f"/v1/alerts/{quote(id_, safe='')}/ack", told={"by": by})

    def quarantine(self) -> Iterator[Object]:
        return self._list("/v1/quarantine", {})

    def retry_quarantine(self) -> Object:
        return self._ask("POST", "/v1/quarantine/retry")

    def statuses(self, clients: Sequence[str]) -> Iterator[Object]:
        # Together, so that many take no longer than the budget wants; in the order in which they were named.
        with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
            yield from pool.map(lambda name: self._ask("GET", f"{_client(name)}/status", {"verify": "true"}), clients)

    def sweep(self, *, dry: bool, tell: Callable[[str], None]) -> Iterator[Object]:
        found = self._begin_or_join(dry, tell)
        yield found
        while found["finished_at"] is None:
            found = self._looked_at_again(found)
            yield found

    def _begin_or_join(self, dry: bool, tell: Callable[[str], None]) -> Object:
        """A sweep of our own; or one that goes on, where it does all that is wished for. Another is waited for."""
        while True:
            try:
                return self._ask("POST", "/v1/reconciliations", told={"dry_run": dry})
            except _Busy:
                under_way = self._under_way()
            if under_way is None:  # it is about to begin, or has just ended
                time.sleep(LOOK_S)
                continue
            number, why = under_way["id"], under_way["why"]
            if why in (DRY_RUN_WHYS if dry else FULL_WHYS):
                tell(f"sweep {number} goes on already ({why}); this is how it goes on, and its report")
                return under_way
            tell(f"sweep {number} goes on ({why}); this one begins after it")
            while under_way["finished_at"] is None:
                under_way = self._looked_at_again(under_way)

    def _under_way(self) -> Object | None:
        newest = self._ask("GET", "/v1/reconciliations", {"limit": NEWEST})["items"]
        open_ = [found["id"] for found in newest if found["finished_at"] is None]
        return self._ask("GET", f"/v1/reconciliations/{open_[-1]}") if open_ else None

    def _looked_at_again(self, found: Object) -> Object:
        time.sleep(LOOK_S)
        return self._ask("GET", f"/v1/reconciliations/{found['id']}")


def _client(client: str) -> str:
    return f"/v1/clients/{quote(client, safe='')}"


class _Store:
    """The store itself."""

    def __init__(self, store: Offline) -> None:
        self._store = store
        self._answers = store.answers
        self._reader = store.reader

    def clients(self, wanted: Filters) -> Iterator[Object]:
        return _pages(partial(self._answers.clients, **wanted))

    def explanation(self, client: str, at_ms: int | None) -> Object:
        return self._answers.explanation(self._reader, client, at_ms)

    def forget(self, client: str) -> None:
        if not self._store.forget(client):
            raise RollcallError(f"no event ever named {client!r}")

    def sources(self) -> Iterator[Object]:
        return _pages(partial(self._answers.sources, self._reader))

    def alerts(self, wanted: Filters) -> Iterator[Object]:
        return _pages(partial(self._answers.alerts, self._reader, **wanted))

    def deliveries(self, wanted: Filters) -> Iterator[Object]:
        return _pages(partial(self._answers.deliveries, self._reader, **wanted))

    def delivery(self, number: int) -> Object:
        return self._answers.delivery(self._reader, number)

    def act_on_delivery(self, number: int, what: str) -> Object:
        from engine.web import serializers
        from engine.web.answers import refusal

        row, changed = self._store.act_on_delivery(number, what)
        if row is None:
            raise RollcallError(f"there is no delivery {number}")
        if not changed:
            raise RollcallError(refusal(row.id, row.state, what))
        return serializers.delivery_object(row)

    def act_on_held(self, rule: str, what: str) -> Object:
        return {"rule": rule, "changed": self._store.act_on_held(rule, what)}

    def silence(self, wanted: Object) -> Object:
        from engine.web import serializers
        from engine.web.silencing import read_silence

        now_ms = self._store.now_ms()
        silence = read_silence(wanted, self._store.match_value, now_ms)
        self._store.silence(silence)
        return serializers.silence_object(silence, now_ms)

    def silences(self, wanted: Filters) -> Iterator[Object]:
        return _pages(partial(self._answers.silences, self._reader, **wanted))

    def expire_silence(self, id_: str) -> Object:
        changed = self._store.expire_silence(id_)
        found = self._answers.silence(self._reader, id_)
        if not changed:
            raise RollcallError(f"the silence {id_} is over already, since {found['until']}")
        return found

    def why_not(self, rule: str, client: str) -> Object:
        return self._answers.why_not(rule, client, self._store.why_not(rule, client))

    def acknowledge(self, id_: str, by: str) -> Object:
        from engine.web.answers import unacknowledged
        from engine.web.silencing import name_of

        count = self._store.acknowledge(id_, name_of({"by": by}, "by"))
        if not count:
            raise RollcallError(unacknowledged(self._reader, id_))
        return {"acknowledged": count}

    def quarantine(self) -> Iterator[Object]:
        return _pages(partial(self._answers.quarantine, self._reader))

    def retry_quarantine(self) -> Object:
        accepted, left = self._store.retry_quarantine()
        return {"accepted": accepted, "rejected": left}

    def sweep(self, *, dry: bool, tell: Callable[[str], None]) -> Iterator[Object]:
        with self._store.reconciling() as asking:
            number = asking.begin(dry=dry).result()
            while True:
                found = self._store.reconciliation(number)
                yield found
                if found["finished_at"] is not None:
                    return
                time.sleep(LOOK_S)


def _pages(ask: Callable[..., Object]) -> Iterator[Object]:
    cursor: str | None = ""
    while cursor is not None:
        page = ask(limit=PAGE, cursor=cursor)
        yield from page["items"]
        cursor = page["next"]
