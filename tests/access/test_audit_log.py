"""Who did what is written down, with what was before and after it, and without secrets."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from engine.stores.sqlite.store import FILE_NAME, SqliteStore
from tests.acceptance.service import Service, eventually, service
from tests.access.people import Person, bearer, inhabited


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with inhabited(tmp_path_factory.mktemp("audit")) as found:
        yield found


def test_every_act_is_written_down_with_who_where_what_before_and_after(running: Service) -> None:
    person = Person(running)
    person.sign_in("otto")
    body = {"rule": ["gone"], "for": "1h", "author": "somebody else", "comment": "audited"}
    made = person.send("POST", "/v1/silences", body, **{"X-CSRF-Token": person.csrf()}).json()
    person.send("DELETE", f"/v1/silences/{made['id']}", **{"X-CSRF-Token": person.csrf()})
    again = person.send("DELETE", f"/v1/silences/{made['id']}", **{"X-CSRF-Token": person.csrf()})
    assert again.status_code == 409
    found = person.get("/v1/audit?who=otto&limit=3").json()["items"]
    refused, ended, added = found
    assert [one["act"] for one in found] == ["ExpireSilence", "ExpireSilence", "AddSilence"]
    assert (added["who"], added["kind"], added["from"], added["arguments"]["author"]) == (
        "otto",
        "user",
        "127.0.0.1",
        "otto",
    )
    assert added["after"]["id"] == made["id"]
    assert (ended["before"]["state"], ended["after"]["state"]) == ("active", "expired")
    assert "already expired" in refused["after"]["refused"]
    secret = person.send(
        "POST", "/v1/users", {"name": "new", "role": "viewer", "password": "a long password"}, **bearer("admin-token")
    )
    assert secret.status_code == 201
    assert "a long password" not in json.dumps(person.get("/v1/audit").json())


def test_the_log_says_which_role_somebody_had_and_what_was_removed(running: Service) -> None:
    person = Person(running)
    person.sign_in("anna")
    token = {"X-CSRF-Token": person.csrf()}
    person.send("POST", "/v1/users", {"name": "risen", "role": "viewer", "password": "a long password"}, **token)
    person.send("PUT", "/v1/users/risen/role", {"role": "admin"}, **token)
    person.send("PUT", "/v1/users/risen/password", {"password": "another long one"}, **token)
    person.send("DELETE", "/v1/users/risen", **token)
    person.send("POST", "/v1/tokens", {"name": "dropped", "role": "source"}, **token)
    person.send("DELETE", "/v1/tokens/dropped", **token)
    found = person.get("/v1/audit?who=anna&limit=6").json()["items"][::-1]
    acts = ["AddUser", "SetRole", "SetPassword", "RemoveUser", "AddToken", "RemoveToken"]
    assert [one["act"] for one in found] == acts
    assert [one["before"] and one["before"]["role"] for one in found] == [
        None,
        "viewer",
        "admin",
        "admin",
        None,
        "source",
    ]


def test_commands_work_beside_the_service_and_are_in_the_log(running: Service) -> None:
    assert (
        running.command(
            "silence", "add", "--match", "device=d1", "--for", "1h", "--author", "me", "--comment", "x"
        ).returncode
        == 0
    )
    (entry,) = running.printed("audit", "--act", "AddSilence", "--limit", "1")
    assert entry["kind"] == "local" and entry["who"] and entry["arguments"]["author"] == "me"
    assert [one["name"] for one in running.printed("user", "list")] == sorted(
        one["name"] for one in running.printed("user", "list")
    )
    assert running.command("user", "add", "otto").returncode != 0


def test_what_cannot_be_written_afterwards_is_in_the_log_and_the_act_is_answered(tmp_path: Path) -> None:
    SqliteStore.open(tmp_path / "data").close()
    (tmp_path / "data" / "rollcall.lock").unlink()  # it names this process
    with closing(sqlite3.connect(tmp_path / "data" / FILE_NAME, isolation_level=None)) as store:
        store.execute("CREATE TRIGGER broken BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'no room'); END")
        store.execute("CREATE TRIGGER kept BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'no room'); END")
        store.execute(
            "INSERT INTO audit (at, who, kind, address, act, arguments) VALUES (0, '', '', '', 'Forget', '{}')"
        )
    with service(tmp_path) as running:
        running.start()
        eventually(lambda: running.log_lines("access.not_purged"))
        wanted = {"match": {"group": "G"}, "for": "1h", "author": "me", "comment": "works"}
        assert running.send("POST", "/v1/silences", wanted).status_code == 201
        eventually(lambda: running.log_lines("audit.unfinished"))
        assert running.send("POST", "/v1/silences", wanted | {"comment": "again"}).status_code == 201
