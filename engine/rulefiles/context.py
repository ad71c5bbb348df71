"""What the readers of one rule share: the document, where the rule stands in it, what it may refer to, and its problems."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.config.durations import parse_duration
from engine.config.inventory import Inventory
from engine.config.known_names import KnownNames
from engine.config.loader import Config
from engine.config.named_intervals import NamedIntervals
from engine.config.receivers import Receiver
from engine.config.yamlfile import Document, KeyPath
from engine.errors import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleContext:
    """One rule that fits the schema.

    `inventory` and `config` None: what the rule refers to there is not checked. `is_stored`: the rule comes from the store
    instead of a file, so it was checked before and its template files may be gone. `performs`: its actions are carried out.
    `folders`: where the files must lie that the rule names; without any, beside the rule file. `time_intervals`: those that it may
    name, None when they are not known. `inherited`: its keys that stand in the `defaults` of the file. `known_names`: what the inventory names, to warn of others.
    `lost`: its keys that do not fit the schema, or not in full: they are not among what is read, and nothing follows from that.
    """

    document: Document
    at: KeyPath
    problems: list[Problem]
    inventory: Inventory | None = None
    config: Config | None = None
    is_stored: bool = False
    performs: bool = False
    folders: tuple[Path, ...] = ()
    time_intervals: NamedIntervals | None = None
    inherited: frozenset[str] = frozenset()
    known_names: KnownNames | None = None
    lost: frozenset[str] = frozenset()

    def place(self, path: KeyPath) -> KeyPath:
        """The way through the document to something of this rule: what is inherited stands in `defaults`."""
        return ("defaults", *path) if path and path[0] in self.inherited else (*self.at, *path)

    @property
    def columns(self) -> tuple[str, ...] | None:
        """The columns of the inventory; None when it is not known."""
        return None if self.inventory is None else self.inventory.columns

    @property
    def secrets(self) -> tuple[str, ...] | None:
        """The names of the configured secrets; None when the configuration is not known."""
        return None if self.config is None else tuple(self.config.secrets)

    @property
    def receivers(self) -> Mapping[str, Receiver] | None:
        """The configured receivers; None when the configuration is not known."""
        return None if self.config is None else self.config.receivers

    def error_count(self) -> int:
        """How many problems that are not warnings were reported so far, of this rule and of those before it."""
        return sum(not problem.warning for problem in self.problems)

    def report(self, path: KeyPath, message: str, *, at_key: bool = False, warning: bool = False) -> None:
        """Add a problem with the value (or, with `at_key`, the key) at `path` of this rule."""
        problem = self.document.problem(self.place(path), message, at_key=at_key, warning=warning)
        self.problems.append(problem)

    def report_all(self, path: KeyPath, messages: Iterable[str]) -> None:
        """Add a problem at `path` for each message."""
        for message in messages:
            self.report(path, message)

    def duration_ms(self, written: Mapping[str, Any], key: str, path: KeyPath, default_ms: int = 0) -> int:
        """The duration under a key of the mapping at `path`, in milliseconds. An invalid one is reported."""
        if key not in written:
            return default_ms
        try:
            return parse_duration(written[key])
        except ValueError as error:
            self.report((*path, key), str(error))
            return default_ms
