"""One line of a trace, accepted or not: the oracle's own reading of the broker's JSON."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NamedTuple

KINDS = ("connect", "disconnect", "tcpclean")
LIMITS = {"clientId": 256, "channelId": 64, "clientIp": 64}
MAX_LINE_BYTES = 64 * 1024


class Told(NamedTuple):
    """An accepted event; both times are epoch milliseconds."""

    client: str
    kind: str
    time: int
    channel: str
    ip: str
    received: int


class Malformed(Exception):
    """The line cannot be accepted."""


def read_line(line: bytes, max_future: int) -> Told:
    """Read one line of a trace.

    Raises:
        Malformed: it is none of the broker's events.
    """
    if len(line) > MAX_LINE_BYTES:
        raise Malformed("too long")
    try:
        body = json.loads(line.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise Malformed(str(error)) from error
    if not isinstance(body, dict):
        raise Malformed("not an object")
    texts = {key: _text(body, key) for key in ("clientId", "channelId", "eventType")}
    texts["clientIp"] = _text(body, "clientIp") if "clientIp" in body else ""
    if texts["eventType"] not in KINDS:
        raise Malformed("unknown type")
    time = _time(body.get("time"))
    received = int(body.get("received_at", time))
    if time > received + max_future:
        raise Malformed("in the future")
    return Told(texts["clientId"], texts["eventType"], time, texts["channelId"], texts["clientIp"], received)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _text(body: dict[str, Any], key: str) -> str:
    value = body.get(key)
    if not isinstance(value, str) or not value:
        raise Malformed(f"{key} is missing, empty or no text")
    if len(value.encode()) > LIMITS.get(key, 64):
        raise Malformed(f"{key} is too long")
    if any(ord(c) < 32 or ord(c) == 127 for c in value):
        raise Malformed(f"{key} has control characters")
    return value


def _time(value: object) -> int:
    if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?", value):
        value = float(value) if "." in value else int(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise Malformed("time is no number")
    return int(value * 1000) if value < 1e11 else int(value)
