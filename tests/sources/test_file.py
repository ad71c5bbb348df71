"""Reading a file once and following it: rotation, copies, truncation, restarts at any byte, and losses told."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.sources.base import Batch, Gap
from engine.sources.file.source import FileSource

NOW = 1_767_225_600_000
PATIENCE_S = 10.0


def line(number: int) -> bytes:
    """The JSON of one event whose channel is its number."""
    event = {"clientId": "G@@@d", "time": NOW + number, "eventType": "connect", "channelId": str(number)}
    return json.dumps(event).encode()


def lines(*numbers: int) -> bytes:
    return b"".join(line(number) + b"\n" for number in numbers)


class Engine:
    """Commits what it is offered, as the writer does: effect and position together. Fails commits when told to."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.reasons: list[str] = []
        self.gaps: list[Gap] = []
        self.batches: list[Batch] = []
        self.position: str | None = None
        self.fail_next = 0
        self.commit_at_most: int | None = None  # later batches are never answered: the process dies before they commit
        self._changed = asyncio.Event()

    async def offer(self, batch: Batch) -> None:
        assert batch.acknowledge is not None
        if self.commit_at_most is not None and len(self.batches) >= self.commit_at_most:
            return
        if self.fail_next:
            self.fail_next -= 1
            batch.acknowledge(OSError("disk full"))
            return
        self.batches.append(batch)
        self.numbers += [int(event.channel) for event in batch.events]
        self.reasons += [rejection.reason for rejection in batch.rejected]
        self.gaps += batch.gaps
        self.position = batch.position
        batch.acknowledge(None)
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for what the source does; looks again after each batch, and now and then for what makes none."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._changed.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), 0.005)


def a_source(path: Path, follow: bool = True, **kwargs: Any) -> FileSource:
    return FileSource(
        name="log", path=path, follow=follow, now_ms=lambda: NOW + 100, poll_s=0.001, retry_s=(0.001,), **kwargs
    )


def read_once(path: Path, position: str | None = None) -> Engine:
    """Read a file to its end in one go."""

    async def go() -> Engine:
        engine = Engine()
        await asyncio.wait_for(a_source(path, follow=False).run(engine.offer, position), PATIENCE_S)
        return engine

    return asyncio.run(go())


def followed(
    path: Path, story: Callable[[Engine, FileSource], Coroutine[Any, Any, None]], position: str | None = None
) -> Engine:
    """Follow a file while a story happens to it; returns what the engine was told."""

    async def go() -> Engine:
        engine, source = Engine(), a_source(path)
        reading = asyncio.create_task(source.run(engine.offer, position))
        try:
            await story(engine, source)
            assert not reading.done()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        return engine

    return asyncio.run(go())


def has(engine: Engine, *numbers: int) -> Callable[[], bool]:
    return lambda: len(engine.numbers) >= len(numbers)


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


# Read once.


def test_a_file_is_read_in_order_and_then_is_caught_up_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(lines(*range(2500)))

    async def go() -> None:
        engine, source = Engine(), a_source(path, follow=False)
        assert source.caught_up_to(NOW) is None
        await source.run(engine.offer, None)
        assert engine.numbers == list(range(2500))
        assert [len(batch.events) for batch in engine.batches] == [1000, 1000, 500]
        assert [batch.caught_up_to_ms for batch in engine.batches] == [None, None, NOW + 100]
        assert source.caught_up_to(NOW + 9_999) == NOW + 9_999
        assert source.health(NOW).lag == 0

    asyncio.run(go())


def test_a_last_line_without_a_break_is_taken_when_read_once(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(lines(1) + line(2))
    assert read_once(tmp_path / "log").numbers == [1, 2]


def test_windows_line_ends_and_blank_lines_mean_nothing(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(line(1) + b"\r\n\r\n  \n" + line(2) + b"\r\n")
    engine = read_once(tmp_path / "log")
    assert engine.numbers == [1, 2]
    assert [raw for batch in engine.batches for raw in batch.raw] == [line(1), line(2)]


def test_a_bad_line_is_rejected_under_its_number_and_the_others_count(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(lines(*range(1500)) + b"nonsense\n" + lines(1500))
    engine = read_once(tmp_path / "log")
    assert engine.numbers == list(range(1501))
    assert [rejection.line for batch in engine.batches for rejection in batch.rejected] == [1501]


def test_an_empty_file_has_been_read_at_once(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    assert read_once(tmp_path / "log").batches == []


def test_a_line_far_too_long_is_rejected_once_and_reading_goes_on(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(lines(1) + b"x" * 3_000_000 + b"\n" + lines(2))
    engine = read_once(tmp_path / "log")
    assert engine.numbers == [1, 2]
    assert len(engine.reasons) == 1


def test_reading_again_from_the_end_gives_nothing_and_new_lines_only(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(lines(1, 2))
    position = read_once(path).position
    assert read_once(path, position).numbers == []
    append(path, lines(3))
    assert read_once(path, position).numbers == [3]


# Restarts.


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 2200), st.integers(0, 3), st.integers(0, 2))
def test_a_restart_anywhere_loses_nothing_and_repeats_nothing(count: int, committed: int, failures: int) -> None:
    async def go(path: Path) -> list[int]:
        engine = Engine()
        engine.commit_at_most, engine.fail_next = committed, failures
        dying = asyncio.create_task(a_source(path, follow=False).run(engine.offer, None))
        await engine.until(lambda: dying.done() or len(engine.batches) == committed)
        dying.cancel()
        await asyncio.gather(dying, return_exceptions=True)
        engine.commit_at_most = None
        await asyncio.wait_for(a_source(path, follow=False).run(engine.offer, engine.position), PATIENCE_S)
        return engine.numbers

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log"
        path.write_bytes(lines(*range(count)))
        assert asyncio.run(go(path)) == list(range(count))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_file_written_in_any_pieces_with_restarts_between_is_read_exactly_once(data: st.DataObject) -> None:
    content = lines(1, 2, 3, 4)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=4)))
    position: str | None = None
    numbers: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log"
        path.touch()
        for start, end in zip([0, *cuts], [*cuts, len(content)], strict=True):
            append(path, content[start:end])
            new = content[:end].count(b"\n") - len(numbers)

            async def all_read(engine: Engine, source: FileSource, new: int = new) -> None:
                await engine.until(lambda: len(engine.numbers) == new)
                await engine.until(lambda: source.caught_up_to(NOW) is not None)

            engine = followed(path, all_read, position)
            numbers += engine.numbers
            position = engine.position or position
            assert engine.reasons == [] and engine.gaps == []
    assert numbers == [1, 2, 3, 4]


def test_a_failed_commit_is_offered_again_and_nothing_else_before_it(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(lines(*range(3000)))

    async def story(engine: Engine, source: FileSource) -> None:
        engine.fail_next = 3
        await engine.until(lambda: len(engine.numbers) == 3000)

    assert followed(path, story).numbers == list(range(3000))


# Following.


def test_a_growing_line_is_taken_when_its_end_arrives(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(lines(1) + line(2)[:10])

    async def story(engine: Engine, source: FileSource) -> None:
        await engine.until(lambda: engine.numbers == [1] and source.caught_up_to(NOW) is not None)
        append(path, line(2)[10:] + b"\n")
        await engine.until(has(engine, 1, 2))

    assert followed(path, story).numbers == [1, 2]


def test_a_missing_file_is_waited_for_and_health_says_so(tmp_path: Path) -> None:
    path = tmp_path / "log"

    async def story(engine: Engine, source: FileSource) -> None:
        await engine.until(lambda: "does not exist" in source.health(NOW).detail)
        assert not source.health(NOW).connected
        assert source.caught_up_to(NOW) is None
        path.write_bytes(lines(1))
        await engine.until(lambda: source.caught_up_to(NOW) is not None)
        assert source.health(NOW).connected

    assert followed(path, story).numbers == [1]


def test_a_rotated_file_is_read_to_its_end_before_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(lines(1))

    async def story(engine: Engine, source: FileSource) -> None:
        await engine.until(has(engine, 1))
        append(path, lines(2))
        path.rename(tmp_path / "log.1")
        append(tmp_path / "log.1", lines(3))
        path.write_bytes(lines(4))
        await engine.until(has(engine, 1, 2, 3, 4))

    engine = followed(path, story)
    assert engine.numbers == [1, 2, 3, 4]
    assert engine.gaps == []


def test_two_rotations_while_the_engine_was_down_are_read_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(lines(1))
    position = read_once(path).position
    append(path, lines(2))
    path.rename(tmp_path / "log.2")
    (tmp_path / "log.1").write_bytes(lines(3))
    path.write_bytes(lines(4))

    async def story(engine: Engine, source: FileSource) -> None:
        await engine.until(has(engine, 2, 3, 4))

    engine = followed(path, story, position)
    assert engine.numbers == [2, 3, 4]
    assert engine.gaps == []


def test_a_file_that_was_copied_and_emptied_is_finished_from_its_copy(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(lines(1))

    async def story(engine: Engine, source: FileSource) -> None:
        await engine.until(has(engine, 1))
        (tmp_path / "log.1").write_bytes(path.read_bytes() + lines(2))
        os.truncate(path, 0)
        append(path, lines(3))
        await engine.until(has(engine, 1, 2, 3))

    engine = followed(path, story)
    assert engine.numbers == [1, 2, 3]
    assert engine.gaps == []


def test_a_file_emptied_without_a_copy_is_a_gap_and_its_new_content_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(lines(1, 2))

    async def story(engine: Engine, source: FileSource) -> None:
        await engine.until(has(engine, 1, 2))
        os.truncate(path, 0)
        append(path, lines(3))
        await engine.until(has(engine, 1, 2, 3))

    engine = followed(path, story)
    assert engine.numbers == [1, 2, 3]
    (gap,) = engine.gaps
    assert (gap.source, gap.from_ms, gap.to_ms) == ("log", NOW + 100, NOW + 100)


def test_a_file_rewritten_longer_than_before_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(lines(1))
    position = read_once(path).position
    path.write_bytes(lines(7, 8, 9))

    async def story(engine: Engine, source: FileSource) -> None:
        await engine.until(has(engine, 7, 8, 9))

    engine = followed(path, story, position)
    assert engine.numbers == [7, 8, 9]
    assert len(engine.gaps) == 1


def test_a_gap_is_told_once_even_over_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(lines(1))
    position = read_once(path).position
    path.write_bytes(b"")
    again = read_once(path, position)
    assert len(again.gaps) == 1
    assert read_once(path, again.position).gaps == []


def test_a_file_that_vanished_with_a_newer_one_in_its_place_is_a_gap(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(lines(1))
    position = read_once(path).position
    path.unlink()
    path.write_bytes(lines(5))
    engine = read_once(path, position)
    assert engine.numbers == [5]
    assert len(engine.gaps) == 1


def test_a_position_that_nobody_wrote_starts_at_the_beginning(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(lines(1))
    assert read_once(tmp_path / "log", "gibberish").numbers == [1]


def test_our_own_wrong_clock_moves_nothing_on_and_shows_in_health(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(lines(*range(30)))
    now = [NOW - 3_600_000]

    async def go() -> None:
        engine = Engine()
        source = FileSource(name="log", path=path, follow=True, now_ms=lambda: now[0], poll_s=0.001, retry_s=(0.001,))
        reading = asyncio.create_task(source.run(engine.offer, None))
        await engine.until(lambda: "clock" in source.health(now[0]).detail)
        assert engine.batches == []
        assert source.caught_up_to(now[0]) is None
        now[0] = NOW
        await engine.until(lambda: len(engine.numbers) == 30)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)

    asyncio.run(go())
