"""An answer comes after the disk has it: one sync at least for each, and before it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tests.acceptance.service import event, offline_rule, requires, service, sink

POSTS = 40


def order_of(trace: str) -> list[str]:
    """What `strace` saw, in order: `sync` when one ended, `answer` when a 202 was handed to the socket."""
    found = []
    for line in trace.splitlines():
        if re.search(r"f(data)?sync.*= 0$", line):  # also the second half of one that another thread interrupted
            found.append("sync")
        elif "HTTP/1.1 202" in line:
            found.append("answer")
    return found


def test_every_answer_is_preceded_by_a_sync_of_its_own(tmp_path: Path) -> None:
    requires("strace", shutil.which("strace"))
    trace = tmp_path / "trace.txt"
    watch = [
        "strace",
        "-f",
        "-qq",
        "-s",
        "16",
        "-e",
        "trace=fsync,fdatasync,write,writev,sendto,sendmsg",
        "-o",
        str(trace),
    ]
    with sink() as target, service(tmp_path) as running:
        running.rules(offline_rule(target.url))
        running.start(under=watch)
        before = running.metric("rollcall_batches")
        for number in range(POSTS):
            running.tell(event(f"G@@@d{number % 7}", "tcpclean" if number % 2 else "connect", f"c{number // 2}"))
        batches = running.metric("rollcall_batches") - before
        commits = running.metric("rollcall_commits")
        running.terminate()
    steps = order_of(trace.read_text("utf-8", "replace"))
    assert steps.count("answer") == POSTS and commits >= batches == POSTS  # one by one: nothing shared a commit
    since = 0
    for step in steps:
        assert step == "sync" or since > 0, "an answer without a sync since the one before"
        since = since + 1 if step == "sync" else 0
    assert steps.count("sync") >= batches
