"""Every way in which files are rotated: what was not read yet is read once, whole and in order, or it is a gap that is told."""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.sources.file.source import FileSource
from tests.sources.test_file import NOW, Engine, append, followed, has, line, lines, read_once

NAMES = ["x.jsonl.1", "x.jsonl-20260101", "x.jsonl.2026-01-01_00", "x.jsonl.old", "x.jsonl.bak", "x.jsonl~"]
NAMES += ["x.1.jsonl", "x-2026-01-01.jsonl", "x.2026-01-01.jsonl", "x-20260101T0000.jsonl"]


def pack(path: Path, *, keeps: bool = False) -> None:
    """What `gzip` does: the packed file has the time of the other."""
    packed = path.with_name(path.name + ".gz")
    packed.write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    os.utime(packed, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    if not keeps:
        path.unlink()


@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_what_was_not_read_is_read_from_the_rotated_file(name: str, is_packed: bool, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(lines(1) + line(2)[:7])
    position = partly(path)
    append(path, line(2)[7:] + b"\n" + lines(3))
    path.rename(tmp_path / name)
    if is_packed:
        pack(tmp_path / name)
    path.write_bytes(lines(4))
    engine = read_once(path, position)
    assert (engine.numbers, engine.gaps, engine.reasons) == ([2, 3, 4], [], [])
    assert read_once(path, engine.position).numbers == []


def partly(path: Path) -> str | None:
    """The position of an engine that followed a file to its end and was stopped."""

    async def story(engine: Engine, source: FileSource) -> None:
        await engine.until(lambda: source.caught_up_to(NOW) is not None)

    return followed(path, story).position


@pytest.mark.parametrize("form", ["x.jsonl.{}", "x.{}.jsonl", "x.jsonl.{}.gz", "x-2026-01-0{}.jsonl"])
def test_two_rotations_while_the_engine_was_down_lose_nothing(form: str, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(lines(1))
    position = read_once(path).position
    append(path, lines(2))
    older, newer = (1, 2) if "2026" in form else (2, 1)
    for number, content in [(older, None), (newer, lines(3))]:
        if content is not None:
            path.write_bytes(content)
        os.utime(path, ns=(number, NOW * 1_000_000 + (content is not None)))
        plain = tmp_path / form.format(number).removesuffix(".gz")
        path.rename(plain)
        if form.endswith(".gz"):
            pack(plain)
    path.write_bytes(lines(4))
    engine = read_once(path, position)
    assert (engine.numbers, engine.gaps) == ([2, 3, 4], [])


def test_a_rotated_file_that_is_packed_while_it_is_read_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(lines(1))

    async def story(engine: Engine, source: FileSource) -> None:
        await engine.until(has(engine, 1))
        append(path, lines(2))
        path.rename(tmp_path / "x.jsonl.1")
        pack(tmp_path / "x.jsonl.1")
        path.write_bytes(lines(3))
        await engine.until(has(engine, 1, 2, 3))

    engine = followed(path, story)
    assert (engine.numbers, engine.gaps) == ([1, 2, 3], [])


def test_a_packed_file_beside_the_one_that_it_is_made_from_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(lines(1))
    position = read_once(path).position
    append(path, lines(2))
    path.rename(tmp_path / "x.jsonl-1")
    pack(tmp_path / "x.jsonl-1", keeps=True)
    half = tmp_path / "x.jsonl-1.gz"
    half.write_bytes(half.read_bytes()[:30])
    path.write_bytes(lines(3))
    engine = read_once(path, position)
    assert (engine.numbers, engine.gaps) == ([2, 3], [])


def test_another_log_with_a_number_before_its_ending_is_not_read(tmp_path: Path) -> None:
    path, other = tmp_path / "x.jsonl", tmp_path / "x-2.jsonl"
    path.write_bytes(lines(1))
    position = read_once(path).position
    path.rename(tmp_path / "x.jsonl.1")
    other.write_bytes(lines(77))
    path.write_bytes(lines(2))
    engine = read_once(path, position)
    assert engine.numbers == [2]


def test_a_safety_copy_is_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(lines(1, 2))
    position = read_once(path).position
    path.rename(tmp_path / "x.jsonl.1")
    shutil.copyfile(tmp_path / "x.jsonl.1", tmp_path / "x.jsonl.bak")
    path.write_bytes(lines(3))
    assert read_once(path, position).numbers == [3]


def test_a_file_that_is_written_anew_with_more_at_its_end_is_read_on(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(lines(1) + line(2)[:5])

    async def story(engine: Engine, source: FileSource) -> None:
        await engine.until(has(engine, 1))
        for count in (3, 4, 5):
            (tmp_path / "new").write_bytes(lines(*range(1, count)))
            (tmp_path / "new").replace(path)
            await engine.until(has(engine, *range(1, count)))

    engine = followed(path, story)
    assert (engine.numbers, engine.gaps, engine.reasons) == ([1, 2, 3, 4], [], [])


@pytest.mark.parametrize("cut", [1, 20, len(line(2)) - 1, len(line(2))])
@pytest.mark.parametrize("by_copy", [False, True])
def test_a_line_that_rotation_cut_in_two_is_read_once_and_whole(cut: int, by_copy: bool, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(lines(1) + line(2)[:cut])

    async def story(engine: Engine, source: FileSource) -> None:
        await engine.until(has(engine, 1))
        rotate(path, by_copy)
        append(path, line(2)[cut:] + b"\n" + lines(3))
        await engine.until(has(engine, 1, 2, 3))

    engine = followed(path, story)
    assert (engine.numbers, engine.gaps, engine.reasons) == ([1, 2, 3], [], [])


def rotate(path: Path, by_copy: bool) -> None:
    if by_copy:
        (path.with_name(path.name + ".1")).write_bytes(path.read_bytes())
        os.truncate(path, 0)
    else:
        path.rename(path.with_name(path.name + ".1"))


def test_a_line_whose_rest_never_came_is_rejected_once_and_costs_no_other(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(lines(1) + line(2)[:20])
    position = partly(path)
    rotate(path, by_copy=False)
    path.write_bytes(lines(3))
    engine = read_once(path, position)
    assert (engine.numbers, len(engine.reasons), engine.gaps) == ([3], 1, [])
    (rejection,) = (rejection for batch in engine.batches for rejection in batch.rejected)
    assert (rejection.line, rejection.raw) == (2, line(2)[:20])
    assert read_once(path, engine.position).reasons == []


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_pieces_any_rotations_and_any_restarts_read_every_event_once(data: st.DataObject) -> None:
    """The writer appends pieces, which may end anywhere; between them the file is rotated, and the engine is stopped."""
    content = lines(*range(8))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=6)))
    position: str | None = None
    numbers: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.jsonl"
        path.touch()
        rotations = 0
        for start, end in zip([0, *cuts], [*cuts, len(content)], strict=True):
            append(path, content[start:end])
            wanted = content[:end].count(b"\n") - len(numbers)

            async def all_read(engine: Engine, source: FileSource, wanted: int = wanted) -> None:
                await engine.until(lambda: len(engine.numbers) == wanted and source.caught_up_to(NOW) is not None)

            engine = followed(path, all_read, position)
            numbers += engine.numbers
            position = engine.position or position
            assert engine.reasons == [] and engine.gaps == []
            if position is not None and path.stat().st_size and data.draw(st.booleans()):
                rotations += 1
                path.rename(path.with_name(f"x.jsonl.2026010{rotations}"))
                path.touch()
    assert numbers == list(range(8))


def test_a_source_that_is_not_followed_is_read_through_its_rotated_files_too(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(lines(1))
    position = read_once(path).position
    path.rename(tmp_path / "x.jsonl.1")
    append(tmp_path / "x.jsonl.1", line(2))  # whole, but for its line break
    path.write_bytes(lines(3))
    assert read_once(path, position).numbers == [2, 3]
