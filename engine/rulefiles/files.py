"""Rule files on disk: which files a path names, their documents, and a fingerprint that shows an edit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

from engine.config.yamlfile import Document, read_document
from engine.errors import Problem

MAX_FILES = 2_000
"""Most rule files, and most template files that the fingerprint of a folder covers."""


def rule_files(paths: Iterable[Path]) -> list[Path]:
    """The rule files that `paths` name: a file itself, of a folder every `*.yaml` and `*.yml` but scenarios, sorted."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = (*path.glob("*.yaml"), *path.glob("*.yml"))
            names = [file for file in inside if not re.search(r"\.test\.ya?ml$", file.name)]
            found += sorted(file for file in names if not file.name.startswith(".") and _is_rule_file(file))
        else:
            found.append(path)
    return list(dict.fromkeys(found))


def _is_rule_file(file: Path) -> bool:
    """Whether it is a rule file by its name: an inventory in YAML may lie beside the rules."""
    return file.is_file() and not re.match(r"inventory\b", file.name)


def fingerprint(paths: Iterable[Path]) -> tuple[tuple[str, int, int, int], ...]:
    """Name, size, time of change and inode of each rule and template file: another value means an edit. Never raises."""
    found = []
    for path in paths:
        try:
            templates = path.rglob("*.j2") if path.is_dir() else path.parent.glob("*.j2")
            files = [*rule_files([path]), *sorted(islice(templates, MAX_FILES))]
        except OSError:
            files = [path]
        for file in files:
            try:
                state = file.stat()
                found.append((str(file), state.st_size, state.st_mtime_ns, state.st_ino))
            except OSError:
                found.append((str(file), -1, 0, 0))
    return tuple(found)


def read_rule_documents(paths: Sequence[Path], problems: list[Problem]) -> list[Document]:
    """The documents of all rule files that `paths` name, in order; problems are added to `problems`."""
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            problems.append(_file_problem(path, "does not exist"))
            continue
        try:
            found = rule_files([path])
        except OSError as error:
            problems.append(_file_problem(path, f"cannot be read: {error.strerror or error}"))
            continue
        if not found:
            problems.append(_file_problem(path, "contains no rule file (*.yaml)", warning=True))
        files += found
    files = list(dict.fromkeys(files))
    if len(files) > MAX_FILES:
        problems.append(_file_problem(paths[0], f"{len(files)} rule files, but at most {MAX_FILES} are allowed"))
        return []
    documents = (read_document(file, problems) for file in files)
    return [document for document in documents if document is not None]


def _file_problem(path: Path, message: str, *, warning: bool = False) -> Problem:
    return Problem(file=str(path), line=1, column=1, path="", message=message, warning=warning)
