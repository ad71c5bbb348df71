"""A document without what does not fit its schema, so that the rest of it can be checked in the same run.

Places are those of the whole document: a list that has lost an entry still counts as it is written. Read `pruned`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from engine.config.schema import schema_problems
from engine.config.yamlfile import Document, KeyPath, Node
from engine.errors import Problem

MAX_ROUNDS: Final = 10
"""Times that something is taken out: what a mapping needs may go, then the mapping, then the list around it."""

Placeholder = Callable[[KeyPath, Any], Any]
"""A value in place of one that is wrong or missing, from its way and the mapping around it; None: it is left out."""


def nothing(path: KeyPath, around: Any) -> Any:
    """No placeholder."""
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunedDocument(Document):
    """A document of which something was left out.

    `whole`: as it stands in the file. `kept`: for each list that has lost entries, by its way in this document, the numbers of those that
    stayed. `lost`: the ways, in the file, of what is not here.
    """

    whole: Document
    kept: Mapping[KeyPath, tuple[int, ...]]
    lost: frozenset[KeyPath]

    def original(self, path: KeyPath) -> KeyPath:
        """The way in the file of what has this way here."""
        found: list[str | int] = []
        for number, step in enumerate(path):
            numbers = self.kept.get(path[:number])
            found.append(
                numbers[step] if numbers is not None and isinstance(step, int) and step < len(numbers) else step
            )
        return tuple(found)

    def place(self, path: KeyPath) -> tuple[int, int]:
        """Line and column in the file."""
        return self.whole.place(self.original(path))

    def key_place(self, path: KeyPath) -> tuple[int, int]:
        """Line and column in the file."""
        return self.whole.key_place(self.original(path))

    def problem(self, path: KeyPath, message: str, *, at_key: bool = False, warning: bool = False) -> Problem:
        """A problem, where it stands in the file."""
        return self.whole.problem(self.original(path), message, at_key=at_key, warning=warning)


def pruned(
    document: Document, name: str, broken: Collection[KeyPath], placeholder: Placeholder = nothing
) -> PrunedDocument | None:
    """The document without what is `broken` by the schema `name`, and without what needs it; None when nothing is left."""
    lost: set[KeyPath] = set()
    found = PrunedDocument(
        file=document.file, root=document.root, path=document.path, whole=document, kept={}, lost=frozenset()
    )
    paths = set(broken)
    for _ in range(MAX_ROUNDS):
        if not paths:
            return found
        if () in paths:
            return None
        lost |= {found.original(path) for path in paths}
        numbers: dict[KeyPath, tuple[int, ...]] = {}
        root = _copy(found.root, (), (), _tree(paths), found, numbers, placeholder)
        if root is None:
            return None
        found = PrunedDocument(
            file=document.file, root=root, path=document.path, whole=document, kept=numbers, lost=frozenset(lost)
        )
        paths = set()
        schema_problems(found, name, broken=paths)
    return None


_Tree = dict[str | int, Any]


def _tree(paths: Collection[KeyPath]) -> _Tree:
    """The ways as nested steps; an empty mapping is the end of one."""
    root: _Tree = {}
    for path in sorted(paths, key=len, reverse=True):
        node = root
        for step in path:
            node = node.setdefault(step, {})
        node.clear()
    return root


def _copy(
    node: Node,
    path: KeyPath,
    new_path: KeyPath,
    broken: _Tree,
    before: PrunedDocument,
    numbers: dict[KeyPath, tuple[int, ...]],
    placeholder: Placeholder,
) -> Node | None:
    """A node without what is broken below it, None when it lacks what it needs; `numbers` gets the numbers, in the file, of the entries of each list that has lost some."""
    if not broken and not any(kept[: len(path)] == path for kept in before.kept):
        return node
    found = Node([] if isinstance(node.value, list) else dict(node.value), node.line, node.column)
    found.keys, found.size = node.keys, node.size
    old_numbers = before.kept.get(path)
    stayed: list[int] = []
    for step, child in node.children.items():
        below = broken.get(step)
        new_step = len(stayed) if isinstance(node.value, list) else step
        copied = None
        if below != {}:
            copied = _copy(child, (*path, step), (*new_path, new_step), below or {}, before, numbers, placeholder)
        if isinstance(step, int):
            if copied is not None:
                stayed.append(step if old_numbers is None else old_numbers[step])
                found.children[new_step] = copied
                found.value.append(copied.value)
        elif copied is not None:
            found.children[step] = copied
            found.value[step] = copied.value
        elif (instead := placeholder((*path, step), node.value)) is not None:
            found.value[step] = instead
        else:
            del found.value[step]
    if isinstance(node.value, list):
        if len(stayed) < len(node.children) or old_numbers is not None:
            numbers[new_path] = tuple(stayed)
        return found
    for step in broken.keys() - node.value.keys():  # what is missing
        if (instead := placeholder((*path, step), node.value)) is None:
            return None
        found.value[step] = instead
    return found
