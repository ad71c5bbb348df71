"""What the interface asks of whoever it speaks for: `Subject` for answers, `Service` for acts and condition as well."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from engine.core.alerting.silences import Silence
from engine.core.alerting.stages.base import StageReport
from engine.core.fleet import Fleet
from engine.core.presence.evidence import Doubt, Reading
from engine.core.presence.query import StatusAnswer
from engine.core.rules import Match, Rule
from engine.stores.base import DeliveryRow, Reader
from engine.web import serializers

T = TypeVar("T")


class Subject(Protocol):
    """What answers are about: the running service, or a store opened without one."""

    @property
    def fleet(self) -> Fleet: ...
    @property
    def inventory(self) -> Any: ...
    @property
    def rules(self) -> Sequence[Rule]: ...
    @property
    def rules_problem(self) -> str | None: ...

    def match(self, pairs: Sequence[str]) -> Callable[[str, str], bool]:
        """Whether `key=pattern` pairs hold for a client and its `ip:port`; ValueError for pairs that cannot be."""
        ...

    def decode(self, raw: list[bytes], received_at_ms: int) -> list[Any]:
        """Events of stored texts."""
        ...

    def conceal(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """A stored request as it may be shown, without secrets."""
        ...

    def why(self, reading: Reading) -> str:
        """Why an event or an answer was used as it was, as a sentence."""
        ...

    def doubt(self, doubt: Doubt) -> str:
        """Why a belief may be wrong, as a sentence."""
        ...

    def healths(self) -> Sequence[serializers.Health]:
        """How every configured source is doing."""
        ...

    def match_value(self, pairs: Sequence[str]) -> Match:
        """The value that `key=pattern` pairs mean; ValueError for pairs that cannot be."""
        ...

    def now_ms(self) -> int:
        """The present instant, epoch milliseconds."""
        ...


class AskingNumbers(NamedTuple):
    """What the metrics tell of the synchronous query; counts are since the start."""

    calls: int
    throttled: int
    failures: int
    outcomes: Mapping[str, int]
    verdicts: Mapping[str, int]
    waiting: int
    trouble: str | None  # why asking fails at present
    corrections: int
    sweeps: int
    sweep_total: int  # of the sweep under way
    sweep_asked: int
    stale: int
    avoided: int


class Inquiry(Protocol):
    """Those who ask the broker's service for a client's status."""

    async def verify(self, client: str) -> StatusAnswer | None:
        """Ask now; None when there is no number in time."""
        ...

    async def reconcile(self, *, dry: bool) -> int:
        """Begin a sweep, its number. Overloaded while another one goes on."""
        ...

    def numbers(self) -> AskingNumbers:
        """What the metrics tell."""
        ...


class Push(Protocol):
    """Takes events that are sent to us."""

    async def accept(self, body: bytes, content_type: str = "") -> Any:
        """Returns (accepted, rejected) once what was accepted is durable."""
        ...


class Service(Subject, Protocol):
    """The running service. What it answers, `Subject` says; here is what it does, and how it is."""

    @property
    def config(self) -> Any: ...
    @property
    def push(self) -> Push | None: ...
    @property
    def asking(self) -> Inquiry | None: ...
    @property
    def ready_at_ms(self) -> int | None: ...

    async def ask(self, question: Callable[[Reader], T]) -> T:
        """Ask the store, beside the writer and without holding up anybody. StoreError when it cannot be read."""
        ...

    async def act_on_delivery(self, number: int, what: str) -> tuple[DeliveryRow | None, bool]:
        """Carry out `retry` or `discard`; the delivery as it is now, None: there is none, and whether it was changed."""
        ...

    async def act_on_held(self, rule: str, what: str) -> int:
        """`release` or `discard` all held deliveries of a rule; how many."""
        ...

    def suppressed(self) -> Mapping[str, int]:
        """How many alerts were suppressed since the start, by the reason."""
        ...

    def outages(self) -> Mapping[str, tuple[int, int]]:
        """Outages that go on, by the id of their alert: how many clients ever joined, and how many are back."""
        ...

    def silences_open(self) -> int:
        """How many silences are not over."""
        ...

    async def silence(self, silence: Silence) -> None:
        """Add a silence."""
        ...

    async def expire_silence(self, id_: str) -> bool:
        """End a silence now; was there one that was not over?"""
        ...

    async def why_not(self, rule: str, client: str) -> list[StageReport]:
        """Every gate between a client and a firing of the rule; none: there is no such rule."""
        ...

    async def acknowledge(self, alert_id: str, by: str) -> int:
        """Somebody knows of an alert, or of all in a group; how many alerts that were firing and not acknowledged."""
        ...

    async def retry_quarantine(self) -> tuple[int, int]:
        """Offer quarantined events again: (accepted, still malformed)."""
        ...

    async def forget(self, clients: Sequence[str]) -> int:
        """Keep these clients no longer; how many were known."""
        ...

    def readiness(self, now_ms: int) -> list[str]:
        """Reasons why it is not ready; empty when it is."""
        ...

    def gaps_found(self) -> Mapping[str, int]:
        """How many gaps each source has found since the start; sources without any may be missing."""
        ...

    def counters(self) -> Mapping[str, int]:
        """What was counted since the start, by name."""
        ...
