"""An act that came to a standby has its effect once, whatever fails in between, and its operator is answered."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest

from engine.config.loader import load_config
from engine.core.access import ADMIN, LOCAL, Caller
from engine.errors import BadQuestion, Conflict, NotThere, RollcallError, StoreError, Unavailable
from engine.runtime.act_answers import read_answer
from engine.runtime.offline import Offline, opened
from engine.runtime.operator_acts import Acknowledge, AddSilence, ExpireSilence
from engine.runtime.operator_api import Act
from engine.runtime.posted_acts import ActRunner, arguments_of
from engine.stores.postgres.database import Database
from engine.stores.postgres.inbox import PostgresInbox
from engine.stores.postgres.store import PostgresStore
from tests.postgres.server import fresh_database

SILENCE = AddSilence(match={"client": "G@@@a"}, for_="1h", author="me", comment="why")

BY = Caller(name="root", kind=LOCAL, role=ADMIN)


class Owner:
    """The owner of a cell, without a service around it."""

    def __init__(self, dsn: str, offline: Offline, inbox: PostgresInbox) -> None:
        self.dsn, self.offline, self.inbox = dsn, offline, inbox
        assert isinstance(offline.store, PostgresStore)
        self.take = offline.store.posted.take

    def carry_out(self, take: Callable[[int], bool] | None = None) -> None:
        """Whatever waits."""
        runner = ActRunner(lambda: self.inbox, take or self.take, lambda: self.offline)
        for act in self.inbox.acts(10):
            runner.run_one(self.inbox, self.offline, act)

    def ask(self, act: Act[object]) -> int:
        return self.inbox.ask(type(act).__name__, arguments_of(act, BY))

    def answer(self, number: int) -> object:
        (standing,) = self.inbox.act(number)
        assert standing.answer is not None
        return read_answer(standing.answer)

    def silences(self) -> int:
        with self.offline.store.reading() as reader:
            return len(reader.silences(now_ms=self.offline.now_ms()))

    def sql(self, statement: str) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(statement.encode())


@contextmanager
def owning(folder: Path, dsn: str) -> Iterator[Owner]:
    (folder / "rules").mkdir(exist_ok=True)
    (folder / "rules" / "rules.yaml").write_text('{"version": 1, "rules": []}')
    told = {"version": 1, "store": {"type": "postgres", "dsn": dsn}, "cluster": {"lease": "60s"}}
    (folder / "config.yaml").write_text(json.dumps(told))
    with opened(load_config(folder / "config.yaml"), write=True) as offline, ExitStack() as stack:
        assert isinstance(offline.store, PostgresStore)
        inbox = PostgresInbox(Database(dsn=dsn, replica="other"), offline.store.cell)
        stack.callback(inbox.close)
        yield Owner(dsn, offline, inbox)


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Owner]:
    with fresh_database() as dsn, owning(tmp_path, dsn) as found:
        yield found


def test_an_act_is_carried_out_once_and_answered(owner: Owner) -> None:
    number = owner.ask(SILENCE)
    owner.carry_out()
    owner.carry_out()
    found = owner.answer(number)
    assert isinstance(found, dict) and found["author"] == "me"
    assert owner.silences() == 1


def test_an_act_whose_transaction_fails_waits_on_and_is_carried_out_later(owner: Owner) -> None:
    number = owner.ask(SILENCE)
    owner.sql("ALTER TABLE rollcall.silences RENAME TO elsewhere")
    with pytest.raises(StoreError):
        owner.carry_out()
    owner.sql("ALTER TABLE rollcall.elsewhere RENAME TO silences")
    assert [act.id for act in owner.inbox.acts(10)] == [number] and owner.silences() == 0
    owner.carry_out()
    assert owner.answer(number) and owner.silences() == 1


def test_an_act_that_had_its_effect_before_its_owner_ended_is_not_repeated(owner: Owner) -> None:
    number = owner.ask(SILENCE)
    (act,) = owner.inbox.acts(10)
    runner = ActRunner(lambda: owner.inbox, owner.take, lambda: owner.offline)
    with owner.offline.store.transaction():
        assert owner.take(number)  # as the owner before did, which ended before it wrote the answer
    runner.run_one(owner.inbox, owner.offline, act)
    assert owner.silences() == 0
    (standing,) = owner.inbox.act(number)
    assert standing.answer is None and standing.taken_s is not None


def test_what_an_act_raises_comes_back_as_it_was_raised(owner: Owner) -> None:
    numbers = {
        owner.ask(Acknowledge(id_="none")): NotThere,
        owner.ask(AddSilence(match=7)): BadQuestion,
        owner.inbox.ask("SomethingNewer", "{}"): RollcallError,
        owner.inbox.ask("AddSilence", '{"no": "such field"}'): RollcallError,
        owner.inbox.ask("AddSilence", "no JSON"): RollcallError,
    }
    owner.carry_out()
    for number, kind in numbers.items():
        with pytest.raises(kind):
            owner.answer(number)
    assert owner.inbox.acts(10) == []


def test_an_act_that_changes_nothing_because_of_what_it_finds_is_taken_too(owner: Owner) -> None:
    owner.ask(SILENCE)
    owner.carry_out()
    with owner.offline.store.reading() as reader:
        (silence,) = reader.silences(now_ms=owner.offline.now_ms())
    first, second = owner.ask(ExpireSilence(id_=silence.id)), owner.ask(ExpireSilence(id_=silence.id))
    owner.carry_out()
    assert owner.answer(first)
    with pytest.raises(Conflict, match="already expired"):
        owner.answer(second)


def test_an_act_that_waited_for_too_long_is_not_carried_out(owner: Owner) -> None:
    number = owner.ask(SILENCE)
    owner.sql("UPDATE rollcall.acts SET asked_at = asked_at - interval '11 minutes'")
    owner.carry_out()
    with pytest.raises(Unavailable, match="nothing was done"):
        owner.answer(number)
    assert owner.silences() == 0
