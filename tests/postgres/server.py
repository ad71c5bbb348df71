"""A real PostgreSQL for tests: a server of their own on a free port of the loopback, with standbys when a test wants to fail over.

`shared_server()` is one for the whole test process, started when it is first asked for; `database()` makes a new empty database on it. A test
that kills, fills or fails over takes a `PostgresServer` of its own. `initdb` and `postgres` refuse to run as root, so they run as
another user then. A killed process loses nothing that it wrote, so `fsync` may be off unless a test measures.
"""

from __future__ import annotations

import atexit
import ctypes
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import psycopg

from tests.acceptance.service import eventually, free_port, requires

ROLE = "rollcall"
"""Who owns the databases of tests: no superuser, as it should be in an installation."""

PASSWORD = "no-secret-of-anybody"  # the server of a test believes everybody on the loopback

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "60",
    "superuser_reserved_connections": "3",
    "shared_buffers": "32MB",
    "max_wal_size": "256MB",
    "wal_level": "replica",
    "max_wal_senders": "6",
    "hot_standby": "on",
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum_naptime": "5s",
    "log_min_messages": "warning",
    "logging_collector": "off",
    "wal_receiver_status_interval": "1s",
    "wal_retrieve_retry_interval": "100ms",
}
"""What a test's server is started with; a test may change any."""


def binaries() -> Path | None:
    """The folder with `postgres` and `initdb`; None: PostgreSQL is not installed. `ROLLCALL_POSTGRES` names another one."""
    if chosen := os.environ.get("ROLLCALL_POSTGRES"):
        return Path(chosen)
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    folders += [Path(place).parent for place in [shutil.which("initdb")] if place]
    programs = ("initdb", "postgres", "pg_basebackup")
    return next((folder for folder in folders if all((folder / name).exists() for name in programs)), None)


def _user() -> tuple[int, int] | None:
    """User and group that the server runs as; None: as we do."""
    if os.getuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return entry.pw_uid, entry.pw_gid
    raise AssertionError("there is no user postgres or nobody to run PostgreSQL as")


class PostgresServer:
    """One server. `create` or `standby` makes it, `start` and `stop` or `kill` it, `close` removes what it left."""

    def __init__(self, folder: Path, port: int, settings: Mapping[str, str]) -> None:
        self.folder, self.port = folder, port
        self.data = folder / "data"
        self.settings = {**SETTINGS, "port": str(port), "unix_socket_directories": str(folder), **settings}
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        self._life = threading.Lock()  # a test may end it in a thread

    @classmethod
    def create(cls, *, on: Path | None = None, **settings: str) -> PostgresServer:
        """A new server, started. `on`: a folder that its data shall lie in; `settings` as in postgresql.conf."""
        requires("PostgreSQL", binaries())
        server = cls(_new_folder(on), free_port(), settings)
        shutil.copytree(_template(), server.data, copy_function=shutil.copy)
        server.data.chmod(0o700)
        _give(server.data)
        server.start()
        with server.admin() as connection:
            connection.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'")
        return server

    def standby(self, name: str, **settings: str) -> PostgresServer:
        """A hot standby of this server, started; `name` is its `application_name` for `synchronous_standby_names`."""
        server = PostgresServer(
            _new_folder(None), free_port(), {**self.settings, **settings} | {"synchronous_standby_names": ""}
        )
        server.settings["port"], server.settings["unix_socket_directories"] = str(server.port), str(server.folder)
        _run(
            server.folder,
            "pg_basebackup",
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-U",
            "postgres",
            "-D",
            str(server.data),
            "-c",
            "fast",
            "-N",
        )
        (server.data / "standby.signal").touch()
        source = f"host=127.0.0.1 port={self.port} user=postgres application_name={name}"
        server.settings["primary_conninfo"] = source
        (server.data / "postgresql.auto.conf").write_text("")  # what was changed on the primary
        server.start()
        return server

    # Its life

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with self._life, (self.folder / "log").open("ab") as log:
            lines = [f"{name} = '{value}'" for name, value in self.settings.items()]
            (self.data / "postgresql.conf").write_text("\n".join(lines) + "\n")
            _give(self.data)
            self._process = subprocess.Popen(
                [str(_binary("postgres")), "-D", str(self.data)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
                preexec_fn=_end_with_parent,  # noqa: PLW1509  # it calls nothing that a thread may hold a lock for
                **_as_user(),
            )  # fmt: skip
        eventually(self.answers)

    @property
    def has_ended(self) -> bool:
        """Has it ended by itself?"""
        return self._process is not None and self._process.poll() is not None

    def answers(self) -> bool:
        """Does it take questions? AssertionError with its log when it has ended instead."""
        assert self._process is not None and self._process.poll() is None, self.log()[-2000:]
        with suppress(psycopg.OperationalError), self.admin():
            return True
        return False

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: by default the fast shutdown, which ends all sessions."""
        with self._life:
            if self._process is not None:
                self._process.send_signal(how)
                self._process.send_signal(signal.SIGCONT)  # one that stands still would not hear it
                self._process.wait()
                self._process = None

    def kill(self) -> None:
        """End it at once, as a crash does: nothing is written any more."""
        self.stop(signal.SIGQUIT)

    def pause(self) -> None:
        """Let all of its processes stand still; what is sent to them is taken by the system."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let them go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, what: signal.Signals) -> None:
        assert self._process is not None
        for number in [self._process.pid, *_children(self._process.pid)]:
            with suppress(ProcessLookupError):
                os.kill(number, what)

    def restart(self) -> None:
        """Stop and start it again on the same port."""
        self.stop()
        self.start()

    def stop_streaming(self) -> None:
        """From now on this standby lags."""
        self.configure(primary_conninfo="")
        eventually(lambda: self.ask("SELECT count(*) FROM pg_stat_wal_receiver"), lambda found: found == [(0,)])

    def promote(self) -> None:
        """Make the standby a primary, and wait until it is."""
        with self.admin() as connection:
            connection.execute("SELECT pg_promote(true, 60)")
        eventually(lambda: self.ask("SELECT pg_is_in_recovery()") == [(False,)])

    def close(self) -> None:
        """End it and remove its files."""
        if self._process is not None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    # What tests do with it

    def dsn(self, database: str, user: str = ROLE) -> str:
        """How to connect to one of its databases."""
        return f"host=127.0.0.1 port={self.port} user={user} dbname={database}"

    def database(self) -> str:
        """Create a database, owned by `ROLE`; its name."""
        name = f"test_{next(self._numbers)}"
        with self.admin() as connection:
            connection.execute(f"CREATE DATABASE {name} OWNER {ROLE}")
        return name

    def drop(self, database: str) -> None:
        """Remove a database, whoever is connected."""
        with self.admin() as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")

    @contextmanager
    def admin(self, database: str = "postgres") -> Iterator[psycopg.Connection]:
        """A superuser's connection, each statement its own transaction."""
        with psycopg.connect(self.dsn(database, "postgres"), autocommit=True, connect_timeout=10) as connection:
            yield connection

    def ask(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """What a superuser is answered."""
        with self.admin(database) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def configure(self, **settings: str) -> None:
        """Change settings of the running server that need no restart."""
        with self.admin() as connection:
            for name, value in settings.items():
                connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
            connection.execute("SELECT pg_reload_conf()")
        for name, value in settings.items():
            self._takes(name, value)

    def _takes(self, name: str, value: str) -> None:
        eventually(lambda: self.ask(f"SHOW {name}"), lambda found: found == [(value,)])

    def log(self) -> str:
        """What it wrote so far."""
        return (self.folder / "log").read_text(errors="replace")


def _run(folder: Path, program: str, *arguments: str) -> None:
    done = subprocess.run(
        [str(_binary(program)), *arguments],
        stdin=subprocess.DEVNULL, capture_output=True, check=False, cwd=folder, **_as_user(),
    )  # fmt: skip
    assert done.returncode == 0, f"{program}: {done.stderr.decode(errors='replace')[-2000:]}"


@cache
def _template() -> Path:
    """The files of a server that never ran: making them takes longer than copying them."""
    folder = _new_folder(None)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    data = folder / "data"
    _run(folder, "initdb", "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N")
    return data


def _give(data: Path) -> None:
    """Give files to the server's user."""
    if (user := _user()) is not None:
        for path in [data, *data.rglob("*")]:
            os.chown(path, *user)


def _children(number: int) -> list[int]:
    """The processes that a process has started."""
    return [int(one) for file in Path(f"/proc/{number}/task").glob("*/children") for one in file.read_text().split()]


def _binary(program: str) -> Path:
    folder = binaries()
    assert folder is not None
    return folder / program


def _new_folder(on: Path | None) -> Path:
    """A folder that the server's user may enter and write: in memory where the machine has such a place."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="rollcall-pg-", dir=on or (memory if memory.is_dir() else None)))
    if (user := _user()) is not None:
        os.chown(folder, *user)
    return folder


def _as_user() -> dict[str, Any]:
    user = _user()
    return {} if user is None else {"user": user[0], "group": user[1], "extra_groups": []}


def _end_with_parent() -> None:
    """In the child: a test process that is killed leaves no server behind (PR_SET_PDEATHSIG, on Linux)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGQUIT)


@cache
def shared_server() -> PostgresServer:
    """The server of this test process, started when it is first asked for and ended with the process."""
    server = PostgresServer.create()
    atexit.register(server.close)
    return server


@contextmanager
def fresh_database() -> Iterator[str]:
    """How to connect to a new empty database, which is dropped afterwards."""
    server = shared_server()
    name = server.database()
    try:
        yield server.dsn(name)
    finally:
        server.drop(name)
