"""The inventory: which clients should exist, and their attributes.

A table (CSV, or a YAML list of mappings) whose column `client` holds an id or a pattern and whose other columns are
attributes. For each attribute, the first matching row that sets it wins.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from engine.config.patterns import compile_patterns, is_literal, problem_of
from engine.errors import InvalidFiles, Problem

MAX_CACHED_CLIENTS = 50_000
"""Clients whose attributes are cached; a full cache is emptied."""

MAX_FILE_BYTES = 256 << 20

Row = tuple[str, tuple[tuple[str, str], ...]]  # pattern, (column, value) where set


class Inventory:
    """Attributes of clients by pattern; rows in the order of the file."""

    def __init__(self, columns: Sequence[str], rows: Sequence[Row]) -> None:
        self.columns = tuple(columns)
        self._rows = rows
        self._exact: dict[str, list[int]] = {}
        globs = []
        for index, (pattern, _) in enumerate(rows):
            if is_literal(pattern):
                self._exact.setdefault(pattern, []).append(index)
            else:
                globs.append(index)
        self._globs = globs
        self._set = compile_patterns([rows[index][0] for index in globs]) if globs else None
        self._empty = MappingProxyType(dict.fromkeys(self.columns, ""))
        self._cached: dict[str, Mapping[str, str]] = {}

    @property
    def rows(self) -> Sequence[Row]:
        """The rows, in the order of the file."""
        return self._rows

    def attributes(self, client: str) -> Mapping[str, str]:
        """Every column for one client, "" where no matching row sets it. The mapping is shared: do not change it."""
        found = self._cached.get(client)
        if found is None:
            found = self._look_up(client)
            if len(self._cached) >= MAX_CACHED_CLIENTS:
                self._cached.clear()
            self._cached[client] = found
        return found

    def _look_up(self, client: str) -> Mapping[str, str]:
        rows = list(self._exact.get(client, ()))
        if self._set is not None:
            rows += [self._globs[number] for number in self._set.matching(client)]
        if not rows:
            return self._empty
        found = dict.fromkeys(self.columns, "")
        for index in sorted(rows):
            for column, value in self._rows[index][1]:
                if not found[column]:
                    found[column] = value
        return MappingProxyType(found)

    def names(self, client: str) -> bool:
        """Whether any row matches this client, by its id or by a pattern."""
        return client in self._exact or bool(self._set is not None and self._set.matching(client))

    def lists(self, client: str) -> bool:
        """Whether a row has exactly this id. Only then should the client exist: a mistyped id may match a pattern too."""
        return client in self._exact

    def clients(self) -> list[str]:
        """The ids that rows contain literally."""
        return list(self._exact)

    def values(self, column: str) -> set[str]:
        """Every value in a column."""
        return {value for _, cells in self._rows for name, value in cells if name == column}


NO_INVENTORY = Inventory((), ())


def load_inventory(path: Path) -> Inventory:
    """The inventory in a file: YAML when its name ends so, otherwise CSV. Raises InvalidFiles with every problem."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InvalidFiles([_problem(path, 1, "is larger than 256 MiB")])
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidFiles([_problem(path, 1, f"cannot be read: {error}")]) from error
    if path.suffix in {".yaml", ".yml"}:
        return _from_yaml(path, text)
    return _from_csv(path, text)


def inventory_of(rows: Sequence[Mapping[str, Any]]) -> Inventory:
    """An inventory from mappings, as scenarios write it inline. Raises ValueError with a sentence for the first invalid row."""
    columns: list[str] = []
    found: list[Row] = []
    for number, row in enumerate(rows, 1):
        client = row.get("client")
        if not isinstance(client, str) or not client:
            raise ValueError(f"row {number} has no `client`")
        problem = problem_of(client)
        if problem:
            raise ValueError(f"row {number}: {client!r}: {problem}")
        cells = []
        for column, value in row.items():
            if column == "client":
                continue
            if isinstance(value, (dict, list)):
                raise ValueError(f"row {number}: {column} must be a single value")  # noqa: TRY004  # the file is wrong, not the caller
            if column not in columns:
                columns.append(str(column))
            if value is not None and value != "":
                cells.append((str(column), _text(value)))
        found.append((client, tuple(cells)))
    return Inventory(columns, found)


def _text(value: object) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _problem(path: Path, line: int, message: str, column: str = "") -> Problem:
    return Problem(file=str(path), line=line, column=1, path=column, message=message)


def _from_csv(path: Path, text: str) -> Inventory:
    reader = csv.reader(io.StringIO(text), strict=True)
    problems: list[Problem] = []
    rows: list[Row] = []
    try:
        header = [name.strip() for name in next(reader, [])]
        if not header or header[0] != "client":
            raise InvalidFiles([_problem(path, 1, "the first column must be named `client`")])
        doubles = sorted({name for name in header if header.count(name) > 1})
        if doubles or "" in header:
            raise InvalidFiles([_problem(path, 1, f"column names must be unique and not empty: {', '.join(doubles)}")])
        for cells in reader:
            if cells:
                _add_csv_row(path, reader.line_num, header, cells, rows, problems)
    except csv.Error as error:
        problems.append(_problem(path, reader.line_num, f"is not valid CSV: {error}"))
    if problems:
        raise InvalidFiles(problems)
    return Inventory(header[1:], rows)


def _add_csv_row(
    path: Path, line: int, header: list[str], cells: list[str], rows: list[Row], problems: list[Problem]
) -> None:
    if len(cells) > len(header):
        problems.append(_problem(path, line, f"has {len(cells)} cells, but the header has {len(header)} columns"))
        return
    client = cells[0].strip()
    wrong = "the cell is empty" if not client else problem_of(client)
    if wrong:
        problems.append(_problem(path, line, wrong, "client"))
        return
    values = ((name, cell.strip()) for name, cell in zip(header[1:], cells[1:], strict=False))
    rows.append((client, tuple((name, value) for name, value in values if value)))


def _from_yaml(path: Path, text: str) -> Inventory:
    try:
        document = yaml.load(text, Loader=yaml.CBaseLoader if hasattr(yaml, "CBaseLoader") else yaml.BaseLoader)
        if not isinstance(document, list) or not all(isinstance(row, dict) for row in document):
            raise ValueError("must be a list of mappings, each with the key `client`")
        return inventory_of(document)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InvalidFiles([_problem(path, line, f"is not valid YAML: {error.problem}")]) from error
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise InvalidFiles([_problem(path, 1, str(error))]) from error
