"""What the engine logs about itself: structured lines on standard error.

Every line names an `Event`, whose name is stable and may be searched for, and carries facts as keys; the sentence beside it
is for people and may change. A terminal gets readable lines, everything else gets one JSON object a line. Read `Event`
and `setup_logging` first.

Values may come from devices, so control characters are escaped: one event is always one line. The values of keys that name a
secret are replaced by `***`.

Logging never raises and never blocks, whatever happens to standard error (`engine.log_output`): lines that cannot be written are counted.

An unexpected exception is logged with `exc_info=error`, which adds `error` (its text, unless the call gives one that is safe to
show) and `where` (the source lines that raised it). No log line holds a multi-line traceback.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import sys
import time
import traceback
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import IO, Any, Final, Self, cast

import msgspec
import structlog

from engine.core.foreign_text import visible_text
from engine.core.times import rfc3339
from engine.log_output import NOT_WANTED as UNWANTED
from engine.log_output import IsWanted, LogOutput, LogTrouble, Written


class Event(StrEnum):
    """Every event that is logged: its stable name, and the sentence that a person reads.

    People search logs and set up alerts by the names, so a name never changes; sentences may.
    """

    sentence: str

    def __new__(cls, name: str, sentence: str) -> Self:
        """A member whose value is the name; the sentence is an attribute."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.sentence = sentence
        return member

    # The service

    LISTENING = "http.listening", "the HTTP server accepts requests"
    RECOVERED = "service.recovered", "client states are loaded from the store"
    READY = "service.ready", "ready: reading events"
    STOPPING = "service.stopping", "stopping: finishing the work in progress"
    STOPPED = "service.stopped", "stopped; no accepted event and no delivery was lost"
    TASK_FAILED = (
        "task.failed",
        "a part of the service failed: it is restarted; `/readyz` shows it until it works again",
    )
    TASK_RECOVERED = "task.recovered", "a part of the service works again"
    STOP_FORCED = (
        "service.stop_forced",
        "something did not end in time: stopping without it; unacknowledged events and unrecorded deliveries come again",
    )
    LOG_LINES_LOST = (
        "log.lines_lost",
        "log lines could not be written and are lost; check who reads the log, and the free disk space",
    )
    REQUEST_FAILED = "http.failed", "internal error: an HTTP request was answered with 500; please report it"
    HTTP_REFUSED = (
        "http.refused",
        "HTTP requests or connections were refused since the last line of this kind; `refused` counts the reasons",
    )
    OIDC_REFUSED = (
        "oidc.refused",
        "a login at the identity provider did not work; `reason` says why: look at `auth.oidc`, at the clock, and at the provider",
    )
    AUDIT_UNFINISHED = (
        "audit.unfinished",
        "an act was carried out and is in the audit log, but what came of it could not be written there",
    )
    ACCESS_NOT_PURGED = (
        "access.not_purged",
        "sessions that are over and old entries of the audit log could not be dropped; it is tried again",
    )
    INTERNAL_ERROR = "internal.fault", "internal error: processing continues; please report it"
    HEARTBEAT_FAILED = "heartbeat.failed", "the heartbeat ping failed; the next one is sent at the next interval"
    HEARTBEAT_RECOVERED = "heartbeat.recovered", "heartbeat pings succeed again"

    # The store and its writer

    STORE_FAILED = "store.failed", "a commit failed: it is retried; check the free disk space and the data folder"
    STORE_RECOVERED = "store.well", "commits succeed again"
    EVENT_QUARANTINED = (
        "writer.poisoned",
        "internal error: an event could not be processed and was quarantined; processing continues; please report it",
    )
    WRITER_FAILED = "writer.failed", "internal error: stopping; unacknowledged batches will be read again"

    # Cells of a store that several replicas share

    CELL_STANDBY = (
        "cell.standby",
        "this replica stands by for a cell: its states are loaded, and it takes over when the owner ends",
    )
    CELL_TAKEN = "cell.taken", "this replica owns the cell: it decides and sends from now on"
    CELL_RELEASED = "cell.released", "this replica has given the cell back: another one takes it at once"
    CELL_LOST = (
        "cell.lost",
        "this replica owns the cell no longer: nothing more is committed or sent; it loads the store again and stands by",
    )
    CELL_UNREACHABLE = "cell.unreachable", "the store of the cell cannot be reached: trying again"

    # Sources

    SOURCE_UNHEALTHY = (
        "feed.trouble",
        "a source is unhealthy: offline alerts wait until it has caught up; run `rollcall sources`",
    )
    SOURCE_RECOVERED = "feed.well", "a source is healthy again"
    CLOCK_STEPPED = (
        "clock.stepped",
        "this machine's clock was set: holds and pauses last as long as before; check its time synchronisation",
    )
    CLIENTS_REFUSED = (
        "clients.refused",
        "events of new clients are quarantined: there are as many clients as `clients.limit` allows; known ones go on",
    )
    REFUSED_ACCEPTED = (
        "clock.refused_accepted",
        "events that were refused because they were dated in the future are accepted now",
    )
    CLOCK_SLEPT = (
        "clock.slept",
        "this machine was asleep: offline alerts wait until the sources have caught up",
    )
    SOURCE_FAILED = (
        "source.failed",
        "internal error: a source failed and is restarted; offline alerts wait until it has caught up; please report it",
    )
    SOURCE_SYNTHETIC = "source.synthetic", "this source generates synthetic events: its devices do not exist"
    SOURCE_GAP = (
        "source_gap",
        "events were lost before they were read; clients that may be affected are unverified until they are queried",
    )
    QUEUE_GONE = "queue_gone", "a queue was removed from its broker and is no longer read"
    ROCKETMQ_PROCESS_ENDED = (
        "rocketmq.process_ended",
        "the process of a RocketMQ client ended unexpectedly: restarting it; nothing is lost, reading continues where it was",
    )
    ROCKETMQ_PROCESS_UNSTARTABLE = (
        "rocketmq.process_unstartable",
        "the process of a RocketMQ client cannot be started: retrying; nothing is read from RocketMQ until it starts",
    )
    ROCKETMQ_PROCESS_OUTPUT = "rocketmq.process_output", "output of the process of a RocketMQ client"
    ROCKETMQ_NAME_UNRESOLVED = (
        "rocketmq.name_unresolved",
        "a RocketMQ name server cannot be used because its name does not resolve: check the name and the DNS server",
    )

    # Rules, inventory and configuration

    RULES_LOADED = "rules.loaded", "the edited rules are in force"
    RULES_REJECTED = (
        "rules.broken",
        "the edited rules have errors: the previous rules stay in force; run `rollcall check`; edited receivers need a restart first",
    )
    INVENTORY_LOADED = "inventory.loaded", "the edited inventory is in force"
    INVENTORY_REJECTED = (
        "inventory.broken",
        "the edited inventory has errors: the previous inventory stays in force; run `rollcall check`",
    )
    CONFIG_RELOADED = (
        "config.reloaded",
        "SIGHUP: the configuration was read again; `changed` is in force, `needs_restart` is not",
    )
    CONFIG_REJECTED = (
        "config.broken",
        "SIGHUP: the configuration has errors: everything stays as it was; run `rollcall check`",
    )
    RULE_ADDED = (
        "rule.new",
        "a new rule was loaded; for clients that already have its status it fires only with `existing: true`",
    )
    RULE_REMOVED = "rule.retired", "a rule was removed; its open alerts have ended"

    # Deliveries

    ACTION_LOG = "action.log", "message of a rule"
    DELIVERY_DEAD = (
        "delivery.dead",
        "a delivery failed permanently and is not retried; fix the cause, then run `rollcall deliveries retry`",
    )
    OUTBOX_UNAVAILABLE = (
        "outbox.unavailable",
        "the outbox cannot be read or written: deliveries wait and are retried; check the free disk space and the data folder",
    )
    OUTBOX_RECOVERED = "outbox.recovered", "the outbox can be read and written again"
    RESULTS_UNRECORDED = (
        "outbox.unrecorded",
        "results of deliveries could not be stored before the service stopped; these deliveries are sent again after the next start",
    )
    SENDER_FAILED = (
        "sender.failed",
        "internal error: the sender raised an unexpected error; the delivery is retried; please report it",
    )
    WEBHOOK_PROCESS_ENDED = (
        "webhook.process_ended",
        "the process that sends webhooks ended unexpectedly: restarting it; its webhooks are sent again",
    )
    WEBHOOK_PROCESS_UNSTARTABLE = (
        "webhook.process_unstartable",
        "the process that sends webhooks cannot be started: retrying; webhooks wait",
    )
    WEBHOOK_PROCESS_GARBLED = (
        "webhook.process_garbled",
        "invalid data, or no answer, from the process that sends webhooks: restarting it",
    )
    WEBHOOK_PROCESS_OUTPUT = "webhook.process_output", "unexpected output of the process that sends webhooks"
    WEBHOOK_RESULTS_LOST = (
        "webhook.results_lost",
        "internal error: results of webhooks could not be processed; these webhooks are sent again after the next start",
    )
    EMAIL_PARTLY_REFUSED = "email.partly_refused", "an e-mail was delivered, but the server refused some recipients"
    COMMANDS_CONNECTED = "commands.connected", "commands can be sent over MQTT"
    COMMANDS_DISCONNECTED = (
        "commands.disconnected",
        "commands cannot be sent over MQTT: reconnecting; commands wait until they expire",
    )
    COMMANDS_FAILED = "commands.failed", "internal error: the MQTT connection for commands failed; reconnecting"

    # Status queries

    QUERIES_FAILING = (
        "asking.fails",
        "status queries are failing and are paused, except for a probe from time to time; check the keys, the endpoint and the clock",
    )
    QUERIES_RECOVERED = "asking.well", "status queries succeed again"
    QUERIES_THROTTLED = (
        "asking.throttled",
        "the status provider refused a query because of its rate limit: all queries pause",
    )
    QUERY_RESULTS_LOST = "asking.lost", "query results could not be stored; the clients will be queried again"
    SWEEP_STARTED = "sweep.begun", "a sweep started: clients are being queried"
    SWEEP_RESUMED = "sweep.resumed", "a sweep continues after a restart"
    SWEEP_FINISHED = "sweep.done", "a sweep has finished"


NOT_WANTED: Final = UNWANTED
"""What `log_all` says of lines that were not wanted any more when they were to be written."""

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
FORMATS: Final = ("auto", "human", "json")

MAX_VALUE_CHARS: Final = 2_000
"""Longest text of one value in a line: enough for an error, and a limit for what a device can make the engine write."""

FRAMES_SHOWN: Final = 3
"""Source lines in `where`, innermost first."""

FRAMES_SHOWN_AT_DEBUG: Final = 30
"""The same when the log level is `debug`."""

_Render = Callable[[dict[str, Any]], str]
"""Makes the line of finished facts, which it may take apart."""

FLUSH_S: Final = 2.0
"""How long the end of the process waits for lines that are not written yet."""

_SECRET_WORDS: Final = ("secret", "token", "password", "authorization", "access_key")
_COLOURS: Final = {"debug": "\x1b[2m", "info": "\x1b[32m", "warning": "\x1b[33m", "error": "\x1b[31m"}
_encode = msgspec.json.Encoder(enc_hook=str).encode
_decode_line = msgspec.json.Decoder(dict[str, Any]).decode


def logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger for one module: `log.info(Event.READY, clients=3)`. It writes nothing before `setup_logging`."""
    return cast(structlog.typing.FilteringBoundLogger, structlog.get_logger(name))


def setup_logging(level: str = "info", format: str = "auto", stream: IO[str] | None = None) -> None:
    """Send log lines to `stream` (standard error by default), from `level` upwards.

    `format` is `human`, `json` or `auto` (human on a terminal). Records that libraries write with `logging` go the same way,
    warnings and worse (at `debug`: all). Raises ValueError for a level or a format that does not exist.
    """
    if level not in LEVELS or format not in FORMATS:
        raise ValueError(f"no such log level or format: {level}, {format}")
    out: IO[str] | None = stream if stream is not None else sys.stderr
    is_terminal = _is_terminal(out)
    human = format == "human" or (format == "auto" and is_terminal)
    render = _Human(is_terminal) if human else _json
    # A log that programs read is UTF-8 whatever the locale; a terminal is written to as it says.
    output = LogOutput(out, (getattr(out, "encoding", None) or "utf-8") if human else "utf-8")
    global _write_all, _frames_shown, _level, _output
    _level = level
    _output = output
    _frames_shown = FRAMES_SHOWN_AT_DEBUG if level == "debug" else FRAMES_SHOWN
    _write_all = _WriteAll(output, render) if LEVELS[level] <= LEVELS["info"] else None
    structlog.configure(
        processors=[_guarded(render)],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=lambda *_: _Lines(output),
        cache_logger_on_first_use=False,
    )
    logging.raiseExceptions = False  # it would print to standard error, which may block
    root = logging.getLogger()
    root.handlers[:] = [_FromLibraries(LEVELS[level])]
    root.setLevel(max(LEVELS[level], logging.WARNING) if level != "debug" else logging.DEBUG)


def log_all(
    event: Event,
    entries: Sequence[Mapping[str, Any]],
    written: Written | None = None,
    is_wanted: IsWanted | None = None,
) -> None:
    """Write many lines of one event at level info, each with its own facts, at once: a storm has thousands a second.

    `written` is called in any thread, perhaps before this returns: with None when the lines are written (or the log's level leaves
    them out), with the reason when they are lost, with `NOT_WANTED` when `is_wanted` said no right before they were to be written.
    """
    if _write_all is not None and entries:
        _write_all(event, entries, written, is_wanted)
    elif written is not None:
        written(None)


def flush_log(within_s: float = FLUSH_S) -> bool:
    """Wait for lines that are not written yet, at most so long; returns whether none is left."""
    return _output is None or _output.flush(within_s)


def log_trouble() -> LogTrouble | None:
    """Why the log cannot be written at present; None while it can."""
    return _output.trouble() if _output is not None else None


def lines_lost() -> int:
    """How many log lines could not be written since the start."""
    return _output.lost if _output is not None else 0


def silence_library(name: str) -> None:
    """Write no records of a library below level critical: for one whose errors are shown in another way."""
    logging.getLogger(name).setLevel(logging.CRITICAL)


def library_errors(name: str) -> logging.Logger:
    """The logger of a part of a library that writes errors and worse only: one whose warnings strangers can cause, and that are counted."""
    part = logging.getLogger(name)
    part.setLevel(logging.ERROR)
    return part


def log_level() -> str:
    """The level given to `setup_logging`; `info` before."""
    return _level


def relay(log: structlog.typing.FilteringBoundLogger, line: bytes, other: Event) -> None:
    """Write a line that another process of this program logged as JSON; as `message` of `other` when it is none."""
    text = line.decode("utf-8", "replace").strip()
    if not text:
        return
    try:
        facts = _decode_line(text)
        level, name = facts.pop("level"), facts.pop("event")
        known = {str(event): event for event in Event}
        write = getattr(log, level if level in LEVELS else "warning")
        facts = {key: value for key, value in facts.items() if key not in ("at", "sentence")}
        write(known.get(name, name), **facts)
    except (msgspec.MsgspecError, KeyError, TypeError):
        log.warning(other, message=text)


class _WriteAll:
    """The same as `log.info`, for many lines in one write."""

    def __init__(self, output: LogOutput, render: _Render) -> None:
        self._output, self._line = output, _guarded(render)

    def __call__(
        self, event: Event, entries: Sequence[Mapping[str, Any]], written: Written | None, is_wanted: IsWanted | None
    ) -> None:
        lines = [self._line(None, "info", {"event": event, **entry}) for entry in entries]
        self._output.write("\n".join(lines), written, is_wanted)


class _Lines:
    """What structlog gives finished lines to."""

    def __init__(self, output: LogOutput) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = self.msg = output.write


def _guarded(render: _Render) -> Callable[[Any, str, Mapping[str, Any]], str]:
    """From an event and its facts to the line. Values that cannot be written as they are are written as Python shows them."""

    def line(_: Any, method: str, facts: Mapping[str, Any]) -> str:
        try:
            return render(_finished(method, facts))
        except Exception:  # noqa: BLE001  # logging must never be what fails
            event = facts.get("event", "")
            try:
                shown = {key: ascii(value) for key, value in facts.items()}
                return render(_finished(method, shown | {"event": event}))
            except Exception as error:  # noqa: BLE001  # a value whose own text fails
                return render(_finished(method, {"event": event, "unwritable": type(error).__name__}))

    return line


def _finished(method: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """All facts of a line, as they are written. One mapping is made for it: a storm has thousands of lines a second."""
    event = facts.get("event", "")
    line: dict[str, Any] = {
        "at": rfc3339(time.time_ns() // 1_000_000),
        "level": "error" if method == "exception" else method,
        "event": "",
        "sentence": event.sentence if isinstance(event, Event) else "",
        **facts,
    }
    line["event"] = str(event)
    if "exc_info" in line:
        _explain_exception(line)
    for key, value in line.items():
        if _names_a_secret(key):
            line[key] = "***"
        elif isinstance(value, str):
            line[key] = visible_text(value[:MAX_VALUE_CHARS])
    return line


@lru_cache(maxsize=1_000)
def _names_a_secret(key: str) -> bool:
    return any(word in key.lower() for word in _SECRET_WORDS)


def _is_terminal(stream: IO[str] | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except (OSError, ValueError):
        return False


_output: LogOutput | None = None  # set by `setup_logging`
_write_all: _WriteAll | None = None  # set by `setup_logging`
_frames_shown = FRAMES_SHOWN  # set by `setup_logging`
_level = "info"  # set by `setup_logging`


def _silent(_: Any, __: str, ___: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    raise structlog.DropEvent


atexit.register(flush_log)
structlog.configure(processors=[_silent])  # commands that only print do not log


def _explain_exception(line: dict[str, Any]) -> None:
    """Turn `exc_info` (an exception, the triple of `sys.exc_info()`, or True) into `error` and `where`."""
    given = line.pop("exc_info", None)
    if isinstance(given, tuple):
        given = given[1]
    error = sys.exc_info()[1] if given is True else given
    if isinstance(error, BaseException):
        line.setdefault("error", repr(error))
        if error.__traceback__ is not None:
            line["where"] = _where(error)


def _where(error: BaseException) -> str:
    """`file:line < file:line`, the innermost source lines of an exception first; never the text of the exception."""
    frames = traceback.extract_tb(error.__traceback__)[-_frames_shown:]
    return " < ".join(f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in reversed(frames))


def _json(line: dict[str, Any]) -> str:
    return _encode(line).decode("utf-8", "replace")


class _Human:
    """`05:00:01.250 info    message of a rule: pump p1 is offline  rule=pump-offline`."""

    def __init__(self, colours: bool) -> None:
        self._colours = colours

    def __call__(self, line: dict[str, Any]) -> str:
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


_RECORD_KEYS: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
_LINE_KEYS: Final = frozenset({"at", "level", "event", "sentence", "message", "exc_info"})


class _FromLibraries(logging.Handler):
    """Writes the records of libraries as lines of this log: event `library.<name>`, their `extra` as facts."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            method = "error" if record.levelno >= logging.ERROR else record.levelname.lower()
            log = structlog.get_logger()
            facts = {
                f"extra_{key}" if key in _LINE_KEYS else key: value
                for key, value in vars(record).items()
                if key not in _RECORD_KEYS
            }
            write = getattr(log, method, log.warning)
            write(f"library.{record.name}", message=record.getMessage(), exc_info=record.exc_info, **facts)
        except Exception:  # noqa: BLE001  # logging must never be what fails
            with contextlib.suppress(Exception):
                structlog.get_logger().warning(f"library.{record.name}", unwritable=True)
