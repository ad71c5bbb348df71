"""One small error tree, split by what the caller can do about it.

A person corrects the `Problem`s of a file; an operator removes what `StoreError` names; a client tries again after `Overloaded`.
Errors of libraries are translated where they arise, with `from`, so no traceback of a library reaches a user.

Errors are told apart by their class only. Across a process boundary the class travels as its `code`: the HTTP interface writes the
code into every problem, and `error_class` gives the class back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


class RollcallError(Exception):
    """Everything this product raises on purpose; the message is a sentence for a person."""

    code: ClassVar[str] = "error"
    """The stable name of this kind of error, for programs: it never changes, the message may."""


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
        """`file:line:col: path: message`, the form that `rollcall check` prints (a warning is marked as one)."""
        where = f"{self.path}: " if self.path else ""
        kind = "warning: " if self.warning else ""
        return f"{self.file}:{self.line}:{self.column}: {where}{kind}{self.message}"


class InvalidFiles(RollcallError):
    """Files that people wrote do not load; `problems` holds every mistake found, not only the first."""

    code = "invalid-files"

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))

    @property
    def mistakes(self) -> list[Problem]:
        """What keeps the files from loading: the problems that are no warnings."""
        return [problem for problem in self.problems if not problem.warning] or self.problems


class BadQuestion(RollcallError):
    """A parameter of a request is missing or invalid; the message says which and why."""

    code = "bad-request"


class BadRecording(RollcallError):
    """A file of recorded events cannot be replayed; the message says why and what to do."""

    code = "bad-recording"


class NotSignedIn(RollcallError):
    """Nobody may do this without showing who they are; or what they showed is wrong, or has expired."""

    code = "unauthorized"


class Forbidden(RollcallError):
    """The role of who asks is not enough for this, or the request was not sent from a page of this service."""

    code = "forbidden"


class NotThere(RollcallError):
    """What the request names does not exist."""

    code = "not-found"


class Conflict(RollcallError):
    """What the request names exists, but its state does not allow the change; the message says which state it is in."""

    code = "conflict"


class TooLarge(RollcallError):
    """The body of a request exceeds its limit."""

    code = "too-large"


class NotConfigured(RollcallError):
    """The request needs a section that the configuration does not have."""

    code = "not-configured"


class CannotListen(RollcallError):
    """The HTTP interface cannot listen on its address: it is in use, or not an address of this machine."""

    code = "cannot-listen"


class Unavailable(RollcallError):
    """The request cannot be served now; try again after `retry_after_s` seconds."""

    code = "unavailable"

    def __init__(self, message: str, retry_after_s: int = 5) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class Overloaded(Unavailable):
    """A queue is full, or a sweep is already running; try again after `retry_after_s` seconds."""

    code = "overloaded"

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message, retry_after_s)


class StoreError(RollcallError):
    """The store cannot do what was asked: the disk is full, another instance holds the lock, the file is damaged."""

    code = "store"
    retry_after_s = 5


class StoreInUse(StoreError):
    """Another process works on this store; two would send everything twice."""

    code = "store-in-use"


class Fenced(StoreError):
    """This replica does not own the cell, or no longer: nothing of the transaction was committed, and nothing more may be sent for it."""

    code = "fenced"


class StoreBehind(StoreError):
    """Memory and store differ, after a failover to a standby that lagged or a commit that was thought lost: memory is loaded again."""

    code = "store-behind"


class ClockSuspect(Unavailable):
    """Most of a batch lies in the future: this machine's clock is probably wrong, so nothing was accepted."""

    code = "clock-suspect"


_BY_CODE: dict[str, type[RollcallError]] = {
    kind.code: kind
    for kind in (
        BadQuestion,
        NotSignedIn,
        Forbidden,
        NotThere,
        Conflict,
        TooLarge,
        NotConfigured,
        Unavailable,
        Overloaded,
        StoreError,
        Fenced,
        StoreBehind,
        ClockSuspect,
    )
}
"""The errors that the HTTP interface answers with, by their code."""


def error_class(code: object) -> type[RollcallError]:
    """The class that a `code` stands for; `RollcallError` for a code that this version does not know."""
    return _BY_CODE.get(code, RollcallError) if isinstance(code, str) else RollcallError
