"""What the HTTP interface needs of the engine: `Subject` for what is read, `Service` for acts, health and metrics as well.

`engine.web` may not import `engine.runtime`, so it names here what it is given. The acts of operators are not repeated: they come as
`ExposedAct`, and each gets a route (see `act_routes`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from engine.core.access import Caller
from engine.core.alerting.silence_coverage import Covered
from engine.core.alerting.silences import Silence
from engine.core.fleet import Fleet
from engine.core.presence.evidence import Doubt, Reading
from engine.core.presence.query import StatusAnswer
from engine.core.rules import Rule
from engine.errors import Problem
from engine.sources.base import SourceHealth
from engine.stores.base import Reader
from engine.web.openapi.operation import Described

if TYPE_CHECKING:  # the views in turn name what they read
    from engine.web.access.gate import Access
    from engine.web.views import Views

T = TypeVar("T")

NO_PROVIDER = "no status provider configured: set `status` in the configuration"
"""Why a query or a sweep is not possible."""


class TargetPause(Protocol):
    """A target whose circuit breaker is open: nothing but a probe is sent to it. Instants are epoch milliseconds."""

    @property
    def target(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def since_ms(self) -> int: ...
    @property
    def next_try_ms(self) -> int: ...
    @property
    def is_probing(self) -> bool: ...  # the attempt that finds out whether it works again is under way


class PartState(NamedTuple):
    """One part of the running service."""

    name: str
    reason: str | None  # why it does not work; None: it does
    since_ms: int | None
    restarts: int  # since the service started


class CellState(NamedTuple):
    """One cell of a store that several replicas share, as this replica sees it."""

    name: str
    standing: str  # of this replica: owner, standby or behind
    owner: str | None  # the replica that owns it; None: none, as far as this one knows
    epoch: int  # of how many takings the owner's is the newest; 0: this replica is not the owner
    lag_s: float  # for how long this replica has not seen the end of the journal; 0: it is the owner
    fenced: int  # transactions of this replica that were stopped because another one owned the cell
    reason: str | None  # why it is behind


class Codec(Protocol):
    """Reads what people write and what the store holds."""

    def matcher(self, pairs: Sequence[str]) -> Callable[[str, str], bool]:
        """The predicate (client id, `ip:port`) -> bool that `key=pattern` pairs stand for. ValueError for an invalid pair."""
        ...

    def silence_warnings(self, silence: Silence, covered: Covered, rules: Sequence[str]) -> list[str]:
        """What is probably not meant with a silence, as sentences; `rules`: the names of those in force."""
        ...

    def decode(self, raw: list[bytes], received_at_ms: int) -> list[Any]:
        """The events of stored lines."""
        ...

    def conceal(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """A stored request with its secrets replaced by `***`."""
        ...

    def why(self, reading: Reading) -> str:
        """Why an event or an answer was used as it was, as a sentence."""
        ...

    def doubt(self, doubt: Doubt) -> str:
        """Why a belief may be wrong, as a sentence."""
        ...


class Subject(Protocol):
    """What can be read: the running service, or a store that was opened without one."""

    @property
    def fleets(self) -> Sequence[Fleet]: ...  # every client is in one of them
    @property
    def inventory(self) -> Any: ...
    @property
    def rules(self) -> Sequence[Rule]: ...
    @property
    def rules_problem(self) -> str | None: ...
    @property
    def codec(self) -> Codec: ...
    @property
    def is_loaded(self) -> bool: ...  # have the states of all clients been loaded, or are they when they are asked for?

    def fleet_of(self, client: str) -> Fleet:
        """The fleet that a client belongs to, also one that is not known."""
        ...

    def healths(self) -> Sequence[SourceHealth]:
        """The health of every configured source."""
        ...

    def now_ms(self) -> int:
        """The present instant, epoch milliseconds."""
        ...

    def pauses(self) -> Mapping[str, TargetPause]:
        """Targets of deliveries whose circuit breaker is open, by name; none when no service runs."""
        ...


class PendingAct(NamedTuple):
    """An act that was written down for the replica that owns the cell, which has not answered yet."""

    number: int


class QueryNumbers(NamedTuple):
    """What the metrics report about the synchronous query; counts are since the start."""

    calls: int
    throttled: int
    failures: int
    outcomes: Mapping[str, int]
    verdicts: Mapping[str, int]
    waiting: int
    trouble: str | None  # why queries fail at present
    corrections: int
    sweeps: int
    sweep_total: int  # of the running sweep
    sweep_asked: int
    stale: int
    avoided: int


class StatusQueries(Protocol):
    """The synchronous query: asks the broker whether a client is connected."""

    async def verify(self, client: str) -> StatusAnswer | None:
        """Query one client now; None when the broker gave no number of connections in time."""
        ...

    @property
    def trouble(self) -> str | None:
        """Why queries get no answers at present; None while they do."""
        ...

    def numbers(self) -> QueryNumbers:
        """What the metrics report."""
        ...


class Push(Protocol):
    """Takes events that are sent to the HTTP interface."""

    async def accept(self, body: bytes, content_type: str = "") -> Any:
        """Returns (accepted, rejected) once what was accepted is durable."""
        ...


class RuleTrial(Protocol):
    """Tries edited rule files; nothing is kept."""

    @property
    def files(self) -> Mapping[str, Any]: ...  # by name

    def text_of(self, name: str) -> str:
        """The text of a rule file. NotThere."""
        ...

    def check(self, name: str, text: str) -> Sequence[Problem]:
        """Every problem of an edited file; it may take a while, so call it in a thread."""
        ...

    async def compare(self, name: str, text: str, days: int) -> dict[str, Any]:
        """What the edited rules would have done in the last days, beside the rules in force. BadQuestion, Unavailable."""
        ...


class Address(Protocol):
    """A method and a path of the HTTP interface."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def status(self) -> int: ...  # of the response when the act succeeds
    @property
    def query(self) -> Sequence[str]: ...  # the parameters of the query string


class ExposedAct(Protocol):
    """One address of one act of operators."""

    @property
    def act(self) -> type: ...  # its name and its docstring describe the route
    @property
    def route(self) -> Address: ...
    @property
    def needs(self) -> str: ...  # the role of whoever does it
    @property
    def body_keys(self) -> Mapping[str, str]: ...  # empty: the body is ignored
    @property
    def described(self) -> Described: ...  # for the OpenAPI document

    def read(self, parameters: Mapping[str, Any], body: object) -> Any:
        """The act that a request asks for. BadQuestion for a body with other keys."""
        ...


class Service(Subject, Protocol):
    """The running service."""

    @property
    def config(self) -> Any: ...
    @property
    def refused_edits(self) -> Mapping[str, str]: ...
    @property
    def push(self) -> Push | None: ...
    @property
    def queries(self) -> StatusQueries | None: ...
    @property
    def ready_at_ms(self) -> int | None: ...
    @property
    def views(self) -> Views: ...
    @property
    def access(self) -> Access: ...  # who may ask
    @property
    def act_routes(self) -> Sequence[ExposedAct]: ...
    @property
    def is_stopping(self) -> bool: ...
    @property
    def rule_trial(self) -> RuleTrial: ...

    async def do(self, act: Any, by: Caller) -> Any:
        """Carry out an act that `ExposedAct.read` returned; the JSON object to answer with. RollcallError when it is refused.

        `by`: who asks for it: Forbidden when their role is not enough. `PendingAct`: another replica will carry it out.
        """
        ...

    def as_of_ms(self, client: str | None = None) -> int | None:
        """The instant (epoch ms) of which a client (None: all) is shown; None: the present, because no other process decides."""
        ...

    async def answer(self, number: int) -> Any:
        """What an act returned that another replica was to carry out; PendingAct: not yet. Raises what it raised; NotThere."""
        ...

    async def ask(self, question: Callable[[Reader], T], client: str | None = None) -> T:
        """Ask the store, in a thread beside the writer; `client`: whose history is asked for. StoreError when it cannot be read."""
        ...

    def proof(self, challenge: str) -> str:
        """Shows a command that this is the service of its data folder."""
        ...

    def suppressed(self) -> Mapping[str, int]:
        """How many alerts were suppressed since the start, by reason."""
        ...

    def outages(self) -> Mapping[str, tuple[int, int]]:
        """Ongoing outages by the id of their alert: how many clients were ever part of it, and how many are back."""
        ...

    def silences_active(self) -> int:
        """How many silences are in force now."""
        ...

    def readiness(self, now_ms: int) -> list[str]:
        """Reasons why it is not ready; empty when it is."""
        ...

    def degraded(self) -> list[str]:
        """What is not as it should be, although it is ready."""
        ...

    def cell_states(self) -> Sequence[CellState]:
        """The cells of a store that several replicas share; none with the embedded store."""
        ...

    def parts(self) -> Sequence[PartState]:
        """Every part of the service, and what is wrong with it."""
        ...

    def receiver_attempts(self) -> Mapping[tuple[str, str], int]:
        """Attempts at receivers since the start, by receiver and outcome: delivered, retried or rejected."""
        ...

    def gaps_found(self) -> Mapping[str, int]:
        """How many gaps each source has found since the start; a source without any may be missing."""
        ...

    def counters(self) -> Mapping[str, int]:
        """What was counted since the start, by name."""
        ...


def exposed_act(service: Service, name: str) -> ExposedAct:
    """The first address of the act whose class has this name."""
    return next(one for one in service.act_routes if one.act.__name__ == name)
