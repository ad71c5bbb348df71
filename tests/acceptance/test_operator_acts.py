"""Every act of operators gives the same answer and the same error over HTTP, from the CLI over a service, and from the CLI on a store."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest

from engine.errors import BadQuestion, Conflict, NotConfigured, NotThere, RollcallError, error_class
from engine.runtime.access_acts import ACCESS_ACTS
from engine.runtime.operator_acts import (
    ACTS,
    Acknowledge,
    AddSilence,
    BeginSweep,
    DiscardDelivery,
    DiscardHeld,
    ExpireSilence,
    Forget,
    ReleaseDelivery,
    ReleaseHeld,
    RetryDelivery,
    RetryQuarantine,
    WhyNot,
    WhyNotAny,
)
from tests.acceptance.service import Answer, Service, event, eventually, offline_rule, service, sink

CLIENTS = [f"P@@@{number}" for number in range(8)]
BURST = 3
SILENCE = {"match": {"group": "Q"}, "for": "2h", "author": "Zoë", "comment": "new pumps"}
SILENCE_WORDS = ("--match", "group=Q", "--author", "Zoë", "--comment", "new pumps")


class Ids:
    """Names that differ between the worlds: of alerts, deliveries and the silence. A row of the table speaks of them by attribute."""

    def __init__(self, running: Service) -> None:
        self.alerts = {alert["client"]: alert["id"] for alert in running.items("/v1/alerts")}
        self.dead, self.held = (
            sorted(found["id"] for found in running.items("/v1/deliveries", state=state, rule="gone"))
            for state in ("dead", "held")
        )
        self.silence = running.send("POST", "/v1/silences", SILENCE | {"comment": "to be ended"}).json()["id"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One use of one act: how it is done over HTTP and at a prompt, and the error that is expected; None: it succeeds."""

    act: type
    http: Callable[[Ids], tuple[Any, ...]]  # method, path, and perhaps a body
    words: Callable[[Ids], tuple[str, ...]]
    error: type[RollcallError] | None = None


TABLE = [
    Row(act=AddSilence, http=lambda ids: ("POST", "/v1/silences", SILENCE), words=lambda ids: ("silence", "add", *SILENCE_WORDS, "--for", "2h")),
    Row(act=AddSilence, error=BadQuestion, http=lambda ids: ("POST", "/v1/silences", SILENCE | {"for": "soon"}),
        words=lambda ids: ("silence", "add", *SILENCE_WORDS, "--for", "soon")),
    Row(act=AddSilence, error=BadQuestion, http=lambda ids: ("POST", "/v1/silences", SILENCE | {"match": {"device": "1*,2*"}}),
        words=lambda ids: ("silence", "add", "--match", "device=1*,2*", *SILENCE_WORDS[2:], "--for", "2h")),
    Row(act=ExpireSilence, http=lambda ids: ("DELETE", f"/v1/silences/{ids.silence}"), words=lambda ids: ("silence", "expire", ids.silence)),
    Row(act=ExpireSilence, error=Conflict, http=lambda ids: ("POST", f"/v1/silences/{ids.silence}/expire"),
        words=lambda ids: ("silence", "expire", ids.silence)),
    Row(act=ExpireSilence, error=NotThere, http=lambda ids: ("DELETE", "/v1/silences/a%20b%3F"), words=lambda ids: ("silence", "expire", "a b?")),
    Row(act=Acknowledge, http=lambda ids: ("POST", f"/v1/alerts/{ids.alerts['P@@@0']}/ack", {"by": "Zoë"}),
        words=lambda ids: ("alerts", "ack", ids.alerts["P@@@0"], "--by", "Zoë")),
    Row(act=Acknowledge, error=Conflict, http=lambda ids: ("POST", f"/v1/alerts/{ids.alerts['P@@@0']}/ack", {"by": "Zoë"}),
        words=lambda ids: ("alerts", "ack", ids.alerts["P@@@0"], "--by", "Zoë")),
    Row(act=Acknowledge, error=NotThere, http=lambda ids: ("POST", "/v1/alerts/none/ack"), words=lambda ids: ("alerts", "ack", "none")),
    Row(act=Acknowledge, error=BadQuestion, http=lambda ids: ("POST", f"/v1/alerts/{ids.alerts['P@@@1']}/ack", {"by": "a\nb"}),
        words=lambda ids: ("alerts", "ack", ids.alerts["P@@@1"], "--by", "a\nb")),
    Row(act=WhyNot, http=lambda ids: ("GET", "/v1/rules/gone/why-not?client=P@@@1"), words=lambda ids: ("why-not", "gone", "P@@@1")),
    Row(act=WhyNot, error=NotThere, http=lambda ids: ("GET", "/v1/rules/none/why-not?client=P@@@1"), words=lambda ids: ("why-not", "none", "P@@@1")),
    Row(act=WhyNot, error=BadQuestion, http=lambda ids: ("GET", "/v1/rules/gone/why-not"), words=lambda ids: ("why-not", "gone", "")),
    Row(act=DiscardDelivery, http=lambda ids: ("POST", f"/v1/deliveries/{ids.dead[0]}/discard"), words=lambda ids: ("deliveries", "discard", str(ids.dead[0]))),
    Row(act=RetryDelivery, error=Conflict, http=lambda ids: ("POST", f"/v1/deliveries/{ids.dead[0]}/retry"),
        words=lambda ids: ("deliveries", "retry", str(ids.dead[0]))),
    Row(act=RetryDelivery, error=NotThere, http=lambda ids: ("POST", "/v1/deliveries/999/retry"), words=lambda ids: ("deliveries", "retry", "999")),
    Row(act=RetryDelivery, error=NotThere, http=lambda ids: ("POST", f"/v1/deliveries/{1 << 70}/retry"), words=lambda ids: ("deliveries", "retry", str(1 << 70))),
    Row(act=RetryDelivery, http=lambda ids: ("POST", f"/v1/deliveries/{ids.dead[1]}/retry"), words=lambda ids: ("deliveries", "retry", str(ids.dead[1]))),
    Row(act=ReleaseDelivery, http=lambda ids: ("POST", f"/v1/deliveries/{ids.held[0]}/release"), words=lambda ids: ("deliveries", "release", str(ids.held[0]))),
    Row(act=ReleaseDelivery, error=Conflict, http=lambda ids: ("POST", f"/v1/deliveries/{ids.dead[0]}/release"),
        words=lambda ids: ("deliveries", "release", str(ids.dead[0]))),
    Row(act=DiscardDelivery, error=Conflict, http=lambda ids: ("POST", f"/v1/deliveries/{ids.dead[0]}/discard"),
        words=lambda ids: ("deliveries", "discard", str(ids.dead[0]))),
    Row(act=ReleaseHeld, http=lambda ids: ("POST", "/v1/deliveries/release?rule=gone"), words=lambda ids: ("deliveries", "release", "--rule", "gone")),
    Row(act=ReleaseHeld, error=BadQuestion, http=lambda ids: ("POST", "/v1/deliveries/release"), words=lambda ids: ("deliveries", "release", "--rule", "")),
    Row(act=ReleaseHeld, error=NotThere, http=lambda ids: ("POST", "/v1/deliveries/release?rule=gon"), words=lambda ids: ("deliveries", "release", "--rule", "gon")),
    Row(act=DiscardHeld, http=lambda ids: ("POST", "/v1/deliveries/discard?rule=gone"), words=lambda ids: ("deliveries", "discard", "--rule", "gone")),
    Row(act=DiscardHeld, error=BadQuestion, http=lambda ids: ("POST", "/v1/deliveries/discard"), words=lambda ids: ("deliveries", "discard", "--rule", "")),
    Row(act=Forget, http=lambda ids: ("DELETE", f"/v1/clients/{quote('P@@@7', safe='')}"), words=lambda ids: ("clients", "forget", "P@@@7")),
    Row(act=Forget, error=NotThere, http=lambda ids: ("DELETE", "/v1/clients/P%2F7%25"), words=lambda ids: ("clients", "forget", "P/7%")),
    Row(act=RetryQuarantine, http=lambda ids: ("POST", "/v1/quarantine/retry"), words=lambda ids: ("quarantine", "retry")),
    Row(act=BeginSweep, error=NotConfigured, http=lambda ids: ("POST", "/v1/reconciliations", {"dry_run": True}), words=lambda ids: ("reconcile", "--dry-run")),
]  # fmt: skip

QUIET = {Forget}
"""Acts whose command prints a sentence, not the answer."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an act led to: an answer without what differs between worlds, or an error and its sentence."""

    answer: Any
    error: type[RollcallError] | None = None
    sentence: str = ""


def without_ids(found: Any) -> Any:
    """An answer without ids and instants."""
    if isinstance(found, dict):
        own = {"id", "key", "alert", "from", "until", "at", "due_at", "attempts", "state", "last_error"}
        return {name: without_ids(value) for name, value in found.items() if name not in own}
    if isinstance(found, list):
        return [without_ids(value) for value in found]
    return blanked(found) if isinstance(found, str) else found


def blanked(text: str) -> str:
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", re.sub(r"\b[0-9a-f]{28}\b", "ID", text))


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Callable[[Row], Outcome]]]:
    """Three worlds of the same past, and how an act is done in each: over HTTP, from the CLI over a service, from the CLI on a store."""
    folders = [tmp_path_factory.mktemp(name) for name in ("http", "service", "store")]
    with ExitStack() as stack:
        target = stack.enter_context(sink())
        target.answer = lambda arrival: Answer(status=400)
        first, second, third = (stack.enter_context(service(at, deliveries={"burst": BURST})) for at in folders)
        ids = [live(running, target.url) for running in (first, second, third)]
        assert third.terminate() == 0
        yield [
            lambda row: over_http(first, row.http(ids[0])),
            lambda row: from_cli(second, row, ids[1]),
            lambda row: from_cli(third, row, ids[2]),
        ]


def live(running: Service, url: str) -> Ids:
    """A past: three dead deliveries, five held ones, a firing alert each, one quarantined event, and a silence."""
    running.rules(offline_rule(url, recovery=False))
    running.start()
    running.tell(*(event(client, "connect", "a") for client in CLIENTS))
    for client in CLIENTS:
        running.tell(event(client, "tcpclean", "a"))
    assert running.post("{broken").json()["accepted"] == 0
    eventually(lambda: running.items("/v1/deliveries", state="held"), lambda held: len(held) == len(CLIENTS) - BURST)
    eventually(lambda: running.items("/v1/deliveries", state="dead", rule="gone"), lambda dead: len(dead) >= BURST)
    eventually(lambda: running.items("/v1/deliveries", state="due"), lambda due: not due)
    return Ids(running)


def over_http(running: Service, request: tuple[Any, ...]) -> Outcome:
    found = running.send(*request)
    answer = found.json()
    if found.ok:
        return Outcome(without_ids(answer))
    assert found.headers["content-type"] == "application/problem+json"
    return Outcome(None, error_class(answer["code"]), blanked(answer["title"]))


def from_cli(running: Service, row: Row, ids: Ids) -> Outcome:
    words = row.words(ids) if row.act in QUIET else (*row.words(ids), "--format", "jsonl")
    done = running.command(*words)
    if row.error is None:
        assert (done.returncode, done.stderr) == (0 if row.act is not RetryQuarantine else 1, ""), done
        return Outcome(without_ids(json.loads(done.stdout)) if row.act not in QUIET else None)
    wrong_use = issubclass(row.error, BadQuestion)
    assert done.returncode == (2 if wrong_use else 1), done
    return Outcome(None, row.error, blanked(done.stderr.strip()))


def test_the_table_has_every_act() -> None:
    elsewhere = {*ACCESS_ACTS, WhyNotAny}  # see tests/access; the last one has no command
    assert {row.act for row in TABLE} == set(ACTS) - elsewhere


def test_every_act_is_answered_alike_everywhere(worlds: list[Callable[[Row], Outcome]]) -> None:
    """In the order of the table, because some rows need what earlier ones did."""
    for row in TABLE:
        http, over_service, on_store = (do(row) for do in worlds)
        assert http.error is row.error, (row, http)
        assert over_service == on_store, row
        assert (over_service.error, over_service.sentence) == (http.error, http.sentence), row
        assert row.act in QUIET or over_service.answer == http.answer, row
        assert bool(http.sentence) == (row.error is not None), row
