"""What operators can do and read, in one interface for the HTTP interface and for the command line. Read `Act`, then `OperatorApi`.

An act is a frozen value: its fields are its arguments, `routes` are its addresses in the HTTP interface, `perform` carries it out and
returns the JSON object that the HTTP interface answers with. All acts are declared in `operator_acts`.

`OperatorApi` is what a command talks to. It has two implementations: `LocalOperatorApi` for a `Backend` in this process, which is the
running service or a store that no service works on, and `engine.cli.http_client` for a service in another process. Both give the
same answers and raise the same errors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar
from urllib.parse import quote

from engine.errors import BadQuestion
from engine.web.openapi.operation import Described

if TYPE_CHECKING:  # a command that talks to a running service does not wait for these to be loaded
    from engine.config.loader import Config
    from engine.core.fleet import Fleet
    from engine.runtime.history_codec import HistoryCodec
    from engine.sources.base import Batch
    from engine.stores.base import AccessTables, Reader, Store
    from engine.web.views import Object, Views

T = TypeVar("T")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

ListName = Literal[
    "clients",
    "alerts",
    "deliveries",
    "silences",
    "quarantine",
    "sources",
    "reconciliations",
    "users",
    "tokens",
    "audit",
]
"""The lists of the HTTP interface that commands read."""

PAGE = 1_000
"""Items that are read at once while a list is walked."""


class Backend(Protocol):
    """What acts work on: the running service, or a store that was opened without one. Every method may block; none is async."""

    config: Config
    store: Store
    codec: HistoryCodec

    @property
    def fleet(self) -> Fleet:
        """Every client's state."""
        ...

    @property
    def views(self) -> Views:
        """What can be read, as JSON objects."""
        ...

    def now_ms(self) -> int:
        """The present instant, epoch milliseconds."""
        ...

    def asked_ms(self) -> int:
        """When the operator asked for the act, the same instant in every cell; epoch milliseconds."""
        ...

    def read(self, question: Callable[[Reader], T]) -> T:
        """Ask the store what has been committed. StoreError when it cannot be read."""
        ...

    def inspect(self, work: Callable[[], T]) -> T:
        """Look at the fleet while nothing changes it. StoreError when the rules of a store without a service do not load."""
        ...

    def write(self, work: Callable[[], T]) -> T:
        """Change rows of the store in one transaction; returns once it has committed. StoreError when it could not."""
        ...

    def change(self, work: Callable[[], T]) -> T:
        """Change the fleet in one transaction, with everything that follows from it; returns and raises as `write`."""
        ...

    def offer(self, batch: Batch) -> None:
        """Apply a batch of events; returns once it is durable. StoreError when it could not be committed."""
        ...

    def wake_dispatcher(self) -> None:
        """Deliveries of the outbox have become due or are due no longer."""
        ...

    @property
    def by(self) -> str:
        """For whom the act is carried out."""
        ...

    def access(self, work: Callable[[AccessTables], T]) -> T:
        """Change rows about access in one transaction, and let it count at once; returns and raises as `write`."""
        ...

    def begin_sweep(self, *, dry_run: bool) -> int:
        """Begin to query every client; the number of the sweep. NotConfigured without `status`, Overloaded while one is running."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """An address of an act in the HTTP interface.

    Fields of the act that stand in `path` are taken from there, those in `query` from the query string, and the others are the keys
    of the JSON body. A field whose name ends in `_` has a key without it.
    """

    method: str
    path: str
    status: int = 200  # of the response when the act succeeds
    query: tuple[str, ...] = ()


class Reach(Enum):
    """Which cells carry out an act, where a fleet is divided into several."""

    CLIENT = "the cell of the client that it names"
    ONE = "the one cell that has what it names"
    ALL = "every cell"


class Act(Protocol[R_co]):
    """One thing that operators can do. Every act is a frozen dataclass."""

    needs: ClassVar[str]
    """The role of whoever does it."""

    routes: ClassVar[tuple[Route, ...]]
    """The client uses the first one; the others are kept for callers of ours."""

    described: ClassVar[Described]
    """What the OpenAPI document says of them."""

    reach: ClassVar[Reach]

    def perform(self, backend: Backend) -> R_co:
        """Do it, and return the answer. BadQuestion, NotThere, Conflict, Unavailable or NotConfigured when that is not possible."""
        ...


class OperatorApi(Protocol):
    """What a command can do and read, in the service or in the store. Objects are those of the HTTP interface."""

    def do(self, act: Act[R]) -> R:
        """Carry out an act; see `Act.perform` for the errors."""
        ...

    def items(self, name: ListName, **filters: Any) -> Iterator[Object]:
        """All objects of a list, read page by page; filters are the parameters of the list, None: no filter."""
        ...

    def explanation(self, client: str, at_ms: int | None) -> Object:
        """A client's verdict and its evidence, now or at an instant. NotThere for an unknown client."""
        ...

    def delivery(self, number: int) -> Object:
        """One delivery with its request. NotThere when there is none."""
        ...

    def sweep(self, number: int) -> Object:
        """One sweep: its progress and its drift report. NotThere when there is none."""
        ...


def walk(filters: Mapping[str, Any], page_of: Callable[[Mapping[str, Any]], Object]) -> Iterator[Object]:
    """All items of a list; `page_of` returns the page for some parameters."""
    given = {key: value for key, value in filters.items() if value is not None}
    cursor: str | None = ""
    while cursor is not None:
        page = page_of(given | {"limit": PAGE, "cursor": cursor})
        yield from page["items"]
        cursor = page["next"]


class LocalOperatorApi:
    """The operator API on a backend in this process."""

    def __init__(self, backend: Backend, carry_out: Callable[[Act[Any], Backend], Any]) -> None:
        """`carry_out`: see `audit.carry_out`, for whoever runs the command."""
        self._backend, self._carry_out = backend, carry_out

    def do(self, act: Act[R]) -> R:
        """See `OperatorApi`."""
        found: R = self._carry_out(act, self._backend)
        return found

    def items(self, name: ListName, **filters: Any) -> Iterator[Object]:
        """See `OperatorApi`."""
        return walk(filters, lambda wanted: self._page(name, wanted))

    def _page(self, name: ListName, wanted: Mapping[str, Any]) -> Object:
        views = self._backend.views
        if name == "clients":
            return views.clients(**wanted)
        lists: Mapping[str, Callable[..., Object]] = {
            "alerts": views.alerts,
            "deliveries": views.deliveries,
            "silences": views.silences,
            "quarantine": views.quarantine,
            "sources": views.sources,
            "reconciliations": views.reconciliations,
        }
        return self._backend.read(lambda reader: lists[name](reader, **wanted))

    def explanation(self, client: str, at_ms: int | None) -> Object:
        """See `OperatorApi`."""
        return self._backend.read(lambda reader: self._backend.views.explanation(reader, client, at_ms))

    def delivery(self, number: int) -> Object:
        """See `OperatorApi`."""
        return self._backend.read(lambda reader: self._backend.views.delivery(reader, number))

    def sweep(self, number: int) -> Object:
        """See `OperatorApi`."""
        return self._backend.read(lambda reader: self._backend.views.reconciliation(reader, number))


# From and to HTTP

_IN_PATH = re.compile(r"{(\w+)(?::\w+)?}")


@dataclass(frozen=True, slots=True)
class ActRoute:
    """One address of one act, as `engine.web` needs it to add a route."""

    act: type[Act[Any]]
    route: Route

    @property
    def needs(self) -> str:
        """The role of whoever does it."""
        return self.act.needs

    @property
    def described(self) -> Described:
        """What the OpenAPI document says of it."""
        return self.act.described

    @property
    def body_keys(self) -> Mapping[str, str]:
        """The keys of the JSON body, each with the field that it fills; empty: the body is ignored."""
        return body_keys(self.act, self.route)

    def read(self, parameters: Mapping[str, Any], body: object) -> Act[Any]:
        """The act that a request asks for. BadQuestion for a body that has other keys, or null for a value."""
        keys = self.body_keys
        if not keys:
            return self.act(**parameters)
        if not isinstance(body, dict):
            raise BadQuestion(f"the body must be a JSON object with the keys {', '.join(keys)}")
        for key in body:
            if key not in keys:
                raise BadQuestion(f"unknown key {key[:60]!r}; the body has the keys {', '.join(keys)}")
            if body[key] is None:
                raise BadQuestion(f"`{key}` is missing: its value is null")
        return self.act(**parameters, **{keys[key]: value for key, value in body.items()})


def body_keys(act: type[Act[Any]] | Act[Any], route: Route) -> dict[str, str]:
    """The keys of the JSON body that a route of the act takes, each with its field."""
    elsewhere = {*_IN_PATH.findall(route.path), *route.query}
    return {field.name.rstrip("_"): field.name for field in fields(act) if field.name not in elsewhere}  # type: ignore[arg-type]


def path_of(act: Act[Any], route: Route) -> str:
    """The path of a route with the fields of the act in it."""
    return _IN_PATH.sub(lambda found: quote(str(getattr(act, found[1])), safe=""), route.path)
