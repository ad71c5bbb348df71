"""Files as tools leave them: marks, holes, other line ends, other encodings, lines without an end or beyond all bounds."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from engine.sources.file.source import FileSource
from engine.sources.file.tail import CHUNK_BYTES, Tail
from tests.sources.test_file import NOW, Engine, append, followed, has, line, lines, read_once

MARK = b"\xef\xbb\xbf"


def test_a_byte_order_mark_costs_no_event_also_after_a_rotation_and_between_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(MARK + lines(1) + MARK + lines(2))

    async def story(engine: Engine, source: FileSource) -> None:
        await engine.until(has(engine, 1, 2))
        path.rename(tmp_path / "log.1")
        path.write_bytes(MARK + lines(3))
        await engine.until(has(engine, 1, 2, 3))

    engine = followed(path, story)
    assert (engine.numbers, engine.reasons) == ([1, 2, 3], [])
    assert all(raw.startswith(b"{") for batch in engine.batches for raw in batch.raw)


@pytest.mark.parametrize("size", [1, 70_000, CHUNK_BYTES - 1, CHUNK_BYTES, 3 * CHUNK_BYTES + 5])
@pytest.mark.parametrize("is_sparse", [True, False])
def test_a_hole_before_a_line_costs_no_event(size: int, is_sparse: bool, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(lines(1) if size % 2 else b"")
    start = path.stat().st_size
    if is_sparse:
        os.truncate(path, start + size)
    else:
        append(path, bytes(size))
    append(path, lines(2))
    engine = read_once(path)
    assert (engine.numbers[-1], engine.reasons) == (2, [])
    append(path, lines(3))
    assert read_once(path, engine.position).numbers == [3]


def test_a_writer_that_goes_on_at_its_old_offset_after_the_file_was_emptied_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb", buffering=0) as writer:  # not for appending: the file is emptied under it
        writer.write(lines(1))

        async def story(engine: Engine, source: FileSource) -> None:
            await engine.until(has(engine, 1))
            (tmp_path / "log.1").write_bytes(path.read_bytes())
            os.truncate(path, 0)
            writer.write(lines(2))
            await engine.until(has(engine, 1, 2))

        engine = followed(path, story)
    assert (engine.numbers, engine.reasons, engine.gaps) == ([1, 2], [], [])


def test_lines_that_are_written_over_reserved_space_are_read_as_they_come(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(lines(1) + bytes(2 * CHUNK_BYTES))

    def write(at: int, data: bytes) -> None:
        with path.open("r+b") as file:
            file.seek(at)
            file.write(data)

    async def story(engine: Engine, source: FileSource) -> None:
        await engine.until(lambda: source.caught_up_to(NOW) is not None)
        write(len(lines(1)), lines(2) + line(3)[:8])
        await engine.until(has(engine, 1, 2))
        write(len(lines(1, 2)), lines(3))
        await engine.until(has(engine, 1, 2, 3))

    engine = followed(path, story)
    assert (engine.numbers, engine.reasons, engine.gaps) == ([1, 2, 3], [], [])


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r", b"\r\r\n"])
def test_line_ends_of_any_system_are_line_ends(end: bytes, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"".join(line(number) + end for number in range(2100)))
    engine = read_once(path)
    assert (engine.numbers, engine.reasons) == (list(range(2100)), [])
    assert max(len(batch.events) for batch in engine.batches) <= 1000


def test_lines_that_end_in_a_carriage_return_are_taken_as_they_come(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(line(1) + b"\r" + line(2)[:20])

    async def story(engine: Engine, source: FileSource) -> None:
        await engine.until(has(engine, 1))
        append(path, line(2)[20:] + b"\rno event\r" + lines(3))
        await engine.until(has(engine, 1, 2, 3))

    engine = followed(path, story)
    assert (engine.numbers, len(engine.reasons)) == ([1, 2, 3], 1)


def test_a_line_separator_inside_a_text_ends_no_line(tmp_path: Path) -> None:
    event = json.loads(line(1)) | {"clientId": "G@@@a\u2028b\u2029c"}
    (tmp_path / "log").write_bytes(json.dumps(event, ensure_ascii=False).encode() + b"\n")
    engine = read_once(tmp_path / "log")
    assert [event.client for batch in engine.batches for event in batch.events] == ["G@@@a\u2028b\u2029c"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
def test_a_file_in_a_wide_encoding_is_named_as_such_until_it_is_saved_as_utf_8(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(lines(1).decode().encode(encoding))
    named = f"{path} is {encoding[:6].upper()}; save it as UTF-8"

    async def story(engine: Engine, source: FileSource) -> None:
        await engine.until(lambda: source.health(NOW).detail == named)
        assert not source.health(NOW).connected and source.caught_up_to(NOW) is None
        path.write_bytes(lines(1))
        await engine.until(has(engine, 1))

    engine = followed(path, story)
    assert (engine.numbers, engine.reasons) == ([1], [])


def test_a_file_in_a_wide_encoding_that_is_followed_by_another_is_rejected_once(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(lines(1).decode().encode("utf-16"))

    async def story(engine: Engine, source: FileSource) -> None:
        await engine.until(lambda: "UTF-16" in source.health(NOW).detail)
        path.rename(tmp_path / "log.1")
        path.write_bytes(lines(2))
        await engine.until(has(engine, 2))

    engine = followed(path, story)
    assert (engine.numbers, engine.reasons) == ([2], [f"{path} is UTF-16; save it as UTF-8"])


def test_a_last_line_without_a_break_is_taken_when_nothing_follows_it_for_a_while(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(lines(1) + line(2))

    async def story(engine: Engine, source: FileSource) -> None:
        source.last_line_s = 0.0
        await engine.until(has(engine, 1, 2))
        append(path, b"\n" + lines(3) + line(4)[:-1])
        await engine.until(has(engine, 1, 2, 3))
        append(path, b"}\n" + lines(5))
        await engine.until(has(engine, 1, 2, 3, 4, 5))

    engine = followed(path, story)
    assert (engine.numbers, engine.reasons) == ([1, 2, 3, 4, 5], [])


@pytest.mark.parametrize("end", [b"\n" + lines(2), b""])
def test_a_line_beyond_all_bounds_is_rejected_once_with_its_length_and_is_never_in_memory(
    end: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, size = tmp_path / "log", 5 * CHUNK_BYTES + 3
    path.write_bytes(lines(1) + b"x" * size + end)
    longest, read = [0], Tail.read

    def watched(tail: Tail) -> object:
        chunk = read(tail)
        longest[0] = max(longest[0], len(chunk.data))
        return chunk

    monkeypatch.setattr(Tail, "read", watched)
    engine = read_once(path)
    assert engine.numbers == ([1, 2] if end else [1])
    (rejection,) = (rejection for batch in engine.batches for rejection in batch.rejected)
    assert (rejection.line, rejection.raw) == (2, b"x" * 65536)
    assert rejection.reason == f"the event is {size} bytes long, 65536 are allowed"
    assert longest[0] <= CHUNK_BYTES


def test_a_long_line_that_is_not_over_yet_shows_in_health_and_survives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(lines(1) + b"x" * 100_000)

    async def waiting(engine: Engine, source: FileSource) -> None:
        await engine.until(lambda: "inside a line of more than 100000 bytes" in source.health(NOW).detail)

    position = followed(path, waiting).position
    append(path, b"y\n" + lines(2))
    engine = read_once(path, position)
    assert (engine.numbers, engine.reasons) == ([2], ["the event is 100001 bytes long, 65536 are allowed"])
