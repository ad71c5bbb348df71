"""Rule files on disk: which files a path names, their documents, and a fingerprint that shows an edit.

A rule file, and every file that it names, lies in the folder that the configuration names (for a file: in its folder), after all
links are resolved. So whoever may write rules cannot make the engine read, send or print other files. Links inside the folder are
followed: Kubernetes mounts a ConfigMap as links to `..data/`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

from engine.config.loading import reason_of
from engine.config.regular_file import shown_path
from engine.config.yamlfile import Document, problem_in, read_document
from engine.errors import Problem

MAX_FILES = 2_000
"""Most rule files, and most template files that the fingerprint of a folder covers."""


def rule_folders(paths: Iterable[Path]) -> tuple[Path, ...]:
    """The folders that rule files and their templates must lie in."""
    return tuple(dict.fromkeys(path if path.is_dir() else path.parent for path in paths))


def rule_files(paths: Iterable[Path]) -> list[Path]:
    """The rule files that `paths` name: a file itself, of a folder every `*.yaml` and `*.yml` but scenarios, sorted.

    A folder is not among them, but a FIFO or a link to nothing is: it must be reported, since a rule is missing.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(file for file in _named_like_rules(path) if not file.is_dir())
        else:
            found.append(path)
    return list(dict.fromkeys(found))


def _named_like_rules(folder: Path) -> list[Path]:
    """What a folder holds under the name of a rule file. An inventory in YAML may lie beside the rules."""
    names = [name for name in os.listdir(folder) if re.search(r"(?i)\.ya?ml$", name) and not name.startswith(".")]
    return [folder / name for name in names if not re.search(r"(?i)\.test\.ya?ml$|^inventory\b", name)]


Fingerprint = tuple[tuple[str, int, int, int], ...]
"""Name, size, time of change (ns) and inode of each file."""


def fingerprint(paths: Iterable[Path]) -> Fingerprint:
    """The state of each rule and template file: another value means an edit. Never raises."""
    found: list[tuple[str, int, int, int]] = []
    for path in paths:
        try:
            templates = path.rglob("*.j2") if path.is_dir() else path.parent.glob("*.j2")
            files = [*rule_files([path]), *sorted(islice(templates, MAX_FILES))]
        except (OSError, ValueError):
            files = [path]
        for file in files:
            found += fingerprint_of_file(file)
    return tuple(found)


def fingerprint_of_file(file: Path | None) -> Fingerprint:
    """The state of one file; empty for None. Never raises."""
    if file is None:
        return ()
    try:
        state = file.stat()
    except (OSError, ValueError):
        return ((str(file), -1, 0, 0),)
    return ((str(file), state.st_size, state.st_mtime_ns, state.st_ino),)


def read_rule_documents(paths: Sequence[Path], problems: list[Problem]) -> list[Document]:
    """The documents of all rule files that `paths` name, in order; problems are added to `problems`."""
    files: list[Path] = []
    for path in paths:
        try:
            files += _files_of(path, problems)
        except (OSError, ValueError) as error:
            problems.append(
                _file_problem(path, f"cannot be read: {getattr(error, 'strerror', None) or reason_of(error)}")
            )
    files = list(dict.fromkeys(files))
    if len(files) > MAX_FILES:
        problems.append(_file_problem(paths[0], f"{len(files)} rule files, but at most {MAX_FILES} are allowed"))
        return []
    inside = rule_folders(paths)
    documents = (read_document(file, problems, inside=inside) for file in files)
    return [document for document in documents if document is not None]


def _files_of(path: Path, problems: list[Problem]) -> list[Path]:
    if not path.exists() and not path.is_symlink():
        problems.append(_file_problem(path, "does not exist"))
        return []
    found = rule_files([path])
    if path.is_dir():
        for file in sorted(_named_like_rules(path)):
            if file.is_dir():
                message = "is a folder with the name of a rule file: what is in it is not read"
                problems.append(_file_problem(file, message, warning=True))
        if not found:
            problems.append(_file_problem(path, "contains no rule file (*.yaml)", warning=True))
    return found


def _file_problem(path: Path, message: str, *, warning: bool = False) -> Problem:
    return problem_in(shown_path(path), 1, message, warning=warning)
