"""YAML files that people write, read as YAML 1.2 core and with the place of every value.

Built on PyYAML's parser events rather than on its loaders, because those read YAML 1.1 (`on` would be true, `12:30` a
number), keep the last of two equal keys, forget positions and follow aliases without a limit. Whatever the bytes are, the
result is a document or problems, never a traceback. Read `read_document` first; positions come from `Node`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml

from engine.config.regular_file import UnreadableFile, read_regular_file, shown_path
from engine.core.foreign_text import visible_text
from engine.errors import Problem

MAX_BYTES = 8 * 1024 * 1024
"""Largest file: ten thousand rules fit."""

MAX_NODES = 500_000
"""Most values in one document, aliases counted as if they were written out: a few lines of aliases can mean billions."""

MAX_DEPTH = 60
"""Deepest nesting, so that code that walks a document may be recursive."""

MAX_NUMBER_CHARACTERS = 40
"""Longest number; a longer one is text that lacks its quotes."""

MAX_DIRECTIVES = 100
"""Most lines that begin with `%`: each one after the first is compared with all before it, and none is needed."""

MAX_MESSAGE_CHARACTERS = 1_000
"""Longest message of one problem: it may quote what stands in the file."""

KeyPath = tuple[str | int, ...]
"""The keys and list indices that lead from the document's root to a value."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster where libyaml is there; same grammar
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_TRUES = frozenset({"true", "True", "TRUE"})
_FALSES = frozenset({"false", "False", "FALSE"})
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_STRING_TAGS = frozenset({"!", "tag:yaml.org,2002:str"})
_HARMLESS_TAGS = frozenset({"!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"})


class Node:
    """A value with its place (counted from 1). `children` has the node of each key or index, `keys` each key's place."""

    __slots__ = ("children", "column", "keys", "line", "size", "value")

    def __init__(self, value: Any, line: int, column: int) -> None:
        self.value = value
        self.line = line
        self.column = column
        self.children: dict[str | int, Node] = {}
        self.keys: dict[str, tuple[int, int]] = {}
        self.size = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One file's content: `value` is plain dicts, lists, text, numbers, booleans and None.

    `file` is its name as problems show it; `path` is what the system calls it.
    """

    file: str
    root: Node
    path: Path = Path()

    @property
    def value(self) -> Any:
        """The whole document."""
        return self.root.value

    def place(self, path: KeyPath) -> tuple[int, int]:
        """Line and column of the value at `path`, or of the nearest thing around it that exists."""
        node = self.root
        for step in path:
            child = node.children.get(step)
            if child is None:
                break
            node = child
        return node.line, node.column

    def key_place(self, path: KeyPath) -> tuple[int, int]:
        """Line and column of the key at the end of `path` (of its value for a list item)."""
        node = self.root
        for step in path[:-1]:
            child = node.children.get(step)
            if child is None:
                return node.line, node.column
            node = child
        found = node.keys.get(path[-1]) if path and isinstance(path[-1], str) else None
        return found or self.place(path)

    def problem(self, path: KeyPath, message: str, *, at_key: bool = False, warning: bool = False) -> Problem:
        """A problem at `path` of this file."""
        line, column = self.key_place(path) if at_key else self.place(path)
        return problem_in(self.file, line, message, column=column, path=written(path), warning=warning)


def problem_in(
    file: str, line: int, message: str, *, column: int = 1, path: str = "", warning: bool = False
) -> Problem:
    """A problem whose texts may quote the file: they are made visible, put on one line, and bounded."""
    shown = visible_text(message[:MAX_MESSAGE_CHARACTERS])
    where = visible_text(path[:MAX_MESSAGE_CHARACTERS])
    return Problem(file=file, line=line, column=column, path=where, message=shown, warning=warning)


def written(path: KeyPath) -> str:
    """A path as people write it: `rules[2].match.group`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def read_document(
    path: Path, problems: list[Problem], *, max_bytes: int = MAX_BYTES, inside: Sequence[Path] = ()
) -> Document | None:
    """The document in the file at `path`, or None when it cannot be read; problems are added to `problems`.

    `inside`: with folders, only a file that lies in one of them after all links are resolved; of any other no line is shown.
    """
    try:
        content = read_regular_file(path, max_bytes, inside=inside)
    except UnreadableFile as error:
        problems.append(problem_in(shown_path(path), 1, str(error)))
        return None
    return parse_document(path, content, problems)


def parse_document(
    path: Path, content: bytes, problems: list[Problem], *, texts_only: bool = False, max_nodes: int = MAX_NODES
) -> Document | None:
    """The document in `content`, or None when it is not YAML; `path` is only the name for problems.

    Problems are added to `problems`. A document with a problem, such as a key written twice, is returned all the same, so that
    the rest of it can be checked: a caller must look at `problems` too. `texts_only`: every value is text, as it is written.
    """
    file = shown_path(path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        problems.append(problem_in(file, line, not_utf8(content), column=column))
        return None
    directives = re.compile("^%", re.MULTILINE).finditer(text)
    many = next((found for number, found in enumerate(directives) if number >= MAX_DIRECTIVES), None)
    if many is not None:
        line = text.count("\n", 0, many.start()) + 1
        problems.append(problem_in(file, line, f"more than {MAX_DIRECTIVES} lines begin with `%`"))
        return None
    builder = _Builder(file, problems, texts_only=texts_only, max_nodes=max_nodes)
    try:
        root = builder.build(yaml.parse(text, Loader=_LOADER))
    except _Unusable:
        return None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        tab = _tab_of(error, text)
        if tab is not None:
            column, message = tab + 1, "a tab stands where only spaces may: indent with spaces, not with tabs"
        else:
            message = f"is not valid YAML: {_parser_message(error)}"
        problems.append(problem_in(file, line, message, column=column))
        return None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        is_nul = text[error.position : error.position + 1] == "\0"
        problems.append(
            problem_in(file, line, NUL_IN_TEXT if is_nul else "contains a character that YAML does not allow")
        )
        return None
    except Exception as error:  # noqa: BLE001  # whatever the parser stumbles over is a mistake in the file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        problems.append(problem_in(file, builder.line, f"is not valid YAML: {reason}"))
        return None
    # Also with problems such as a key written twice: the rest can be checked too.
    return Document(file=file, root=root, path=path)


NUL_IN_TEXT = "contains a NUL character: it is no text, or UTF-16: save it as UTF-8"
"""What to say of a text with a NUL in it."""


def not_utf8(content: bytes) -> str:
    """What to say of a text that is not UTF-8."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "is UTF-16 text: save it as UTF-8"
    return "is not UTF-8 text: save it as UTF-8"


class _Unusable(Exception):
    """The rest of the document cannot be read; the problem is recorded."""


class _Open:
    """A mapping or list whose end has not been seen yet."""

    __slots__ = ("anchor", "expects_key", "key", "node")

    def __init__(self, node: Node, anchor: str | None) -> None:
        self.node = node
        self.anchor = anchor
        self.key: str | None = None  # the key that waits for its value
        self.expects_key = isinstance(node.value, dict)


class _Builder:
    """Turns parser events into nodes without recursion."""

    def __init__(self, file: str, problems: list[Problem], *, texts_only: bool, max_nodes: int) -> None:
        self.line = 1  # of what was read last
        self._texts_only = texts_only
        self._max_nodes = max_nodes
        self._file = file
        self._problems = problems
        self._anchors: dict[str, Node] = {}
        self._open: list[_Open] = []
        self._count = 0
        self._root: Node | None = None

    def build(self, events: Iterator[Any]) -> Node:
        documents = 0
        for event in events:
            self.line = event.start_mark.line + 1
            kind = type(event)
            if kind is yaml.DocumentStartEvent:
                documents += 1
                if documents > 1:
                    self._stop(event, "contains more than one document (`---`): write one document per file")
            elif kind is yaml.ScalarEvent:
                self._scalar(event)
            elif kind is yaml.AliasEvent:
                self._alias(event)
            elif kind in (yaml.MappingStartEvent, yaml.SequenceStartEvent):
                self._start(event, {} if kind is yaml.MappingStartEvent else [])
            elif kind in (yaml.MappingEndEvent, yaml.SequenceEndEvent):
                self._end()
        if self._root is None:
            return Node(None, 1, 1)
        return self._root

    def _start(self, event: Any, value: Any) -> None:
        if self._open and self._open[-1].expects_key:
            self._stop(
                event, 'a key must be plain text, not a mapping or a list (a template needs quotes: "{{ ... }}")'
            )
        if event.tag and event.tag not in _HARMLESS_TAGS:
            self._stop(event, f"the tag `{event.tag}` is not supported: write the value without it")
        if len(self._open) >= MAX_DEPTH:
            self._stop(event, f"is nested deeper than {MAX_DEPTH} levels")
        self._open.append(_Open(self._node(event, value), event.anchor))

    def _end(self) -> None:
        closed = self._open.pop()
        if closed.anchor:
            self._anchors[closed.anchor] = closed.node
        self._place(closed.node)

    def _scalar(self, event: Any) -> None:
        if self._open and self._open[-1].expects_key:
            self._key(event)
            return
        node = self._node(event, self._value(event))
        if event.anchor:
            self._anchors[event.anchor] = node
        self._place(node)

    def _alias(self, event: Any) -> None:
        node = self._anchors.get(event.anchor)
        if node is None:
            self._stop(event, f"`*{event.anchor}` has no anchor `&{event.anchor}` before it")
        if self._open and self._open[-1].expects_key:
            self._stop(event, "a key must be plain text, not an alias")
        self._grow(event, node.size)
        self._place(node)

    def _key(self, event: Any) -> None:
        top = self._open[-1]
        key = self._value(event)
        line, column = _place_of(event)
        if not isinstance(key, str):
            self._report(event, f"the key `{event.value}` must be text: put it in quotes")
            key = event.value
        if key == "<<" and event.implicit[0]:
            self._report(event, "`<<` (merge) is not part of YAML 1.2: write the keys out")
        if key in top.node.keys:
            first = top.node.keys[key][0]
            self._report(event, f"the key `{key}` is written twice (first on line {first})")
        top.node.keys.setdefault(key, (line, column))
        top.key, top.expects_key = key, False

    def _place(self, node: Node) -> None:
        """Put a finished value where it belongs."""
        if not self._open:
            self._root = node
            return
        top = self._open[-1]
        parent = top.node
        parent.size += node.size
        if isinstance(parent.value, dict):
            assert top.key is not None
            parent.value[top.key] = node.value
            parent.children[top.key] = node
            top.key, top.expects_key = None, True
        else:
            parent.children[len(parent.value)] = node
            parent.value.append(node.value)

    def _value(self, event: Any) -> Any:
        """A scalar by the rules of the YAML 1.2 core schema."""
        text: str = event.value
        if not text.isascii() and _LONE_SURROGATE.search(text):
            self._report(event, "contains half of a surrogate pair, which no text can hold")
            return _LONE_SURROGATE.sub("?", text)
        if event.tag and event.tag not in _STRING_TAGS:
            self._report(event, f"the tag `{event.tag}` is not supported: write the value without it")
            return text
        if self._texts_only or event.tag or not event.implicit[0]:
            return text
        return self._plain(event, text)

    def _plain(self, event: Any, text: str) -> Any:
        if text in _NULLS:
            return None
        if text in _TRUES:
            return True
        if text in _FALSES:
            return False
        is_int = _INT.fullmatch(text)
        if not is_int and not _FLOAT.fullmatch(text):
            return text
        if len(text) > MAX_NUMBER_CHARACTERS:
            self._report(event, "this number is too long: put it in quotes if it is text")
            return text
        if is_int:
            return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
        number = math.inf if text.lower().endswith((".inf", ".nan")) else float(text)
        if not math.isfinite(number):
            self._report(event, f"`{text}` is not a number that can be used here")
            return 0.0
        return number

    def _node(self, event: Any, value: Any) -> Node:
        self._grow(event, 1)
        return Node(value, *_place_of(event))

    def _grow(self, event: Any, nodes: int) -> None:
        self._count += nodes
        if self._count > self._max_nodes:
            self._stop(
                event,
                f"contains more than {self._max_nodes} values, counting aliases (`*name`) as if they were written out",
            )

    def _report(self, event: Any, message: str) -> None:
        line, column = _place_of(event)
        self._problems.append(problem_in(self._file, line, message, column=column))

    def _stop(self, event: Any, message: str) -> NoReturn:
        self._report(event, message)
        raise _Unusable


def _place_of(event: Any) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1


def _parser_message(error: yaml.MarkedYAMLError) -> str:
    """The parser's message on one line, with a hint for the usual mistake."""
    message = ", ".join(part for part in (error.context, error.problem) if part)
    if "mapping values are not allowed" in message:
        return f"{message} (a text that contains `: ` needs quotes)"
    return message


def _tab_of(error: yaml.MarkedYAMLError, text: str) -> int | None:
    """The column of the tab that the parser stumbled over: where it stopped, or in the indentation of that line."""
    mark = error.problem_mark
    if mark is None:
        return None
    line = text.split("\n", mark.line + 1)[mark.line] if mark.line <= text.count("\n") else ""
    if line[mark.column : mark.column + 1] == "\t":
        return int(mark.column)
    indentation = line[: len(line) - len(line.lstrip())]
    return indentation.find("\t") if "\t" in indentation else None
