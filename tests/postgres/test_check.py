"""`rollcall check` looks at the database that it is to start on, and changes nothing in it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from engine.stores.postgres.database import Database
from engine.stores.postgres.examination import examine
from engine.stores.postgres.store import PostgresStore
from tests.command_line import command
from tests.postgres.server import fresh_database, shared_server


@pytest.fixture
def dsn() -> Iterator[str]:
    with fresh_database() as found:
        yield found


@pytest.fixture
def other(dsn: str) -> Iterator[str]:
    """How to connect as a role that may connect and nothing else."""
    server = shared_server()
    database = dsn.rpartition("dbname=")[2]
    with server.admin(database) as connection:
        connection.execute("DROP ROLE IF EXISTS guest")
        connection.execute("CREATE ROLE guest LOGIN")
    yield server.dsn(database, "guest")
    with server.admin(database) as connection:
        connection.execute("DROP OWNED BY guest")
        connection.execute("DROP ROLE guest")


def check(folder: Path, dsn: str) -> tuple[int, str]:
    """Exit code and output."""
    (folder / "rules").mkdir(exist_ok=True)
    (folder / "rules" / "rules.yaml").write_text('{"version": 1, "rules": []}')
    told = {"version": 1, "store": {"type": "postgres", "dsn": dsn}, "sources": [{"name": "push", "type": "http"}]}
    (folder / "config.yaml").write_text(json.dumps(told))
    done = command(folder, "check")
    return done.returncode, done.stdout


def texts(dsn: str) -> list[str]:
    """What is to be corrected."""
    return [found.text for found in examine(Database(dsn=dsn)) if not found.is_warning]


def test_a_good_database_is_good_and_nothing_is_made_in_it(dsn: str, tmp_path: Path) -> None:
    code, said = check(tmp_path, dsn)
    assert code == 0 and ": good, 0 rules" in said
    assert "store.dsn: warning: fsync" in said.replace("warning: store.dsn:", "store.dsn: warning:")
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT to_regnamespace('rollcall')").fetchone() == (None,)
    PostgresStore.open(Database(dsn=dsn)).close()
    assert texts(dsn) == []


def test_a_role_that_may_not_make_the_schema_or_work_in_it_is_told_what_to_grant(
    dsn: str, other: str, tmp_path: Path
) -> None:
    code, said = check(tmp_path, other)
    assert code == 1 and "may not create the schema rollcall" in said and "GRANT CREATE ON DATABASE" in said
    PostgresStore.open(Database(dsn=dsn)).close()
    assert "GRANT ALL ON SCHEMA rollcall TO guest" in texts(other)[0]
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("GRANT ALL ON SCHEMA rollcall TO guest")
    assert "does not own" in texts(other)[0]


def test_a_database_of_a_newer_version_is_told(dsn: str) -> None:
    PostgresStore.open(Database(dsn=dsn)).close()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("INSERT INTO rollcall.schema_version (version) VALUES (999)")
    assert "newer version of Rollcall (schema 999" in texts(dsn)[0]


def test_a_database_that_is_not_there_is_told_and_one_that_is_not_reached_is_a_warning(
    dsn: str, tmp_path: Path
) -> None:
    code, said = check(tmp_path, dsn.rpartition("dbname=")[0] + "dbname=nowhere")
    assert code == 1 and "no database" in said
    code, said = check(tmp_path, "host=127.0.0.1 port=1 user=x dbname=x")
    assert code == 0 and "it was not checked: the database cannot be reached" in said


@pytest.mark.parametrize(("off_s", "way"), [(60.0, "behind"), (-60.0, "ahead of")])
def test_clocks_that_differ_are_a_warning(dsn: str, off_s: float, way: str) -> None:
    found = examine(Database(dsn=dsn), lambda: time.time() + off_s)
    (skew,) = [one.text for one in found if one.is_warning and "clock" in one.text]
    assert way in skew and (" 60." in skew or " 59." in skew)
    assert not [one for one in examine(Database(dsn=dsn)) if "clock" in one.text]
