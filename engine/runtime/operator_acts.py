"""Every act of operators: silences, acknowledgements, deliveries, clients, the quarantine, sweeps, and `why-not`.

To add one, write its class here, add it to `ACTS`, and give it a command in `engine/cli`. The routes of the HTTP interface and the
requests of the client follow from the class. Read `ACTS`, at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict

from engine.config.cell_groups import CellGroups
from engine.core.access import ADMIN, OPERATOR, VIEWER
from engine.core.client_ids import impossible_id
from engine.core.presence.client_state import NEW_CLIENT
from engine.errors import BadQuestion, Conflict, NotThere, RollcallError
from engine.runtime.access_acts import ACCESS_ACTS
from engine.runtime.operator_api import Act, ActRoute, Backend, Reach, Route
from engine.runtime.silence_request import MAX_AUTHOR, one_line, read_silence
from engine.web import serializers
from engine.web.openapi.operation import Described

if TYPE_CHECKING:  # a command that talks to a running service does not wait for these to be loaded
    from engine.core.alerting.stages.base import StageReport
    from engine.core.fleet import Fleet
    from engine.stores.base import DeliveryRow, QuarantineRow, Reader
    from engine.web.views import Object

RETRIED_ROWS = 500
"""Quarantined events that are offered again in one batch."""

MAX_OPEN_SILENCES = 1_000
"""Silences at one time: each of them is compared with every alert that is due."""

SOME_OF_A_GROUP = 1_000
"""Alerts of a group that are looked at to say why there was nothing to acknowledge."""

DRY_RUN = {"for": "1h", "author": "dry run", "comment": "dry run"}
"""What a silence that is only tried need not say."""

SOMEBODY = "an operator"
"""Who acknowledged an alert when no name was given: it must not look as if nobody had."""

MAX_NUMBER = (1 << 63) - 1
"""The largest number that the store can give to a delivery."""


# Silences and acknowledgements


@dataclass(frozen=True, slots=True, kw_only=True)
class AddSilence:
    """Silence the clients that match all matchers, alerts of the rules that `rule` names, or both, for as long as `for` says.

    See `silence_request`. With `dry_run` nothing is made: the answer says what it would cover.
    """

    needs: ClassVar[str] = OPERATOR
    routes: ClassVar[tuple[Route, ...]] = (Route(method="POST", path="/v1/silences", status=201),)
    described: ClassVar[Described] = Described("Silence", "NewSilence", (409,))
    reach: ClassVar[Reach] = Reach.ALL
    match: Any = None
    rule: Any = None
    from_: Any = None
    for_: Any = None
    author: Any = None
    comment: Any = None
    dry_run: Any = False

    def perform(self, backend: Backend) -> Object:
        """The silence, with what it covers now; `warnings` say what is probably not meant."""
        if not isinstance(self.dry_run, bool):
            raise BadQuestion("`dry_run` must be true or false")
        asked_ms = backend.asked_ms()
        now_ms = max(asked_ms, backend.now_ms())  # one that begins when it is asked for has begun
        wanted = {"match": self.match, "rule": self.rule, "from": self.from_, "for": self.for_}
        wanted |= {"author": self.author, "comment": self.comment}
        if self.dry_run:
            wanted = {**DRY_RUN, **{key: value for key, value in wanted.items() if value is not None}}
        silence = read_silence(wanted, backend.codec.match, asked_ms)
        for alone, problem in backend.codec.mistaken_patterns(silence.match):
            of_it = replace(silence, match=alone, rules=())
            if not backend.views.coverage([of_it])[of_it.id].clients:  # no client is really named so
                raise BadQuestion(f"`match`: {problem}")

        def add() -> None:
            if open_silences(backend.fleet) >= MAX_OPEN_SILENCES:
                raise Conflict(
                    f"there are already {MAX_OPEN_SILENCES} silences that have not expired, the maximum; expire some of them first"
                )
            backend.fleet.silence(silence, now_ms)

        if not self.dry_run:
            backend.change(add)
        (found,) = backend.views.silence_objects([silence], now_ms)
        return found | {"id": None, "dry_run": True} if self.dry_run else found


def open_silences(fleet: Fleet) -> int:
    """How many silences have not expired."""
    return len(fleet.alerts.silences.open)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireSilence:
    """End a silence now; one that has not begun never does. Alerts that it suppressed and that still hold fire, in one notification."""

    needs: ClassVar[str] = OPERATOR
    routes: ClassVar[tuple[Route, ...]] = (
        Route(method="DELETE", path="/v1/silences/{id_}"),
        Route(method="POST", path="/v1/silences/{id_}/expire"),
    )
    described: ClassVar[Described] = Described("Silence", refuses=(404, 409))
    reach: ClassVar[Reach] = Reach.ALL
    id_: str

    def perform(self, backend: Backend) -> Object:
        """The silence as it is then."""
        changed = backend.change(lambda: backend.fleet.expire_silence(self.id_, backend.now_ms()))
        found = backend.read(lambda reader: backend.views.silence(reader, self.id_))
        if not changed:
            raise Conflict(f"the silence {self.id_} has already expired, at {found['until']}")
        return found


class Acknowledged(TypedDict):
    """How many firing alerts were acknowledged: 1, or all of a group."""

    acknowledged: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledge:
    """Acknowledge a firing alert, or every one of a group: it sends no more reminders. Its recovery is still sent."""

    needs: ClassVar[str] = OPERATOR
    routes: ClassVar[tuple[Route, ...]] = (Route(method="POST", path="/v1/alerts/{id_}/ack"),)
    described: ClassVar[Described] = Described("Acknowledged", "Acknowledgement", (404, 409))
    reach: ClassVar[Reach] = Reach.ONE
    id_: str
    by: Any = None  # the name of the person who acknowledges it; None: not given

    def perform(self, backend: Backend) -> Acknowledged:
        """How many alerts were acknowledged, at least 1."""
        by = SOMEBODY if self.by is None else one_line("by", self.by, MAX_AUTHOR)
        count = backend.change(lambda: backend.fleet.acknowledge(backend.now_ms(), alert_id=self.id_, by=by))
        if not count:
            raise backend.read(self._refusal)
        return {"acknowledged": count}

    def _refusal(self, reader: Reader) -> RollcallError:
        """Why there was nothing to acknowledge."""
        some = reader.alerts_of(self.id_, limit=SOME_OF_A_GROUP)
        row = next((row for row in some if row.state == "firing"), some[0] if some else reader.alert(self.id_))
        if row is None:
            if reader.deliveries(alert=self.id_, limit=1):  # a group or a bundle, which is kept no longer than it lasts
                return Conflict(f"the alert {self.id_} has ended; only a firing alert can be acknowledged")
            return NotThere(f"there is no alert {self.id_[:60]!r}")
        if row.state == "firing":  # and nobody could acknowledge it, so somebody has
            return Conflict(f"the alert {self.id_} has already been acknowledged by {row.acknowledged_by or SOMEBODY}")
        if row.acknowledged_by is not None:
            return Conflict(f"the alert {self.id_} has already been acknowledged by {row.acknowledged_by}")
        return Conflict(f"the alert {self.id_} is {row.state}; only a firing alert can be acknowledged")


@dataclass(frozen=True, slots=True, kw_only=True)
class WhyNot:
    """Why a rule has not fired for a client: the verdict of every stage on the way, and the stage that stops it."""

    needs: ClassVar[str] = VIEWER
    routes: ClassVar[tuple[Route, ...]] = (Route(method="GET", path="/v1/rules/{rule}/why-not", query=("client",)),)
    described: ClassVar[Described] = Described("WhyNot", refuses=(404,))
    reach: ClassVar[Reach] = Reach.CLIENT
    rule: str
    client: str = ""

    def perform(self, backend: Backend) -> Object:
        """Every stage with its verdict and the reason."""
        if not self.client:
            raise BadQuestion("`client` is missing")
        if problem := impossible_id(self.client):
            raise NotThere(problem)
        gates: list[StageReport] = backend.inspect(
            lambda: backend.fleet.why_not(self.rule, self.client, backend.now_ms())
        )
        return backend.views.why_not(self.rule, self.client, gates)


MAX_EXPLAINED_RULES = 500
"""Rules that one question about a client explains."""


class Explained(TypedDict):
    """Each rule that matches a client, as `why-not` explains it; `unmatched`: how many rules do not match it."""

    client: str
    items: list[dict[str, Any]]
    unmatched: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WhyNotAny:
    """What every rule that matches a client does about it: for each rule what `why-not` says. `unmatched`: how many rules do not match."""

    needs: ClassVar[str] = VIEWER
    routes: ClassVar[tuple[Route, ...]] = (Route(method="GET", path="/v1/why-not", query=("client",)),)
    described: ClassVar[Described] = Described("RulesExplained", refuses=(404,))
    reach: ClassVar[Reach] = Reach.CLIENT
    client: str = ""

    def perform(self, backend: Backend) -> Explained:
        """The rules that match, in the order of their files."""
        if not self.client:
            raise BadQuestion("`client` is missing")
        if problem := impossible_id(self.client):
            raise NotThere(problem)
        reports: dict[str, list[StageReport]] = backend.inspect(lambda: self._reports(backend))
        matching = {
            name: stages
            for name, stages in reports.items()
            if any(one.stage == "match" and one.passes for one in stages)
        }
        return {
            "client": self.client,
            "items": [backend.views.why_not(name, self.client, stages) for name, stages in matching.items()],
            "unmatched": len(reports) - len(matching),
        }

    def _reports(self, backend: Backend) -> dict[str, list[StageReport]]:
        names = [rule.name for rule in backend.fleet.alerts.matcher.rules][:MAX_EXPLAINED_RULES]
        return {name: backend.fleet.why_not(name, self.client, backend.now_ms()) for name in names}


# Deliveries


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryDelivery:
    """Send a dead delivery again."""

    needs: ClassVar[str] = OPERATOR
    routes: ClassVar[tuple[Route, ...]] = (Route(method="POST", path="/v1/deliveries/{number:int}/retry"),)
    described: ClassVar[Described] = Described("Delivery", refuses=(404, 409))
    reach: ClassVar[Reach] = Reach.ONE
    number: int

    def perform(self, backend: Backend) -> Object:
        """The delivery as it is then."""
        return _change_delivery(backend, self.number, "retry", "only a dead delivery can be retried")


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscardDelivery:
    """Give a delivery up: it is never sent."""

    needs: ClassVar[str] = ADMIN
    routes: ClassVar[tuple[Route, ...]] = (Route(method="POST", path="/v1/deliveries/{number:int}/discard"),)
    described: ClassVar[Described] = Described("Delivery", refuses=(404, 409))
    reach: ClassVar[Reach] = Reach.ONE
    number: int

    def perform(self, backend: Backend) -> Object:
        """The delivery as it is then."""
        return _change_delivery(backend, self.number, "discard", "only a due, held or dead delivery can be discarded")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseDelivery:
    """Send a delivery that the limit `deliveries.burst` held."""

    needs: ClassVar[str] = ADMIN
    routes: ClassVar[tuple[Route, ...]] = (Route(method="POST", path="/v1/deliveries/{number:int}/release"),)
    described: ClassVar[Described] = Described("Delivery", refuses=(404, 409))
    reach: ClassVar[Reach] = Reach.ONE
    number: int

    def perform(self, backend: Backend) -> Object:
        """The delivery as it is then."""
        return _change_delivery(backend, self.number, "release", "only a held delivery can be released")


def _change_delivery(backend: Backend, number: int, what: str, needed: str) -> Object:
    row: DeliveryRow | None = None
    if number <= MAX_NUMBER:
        row, changed = backend.write(lambda: backend.store.deliveries.act(number, what, backend.now_ms()))
    if row is None:
        raise NotThere(f"there is no delivery {number}")
    if not changed:
        raise Conflict(f"delivery {number} is {row.state}; {needed}")
    backend.wake_dispatcher()
    return serializers.delivery_object(row)


class Changed(TypedDict):
    """How many held deliveries of a rule were changed."""

    rule: str
    changed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseHeld:
    """Send all deliveries of a rule that the limit `deliveries.burst` held."""

    needs: ClassVar[str] = ADMIN
    routes: ClassVar[tuple[Route, ...]] = (Route(method="POST", path="/v1/deliveries/release", query=("rule",)),)
    described: ClassVar[Described] = Described("HeldChanged", refuses=(404,))
    reach: ClassVar[Reach] = Reach.ALL
    rule: str = ""

    def perform(self, backend: Backend) -> Changed:
        """How many were released."""
        return _change_held(backend, self.rule, "release")


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscardHeld:
    """Give up all deliveries of a rule that the limit `deliveries.burst` held: they are never sent."""

    needs: ClassVar[str] = ADMIN
    routes: ClassVar[tuple[Route, ...]] = (Route(method="POST", path="/v1/deliveries/discard", query=("rule",)),)
    described: ClassVar[Described] = Described("HeldChanged", refuses=(404,))
    reach: ClassVar[Reach] = Reach.ALL
    rule: str = ""

    def perform(self, backend: Backend) -> Changed:
        """How many were discarded."""
        return _change_held(backend, self.rule, "discard")


def _change_held(backend: Backend, rule: str, what: str) -> Changed:
    """Some in each transaction, so that the writer is never kept for long. NotThere when there is no such rule, and none is held."""
    if not rule:
        raise BadQuestion("`rule` is missing")
    changed = 0
    while some := backend.write(lambda: backend.store.deliveries.act_on_held(rule, what, backend.now_ms())):
        changed += some
        backend.wake_dispatcher()
    if not changed:  # deliveries of a rule that was removed meanwhile are found above
        backend.views.check_rule(rule)
    return {"rule": rule, "changed": changed}


# Clients, the quarantine, sweeps


class Forgotten(TypedDict):
    """The client that was forgotten."""

    client: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Forget:
    """Forget a client: its state is dropped and its alerts are closed."""

    needs: ClassVar[str] = ADMIN
    routes: ClassVar[tuple[Route, ...]] = (Route(method="DELETE", path="/v1/clients/{client:client}"),)
    described: ClassVar[Described] = Described("Forgotten", refuses=(404,))
    reach: ClassVar[Reach] = Reach.CLIENT
    client: str

    def perform(self, backend: Backend) -> Forgotten:
        """The client that was forgotten."""
        if not backend.change(lambda: forget_clients(backend.fleet, [self.client], backend.now_ms())):
            raise backend.views.unknown(self.client)
        return {"client": self.client}


def forget_clients(fleet: Fleet, clients: Sequence[str], now_ms: int) -> int:
    """Forget these clients, inside a transaction; how many of them were known."""
    known = [client for client in clients if fleet.states.get(client, NEW_CLIENT) is not NEW_CLIENT]
    for client in known:
        fleet.forget(client, now_ms)
    return len(known)


class Retried(TypedDict):
    """How many quarantined events were accepted, and how many are still invalid."""

    accepted: int
    rejected: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryQuarantine:
    """Offer every quarantined event again. Those that are accepted leave the quarantine."""

    needs: ClassVar[str] = OPERATOR
    routes: ClassVar[tuple[Route, ...]] = (Route(method="POST", path="/v1/quarantine/retry"),)
    described: ClassVar[Described] = Described("Retried")
    reach: ClassVar[Reach] = Reach.ALL

    def perform(self, backend: Backend) -> Retried:
        """How many were accepted."""
        accepted = rejected = 0
        cells = backend.config.cells
        groups = CellGroups(cells)
        cursor: int | None = None
        while rows := backend.read(partial(_quarantined_after, cursor)):
            cursor = rows[-1].id
            batch, ids = backend.codec.quarantined_batch(
                rows,
                backend.now_ms(),
                backend.config.events.max_future_ms,
                lambda client: len(cells) == 1 or groups.of(client) is not None,
            )
            rejected += len(rows) - len(ids)
            if ids:
                backend.offer(batch)
                backend.write(partial(backend.store.quarantine.delete, ids))
                accepted += len(ids)
        return {"accepted": accepted, "rejected": rejected}


def _quarantined_after(cursor: int | None, reader: Reader) -> list[QuarantineRow]:
    """One page of the quarantine."""
    return reader.quarantine(limit=RETRIED_ROWS, cursor=cursor)


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginSweep:
    """Query every client now and correct what the engine believes; with `dry_run` only report what would be corrected."""

    needs: ClassVar[str] = OPERATOR
    routes: ClassVar[tuple[Route, ...]] = (Route(method="POST", path="/v1/reconciliations", status=202),)
    described: ClassVar[Described] = Described("SweepBegun", "NewSweep", (501,))
    reach: ClassVar[Reach] = Reach.ALL
    dry_run: Any = False

    def perform(self, backend: Backend) -> Object:
        """The sweep that has begun."""
        if not isinstance(self.dry_run, bool):
            raise BadQuestion("`dry_run` must be true or false")
        number = backend.begin_sweep(dry_run=self.dry_run)
        return backend.read(lambda reader: backend.views.reconciliation(reader, number))


ACTS: tuple[type[Act[Any]], ...] = (
    AddSilence,
    ExpireSilence,
    Acknowledge,
    WhyNot,
    WhyNotAny,
    RetryDelivery,
    DiscardDelivery,
    ReleaseDelivery,
    ReleaseHeld,
    DiscardHeld,
    Forget,
    RetryQuarantine,
    BeginSweep,
    *ACCESS_ACTS,
)
"""Every act. The HTTP interface has the routes of each of them."""


def act_routes() -> tuple[ActRoute, ...]:
    """Every address of every act."""
    return tuple(ActRoute(act, route) for act in ACTS for route in act.routes)
