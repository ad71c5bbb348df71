"""Where an internal error happened, in one short line for the log."""

from __future__ import annotations

import traceback

PLACES = 3
"""Innermost calls that are named."""


def where_of(error: BaseException) -> str:
    """The innermost places of an error, newest first: `file.py:12 < other.py:34`."""
    frames = traceback.extract_tb(error.__traceback__)[-PLACES:]
    return " < ".join(f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in reversed(frames))
