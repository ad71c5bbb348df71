"""The disk of the database is full while events flow: the replicas say so, and go on when there is room. Nothing is lost or told twice."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import psycopg
import pytest

from tests.acceptance.service import Service, eventually
from tests.postgres.disks import database_on, fill, log_on, small_disk
from tests.postgres.server import PostgresServer
from tests.postgres.test_failures import fleet, started

pytestmark = pytest.mark.long


def reasons(one: Service) -> str:
    """Why it is not ready; empty when it is."""
    status, text = one.readiness()
    return text if status == 503 else ""


def use_up(server: PostgresServer, database: str, until: Callable[[], bool]) -> None:
    """Write into the database until something holds; what is refused is tried again."""

    def more() -> bool:
        with suppress(psycopg.Error):
            server.ask("CREATE TABLE IF NOT EXISTS junk (text text)", database)
            server.ask("INSERT INTO junk SELECT repeat('x', 1000) FROM generate_series(1, 20000)", database)
        return until()

    eventually(more)


def test_the_tables_have_no_room(tmp_path: Path) -> None:
    with closing(PostgresServer.create()) as server, small_disk(40) as disk:
        database = database_on(server, disk)
        with fleet(tmp_path, server, 2, database=database) as (made, flow, _):
            owner = started(made, flow)
            filler = fill(disk)
            use_up(server, database, lambda: "disk full" in reasons(owner))
            filler.unlink()
            flow.wait_for_more()
            made.wait_warm()
            flow.stop_and_check(server, database, twice=100)
        server.kill()  # before its disk goes


def test_the_write_ahead_log_has_no_room(tmp_path: Path) -> None:
    """PostgreSQL ends then, and whoever runs it starts it again when there is room."""
    with closing(PostgresServer.create(min_wal_size="32MB", max_wal_size="64MB")) as server, small_disk(112) as disk:
        log_on(server, disk)
        with fleet(tmp_path, server, 2) as (made, flow, database):
            owner = started(made, flow)
            filler = fill(disk)
            use_up(server, database, lambda: server.has_ended)
            eventually(lambda: "pg_wal" in reasons(owner))
            filler.unlink()
            server.start()
            flow.wait_for_more()
            made.wait_warm()
            flow.stop_and_check(server, database, twice=100)
        server.kill()
