"""The boundary of loading: whatever goes wrong while a file is read is a problem of that file, never the end of the program.

A mistake that no check expects (a library that raises, a text that is too deep, memory that does not suffice) is reported at the
place that was being read. `check` then names it, an edit of a running service is refused with it, and a start falls back as for
every other mistake. Read `loading`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.config.regular_file import shown_path
from engine.config.yamlfile import problem_in
from engine.errors import InvalidFiles, Problem, RollcallError

MAX_REASON_CHARACTERS = 300
"""Characters of an exception's text that a problem repeats."""


@contextmanager
def loading(problems: list[Problem], path: Path, place: Callable[[str], Problem] | None = None) -> Iterator[None]:
    """Add a problem for any exception of the block, instead of raising it.

    `place` makes the problem from its message; without it the problem stands at the first line of the file at `path`.
    """
    try:
        yield
    except InvalidFiles as error:
        problems += error.problems
    except Exception as error:  # noqa: BLE001  # the boundary: see the module
        message = reason_of(error)
        problems.append(place(message) if place is not None else problem_in(shown_path(path), 1, message))


def reason_of(error: Exception) -> str:
    """What to say of an exception that no check expected."""
    if isinstance(error, RollcallError):
        return str(error)
    if isinstance(error, RecursionError):
        return "cannot be loaded: it is nested too deeply"
    if isinstance(error, MemoryError):
        return "cannot be loaded: there is not enough memory for it"
    text = str(error).strip()
    first = text.splitlines()[0][:MAX_REASON_CHARACTERS] if text else ""
    return (
        f"cannot be loaded: {first} ({type(error).__name__})" if first else f"cannot be loaded: {type(error).__name__}"
    )
