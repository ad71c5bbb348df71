"""One small error tree, split by what the caller can do about it.

A person mends `Problem`s in a file; an operator mends what `StoreError` names; a source is asked again after `Overloaded`.
Errors of libraries are translated at the edge with `from`, so no traceback of theirs reaches a user.
"""

from __future__ import annotations

from dataclasses import dataclass


class RollcallError(Exception):
    """Everything this product raises on purpose; the message is a sentence for a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One mistake in a file that a person wrote.

    `line` and `column` count from 1; `path` is the way to the key inside the document (`rules[2].match.group`).
    """

    file: str
    line: int
    column: int
    path: str
    message: str
    warning: bool = False

    def __str__(self) -> str:
        """`file:line:col: path: message`, the form that `rollcall check` prints (a warning says so)."""
        where = f"{self.path}: " if self.path else ""
        kind = "warning: " if self.warning else ""
        return f"{self.file}:{self.line}:{self.column}: {where}{kind}{self.message}"


class InvalidFiles(RollcallError):
    """Files that people wrote do not load; `problems` holds every mistake found, not only the first."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


class BadQuestion(RollcallError):
    """A parameter of a question that cannot be; the message says which and why."""


class NotThere(RollcallError):
    """What was asked about does not exist."""


class CannotListen(RollcallError):
    """The address of the HTTP interface cannot be had: in use, or not of this machine."""


class StoreError(RollcallError):
    """The store cannot do what was asked: disk full, locked by another instance, damaged."""


class StoreInUse(StoreError):
    """Another process works on this store; two would page twice."""


class Overloaded(RollcallError):
    """More than fits is waiting already; ask again after `retry_after_s` seconds."""

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class ClockSuspect(RollcallError):
    """Most of a batch lies in the future: our own clock is the suspect, so nothing was accepted."""
