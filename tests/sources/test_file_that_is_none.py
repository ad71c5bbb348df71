"""A path that names something else than a regular file, and a disk that does not answer: trouble that is shown and passes."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.sources.file.source import FileSource
from tests.sources.test_file import NOW, Engine, a_source, append, followed, has, line, lines, read_once


def a_fifo(path: Path) -> None:
    os.mkfifo(path)


def a_folder(path: Path) -> None:
    path.mkdir()


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


def a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def made_up(path: Path) -> None:
    path.symlink_to("/proc/self/status")


KINDS = [
    (a_fifo, "is a FIFO, not a regular file"),
    (a_folder, "is a folder, not a regular file"),
    (a_socket, "is a socket, not a regular file"),
    (a_device, "is a device, not a regular file"),
    (made_up, "is made by the kernel while it is read, so it is not a regular file"),
]


def remove(path: Path) -> None:
    path.rmdir() if path.is_dir() else path.unlink()


@pytest.mark.parametrize(("make", "said"), KINDS)
def test_what_is_no_regular_file_is_trouble_that_ends_when_one_appears(
    make: Callable[[Path], None], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    path = Path("log")
    make(path)

    async def story(engine: Engine, source: FileSource) -> None:
        await engine.until(lambda: source.health(NOW).detail == f"{path} {said}")
        assert not source.health(NOW).connected
        assert source.caught_up_to(NOW) is None
        remove(path)
        path.write_bytes(lines(1))
        await engine.until(has(engine, 1))
        await engine.until(lambda: source.health(NOW).connected)

    assert followed(path, story).numbers == [1]


def test_a_fifo_that_replaces_the_file_is_trouble_and_the_old_file_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(lines(1))

    async def story(engine: Engine, source: FileSource) -> None:
        await engine.until(has(engine, 1))
        path.rename(tmp_path / "log.1")
        os.mkfifo(path)
        append(tmp_path / "log.1", lines(2))
        await engine.until(has(engine, 1, 2))
        await engine.until(lambda: "is a FIFO" in source.health(NOW).detail)
        assert not source.health(NOW).connected
        path.unlink()
        path.write_bytes(lines(3))
        await engine.until(has(engine, 1, 2, 3))

    engine = followed(path, story)
    assert (engine.numbers, engine.gaps) == ([1, 2, 3], [])


def test_rotated_names_that_are_no_regular_files_are_passed_over(tmp_path: Path) -> None:
    path, secret = tmp_path / "log", tmp_path / "secret"
    path.write_bytes(lines(1))
    position = read_once(path).position
    os.mkfifo(tmp_path / "log.3")
    (tmp_path / "log.4").symlink_to("/dev/zero")
    secret.write_bytes(lines(66))
    (tmp_path / "log.5").symlink_to(secret)
    path.rename(tmp_path / "log.6")
    path.write_bytes(lines(2))
    engine = read_once(path, position)
    assert (engine.numbers, engine.gaps) == ([2], [])


def test_a_link_to_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "today").write_bytes(lines(1))
    (tmp_path / "log").symlink_to("today")
    assert read_once(tmp_path / "log").numbers == [1]


def test_a_disk_that_does_not_answer_stops_neither_the_loop_nor_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    path.write_bytes(lines(1))
    answers, read = threading.Event(), os.pread
    answers.set()

    def hanging(descriptor: int, size: int, offset: int) -> bytes:
        answers.wait()
        return read(descriptor, size, offset)

    async def go() -> None:
        engine, source = Engine(), a_source(path, hang_s=0.01)
        reading = asyncio.create_task(source.run(engine.offer, None))
        await engine.until(has(engine, 1))
        answers.clear()
        await engine.until(lambda: "does not answer" in source.health(NOW).detail)
        assert not source.health(NOW).connected
        answers.set()
        await engine.until(lambda: source.health(NOW).connected)
        append(path, lines(2))
        await engine.until(has(engine, 1, 2))
        answers.clear()
        await engine.until(lambda: "does not answer" in source.health(NOW).detail)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)

    monkeypatch.setattr(os, "pread", hanging)
    try:
        asyncio.run(go())  # returns while a call to the disk still hangs
    finally:
        answers.set()


def test_a_share_that_went_away_is_read_on_where_reading_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    path.write_bytes(lines(1) + line(2)[:9])
    gone: set[int] = set()
    read = os.pread

    def stale(descriptor: int, size: int, offset: int) -> bytes:
        if descriptor in gone:
            raise OSError(116, "Stale file handle")
        return read(descriptor, size, offset)

    async def story(engine: Engine, source: FileSource) -> None:
        await engine.until(has(engine, 1))
        assert source._tail is not None
        gone.add(source._tail._descriptor)
        other = os.open(path, os.O_RDONLY)  # so that the number is not used again at once
        append(path, line(2)[9:] + b"\n")
        try:
            await engine.until(lambda: "Stale" in source.health(NOW).detail or 2 in engine.numbers)
            gone.clear()
            await engine.until(has(engine, 1, 2))
        finally:
            os.close(other)

    monkeypatch.setattr(os, "pread", stale)
    engine = followed(path, story)
    assert (engine.numbers, engine.gaps) == ([1, 2], [])
