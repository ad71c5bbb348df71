"""Ways in which whoever reads the log of a service misbehaves: what its standard error is, and where. Read `READERS`."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from tests.acceptance.service import ROLLCALL, Service

Stderr = AbstractContextManager[int]


@contextmanager
def reader_is_gone() -> Iterator[int]:
    """A pipe whose reader has ended."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


@contextmanager
def disk_is_full() -> Iterator[int]:
    """Every write fails with ENOSPC."""
    with open("/dev/full", "wb", buffering=0) as full:
        yield full.fileno()


@contextmanager
def nobody_reads(*, blocking: bool = True) -> Iterator[int]:
    """A pipe that is full already."""
    reading, writing = os.pipe()
    flags = fcntl.fcntl(writing, fcntl.F_GETFL)
    fcntl.fcntl(writing, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 65_536)
    if blocking:
        fcntl.fcntl(writing, fcntl.F_SETFL, flags)
    yield writing
    os.close(reading)
    os.close(writing)


def nobody_reads_and_it_does_not_block() -> Stderr:
    """A full pipe that answers EAGAIN."""
    return nobody_reads(blocking=False)


READERS: Mapping[str, Callable[[], Stderr]] = {
    "its reader is gone": reader_is_gone,
    "its disk is full": disk_is_full,
    "nobody reads it": nobody_reads,
    "nobody reads it and it does not block": nobody_reads_and_it_does_not_block,
}


def start(running: Service, stderr: int, *, closed: bool = False) -> subprocess.Popen[bytes]:
    """A process of the service with this standard error; `closed`: with none at all."""
    command = [ROLLCALL, "run", "-c", "config.yaml"]
    if closed:
        command = ["sh", "-c", 'exec "$0" "$@" 2>&-', *command]
    running.process = subprocess.Popen(command, cwd=running.folder, stderr=stderr)
    running.wait_ready()
    return running.process
