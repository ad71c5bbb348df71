"""Small file systems for tests that fill the disk of a database."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.acceptance.service import requires
from tests.postgres.server import PostgresServer


@contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """A file system of its own; skipped where none can be mounted."""
    folder = Path(tempfile.mkdtemp(prefix="rollcall-disk-"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=1777", "tmpfs", str(folder)], capture_output=True, check=False
    )  # fmt: skip
    requires("the right to mount a file system", mounted.returncode == 0)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)
        folder.rmdir()


def fill(disk: Path) -> Path:
    """Leave no room on it, until the file that is returned is removed."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file:
        for size in (65_536, 4_096, 1):
            with suppress(OSError):
                while True:
                    file.write(b"x" * size)
    return filler


def database_on(server: PostgresServer, disk: Path) -> str:
    """A new database whose tables lie on that disk; its name."""
    place = disk / "space"
    place.mkdir()
    _give(server, place)
    server.ask(f"CREATE TABLESPACE small LOCATION '{place}'")
    name = server.database()
    server.ask(f"ALTER DATABASE {name} SET TABLESPACE small")
    return name


def log_on(server: PostgresServer, disk: Path) -> None:
    """Start the server again with its write-ahead log on that disk."""
    server.stop()
    log = server.data / "pg_wal"
    shutil.move(log, disk / "pg_wal")
    log.symlink_to(disk / "pg_wal")
    _give(server, disk / "pg_wal")
    server.start()


def _give(server: PostgresServer, folder: Path) -> None:
    stat = server.data.stat()
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, stat.st_uid, stat.st_gid)
