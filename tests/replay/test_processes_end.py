"""The processes of a shared replay end with the command, however it ends: nobody has to look for them afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from engine.replay.parallel import MIN_BYTES, processors
from tests.acceptance.service import ROLLCALL, eventually

pytestmark = pytest.mark.skipif(processors() < 2, reason="a replay is shared only where there are several processors")


def recording(folder: Path) -> None:
    """A recording that is large enough to be shared, and rules that allow it."""
    event = {"clientId": "G@@@d", "eventType": "connect", "channelId": "c" * 32, "clientIp": "10.0.0.1:4711"}
    changes = ({"clientId": f"G@@@d{number}", "time": 1_767_225_600_000 + number} for number in range(MIN_BYTES // 100))
    lines = [json.dumps(event | some) for some in changes]
    (folder / "events.jsonl").write_text("\n".join(lines) + "\n")
    rule = {"name": "gone", "trigger": "offline", "actions": [{"log": {"message": "{{ client.id }} is gone"}}]}
    (folder / "rules.yaml").write_text(json.dumps({"version": 1, "rules": [rule]}))
    (folder / "config.yaml").write_text('{"version": 1, "rules": ["rules.yaml"]}')
    assert (folder / "events.jsonl").stat().st_size >= MIN_BYTES


def start(folder: Path, *arguments: str, stdout: int | None = None) -> subprocess.Popen[bytes]:
    # `env` because a shell in the background ignores Ctrl-C, and so does what it starts.
    command = [
        "env",
        "--default-signal=INT",
        ROLLCALL,
        "replay",
        "events.jsonl",
        "-c",
        "config.yaml",
        "--format",
        "jsonl",
        *arguments,
    ]
    return subprocess.Popen(command, cwd=folder, stdout=stdout, stderr=subprocess.PIPE)


def children(pid: int) -> list[int]:
    try:
        return [int(found) for found in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie: nobody may be there to collect those whose parent was killed."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL])
def test_whatever_signal_ends_the_command_its_processes_end_too(number: signal.Signals, tmp_path: Path) -> None:
    recording(tmp_path)
    command = start(tmp_path, stdout=subprocess.PIPE)  # nobody reads: it waits, and cannot be done before the signal
    try:
        started = eventually(lambda: children(command.pid), lambda found: len(found) == processors())
        os.kill(command.pid, number)
        assert command.wait(60) in {-number, 130}
        eventually(lambda: [pid for pid in started if is_running(pid)], lambda found: not found)
    finally:
        command.kill()
        command.communicate()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "events.jsonl", "rules.yaml"]


def test_when_the_reader_of_the_output_has_gone_its_processes_end_too(tmp_path: Path) -> None:
    recording(tmp_path)
    command = start(tmp_path, stdout=subprocess.PIPE)
    assert command.stdout is not None and command.stderr is not None
    with command, command.stdout:
        started = eventually(lambda: children(command.pid), lambda found: len(found) == processors())
        command.stdout.close()
        said = command.stderr.read()
    assert (command.returncode, said) == (0, b"")
    assert not [pid for pid in started if is_running(pid)]


def test_when_the_disk_is_full_its_processes_end_and_the_file_is_named(tmp_path: Path) -> None:
    recording(tmp_path)
    command = start(tmp_path, "-o", "/dev/full")
    _, said = command.communicate(timeout=60)
    assert (command.returncode, said.decode().strip()) == (1, "/dev/full: No space left on device")
