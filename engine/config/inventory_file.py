"""Reads the inventory from its file, and names every line that is wrong. Read `load_inventory`."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from engine.config.inventory import Inventory, Row, client_problem, row_of
from engine.config.loading import loading
from engine.config.regular_file import UnreadableFile, read_regular_file, shown_path
from engine.config.yamlfile import MAX_NODES, not_utf8, parse_document, problem_in
from engine.errors import InvalidFiles, Problem

MAX_FILE_BYTES = 256 << 20

MAX_COLUMNS = 1_000
"""Most attributes: each client that is looked up gets every one of them."""

MAX_VALUES = 40 * MAX_NODES
"""Most values of an inventory in YAML; it is larger than a rule file may be."""

MAX_CELL_CHARACTERS = 131_072
"""Longest value in YAML: the limit that the `csv` library has for a cell."""

MAX_PROBLEMS = 200
"""Most problems reported for one file."""


def load_inventory(path: Path) -> Inventory:
    """The inventory in a file: YAML when its name ends so, otherwise CSV. Raises InvalidFiles with every problem."""
    problems: list[Problem] = []
    with loading(problems, path):
        found = _read(path, problems)
    if problems or found is None:
        raise InvalidFiles(problems)
    return found


def _read(path: Path, problems: list[Problem]) -> Inventory | None:
    try:
        content = read_regular_file(path, MAX_FILE_BYTES)
    except UnreadableFile as error:
        problems.append(problem_in(shown_path(path), 1, str(error)))
        return None
    kind = path.suffix.lower()
    if kind in {".yaml", ".yml"}:
        return _from_yaml(path, content, problems)
    if kind == ".json":
        message = "is JSON by its name, and only CSV and YAML are read; JSON is YAML, so name it .yaml and write a list of objects"
        problems.append(problem_in(shown_path(path), 1, message))
        return None
    return _from_csv(path, content, problems)


def _from_csv(path: Path, content: bytes, problems: list[Problem]) -> Inventory | None:
    file = shown_path(path)
    nul = content.find(b"\0")
    if nul >= 0 and content[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        problems.append(problem_in(file, content.count(b"\n", 0, nul) + 1, "contains a NUL character: it is not text"))
        return None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problems.append(problem_in(file, content.count(b"\n", 0, error.start) + 1, not_utf8(content)))
        return None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[Row] = []
    columns: list[str] = []
    try:
        columns = [name.strip() for name in next(reader, [])]
        if (wrong := _header_problem(columns)) is not None:
            problems.append(problem_in(file, 1, wrong))
            return None
        for cells in reader:
            if cells:
                _add_row(file, reader.line_num, columns, cells, rows, problems)
            if len(problems) >= MAX_PROBLEMS:
                return None
    except csv.Error as error:
        problems.append(problem_in(file, max(1, reader.line_num), f"is not valid CSV: {error}"))
        return None
    return Inventory(columns[1:], rows)


def _header_problem(header: list[str]) -> str | None:
    """Why the first line cannot name the columns; None when it can."""
    if not header or header[0] != "client":
        hint = ""
        if header and len(header) == 1 and ";" in header[0]:
            hint = "; the columns are separated by `;`: separate them by commas"
        elif header and len(header) == 1 and "\t" in header[0]:
            hint = "; the columns are separated by tabs: separate them by commas"
        elif header and header[0].lower() == "client":
            hint = f", in lower case, not `{header[0]}`"
        elif "client" in header:
            hint = f"; it is the column number {header.index('client') + 1}"
        return f"the first column must be named `client`{hint}"
    doubles = sorted({name for name in header if header.count(name) > 1} - {""}) if len(header) <= MAX_COLUMNS else []
    if doubles or "" in header:
        named = f": {', '.join(doubles)} is there twice" if doubles else ": one has no name"
        return f"column names must be unique and not empty{named}"
    if len(header) > MAX_COLUMNS:
        return f"has {len(header)} columns, but at most {MAX_COLUMNS} are allowed"
    return None


def _add_row(
    file: str, line: int, header: list[str], cells: list[str], rows: list[Row], problems: list[Problem]
) -> None:
    if len(cells) > len(header):
        message = f"has {len(cells)} cells, but the header has {len(header)} columns"
        problems.append(problem_in(file, line, message))
        return
    client = cells[0].strip()
    wrong = "the cell is empty" if not client else client_problem(client)
    if wrong:
        problems.append(problem_in(file, line, wrong, path="client"))
        return
    values = ((name, cell.strip()) for name, cell in zip(header[1:], cells[1:], strict=False))
    rows.append((client, tuple((name, value) for name, value in values if value)))


def _from_yaml(path: Path, content: bytes, problems: list[Problem]) -> Inventory | None:
    document = parse_document(path, content, problems, texts_only=True, max_nodes=MAX_VALUES)
    if document is None:
        return None
    if not isinstance(document.value, list):
        problems.append(document.problem((), "must be a list of mappings, each with the key `client`"))
        return None
    columns: dict[str, None] = {}
    rows: list[Row] = []
    for index, row in enumerate(document.value):
        try:
            if not isinstance(row, dict):
                raise ValueError(": must be a mapping with the key `client`")  # noqa: TRY004  # the file is wrong
            rows.append(row_of(row, columns))
            if any(len(value) > MAX_CELL_CHARACTERS for _, value in rows[-1][1]):
                raise ValueError(f": a value is longer than {MAX_CELL_CHARACTERS} characters")
            if len(columns) > MAX_COLUMNS:
                raise ValueError(f": there are more than {MAX_COLUMNS} columns")
        except ValueError as error:
            problems.append(document.problem((index,), f"row {index + 1}{error}"))
            if len(problems) >= MAX_PROBLEMS:
                return None
    return Inventory(tuple(columns), rows)
