"""Recordings as tools make them, and dates that cannot be: what `rollcall replay` makes of them, and what it says."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import BadRecording
from engine.replay import recording
from engine.replay.recording import LongLine, chunks_of, opened
from tests.command_line import command

T = 1_767_225_600_000
MARK = b"\xef\xbb\xbf"
GONE: dict[str, Any] = {
    "name": "gone",
    "trigger": "offline",
    "actions": [{"log": {"message": "{{ client.id }} is gone"}}],
}
REPEATED = GONE | {"repeat": "1h"}
EVERY_MINUTE = {
    "name": "roll",
    "trigger": "schedule",
    "schedule": {"cron": "* * * * *"},
    "actions": [{"log": {"message": "x"}}],
}


def event(kind: str, channel: str, time: object, client: str = "G@@@d") -> bytes:
    told = {"clientId": client, "eventType": kind, "channelId": channel, "time": time}
    return json.dumps(told).encode() + b"\n"


def replay(
    folder: Path, content: bytes | None, *arguments: str, rule: dict[str, Any] = GONE
) -> subprocess.CompletedProcess[str]:
    """`rollcall replay` on a file, or on standard input with `-`."""
    (folder / "rules.yaml").write_text(json.dumps({"version": 1, "rules": [rule]}))
    (folder / "config.yaml").write_text('{"version": 1, "rules": ["rules.yaml"]}')
    if content is not None:
        (folder / "events.jsonl").write_bytes(content)
    return command(folder, "replay", *(arguments or ("events.jsonl",)), "-c", "config.yaml", "--format", "jsonl")


def summary(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


TWO = event("connect", "a", T) + event("tcpclean", "a", T + 60_000)


def test_marks_holes_other_line_ends_and_gzip_cost_no_event(tmp_path: Path) -> None:
    told = MARK + bytes(300_000) + TWO.replace(b"\n", b"\r") + event("connect", "b", T + 90_000).strip()
    for content in (told, gzip.compress(told, mtime=0)):
        done = replay(tmp_path, content)
        assert (done.returncode, done.stderr) == (0, "")
        assert (summary(done)["events"], summary(done)["rejected"]) == (3, 0)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (TWO.decode().encode("utf-16"), "events.jsonl is UTF-16; save it as UTF-8"),
        (b"\x28\xb5\x2f\xfd....", "events.jsonl is packed with zstd: `zstd -dc events.jsonl | rollcall replay -`"),
        (gzip.compress(TWO * 1000, mtime=0)[:60], "events.jsonl is damaged: it cannot be unpacked to its end"),
    ],
    ids=["UTF-16", "zstd", "cut off"],
)
def test_a_file_that_cannot_be_read_is_named_and_no_older_result_is_overwritten(
    content: bytes, said: str, tmp_path: Path
) -> None:
    done = replay(tmp_path, content)
    assert (done.returncode, done.stderr.strip()) == (1, said)


def test_a_device_is_wrong_use_and_never_read(tmp_path: Path) -> None:
    done = replay(tmp_path, None, "/dev/zero")
    assert (done.returncode, "/dev/zero is a device, not a file" in done.stderr) == (2, True)


def test_when_every_line_is_rejected_the_answer_is_no_with_the_first_reason(tmp_path: Path) -> None:
    done = replay(tmp_path, b"no event\n" + event("reboot", "a", T))
    assert done.returncode == 1
    assert done.stderr.startswith("events.jsonl: every line was rejected; line 1: not JSON")
    assert summary(done)["rejected"] == 2


def test_an_empty_recording_is_said_to_be_one(tmp_path: Path) -> None:
    done = replay(tmp_path, b"\n \n")
    assert (done.returncode, done.stderr) == (0, "events.jsonl: the recording holds no events\n")


def test_a_clock_that_stands_still_for_most_lines_is_a_warning(tmp_path: Path) -> None:
    lines = [event("connect", str(number), T + number * 60_000) for number in range(9)]
    done = replay(tmp_path, b"".join(reversed(lines)))
    assert done.returncode == 0
    assert "the clock stood still for 8 of 9 lines" in done.stderr and "tac FILE" in done.stderr
    ahead = event("connect", "x", T + 10**10)
    done = replay(tmp_path, lines[0] + ahead + b"".join(lines[1:]))
    assert "(line 2: 2026-04-26T17:46:40.000Z)" in done.stderr
    assert replay(tmp_path, b"".join(lines)).stderr == ""


@pytest.mark.parametrize("rule", [REPEATED, EVERY_MINUTE])
@pytest.mark.parametrize("times", [[0, 1, T], ["-62135596800", "-62135596790", T], [T, T + 1, 32_503_680_000_000]])
def test_a_date_that_cannot_be_does_not_make_reminders_for_years(
    rule: dict[str, Any], times: list[object], tmp_path: Path
) -> None:
    kinds = [("connect", "a"), ("tcpclean", "a"), ("connect", "b")]
    content = b"".join(event(*kind, time) for kind, time in zip(kinds, times, strict=True))
    done = replay(tmp_path, content, rule=rule)
    assert done.returncode == 1
    assert done.stderr.startswith("line 3 is dated ") and "would repeat for all that time" in done.stderr
    done = replay(tmp_path, content)
    assert (done.returncode, summary(done)["events"]) == (0, 3)


@pytest.mark.parametrize("time", [253_402_300_799_999, "9999-12-31", 10**18, "1e999", -(10**15), 10**400])
def test_a_time_at_the_end_of_all_calendars_or_beyond_is_rejected(time: object, tmp_path: Path) -> None:
    done = replay(tmp_path, TWO + event("connect", "b", time), rule=REPEATED)
    assert (done.returncode, "Traceback" in done.stderr, "internal" in done.stderr) == (0, False, False)
    assert (summary(done)["events"], summary(done)["rejected"]) == (2, 1)


def test_a_long_pause_is_played_as_it_always_was(tmp_path: Path) -> None:
    """Ten days with an offline client and an hourly reminder, a rejected line at its end."""
    content = TWO + b"no event\n" + event("connect", "b", T + 10 * 86_400_000)
    lines = [json.loads(line) for line in replay(tmp_path, content, rule=REPEATED).stdout.splitlines()]
    kinds = [line["type"] if line["type"] != "delivery" else line["phase"] for line in lines]
    assert kinds.count("reminder") == 239
    assert kinds.index("rejected") < kinds.index("reminder")
    instants = [line["at"] for line in lines if "at" in line]
    assert instants == sorted(instants)


# Reading in chunks.


class Endless:
    """A file of so many bytes that none could hold them."""

    def __init__(self, parts: list[bytes]) -> None:
        self._parts = parts

    def read(self, size: int, /) -> bytes:
        assert all(len(part) <= size for part in self._parts)
        return self._parts.pop(0) if self._parts else b""


def test_a_line_beyond_all_bounds_is_counted_and_passed_over() -> None:
    size = recording.CHUNK_BYTES
    file = Endless([TWO, b"x" * size, b"x" * size, b"x" * size, b"y\r\n" + TWO])
    assert list(chunks_of(file)) == [TWO, LongLine(3 * size + 1, b"x" * 65536), TWO]
    assert list(chunks_of(Endless([b"x" * size, b"x"]))) == [LongLine(size + 1, b"x" * 65536)]
    assert list(chunks_of(Endless([bytes(size)] * 50 + [TWO]))) == [TWO]


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"\n", b"\r\n"]), st.integers(1, 40))
def test_chunks_hold_every_line_once_wherever_they_are_cut(raw: bytes, end: bytes, size: int) -> None:
    content = TWO.replace(b"\n", end) + raw.replace(b"\0", b"") + TWO.replace(b"\n", end)
    file = io.BytesIO(content)

    class Cut:
        def read(self, _: int, /) -> bytes:
            return file.read(size)

    found = b"".join(chunk for chunk in chunks_of(Cut()) if isinstance(chunk, bytes))
    # A byte order mark before a line is no part of it: it is left out here, or where the line is read.
    found, content = found.replace(MARK, b""), content.replace(MARK, b"")
    assert found.replace(b"\r", b"").replace(b"\n", b"") == content.replace(b"\r", b"").replace(b"\n", b"")
    if b"\r" not in raw:
        assert found == content


def test_only_what_begins_like_a_packed_file_is_one() -> None:
    assert opened(io.BytesIO(TWO), "x").read(9) == TWO[:9]
    with pytest.raises(BadRecording, match="packed with xz"):
        opened(io.BytesIO(b"\xfd7zXZ\0.."), "x")
