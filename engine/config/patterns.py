"""Patterns that ops people write for ids and attributes: literals, globs and `re:` expressions, many at once.

Literals, and globs that only name a prefix such as `pump-*`, are looked up in dictionaries; all others become one RE2
automaton, so a thousand patterns cost one scan of the text, in time linear in its length, whatever a pattern or a device id
looks like. A glob may contain `*`, `?` and `[...]`, as in a shell. Case counts, and a pattern must match the whole text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

import re2

EXPRESSION = "re:"
"""The prefix of a pattern that is a regular expression."""

MAX_PATTERN_BYTES = 1024
"""Longest pattern."""

BASE_MEMORY_BYTES = 32 << 20
MEMORY_PER_PATTERN_BYTES = 64 << 10
"""Memory of the automaton's cache. A full cache is emptied; a long text never fails."""

MAX_PROGRAM = 150_000
"""Largest expression, in instructions of its program: `\\pL{100}` has 120,000, and takes a third of a second to compile."""

PROGRAM_MEMORY_BYTES = 24 * MAX_PROGRAM
"""What RE2 may use for one expression, so that it gives up early on a larger one: two thirds of it are for instructions of 16 bytes."""

MAX_PROGRAM_TOGETHER = 12 * MAX_PROGRAM
"""Largest program of all patterns of rule files together: some seconds to compile."""

MAX_PROGRAM_OF_REQUEST = 20_000
"""Largest program of the patterns of one request or silence: they are compiled while somebody waits."""

TOO_LARGE_TOGETHER = "the `re:` expressions of all patterns are too large together: use smaller counts in `{...}`"

COVERED_PROGRAM = 1_000
"""Instructions for which the memory that every pattern brings suffices: only what is beyond counts for patterns together."""

AUTOMATON_PROGRAM = 2 * MAX_PROGRAM
"""Largest program of one automaton; what is beyond it gets another, and both scan the text."""

TOO_LARGE = "is too large an expression: it repeats too many alternatives; use smaller counts in `{...}`"

_EMPTY_CLASS = "[^\\x{0}-\\x{10FFFF}]"
_MAGIC = re.compile(r"[*?\[]")


def is_literal(pattern: str) -> bool:
    """Whether the pattern matches exactly one text: itself."""
    return not pattern.startswith(EXPRESSION) and _MAGIC.search(pattern) is None


def is_prefix(pattern: str) -> bool:
    """Whether the pattern is a glob that only names a prefix: `pump-*`, or `*` alone."""
    return pattern.endswith("*") and is_literal(pattern[:-1])


def matches_nothing(pattern: str) -> bool:
    """Whether a valid glob has a class without members (`[z-a]`)."""
    return not pattern.startswith(EXPRESSION) and not is_literal(pattern) and _EMPTY_CLASS in _to_expression(pattern)


def problem_of(pattern: str) -> str | None:
    """Why the pattern cannot be used, as a sentence; None when it can."""
    try:
        size = len(pattern.encode())
    except UnicodeEncodeError:
        return "contains an invalid character"
    if size > MAX_PATTERN_BYTES:
        return f"is longer than {MAX_PATTERN_BYTES} bytes"
    if pattern.startswith(EXPRESSION):
        return _problem_of_expression(pattern[len(EXPRESSION) :])
    if is_literal(pattern):
        return None
    return "is not a valid glob" if _problem_of_expression(_to_expression(pattern)) else None


def _problem_of_expression(expression: str) -> str | None:
    return _examined(expression)[0]


@lru_cache(maxsize=20_000)
def _examined(expression: str) -> tuple[str | None, int]:
    """Why an expression cannot be used (None when it can), and how many instructions its program has."""
    options = _options(1)
    options.max_mem = PROGRAM_MEMORY_BYTES
    try:
        size = int(re2.compile(expression, options=options).programsize)
    except re2.error as error:
        reason = error.args[0] if error.args else "invalid syntax"
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        if "too large" in text:
            return TOO_LARGE, 0
        return f"is not a valid RE2 expression: {text}{_hint(expression)}", 0
    return (TOO_LARGE if size > MAX_PROGRAM else None), size


def program_size(patterns: Iterable[str]) -> int:
    """How many instructions the programs of `re:` patterns have together, beyond what is usual: what it costs to compile them."""
    expressions = (pattern[len(EXPRESSION) :] for pattern in patterns if pattern.startswith(EXPRESSION))
    return sum(max(0, _examined(expression)[1] - COVERED_PROGRAM) for expression in expressions)


def _hint(expression: str) -> str:
    if re.search(r"\(\?<?[=!]", expression):
        return " (RE2 has no look-ahead and no look-behind)"
    return " (RE2 has no back-references)" if re.search(r"\\[1-9]", expression) else ""


def _options(patterns: int) -> re2.Options:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = BASE_MEMORY_BYTES + MEMORY_PER_PATTERN_BYTES * patterns
    return options


def _to_expression(pattern: str) -> str:
    """The RE2 expression of a pattern. In a glob every character counts, line breaks too."""
    if pattern.startswith(EXPRESSION):
        return pattern[len(EXPRESSION) :]
    parts: list[str] = []
    at = 0
    while at < len(pattern):
        char, at = pattern[at], at + 1
        if char == "*":
            if parts[-1:] != ["(?s:.)*"]:
                parts.append("(?s:.)*")
        elif char == "?":
            parts.append("(?s:.)")
        elif char == "[" and (end := _class_end(pattern, at)) > 0:
            parts.append(_class(pattern[at:end]))
            at = end + 1
        else:
            parts.append(re2.escape(char))
    return "".join(parts)


def _class_end(pattern: str, at: int) -> int:
    """Where the `]` of a class is that began before `at`; -1 when there is none and `[` means itself."""
    start = at + 1 if pattern[at : at + 1] == "!" else at
    return pattern.find("]", start + 1)  # a `]` right at the start is a member


def _class(members: str) -> str:
    negated, members = members.startswith("!"), members.removeprefix("!")
    parts: list[str] = []
    at = 0
    while at < len(members):
        low = high = members[at]
        at += 1
        if members[at : at + 1] == "-" and at + 1 < len(members):
            high, at = members[at + 1], at + 2
        if low <= high:  # an empty range such as z-a matches nothing, as in a shell
            parts.append(f"\\x{{{ord(low):x}}}-\\x{{{ord(high):x}}}")
    if not parts:
        return "(?s:.)" if negated else _EMPTY_CLASS
    return f"[{'^' if negated else ''}{''.join(parts)}]"


class CompiledPatterns:
    """Many patterns, matched against one text at once. Made by `compile_patterns`; a `PatternSet` of the core."""

    __slots__ = ("_literals", "_others", "_prefixes", "_sets")

    def __init__(self, patterns: Sequence[str]) -> None:
        self._literals: dict[str, tuple[int, ...]] = {}
        prefixes: dict[int, dict[str, tuple[int, ...]]] = {}
        self._others: list[int] = []
        for index, pattern in enumerate(patterns):
            if is_literal(pattern):
                self._literals[pattern] = (*self._literals.get(pattern, ()), index)
            elif is_prefix(pattern):
                known = prefixes.setdefault(len(pattern) - 1, {})
                known[pattern[:-1]] = (*known.get(pattern[:-1], ()), index)
            else:
                self._others.append(index)
        self._prefixes = sorted(prefixes.items())
        self._sets = _automatons(self._others, patterns) if self._others else ()

    def matching(self, text: str) -> Sequence[int]:
        """The indices of all patterns that match the whole of `text`, ascending."""
        found = self._literals.get(text, ())
        for length, known in self._prefixes:
            found += known.get(text[:length], ())
        if self._sets:
            found += self._by_automaton(text)
        return found if len(found) < 2 else sorted(found)

    def _by_automaton(self, text: str) -> tuple[int, ...]:
        try:
            return tuple(members[index] for members, automaton in self._sets for index in automaton.Match(text) or ())
        except UnicodeEncodeError:  # half a surrogate pair: no expression can match it
            return ()


_Automatons = tuple[tuple[Sequence[int], re2.Set], ...]


def _automatons(members: Sequence[int], patterns: Sequence[str]) -> _Automatons:
    """Automatons that match the patterns with these indices: one, or as many as it takes when they do not fit into one."""
    parts: list[list[int]] = [[]]
    size = 0
    for index in members:
        pattern = patterns[index]
        if pattern.startswith(EXPRESSION) and (problem := problem_of(pattern)) is not None:
            raise ValueError(f"pattern `{pattern}` {problem}")
        program = program_size([pattern])
        if size + program > AUTOMATON_PROGRAM and parts[-1]:
            parts.append([])
            size = 0
        size += program
        parts[-1].append(index)
    return tuple((part, _compiled_set([_to_expression(patterns[index]) for index in part])) for part in parts)


def _compiled_set(expressions: Sequence[str]) -> re2.Set:
    """One automaton for all of them."""
    compiled = re2.Set.FullMatchSet(_options(len(expressions)))
    try:
        for expression in expressions:
            compiled.Add(expression)
        compiled.Compile()
    except re2.error as error:
        raise ValueError(f"patterns cannot be matched together: {error}") from error
    return compiled


def compile_patterns(patterns: Sequence[str]) -> CompiledPatterns:
    """Compile patterns for matching at once.

    Raises `ValueError` naming one that `problem_of` would have refused.
    """
    return CompiledPatterns(patterns)
