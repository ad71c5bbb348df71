"""How long a session goes on: people who ask keep it, pages that update themselves do not, and an open page ends with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.config.auth import AuthConfig
from engine.config.http import HttpConfig
from engine.stores.access_tables import SqlAccess
from engine.stores.base import AccessTables, SessionRow, UserRow
from engine.web.access.directory import Directory
from engine.web.access.sessions import MAX_LOOKUPS, Sessions
from engine.web.access.tokens import hash_of
from tests.access.people import Person, inhabited

SECRET = "s" * 43


class Rows(SqlAccess):
    """One session, in memory."""

    def __init__(self) -> None:
        super().__init__(lambda name, values: [], lambda name, values: 0)
        self.row = SessionRow(
            hash=hash_of(SECRET),
            name="vera",
            kind="user",
            role="viewer",
            credential="0",
            address="",
            created_at_ms=0,
            seen_at_ms=0,
            expires_at_ms=10**9,
        )

    def session(self, hash_: str) -> SessionRow | None:
        return self.row if hash_ == self.row.hash else None

    def touch_session(self, hash_: str, seen_at_ms: int) -> None:
        self.row = replace(self.row, seen_at_ms=seen_at_ms)


class SharedDoor:
    """To rows that other processes write as well."""

    is_shared = True

    def __init__(self) -> None:
        self.tables = Rows()

    def read(self, question: Callable[[AccessTables], Any]) -> Any:
        return question(self.tables)

    def write(self, work: Callable[[AccessTables], Any]) -> Any:
        return work(self.tables)


def sessions_of(auth: AuthConfig, threads: ThreadPoolExecutor) -> Sessions:
    directory = Directory(auth, HttpConfig(), None, lambda: "")
    directory.refresh([UserRow(name="vera", role="viewer", password="", created_at_ms=0, password_at_ms=0)], [])
    return Sessions(SharedDoor(), directory, auth, threads)


def found_at(idle_ms: int, instants_ms: range, *, is_asked: bool) -> list[bool]:
    """Is the session found at these instants?"""

    async def ask() -> list[bool]:
        with ThreadPoolExecutor(1) as threads:
            sessions = sessions_of(AuthConfig(idle_ms=idle_ms), threads)
            return [await sessions.find(SECRET, at_ms, is_asked=is_asked) is not None for at_ms in instants_ms]

    return asyncio.run(ask())


@pytest.mark.parametrize("idle_ms", [8_000, 45_000, 7_200_000])
def test_who_keeps_asking_is_not_idle_and_a_page_that_updates_itself_is(idle_ms: int) -> None:
    often = range(0, 4 * idle_ms, idle_ms // 5)
    assert all(found_at(idle_ms, often, is_asked=True))
    assert found_at(idle_ms, often, is_asked=False) == [at_ms < idle_ms for at_ms in often]


def test_many_open_pages_of_a_known_session_are_all_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.web.access.sessions.FRESH_S", -1.0)

    async def ask() -> set[type]:
        with ThreadPoolExecutor(1) as threads:
            sessions = sessions_of(AuthConfig(), threads)
            await sessions.find(SECRET, 0)
            pages = (sessions.find(SECRET, 1, is_asked=False) for _ in range(4 * MAX_LOOKUPS))
            return {type(found) for found in await asyncio.gather(*pages, return_exceptions=True)}

    assert asyncio.run(ask()) == {SessionRow}


def test_an_open_page_ends_with_its_session_and_the_log_has_no_error(tmp_path: Path) -> None:
    with inhabited(tmp_path, auth={"session": "1h", "idle": "5s"}) as found:
        person = Person(found)
        person.sign_in("vera")
        with person.browser.get(f"{found.url}/events?page=%2F", stream=True, timeout=120) as stream:
            assert stream.status_code == 200
            assert b"event: page" in b"".join(stream.iter_content(None))  # and then its proper end
        assert person.get("/v1/clients").status_code == 401
        assert '"level":"error"' not in found.log_text()
