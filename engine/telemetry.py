"""What the engine says about itself: structured log lines on standard error.

Every line names an `Event`, whose text is stable and may be searched for, and carries facts as keys; the sentence beside it
is for people and may change. People at a terminal get a readable line, everything else one JSON object a line. Read `Event`
and `setup_logging` first.

Values may come from devices, so control characters are escaped: one event is always one line. Keys that name a secret are
never written out.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from enum import StrEnum
from typing import IO, Any, Final, Self, cast

import msgspec
import structlog

from engine.core.times import rfc3339


class Event(StrEnum):
    """Every event that is logged: the stable name, and the sentence that a person reads."""

    sentence: str

    def __new__(cls, name: str, sentence: str) -> Self:
        """A member whose value is the name; the sentence is an attribute."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.sentence = sentence
        return member

    LISTENING = "http.listening", "the HTTP interface answers"
    RECOVERED = "service.recovered", "the states are loaded"
    READY = "service.ready", "ready for events"
    STOPPING = "service.stopping", "finishing what is in hand"
    STOPPED = "service.stopped", "stopped; nothing was lost"
    ACTION_LOG = "action.log", "a rule says"
    RULES_LOADED = "rules.loaded", "edited rules are in force"
    RULES_BROKEN = "rules.broken", "edited rules do not load; the old ones stay in force"
    RULE_NEW = "rule.new", "a new rule found clients already in its status"
    RULE_RETIRED = "rule.retired", "a rule is gone; its alerts were ended"
    FEED_TROUBLE = "feed.trouble", "a source is in trouble"
    FEED_WELL = "feed.well", "a source is well again"
    SOURCE_FAILED = "source.failed", "a source has stopped by a fault of ours"
    STORE_FAILED = "store.failed", "a commit failed; it will be tried again"
    STORE_WELL = "store.well", "commits succeed again"
    POISONED = "writer.poisoned", "an event cannot be applied by a fault of ours; it is quarantined"
    WRITER_FAILED = "writer.failed", "a fault of ours that no event explains; the service ends, nothing is acknowledged"
    TASK_FAILED = "task.failed", "a task failed by a fault of ours; it is tried again"
    DELIVERY_DEAD = "delivery.dead", "a delivery is given up"
    HEARTBEAT_FAILED = "heartbeat.failed", "heartbeat failed: the ping is repeated at the next interval"
    HEARTBEAT_RECOVERED = "heartbeat.recovered", "heartbeat pings arrive again"
    SYNTHETIC = "source.synthetic", "this fleet is synthetic: its devices do not exist"
    REQUEST_FAILED = "http.failed", "a request failed by a fault of ours"
    ASKING_FAILS = "asking.fails", "the status query fails; only a probe is sent from time to time"
    ASKING_WELL = "asking.well", "the status query answers again"
    ASKING_THROTTLED = "asking.throttled", "the status query was told to slow down; everybody waits"
    ASKING_LOST = "asking.lost", "answers could not be stored; they are asked for again"
    SWEEP_BEGUN = "sweep.begun", "a sweep asks for every client"
    SWEEP_RESUMED = "sweep.resumed", "a sweep goes on after a restart"
    SWEEP_DONE = "sweep.done", "a sweep has ended"
    INTERNAL = "internal.fault", "a fault of ours; the work goes on"


LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
FORMATS: Final = ("auto", "human", "json")

MAX_VALUE_CHARS: Final = 2_000
"""Of one value in a line: enough for an error, and a bound for what a device may make us write."""

_SECRET_WORDS: Final = ("secret", "token", "password", "authorization", "access_key")
_ESCAPES: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {
    0x09: "\\t",
    0x0A: "\\n",
    0x0D: "\\r",
    0x2028: "\\u2028",
    0x2029: "\\u2029",
    0x202A: "\\u202a",
    0x202B: "\\u202b",
    0x202D: "\\u202d",
    0x202E: "\\u202e",
}
_COLOURS: Final = {"debug": "\x1b[2m", "info": "\x1b[32m", "warning": "\x1b[33m", "error": "\x1b[31m"}
_encode = msgspec.json.Encoder(enc_hook=str).encode


def escape(text: str) -> str:
    """The text on one line: control characters, line breaks and direction marks as escapes."""
    return text if text.isascii() and text.isprintable() else text.translate(_ESCAPES)


def logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger for one module: `log.info(Event.READY, clients=3)`. Says nothing before `setup_logging`."""
    return cast(structlog.typing.FilteringBoundLogger, structlog.get_logger(name))


def setup_logging(level: str = "info", format: str = "auto", stream: IO[str] | None = None) -> None:
    """Send log lines to `stream` (standard error by default), from `level` upwards.

    `format` is `human`, `json` or `auto` (human on a terminal). Also takes what libraries log, warnings and worse.
    Raises ValueError for a level or a format that does not exist.
    """
    if level not in LEVELS or format not in FORMATS:
        raise ValueError(f"no such log level or format: {level}, {format}")
    out = stream if stream is not None else sys.stderr
    human = format == "human" or (format == "auto" and out.isatty())
    render = _Human(out.isatty()) if human else _json
    global _write_all
    _write_all = _WriteAll(out, render) if LEVELS[level] <= LEVELS["info"] else None
    structlog.configure(
        processors=[_stamp, _tidy, render],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=out),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers[:] = [_FromLibraries(LEVELS[level])]
    root.setLevel(max(LEVELS[level], logging.WARNING) if level != "debug" else logging.DEBUG)


def log_all(event: Event, entries: Sequence[Mapping[str, Any]]) -> None:
    """Many lines of one event at level info, each with its own facts, in one write: a storm has thousands a second."""
    if _write_all is not None and entries:
        _write_all(event, entries)


class _WriteAll:
    """What `log.info` does, for many lines at once."""

    def __init__(self, out: IO[str], render: Callable[[Any, str, MutableMapping[str, Any]], str]) -> None:
        self._out, self._render = out, render

    def __call__(self, event: Event, entries: Sequence[Mapping[str, Any]]) -> None:
        lines = []
        for entry in entries:
            stamped = dict(_stamp(None, "info", {"event": event, **entry}))
            lines.append(self._render(None, "info", dict(_tidy(None, "info", stamped))))
        self._out.write("\n".join(lines) + "\n")
        self._out.flush()


_write_all: _WriteAll | None = None  # set by `setup_logging`


def _silent(_: Any, __: str, ___: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    raise structlog.DropEvent


structlog.configure(processors=[_silent])  # commands that only print do not log


def _stamp(_: Any, method: str, line: MutableMapping[str, Any]) -> Mapping[str, Any]:
    event = line.pop("event", "")
    sentence = event.sentence if isinstance(event, Event) else ""
    head = {"at": rfc3339(time.time_ns() // 1_000_000), "level": "error" if method == "exception" else method}
    return {**head, "event": str(event), "sentence": sentence, **line}


def _tidy(_: Any, __: str, line: MutableMapping[str, Any]) -> Mapping[str, Any]:
    line.pop("exc_info", None)  # a traceback is for `debug`, not for an operator's log
    for key, value in line.items():
        if any(word in key for word in _SECRET_WORDS):
            line[key] = "***"
        elif isinstance(value, str):
            line[key] = escape(value[:MAX_VALUE_CHARS])
    return line


def _json(_: Any, __: str, line: MutableMapping[str, Any]) -> str:
    return _encode(line).decode("utf-8", "replace")


class _Human:
    """`05:00:01.250 info    a rule says: pump p1 is offline  rule=pump-offline`."""

    def __init__(self, colours: bool) -> None:
        self._colours = colours

    def __call__(self, _: Any, __: str, line: MutableMapping[str, Any]) -> str:
        at, level, event = str(line.pop("at")), str(line.pop("level")), line.pop("event")
        sentence = line.pop("sentence") or event
        message = line.pop("message", None)
        said = f"{sentence}: {message}" if message is not None else f"{sentence}"
        facts = "  ".join(f"{key}={_shown(value)}" for key, value in line.items())
        name = f"{level:<7}"
        if self._colours:
            name = f"{_COLOURS.get(level, '')}{name}\x1b[0m"
        return f"{at[11:23]} {name} {said}{'  ' if facts else ''}{facts}"


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else _encode(value).decode("utf-8", "replace")
    return f'"{text}"' if " " in text else text


class _FromLibraries(logging.Handler):
    """What libraries log goes the same way, under the name `library`."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            method = "error" if record.levelno >= logging.ERROR else record.levelname.lower()
            log = structlog.get_logger()
            getattr(log, method, log.warning)(f"library.{record.name}", message=record.getMessage())
        except Exception:  # noqa: BLE001  # logging must never be what fails
            self.handleError(record)
