"""One event of a scenario as people write it: `OFFSET[/RECEIVED] CLIENT TYPE CHANNEL [IP]`.

An event that the engine would not accept from a broker is refused here by the same rules, so a scenario never tests what cannot
happen. A client id or channel with spaces is written in double quotes, as in JSON. Read `parse_event_line` first.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from engine.config.durations import parse_duration
from engine.config.schema import did_you_mean
from engine.core.events import EVENT_TYPES, LifecycleEvent
from engine.core.times import duration_text
from engine.sources.acceptance import Malformed, accept, read_object

FORM = "OFFSET[/RECEIVED] CLIENT TYPE CHANNEL [IP]"

_WORD = re.compile(r'"(?:[^"\\]|\\.)*"(?=\s|$)|\S+')
_TYPES = sorted(EVENT_TYPES)
_MEANT = {
    "connected": "connect",
    "online": "connect",
    "disconnected": "disconnect",
    "offline": "tcpclean",
    "clean": "tcpclean",
}
"""Types that people write by mistake, and what the broker sends."""
_ANY_TIME_MS = 1_767_225_600_000  # any valid time: the times of the line are checked separately


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLine:
    """One event of a scenario: the event, when it is received (epoch milliseconds), and the text as written."""

    event: LifecycleEvent
    received_at_ms: int
    text: str


def parse_event_line(text: str, start_ms: int, max_future_ms: int) -> EventLine:
    """The event of a line. Raises ValueError with a sentence for a line that is not valid."""
    words = _WORD.findall(text)
    _check_shape(words)
    occurred_ms, received_ms = _times(words[0])
    if occurred_ms - received_ms > max_future_ms:
        ahead, allowed = duration_text(occurred_ms - received_ms), duration_text(max_future_ms)
        raise ValueError(f"occurs {ahead} after it is received: the engine accepts at most {allowed}")
    client, kind, channel, ip = [_unquoted(word) for word in (*words[1:], "")[:4]]
    message = {"clientId": client, "time": _ANY_TIME_MS, "eventType": kind, "channelId": channel, "clientIp": ip}
    try:
        found = accept(read_object(json.dumps(message).encode()), None)
    except Malformed as error:
        raise ValueError(f"would not be accepted: {error}") from error
    return EventLine(
        event=found._replace(occurred_at_ms=start_ms + occurred_ms),
        received_at_ms=start_ms + received_ms,
        text=text,
    )


def _check_shape(words: list[str]) -> None:
    """Raise ValueError when a word is missing, misplaced or not valid."""
    for place, word in enumerate(words):
        if word.startswith('"') and _quoted(word) is None:
            raise ValueError(f"word {place + 1} has no closing quote, or is not valid JSON text")
    if len(words) > 3 and words[2] not in EVENT_TYPES:
        if words[1] in EVENT_TYPES:
            raise ValueError(f"the client must come before the type: {FORM}")
        if EVENT_TYPES & set(words[3:]):
            raise ValueError('a client id with spaces needs double quotes: 0s "G@@@my pump" connect A')
    if not 4 <= len(words) <= 5:
        raise ValueError(f"must be {FORM}, such as `60s/62s G@@@p1 tcpclean A`")
    if words[2] not in EVENT_TYPES:
        meant = _MEANT.get(words[2].lower())
        hint = f"; the broker sends `{meant}`" if meant else did_you_mean(words[2], _TYPES)
        raise ValueError(f"the type must be one of {', '.join(_TYPES)}, not `{words[2][:40]}`{hint}")


def _times(word: str) -> tuple[int, int]:
    """When it occurs and when it is received, milliseconds after the start; only the first may lie before it."""
    first, slash, second = word.partition("/")
    occurred_ms = -_duration("OFFSET", first[1:]) if first.startswith("-") else _duration("OFFSET", first)
    if occurred_ms < 0 and not slash:
        raise ValueError(f"occurs before the start: add when it is received, such as {first}/0s")
    return occurred_ms, _duration("RECEIVED", second) if slash else occurred_ms


def _duration(what: str, text: str) -> int:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise ValueError(f"{what} {error}") from error


def _quoted(word: str) -> str | None:
    try:
        return str(json.loads(word))
    except ValueError:
        return None


def _unquoted(word: str) -> str:
    found = _quoted(word) if word.startswith('"') else None
    return word if found is None else found
