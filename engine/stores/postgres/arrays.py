"""Lists as values of a statement: arrays in PostgreSQL's binary form, several times faster than its text with quotes and backslashes.

A statement for many rows takes a list a column; see `unnest` in the SQL files. Lists are of one type, None among it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

import psycopg
from psycopg.adapt import Buffer, PyFormat
from psycopg.postgres import types
from psycopg.types.array import ListBinaryDumper, ListDumper

HEAD: Final = struct.Struct("!IIIII")  # dimensions, holds it nulls, type of an element, length, first index
LENGTH: Final = struct.Struct("!i")
LENGTHS: Final = tuple(LENGTH.pack(length) for length in range(4_096))
"""The bytes before an element, by its length, for nearly all elements."""

NULL: Final = LENGTH.pack(-1)
BIGINT: Final = struct.Struct("!iq")


def _texts(values: list[str | None]) -> list[bytes]:
    if any(value is not None and "\0" in value for value in values):
        # The server would refuse it, and with it the transaction.
        values = [value if value is None else value.replace("\0", "\ufffd") for value in values]
    return [NULL if value is None else _with_length(value.encode()) for value in values]


def _blobs(values: list[bytes | None]) -> list[bytes]:
    return [NULL if value is None else _with_length(value) for value in values]


def _bigints(values: list[int | None]) -> list[bytes]:
    try:
        return [NULL if value is None else BIGINT.pack(8, value) for value in values]
    except struct.error as error:
        raise psycopg.DataError(f"a number does not fit into 64 bits: {error}") from error


def _booleans(values: list[bool | None]) -> list[bytes]:
    return [NULL if value is None else b"\0\0\0\1\1" if value else b"\0\0\0\1\0" for value in values]


def _with_length(value: bytes) -> bytes:
    return (LENGTHS[len(value)] if len(value) < len(LENGTHS) else LENGTH.pack(len(value))) + value


ELEMENTS: Final[dict[type, tuple[str, Callable[[list[Any]], list[bytes]]]]] = {
    str: ("text", _texts),
    int: ("int8", _bigints),
    bool: ("bool", _booleans),
    bytes: ("bytea", _blobs),
}
"""Type of the elements -> what PostgreSQL calls it, and what writes them. Every whole number is a bigint."""


class QuickListDumper(ListBinaryDumper):
    """Lists of the types of `ELEMENTS`; others as psycopg does it."""

    element: type | None = None

    def get_key(self, obj: list[Any], format: PyFormat) -> Any:
        """One dumper for each type of element, and one for lists without any."""
        found = _element_of(obj)
        return super().get_key(obj, format) if found is None or found not in ELEMENTS else (self.cls, found)

    def upgrade(self, obj: list[Any], format: PyFormat) -> Any:
        """The dumper of this list's elements."""
        found = _element_of(obj)
        if found is None:
            return ListDumper(self.cls, self._tx)  # its type is told by the statement
        if found not in ELEMENTS:
            return super().upgrade(obj, format)
        made = QuickListDumper(self.cls, self._tx)
        made.element, made.oid = found, types[ELEMENTS[found][0]].array_oid
        return made

    def dump(self, obj: list[Any]) -> Buffer | None:
        """The array. Raises DataError, UnicodeEncodeError or TypeError for what it cannot hold."""
        if self.element is None:
            return super().dump(obj)
        name, write = ELEMENTS[self.element]
        return b"".join([HEAD.pack(1, None in obj, types[name].oid, len(obj), 1), *write(obj)])


def _element_of(values: list[Any]) -> type | None:
    return next((type(value) for value in values if value is not None), None)
