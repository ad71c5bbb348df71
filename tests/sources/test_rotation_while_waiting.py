"""A file is rotated again while the end of the one before waits for its commit: the one between is not passed over."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from engine.sources.base import Batch
from engine.sources.file.source import FileSource


def line(number: int) -> str:
    told = {"clientId": f"G@@@d{number}", "time": 1_767_225_600_000, "eventType": "connect", "channelId": "c"}
    return json.dumps(told) + "\n"


def rotate(path: Path, times: int) -> None:
    """`path` becomes `.1`, what was `.1` becomes `.2`, and so on."""
    for number in range(times, 0, -1):
        older = path.with_name(f"{path.name}.{number - 1}") if number > 1 else path
        older.rename(path.with_name(f"{path.name}.{number}"))


def test_a_second_rotation_before_the_commit_of_the_first_skips_nothing(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(line(1))
    seen: list[str] = []

    async def go() -> None:
        source = FileSource(name="log", path=path, follow=True, now_ms=lambda: 1_767_225_600_000, poll_s=0.01)

        async def offer(batch: Batch) -> None:
            seen.extend(event.client for event in batch.events)
            if seen[-1] == "G@@@d2":  # the last line of the first file: its commit takes its time
                rotate(path, 2)
                path.write_text(line(4))
            assert batch.acknowledge is not None
            batch.acknowledge(None)

        running = asyncio.create_task(source.run(offer, None))
        async with asyncio.timeout(20):
            while not seen:
                await asyncio.sleep(0)
            with path.open("a") as out:
                out.write(line(2))
            rotate(path, 1)
            path.write_text(line(3))
            while "G@@@d4" not in seen:
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(go())
    assert seen == ["G@@@d1", "G@@@d2", "G@@@d3", "G@@@d4"]
