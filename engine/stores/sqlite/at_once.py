"""All rows of a query in one step. Read `rows_at_once`.

Between two rows the interpreter may be given to another thread, and a busy writer gives it back late: a hundred rows would take a
hundred turns.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

_decode = msgspec.json.Decoder(list[list[Any]]).decode


def rows_at_once(
    connection: sqlite3.Connection, query: str, values: Mapping[str, Any] | Sequence[Any]
) -> Sequence[Sequence[Any]]:
    """The rows of a query whose columns are texts and numbers, in its order. It is asked row by row when a text is damaged."""
    columns = [column[0] for column in connection.execute(f"SELECT * FROM ({query}) LIMIT 0", values).description]
    named = ", ".join(f'"{name}"' for name in columns)
    try:
        (found,) = connection.execute(f"SELECT json_group_array(json_array({named})) FROM ({query})", values).fetchone()
        return _decode(found)
    except (msgspec.MsgspecError, sqlite3.OperationalError, UnicodeError):
        return connection.execute(query, values).fetchall()
