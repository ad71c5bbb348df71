"""The inventory: which clients should exist, and their attributes.

A table (CSV, or a YAML list of mappings) whose column `client` holds an id or a pattern and whose other columns are
attributes. For each attribute, the first matching row that sets it wins. A running service takes an edited file: everyone holds the
one `Inventory`, whose table is replaced. Read `Inventory`; `inventory_file` reads the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from engine.config.patterns import compile_patterns, is_literal, problem_of

MAX_CACHED_CLIENTS = 50_000
"""Clients whose attributes are cached; a full cache is emptied."""

_CONTROL = re.compile("[\\x00-\\x1f\\x7f]")

Row = tuple[str, tuple[tuple[str, str], ...]]  # pattern, (column, value) where set


class _Table:
    """The rows of one inventory file, ready to be looked up; replaced as a whole by an edit."""

    __slots__ = ("_globs", "_set", "cached", "columns", "empty", "exact", "has_patterns", "rows", "values")

    def __init__(self, columns: Sequence[str], rows: Sequence[Row]) -> None:
        self.columns = tuple(columns)
        self.rows = rows
        self.exact: dict[str, list[int]] = {}
        globs = []
        for index, (pattern, _) in enumerate(rows):
            if is_literal(pattern):
                self.exact.setdefault(pattern, []).append(index)
            else:
                globs.append(index)
        self._globs = globs
        self.has_patterns = bool(globs) or not self.exact
        self._set = compile_patterns([rows[index][0] for index in globs]) if globs else None
        self.empty = MappingProxyType(dict.fromkeys(self.columns, ""))
        self.cached: dict[str, Mapping[str, str]] = {}
        self.values: dict[str, set[str]] = {}  # of each column that was asked for

    def look_up(self, client: str) -> Mapping[str, str]:
        """The attributes of a client that is not in `cached`; now it is."""
        found = self._attributes(client)
        if len(self.cached) >= MAX_CACHED_CLIENTS:
            self.cached.clear()
        self.cached[client] = found
        return found

    def _attributes(self, client: str) -> Mapping[str, str]:
        rows = list(self.exact.get(client, ()))
        if self._set is not None:
            rows += [self._globs[number] for number in self._set.matching(client)]
        if not rows:
            return self.empty
        found = dict.fromkeys(self.columns, "")
        for index in sorted(rows):
            for column, value in self.rows[index][1]:
                if not found[column]:
                    found[column] = value
        return MappingProxyType(found)

    def names(self, client: str) -> bool:
        """Whether any row matches."""
        return client in self.exact or bool(self._set is not None and self._set.matching(client))


class Inventory:
    """Attributes of clients by pattern; rows in the order of the file."""

    def __init__(self, columns: Sequence[str], rows: Sequence[Row]) -> None:
        self._table = _Table(columns, rows)
        self.version = 0
        """How often the table was replaced: what is remembered of an inventory is out of date under another version."""

    def replace_by(self, other: Inventory) -> None:
        """Say from now on what `other` says. Readers in other threads see the old table or the new one, never a mixture."""
        self._table = other._table
        self.version += 1

    def copied(self) -> Inventory:
        """Another one that says the same, and goes on to do so when this one is replaced."""
        found = Inventory((), ())
        found.replace_by(self)
        return found

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the attributes."""
        return self._table.columns

    @property
    def rows(self) -> Sequence[Row]:
        """The rows, in the order of the file."""
        return self._table.rows

    def attributes(self, client: str) -> Mapping[str, str]:
        """Every column for one client, "" where no matching row sets it. The mapping is shared: do not change it."""
        table = self._table
        found = table.cached.get(client)
        return table.look_up(client) if found is None else found

    def names(self, client: str) -> bool:
        """Whether any row matches this client, by its id or by a pattern."""
        return self._table.names(client)

    def lists(self, client: str) -> bool:
        """Whether a row has exactly this id. Only then should the client exist: a mistyped id may match a pattern too."""
        return client in self._table.exact

    def clients(self) -> list[str]:
        """The ids that rows contain literally."""
        return list(self._table.exact)

    @property
    def has_patterns(self) -> bool:
        """Whether clients may exist that no row lists by their id: a row has a pattern, or there is no row."""
        return self._table.has_patterns

    def values(self, column: str) -> set[str]:
        """Every value in a column. The set is shared: do not change it."""
        table = self._table
        found = table.values.get(column)
        if found is None:
            found = {value for _, cells in table.rows for name, value in cells if name == column}
            table.values[column] = found
        return found


NO_INVENTORY = Inventory((), ())


def inventory_of(rows: Sequence[Mapping[str, Any]]) -> Inventory:
    """An inventory from mappings, as scenarios write it inline. Raises ValueError with a sentence for the first invalid row."""
    columns: dict[str, None] = {}
    found: list[Row] = []
    for number, row in enumerate(rows, 1):
        try:
            found.append(row_of(row, columns))
        except ValueError as error:
            raise ValueError(f"row {number}{error}") from error
    return Inventory(tuple(columns), found)


def row_of(row: Mapping[str, Any], columns: dict[str, None]) -> Row:
    """The row that a mapping stands for; its columns are added to `columns`. ValueError goes on after `row 7`."""
    client = row.get("client")
    if not isinstance(client, str) or not client:
        raise ValueError(" has no `client`")
    if problem := client_problem(client):
        raise ValueError(f": {client!r}: {problem}")
    cells = []
    for column, value in row.items():
        if column == "client":
            continue
        if isinstance(value, (dict, list)):
            raise ValueError(f": {column} must be a single value")  # noqa: TRY004  # the file is wrong, not the caller
        columns.setdefault(str(column))
        if value is not None and value != "":
            cells.append((str(column), _text(value)))
    return client, tuple(cells)


def client_problem(pattern: str) -> str | None:
    """Why a pattern cannot stand in the column `client`; None when it can."""
    if _CONTROL.search(pattern):
        return "contains a control character, which no client id has"
    return problem_of(pattern)


def _text(value: object) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)
