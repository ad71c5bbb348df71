"""The inventory: which clients ought to exist, and what is known about them.

A table (CSV, or a YAML list of mappings) whose column `client` holds a glob and whose other columns are attributes. For
each attribute the first matching row that sets it wins.
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

MAX_REMEMBERED = 50_000
"""Clients whose attributes are remembered; beyond, the memory is emptied and fills again."""

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
        self._remembered: dict[str, Mapping[str, str]] = {}

    @property
    def rows(self) -> Sequence[Row]:
        """The rows, in the order of the file."""
        return self._rows

    def attributes(self, client: str) -> Mapping[str, str]:
        """Every column for one client, empty where no matching row sets it. The mapping is shared: do not change it."""
        found = self._remembered.get(client)
        if found is None:
            found = self._look_up(client)
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[client] = found
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
        """Does any row, globs included, name this client?"""
        return client in self._exact or bool(self._set is not None and self._set.matching(client))

    def lists(self, client: str) -> bool:
        """Does a row name it by its whole id? Only then ought it to exist: a typing error may match a glob too."""
        return client in self._exact

    def clients(self) -> list[str]:
        """The ids that rows name literally."""
        return list(self._exact)

    def values(self, column: str) -> set[str]:
        """Every value the column takes."""
        return {value for _, cells in self._rows for name, value in cells if name == column}


NO_INVENTORY = Inventory((), ())


def load_inventory(path: Path) -> Inventory:
    """The inventory in a file, CSV or (by its ending) YAML; InvalidFiles with every problem."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InvalidFiles([_problem(path, 1, "the file is larger than 256 MiB")])
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidFiles([_problem(path, 1, f"cannot be read: {error}")]) from error
    if path.suffix in {".yaml", ".yml"}:
        return _from_yaml(path, text)
    return _from_csv(path, text)


def inventory_of(rows: Sequence[Mapping[str, Any]]) -> Inventory:
    """An inventory from mappings, as rule tests give it inline; ValueError for one that cannot be."""
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
                raise ValueError(f"row {number}: {column} must be one value")  # noqa: TRY004  # the file is wrong, not the caller
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
        problems.append(_problem(path, reader.line_num, f"not CSV: {error}"))
    if problems:
        raise InvalidFiles(problems)
    return Inventory(header[1:], rows)


def _add_csv_row(
    path: Path, line: int, header: list[str], cells: list[str], rows: list[Row], problems: list[Problem]
) -> None:
    if len(cells) > len(header):
        problems.append(_problem(path, line, f"{len(cells)} cells, but the header names {len(header)} columns"))
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
            raise ValueError("must be a list of mappings, each with `client`")
        return inventory_of(document)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InvalidFiles([_problem(path, line, f"not YAML: {error.problem}")]) from error
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise InvalidFiles([_problem(path, 1, str(error))]) from error
