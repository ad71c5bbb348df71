"""How to reach the database, and how each session of ours is set up. Read `Database.connect`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from engine.errors import StoreError
from engine.stores.postgres.connection import PatientConnection
from engine.stores.postgres.failures import explain

SCHEMA = "rollcall"
"""Everything lies in one schema of the database."""

OLDEST_VERSION = 150_000
"""PostgreSQL 15, as `server_version_num` says it."""

CONNECT_WITHIN_S = 5
"""How long one server may take to answer a connection."""

STATEMENT_WITHIN_S = 30.0
"""No statement of ours takes longer than this on a server that is well."""

PATIENCE_S = 5.0
"""So much longer than a statement may take, its answer is waited for."""

NAME = "rollcall"
"""`application_name`, before that of the replica."""


def _no_password() -> str | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """Where the database is, and how long is waited for it."""

    dsn: str = field(repr=False)  # what libpq takes: key=value pairs, or a URI
    password: Callable[[], str | None] = field(
        default=_no_password, repr=False
    )  # asked at each connection, so it may change
    replica: str = "rollcall"  # our name, for people who look at the sessions of the server
    lease_s: float = (
        5.0  # how long a cell stays ours without a commit, and how long a session may stand still inside a transaction
    )
    statement_s: float = STATEMENT_WITHIN_S

    def connect(self) -> PatientConnection:
        """A new session on a server that takes writes: each statement is a transaction of its own until BEGIN. StoreError: there is none."""
        return self._connect("read-write", False)

    def connect_to_read(self) -> PatientConnection:
        """A new session for questions, on the primary, also while it takes no writes. What is due on a standby may have been sent already."""
        return self._connect("primary", True)

    def connect_anywhere(self) -> PatientConnection:
        """A new session for people who look: on a primary, or on a standby when there is none. StoreError when nothing answers."""
        try:
            return self.connect_to_read()
        except StoreError:
            return self._connect("any", True)

    def _connect(self, target: str, reading: bool) -> PatientConnection:
        try:
            given = conninfo_to_dict(self.dsn)
        except psycopg.ProgrammingError:
            # Its text may repeat parts of the DSN, and with them a password.
            raise StoreError(
                "store.dsn is no connection string: use key=value pairs, or postgresql://user@host/database"
            ) from None
        password = self.password()
        settings: dict[str, Any] = {
            "connect_timeout": CONNECT_WITHIN_S,
            "keepalives_idle": max(1, int(self.lease_s)),
            "keepalives_interval": 1,
            "keepalives_count": 3,
            "tcp_user_timeout": int(self.lease_s * 1000),
            "application_name": f"{NAME} {self.replica}"[:63],
            "target_session_attrs": target,
        }
        try:
            connection = PatientConnection.connect(
                **{**settings, **given, **({} if password is None else {"password": password})}, autocommit=True
            )
        except psycopg.Error as error:
            raise explain("the database cannot be reached", error) from error
        connection.patience_s = self.statement_s + PATIENCE_S
        try:
            self._set_up(connection, reading)
        except psycopg.Error as error:
            connection.close()
            raise explain("the database cannot be used", error) from error
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_up(self, connection: psycopg.Connection, reading: bool) -> None:
        version = connection.info.server_version
        if version < OLDEST_VERSION:
            raise StoreError(
                f"the database server is PostgreSQL {version // 10_000}: upgrade it to {OLDEST_VERSION // 10_000} or newer"
            )
        connection.execute(
            "SELECT set_config('search_path', %s, false), set_config('timezone', 'UTC', false),"
            " set_config('client_min_messages', 'warning', false),"
            " set_config('default_transaction_isolation', 'read committed', false),"
            " set_config('statement_timeout', %s, false),"
            " set_config('idle_in_transaction_session_timeout', %s, false),"
            # Statements are few, short and prepared: neither planning each anew nor compiling one pays.
            " set_config('plan_cache_mode', 'force_generic_plan', false), set_config('jit', 'off', false),"
            # A writer finds each row by an index. A plan that was made while a table was small must not read all of it when it is not.
            " set_config('enable_seqscan', %s, false),"
            # What was answered 202 or sent must be durable; stronger settings stay as they are.
            " CASE WHEN current_setting('synchronous_commit') = 'off' THEN set_config('synchronous_commit', 'on', false) END",
            (
                SCHEMA,
                f"{self.statement_s * 1000:.0f}",
                f"{self.lease_s * 1000:.0f}",
                "on" if reading else "off",
            ),
            prepare=False,
        )
