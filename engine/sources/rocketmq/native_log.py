"""Why a pull failed: the native library returns the same code for every failure and writes the reason only to its own log file.

The library writes `PID_rocketmq-cpp.log.N` under `$HOME/logs/rocketmq-cpp`, whatever path it is given; so `HOME` is changed
for the moment when it opens its log. Read `reason`.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

TAIL_BYTES: Final = 8 * 1024
"""Of the log's end is looked at: some forty lines, which is the last second or two of a failing client."""

_PLACE: Final = Path("logs") / "rocketmq-cpp"
_NO_PERMISSION: Final = "16"
_CREDENTIALS: Final = re.compile(
    r"signature|access.?key|username|\buser\b|\bacl|authen|permission|credential", re.IGNORECASE
)
_ANSWER: Final = re.compile(r"\(error\):msg: (?P<said>.{1,300}?),error:(?P<code>[0-9]+),in file")
_NO_CONNECTION: Final = re.compile(r"can ?not connect to server:(?P<address>[^\s\[]+)")
_NO_ANSWER: Final = re.compile(r"wait response timeout.* of addr:(?P<address>[^\s\[]+)")
_NO_ADDRESS: Final = re.compile(r"Failed to resolve +host name\((?P<host>[^)]{1,200})\)")
_NO_ROUTE: Final = re.compile(r"Can not find Message Queue|The broker not exist")

_home = threading.Lock()


@contextmanager
def writing_to(folder: str) -> Iterator[None]:
    """Inside, a library that opens its log opens it under `folder`. Logs that earlier processes left there go."""
    place = Path(folder) / _PLACE
    place.mkdir(parents=True, exist_ok=True)
    for old in place.glob("*_rocketmq-cpp.log.*"):
        if not old.name.startswith(f"{os.getpid()}_"):
            old.unlink(missing_ok=True)
    with _home:
        before = os.environ.get("HOME")
        os.environ["HOME"] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ["HOME"]
            else:
                os.environ["HOME"] = before


def reason(folder: str) -> str:
    """The latest reason in the library's log under `folder`, as a sentence; one that says so when there is none."""
    return (
        explain(_tail(Path(folder) / _PLACE)) or "the broker does not answer, and the native library does not say why"
    )


def explain(text: str) -> str | None:
    """What lines of the log say, newest last; None: nothing that is known.

    What a server answered comes before what could not be reached, because a client that is refused also tries elsewhere.
    """
    lines = text.splitlines()[::-1]
    for pattern, sentence in (
        (_ANSWER, _server_says),
        (_NO_ADDRESS, lambda found: f"cannot resolve {found['host']}, which a broker gave as its address"),
        (_NO_ANSWER, lambda found: f"{found['address']} accepts the connection but does not answer"),
        (_NO_CONNECTION, lambda found: f"cannot connect to {found['address']}: no server listens there"),
        (_NO_ROUTE, lambda found: "no name server knows the topic, or none of its brokers is up"),
    ):
        for line in lines:
            found = pattern.search(line)
            if found is not None:
                return sentence(found)
    return None


def _server_says(found: re.Match[str]) -> str:
    said, code = found["said"].strip().rstrip("."), found["code"]
    if code == _NO_PERMISSION or _CREDENTIALS.search(said):
        return f"wrong credentials or no permission: the server says “{said}” (code {code})"
    return f"the server refuses: “{said}” (code {code})"


def _tail(place: Path) -> str:
    """The end of the newest log of this process, only lines of its last seconds."""
    newest, changed = None, 0.0
    for path in place.glob(f"{os.getpid()}_rocketmq-cpp.log.*"):
        with suppress(OSError):
            if path.stat().st_mtime >= changed:
                newest, changed = path, path.stat().st_mtime
    if newest is None:
        return ""
    with suppress(OSError), newest.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
        return _last_second(file.read().decode("utf-8", "replace"))
    return ""


def _last_second(text: str) -> str:
    """The lines that were written within the same second as the last one or the second before it: what fails now."""
    lines = text.splitlines()
    stamps = [line[1:21] for line in lines if line.startswith("[")]
    if not stamps:
        return text
    latest = list(dict.fromkeys(stamps))[-2:]
    return "\n".join(line for line in lines if line[1:21] in latest)
