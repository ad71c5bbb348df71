"""Migrations of the embedded store: numbered without a hole, described, each once."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from importlib import resources
from pathlib import Path

import pytest

from engine.errors import StoreError
from engine.stores.sqlite.queries import queries, script
from engine.stores.sqlite.store import FILE_NAME, SqliteStore

FOLDER = resources.files("engine.stores.sqlite") / "sql"
MIGRATIONS = sorted(entry.name for entry in FOLDER.iterdir() if re.match(r"\d{4}_", entry.name))


def test_migrations_are_numbered_from_one_each_number_once() -> None:
    numbers = [int(name[:4]) for name in MIGRATIONS]
    assert numbers[0] == 1 and numbers == sorted(set(numbers))


@pytest.mark.parametrize("name", MIGRATIONS)
def test_every_migration_says_what_it_is_for(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8").startswith("-- ")


def test_a_file_that_is_no_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / FILE_NAME
    file.write_bytes(b"these are my holiday photographs" * 1_000)
    before = file.read_bytes()
    with pytest.raises(StoreError):
        SqliteStore.open(tmp_path)
    assert file.read_bytes() == before


def test_a_data_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(StoreError, match="cannot be used"):
        SqliteStore.open(tmp_path / "data")


def test_a_store_of_the_version_before_is_brought_to_this_one_with_its_alerts(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)) as old:
        for name in [name for name in MIGRATIONS if int(name[:4]) <= 2]:
            old.executescript(script(name) + (queries("outbox.sql")["create"] if name.startswith("0001") else ""))
        old.execute(
            "INSERT INTO alerts VALUES ('a', 'r', 'c', NULL, 'offline', 'firing', NULL, 1, 1, 1, NULL, 1, '', '[\"\", null, \"\"]')"
        )
        old.execute("PRAGMA user_version = 2")
    with closing(SqliteStore.open(tmp_path)) as store:
        (alert,) = store.alerts.open()
    assert (alert.id, alert.key, alert.group, alert.remind_at_ms) == ("a", None, None, None)
    assert (alert.acknowledged, alert.acknowledged_by) == (False, "")


def test_an_outage_that_an_earlier_version_kept_goes_on(tmp_path: Path) -> None:
    SqliteStore.open(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)) as connection:
        connection.execute("""INSERT INTO kept VALUES ('outage', 'a', '["a","down","{}",100,190,200,7]')""")
        connection.execute("INSERT INTO outage_members VALUES ('a', 'c1', 1)")
        (migration,) = [name for name in MIGRATIONS if name.endswith("_outages.sql")]
        connection.executescript((FOLDER / migration).read_text(encoding="utf-8"))
    with closing(SqliteStore.open(tmp_path)) as store:
        kept = store.alerts.kept()
    (outage,) = kept.outages
    assert (outage.earliest_ms, outage.quiet_since_ms, outage.peak) == (100, 200, 7)
    assert kept.members == [("a", "c1", 1)]


def test_silences_of_an_older_store_are_of_every_rule(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)) as old:
        for name in [name for name in MIGRATIONS if int(name[:4]) < 10]:
            old.executescript(script(name) + (queries("outbox.sql")["create"] if name.startswith("0001") else ""))
        old.execute("INSERT INTO silences VALUES ('s', '{\"group\":[\"G\"]}', 1, 2, 'Zoë', 'why')")
        old.execute("PRAGMA user_version = 9")
    with closing(SqliteStore.open(tmp_path)) as store:
        (found,) = store.alerts.kept().silences
    assert (found.match.group, found.rules, found.planned) == (("G",), (), False)
    assert (found.from_ms, found.until_ms, found.author, found.comment) == (1, 2, "Zoë", "why")
