"""The words that users read: one word has one meaning, and no sentence is a riddle.

`OLD` lists words and phrases that earlier versions used, each with what to write instead; docs/glossary.md has the words that are
in use. They are looked for in everything that reaches a user: the pages, the comments of the example files, descriptions in
the schemas, templates, and every text in the code that is not a docstring. Docstrings count where they are shown: those of commands
and of HTTP routes. Identifiers, JSON keys and inline code are left out, since programs depend on them.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from engine.core.delivery import STATES

ROOT = Path(__file__).parents[1]

OLD = {
    # Private words of the code.
    r"desk": "operator API",
    r"re-?telling|tellings?|tellers?": "notification",
    r"told": "name who does what: a notification was sent; the server answered; the command prints",
    r"happenings?": "pipeline, transition",
    r"askers?|askqueue|outboxing|rulekeeping|commanding|handing": "query scheduler, query queue, outbox, rule reloader, results",
    r"agenda": "timers",
    r"(?<!false.)alarms?": "timer, wake-up",
    r"calms?": "the outage or the flapping is over",
    r"ledgers?": "lifecycle; rate window",
    r"gates?": "stage",
    r"(?:un)?poison(?:ed|ous)?": "an event that cannot be applied",
    r"guards?": "limit; authentication",
    r"faults? of ours|our (?:own )?faults?|our fault": "internal error",
    r"known to(?! be)": "acknowledged by",
    # Words that have one meaning, used for another.
    r"(?:rests?|rested|resting|on) silence|(?:like|trust the|in|by|after a) silence(?!\.)": "event-time timer; no events; without a message",
    r"silence (?:of this|proves|is worth)": "missing events; missing alerts",
    r"(?:held|holds?|holding|keeps?|kept|keeping) (?:it )?back": "suppressed, until",
    r"held by (?!an? operator)": "suppressed by",
    r"(?:is|are|was|were|who is|kept) on hold for longer": "whose hold lasts longer than",
    r"verdict(?:s)? flow": "the engine works",
    # Riddles.
    r"whom": "name the client, the person or the process",
    r"whoever|whomever": "the recipient, the client",
    r"nobody|somebody|everybody": "no client, an operator, every client; or say what is missing",
    r"hears? (?:of|about|nothing)|heard (?:of|about|nothing)|hear about": "gets a notification; has sent an event",
    r"(?:speaks?|spoke) (?:for itself|up)|lets? (?:it|them) speak|keeps? (?:it |them )?quiet": "fires by itself; muted; not muted",
    r"(?:old|better|lesser|no|bad|good) news": "late events; more specific alert",
    r"(?:broke|breaks?|break|broken) its promise|promise to": "raised an unexpected error",
    r"is not understood|are not understood": "invalid",
    r"than fits|wished for|than is wished|asked too much": "the queue is full; narrower",
    r"(?:share|sharing) the \d+ out|share \d+ calls": "divide the limit between processes",
    r"very instant": "at the deadline",
    r"(?:can|could|cannot) say (?!how|that|which|what)|could not be said|cannot be said": "no usable answer",
    r"it was so before|said then|what its rule said": "the status before the rule existed; the rule at that time",
    r"leads? nowhere": "gets no usable answer",
    r"knows? of it|he knows|somebody knows|says? that (?:he|you) knows?": "acknowledged",
    r"well again": "healthy again",
    r"com(?:e|es|ing) to rest|at rest|comes? and goes?": "stopped flapping; is flapping",
    r"none of (?:our|its) business": "is not covered by the rule",
    r"got? out of bed": "paged",
    r"anew": "again, from the beginning",
    r"asks? about (?:everybody|whom)|is asked about|are asked about": "query, is queried",
    r"sweeps? through|calls? the roll": "a sweep queries every client",
    r"out of (?:our|its) hands|by want|for want of|lacks? a word": "say what is missing",
    r"made new|is new to": "created",
    r"was never away": "the change was suppressed",
    r"is no longer on trial|on trial": "shadow rule",
}
"""Expression (whole words, any case, a space is any white space) -> what to write instead."""


def _pattern(old: str) -> re.Pattern[str]:
    """A whole-word pattern; a part of a path, an identifier or inline code is no word."""
    return re.compile(r"(?<![\w.`/-])(?:" + old.replace(" ", r"\s+") + r")(?![\w`/])(?!-\w)", re.IGNORECASE)


PATTERNS = {_pattern(old): new for old, new in OLD.items()}

EXEMPT = {"docs/glossary.md"}
"""Names old words on purpose, so that a reader of an old file finds the new one."""

PRINTED_BY_REPLAY = {"there is nobody to write to", "is well again"}
"""A dead reason and a default subject of e-mails: `replay` prints them, and its output stays the same byte for byte."""

PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "config.example.yaml")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "rules").rglob("*.yaml")),
    *sorted((ROOT / "engine" / "cli" / "starter").rglob("*.yaml")),
]
TEMPLATES = sorted(
    path for folder in ("engine", "rules") for path in (ROOT / folder).rglob("*") if path.suffix in (".html", ".j2")
)
SCHEMAS = sorted((ROOT / "schemas").glob("*.json"))
MODULES = sorted((ROOT / "engine").rglob("*.py"))

_SQL = re.compile(r"\s*(?:SELECT|INSERT|UPDATE|DELETE|CREATE|WITH|PRAGMA|BEGIN|DROP|ALTER)\b")


class Found(NamedTuple):
    """An old word at a place that a user reads."""

    place: str
    word: str
    instead: str

    def __str__(self) -> str:
        return f"{self.place}: {self.word!r}: write: {self.instead}"


def old_words(text: str, file: Path, line: int = 1) -> list[Found]:
    """Every old word of a text whose first line is the given one of a file."""
    found = []
    for pattern, new in PATTERNS.items():
        for match in pattern.finditer(text):
            at = line + text.count("\n", 0, match.start())
            found.append(Found(f"{file.relative_to(ROOT)}:{at}", " ".join(match[0].split()), new))
    return sorted(found)


def listed(found: list[Found]) -> str:
    """One line for each, so that a failing test prints all of them."""
    return "\n".join(str(word) for word in found)


def prose_of(page: str) -> str:
    """A Markdown page without inline code and without the targets of links; every line stays where it is."""
    blank = re.compile(r"(?<!`)`[^`\n]+`(?!`)|\]\([^)\s]+\)")
    return blank.sub(lambda match: " x ", page)


def descriptions_of(schema: Any) -> Iterator[str]:
    """Every description and title of a JSON schema."""
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key in ("description", "title") and isinstance(value, str):
                yield value
            else:
                yield from descriptions_of(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from descriptions_of(value)


def texts_of(file: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of every sentence in a module that can reach a user.

    Left out are docstrings that are not shown, SQL, and texts without white space: those are names and keys.
    """
    tree = ast.parse(file.read_text())
    hidden: set[ast.Constant] = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        shown = (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and bool(node.decorator_list)
            and file.relative_to(ROOT / "engine").parts[0] in ("cli", "web")
        )
        for number, statement in enumerate(body):
            if (
                isinstance(statement, ast.Expr)
                and isinstance(statement.value, ast.Constant)
                and not (shown and number == 0)
            ):
                hidden.add(statement.value)
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Constant) and isinstance(node.value, str)) or node in hidden:
            continue
        if re.search(r"\s", node.value.strip()) and not _SQL.match(node.value):
            yield node.lineno, node.value


def test_an_old_word_is_found_across_lines_but_not_in_names_and_inline_code() -> None:
    here = ROOT / "docs" / "x.md"
    assert [str(found) for found in old_words("a\nfault of\nours", here)] == [
        "docs/x.md:2: 'fault of ours': write: internal error"
    ]
    assert old_words(prose_of("`gates` and [x](gates.md), writer.poisoned, `told`, false alarms avoided"), here) == []


@pytest.mark.parametrize(
    "sentence",
    [
        "when more is waiting than fits",
        "Nobody is paged for what only looks like silence",
        "whom a gap concerns counts as unverified",
        "a sweep that does less than is wished for",
        "share the 300 out",
        "who was never told hears of no end",
        "in the very instant its hold ends was away",
        "nobody can trust the silence",
        "who is kept on hold for longer is asked about",
        "Silence whom all matchers cover",
        "What nobody wants to hear",
        "what its rule said then is not kept",
        "it was so before the rule was new",
        "its windows let it speak",
        "a fault of ours that no event explains",
        "a sender broke its promise",
        "the sending process is not understood",
        "the last events were old news",
        "there is nobody to ask",
        "known to",
    ],
)
def test_the_sentences_that_made_readers_stumble_are_found(sentence: str) -> None:
    assert old_words(sentence, ROOT / "docs" / "x.md") != []


def test_the_glossary_names_every_state_of_a_delivery() -> None:
    glossary = (ROOT / "docs" / "glossary.md").read_text()
    assert [state for state in STATES if f"| `{state}` |" not in glossary] == []


@pytest.mark.parametrize("file", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_and_examples_use_the_words_of_the_glossary(file: Path) -> None:
    if str(file.relative_to(ROOT)) in EXEMPT:
        return
    text = file.read_text()
    assert listed(old_words(prose_of(text) if file.suffix == ".md" else text, file)) == ""


@pytest.mark.parametrize("file", TEMPLATES, ids=lambda path: str(path.relative_to(ROOT)))
def test_templates_use_the_words_of_the_glossary(file: Path) -> None:
    text = file.read_text()
    for printed in PRINTED_BY_REPLAY:
        text = text.replace(printed, "")
    assert listed(old_words(text, file)) == ""


@pytest.mark.parametrize("file", SCHEMAS, ids=lambda path: path.name)
def test_descriptions_in_schemas_use_the_words_of_the_glossary(file: Path) -> None:
    found = [
        (text, word.word, word.instead)
        for text in descriptions_of(json.loads(file.read_text()))
        for word in old_words(text, file)
    ]
    assert found == []


def test_sentences_in_the_code_use_the_words_of_the_glossary() -> None:
    found = [
        word
        for file in MODULES
        for line, text in texts_of(file)
        if text not in PRINTED_BY_REPLAY
        for word in old_words(text, file, line)
    ]
    assert listed(found) == ""
