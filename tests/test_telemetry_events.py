"""The log itself: what a line holds, what it hides, how other logs get into it, and that every event of the catalogue is real."""

from __future__ import annotations

import ast
import io
import json
import logging
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from engine.telemetry import MAX_VALUE_CHARS, Event, log_all, logger, relay, setup_logging
from tests.written_log import WrittenLog, written_log

ROOT = Path(__file__).parents[1]
MEMBERS = {event.name: str(event) for event in Event}
READERS = {"line", "lines", "log_lines", "log"}
"""What tests read the log with: functions that are given an event or its name."""


# Every event is written by the engine and seen by a test


def trees(folder: Path) -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(folder.rglob("*.py")):
        yield path, ast.parse(path.read_text())


@cache
def emitted() -> frozenset[str]:
    """The members that modules of the engine name."""
    return frozenset(
        node.attr
        for path, tree in trees(ROOT / "engine")
        if path.name != "telemetry.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Event"
    )


@cache
def seen() -> frozenset[str]:
    """The names that tests read the log for: as the argument of a reader, or as a parameter of a test."""
    found: set[str] = set()
    for path, tree in trees(ROOT / "tests"):
        if path == Path(__file__):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if name in READERS or name == "parametrize":
                    found.update(named(node))
    return frozenset(found)


def named(node: ast.AST) -> Iterator[str]:
    """The event names in some syntax: `Event.X`, or a text that is a name."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name) and inner.value.id == "Event":
            yield MEMBERS[inner.attr]
        elif isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            yield inner.value


@pytest.mark.parametrize("event", list(Event))
def test_every_event_is_written_by_the_engine_and_seen_by_a_test(event: Event) -> None:
    assert event.name in emitted(), f"no module of engine/ logs Event.{event.name}"
    assert str(event) in seen(), f"no test reads the log for Event.{event.name} ({event})"


def test_names_are_unique_and_fit_to_be_searched_for() -> None:
    assert len({str(event) for event in Event}) == len(list(Event))
    assert all(re.fullmatch(r"[a-z]+([._][a-z]+)+", event) for event in Event)


def test_no_module_logs_past_the_catalogue() -> None:
    """`logging` is for what libraries write: their loggers are quietened, nothing of ours is written with it."""
    written = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path, tree in trees(ROOT / "engine")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"debug", "info", "warning", "error", "exception", "critical"}
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id in {"log", "logging"}
        and not names_an_event(node)
    ]
    assert written == []


def names_an_event(call: ast.Call) -> bool:
    """Whether the first argument is an event: named here, or handed in as `event` or `other`."""
    first = call.args[0]
    return any(isinstance(inner, ast.Name) and inner.id in {"Event", "event", "other"} for inner in ast.walk(first))


# What a line holds


def test_a_line_begins_with_the_time_the_level_the_event_and_its_sentence(log: WrittenLog) -> None:
    logger("any").info(Event.READY, clients=3)
    (line,) = (json.loads(text) for text in log.text.splitlines())
    assert list(line.items())[1:] == [
        ("level", "info"), ("event", "service.ready"), ("sentence", Event.READY.sentence), ("clients", 3),
    ]  # fmt: skip


def test_people_get_the_time_the_level_the_sentence_and_the_facts() -> None:
    stream = io.StringIO()
    with written_log():
        setup_logging("info", "human", stream)
        logger("any").warning(Event.SOURCE_GAP, source="log", reason="it was truncated")
    assert re.fullmatch(
        rf"\d\d:\d\d:\d\d\.\d\d\d warning {re.escape(Event.SOURCE_GAP.sentence)}  source=log  reason=\"it was truncated\"\n",
        stream.getvalue(),
    )


def test_a_value_stays_on_its_line_is_cut_and_no_secret_is_shown(log: WrittenLog) -> None:
    logger("any").info(Event.READY, client="a\nb\x1b[31m", long="x" * 5_000, Api_Token="hidden", password="hidden")
    line = log.line(Event.READY)
    assert (line["client"], len(line["long"])) == ("a\\nb\\x1b[31m", MAX_VALUE_CHARS)
    assert (line["Api_Token"], line["password"]) == ("***", "***")
    assert "hidden" not in log.text


def broken() -> None:
    raise ZeroDivisionError("oh")


def deep(levels: int) -> None:
    if levels:
        deep(levels - 1)
    broken()


@pytest.mark.parametrize(("level", "frames"), [("info", 3), ("debug", 7)])
def test_an_exception_is_its_text_and_the_lines_that_raised_it(level: str, frames: int) -> None:
    with written_log(level) as log:
        try:
            deep(4)
        except ZeroDivisionError as error:
            logger("any").error(Event.INTERNAL_ERROR, exc_info=error)
            logger("any").error(Event.TASK_FAILED, exc_info=True, error="only this may be shown")
    line = log.line(Event.INTERNAL_ERROR)
    assert line["error"] == "ZeroDivisionError('oh')"
    assert line["where"].count("test_telemetry_events.py:") == frames
    assert log.line(Event.TASK_FAILED)["error"] == "only this may be shown"
    assert "Traceback" not in log.text


def test_many_lines_are_written_at_once(log: WrittenLog) -> None:
    log_all(Event.ACTION_LOG, [{"rule": "a", "message": "one"}, {"rule": "b", "message": "two"}])
    assert [(line["rule"], line["message"]) for line in log.lines(Event.ACTION_LOG)] == [("a", "one"), ("b", "two")]


# Other logs


def test_records_of_libraries_are_lines_with_their_facts_and_their_error(log: WrittenLog) -> None:
    library = logging.getLogger("some.library")
    library.info("not written at level info")
    library.warning("slow: %d s", 3, extra={"host": "h", "token": "hidden", "level": "x"})
    try:
        broken()
    except ZeroDivisionError:
        library.exception("it failed")
    slow, failed = map(json.loads, log.text.splitlines())
    assert (slow["event"], slow["level"], slow["message"]) == ("library.some.library", "warning", "slow: 3 s")
    assert (slow["host"], slow["token"], slow["extra_level"]) == ("h", "***", "x")
    assert (failed["level"], failed["error"]) == ("error", "ZeroDivisionError('oh')")
    assert "test_telemetry_events.py:" in failed["where"]


def test_a_line_of_another_process_is_written_as_one_of_ours(log: WrittenLog) -> None:
    with written_log() as child:
        logger("any").error(Event.SENDER_FAILED, delivery=7)
        logging.getLogger("some.library").warning("slow")
    for text in child.text.splitlines():
        relay(logger("any"), text.encode(), Event.WEBHOOK_PROCESS_OUTPUT)
    first, second = map(json.loads, log.text.splitlines())
    assert (first["event"], first["level"], first["delivery"]) == ("sender.failed", "error", 7)
    assert first["sentence"] == Event.SENDER_FAILED.sentence
    assert (second["event"], second["message"], second["sentence"]) == ("library.some.library", "slow", "")


@pytest.mark.parametrize("text", ["Fatal Python error", "{", "[1]", "{}", '{"level": 3}', '{"event": "x"}'])
def test_what_is_no_line_of_a_log_is_shown_as_it_is(text: str, log: WrittenLog) -> None:
    relay(logger("any"), text.encode(), Event.WEBHOOK_PROCESS_OUTPUT)
    relay(logger("any"), b"  \n", Event.WEBHOOK_PROCESS_OUTPUT)
    assert log.line(Event.WEBHOOK_PROCESS_OUTPUT)["message"] == text
