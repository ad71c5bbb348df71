"""The rules and the inventory in force: taken from their files, remembered, watched, and retired when they are gone.

An edit is taken as a whole or not at all. What the files say is loaded beside the running service; only when all of it is good does
one transaction put it in force. What is refused is shown until it is mended: in the log, the metrics, `/readyz` and the status page.
SIGHUP has the same done at once, and the configuration read again, see `config_reload`. Read `RuleReloader.watch`, then `take`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from engine.config.inventory import Inventory
from engine.config.inventory_file import load_inventory
from engine.config.loader import Config
from engine.config.patterns import compile_patterns
from engine.core.fleet import Fleet
from engine.core.matching import Matcher
from engine.core.rules import Rule
from engine.errors import InvalidFiles
from engine.rulefiles.files import Fingerprint, fingerprint, fingerprint_of_file
from engine.rulefiles.loader import load_rules, rule_from_definition
from engine.runtime.cell import Cell
from engine.runtime.config_reload import ConfigReload
from engine.telemetry import Event, logger

RULES_POLL_S = 1.0
RETIRE_AFTER_MS = int(os.environ.get("ROLLCALL_RETIRE_AFTER_MS", "60000"))
"""A rule that disappeared is retired after this: a checkout may pass through. Tests do not wait that long."""

log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Seen:
    """What the files looked like when they were read: another value means an edit."""

    rules: Fingerprint
    inventory: Fingerprint


def seen_now(config: Config) -> Seen:
    """What the files of a configuration look like now. Never raises."""
    return Seen(fingerprint(config.rules), fingerprint_of_file(config.inventory))


@dataclass(slots=True)
class _Edit:
    """What became of the files when they were loaded. `rules` None: nothing is taken; `inventory` None: the running one stays."""

    rules: tuple[Rule, ...] | None = None
    matchers: Mapping[str, Matcher] = field(default_factory=dict)  # by the names of the cells
    inventory: Inventory | None = None
    rules_problem: InvalidFiles | None = None
    inventory_problem: InvalidFiles | None = None


class RuleReloader:
    """Keeps the rules and the inventories of all cells as the files say."""

    def __init__(
        self,
        config: Config,
        inventory: Inventory,
        cells: Callable[[], Sequence[Cell]],
        rules: tuple[Rule, ...],
        seen: Seen,
        configured: Callable[[Config], None] = lambda config: None,
    ) -> None:
        """`inventory`: of the service; each of several cells has one of its own. `cells`: the present ones, which the rules are for; `seen`: of the files that `rules` and `inventory` came from.

        `configured` is called with the configuration in force when SIGHUP has changed it.
        """
        self.rules = rules
        self.problem: str | None = None  # why the rule files do not load
        self.inventory_problem: str | None = None  # why the inventory is not the one of its file
        self._seen = seen
        self._asked = asyncio.Event()
        self._reload_of_config = ConfigReload(config, configured)
        self._inventory, self._cells = inventory, cells

    @property
    def refused(self) -> Mapping[str, str]:
        """What does not load, by name, and why; empty while everything in force is what the files say."""
        found = {
            "configuration": self._reload_of_config.problem,
            "rules": self.problem,
            "inventory": self.inventory_problem,
        }
        return {name: problem for name, problem in found.items() if problem is not None}

    def fall_back(self, problem: InvalidFiles) -> bool:
        """The rule files do not load: work with the rules that were in force before.

        False: there was no run before, or its rules cannot be used. A run whose rules had just been removed had none: so has this one.
        """
        remembered = self._cells()[0].store.rules.all().values()
        rules = tuple(_understood(remembered))
        if not rules and (not remembered or any(missing_since is None for _, missing_since in remembered)):
            return False
        try:
            matchers = [_matcher(rules, cell.inventory) for cell in self._cells()]
        except ValueError:  # another version took patterns that this one does not
            return False
        self.rules, self.problem = rules, str(problem)
        for cell, matcher in zip(self._cells(), matchers, strict=True):
            cell.fleet.use(matcher)
        log.error(
            Event.RULES_REJECTED, problems=len(problem.mistakes), first=str(problem.mistakes[0]), rules=len(rules)
        )
        return True

    def ask(self) -> None:
        """Load everything again as soon as possible, the configuration too (SIGHUP). On the event loop; never raises."""
        self._asked.set()

    async def watch(self) -> None:
        """Look at the files from time to time, and at once when asked, until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), RULES_POLL_S)
            is_asked = self._asked.is_set()
            self._asked.clear()  # now: what is asked for from here on has not been read yet
            try:
                await self._look(is_asked)
            except Exception:
                if is_asked:
                    self._asked.set()  # an edit that could not be stored is tried again
                raise

    async def _look(self, is_asked: bool) -> None:
        if is_asked:
            await self._reload_of_config.read()
        now = await asyncio.to_thread(seen_now, self._reload_of_config.config)
        if now != self._seen or is_asked:
            await self._reload(now, is_asked=is_asked)
            self._seen = now  # not before: an edit that could not be stored is tried again
            return
        names = {rule.name for rule in self.rules}
        for cell in self._cells():
            if cell.fleet.alerts.rules.keys() - names and not cell.is_standby:
                await cell.write(partial(_retire, cell))

    async def _reload(self, now: Seen, *, is_asked: bool) -> None:
        """Take edited files, all or nothing: a broken edit changes nothing and is shown."""
        is_new = is_asked or now.inventory != self._seen.inventory or self.inventory_problem is not None
        are_new = is_asked or now.rules != self._seen.rules or self.problem is not None
        edit = await asyncio.to_thread(self._load, self._reload_of_config.config, is_new)
        self.problem = _text(edit.rules_problem)
        self.inventory_problem = _text(edit.inventory_problem)
        if edit.inventory_problem is not None:
            log.error(Event.INVENTORY_REJECTED, **_shown(edit.inventory_problem))
        if edit.rules_problem is not None:
            log.error(Event.RULES_REJECTED, **_shown(edit.rules_problem))
        rules = edit.rules
        if rules is None:
            return
        self.rules = rules  # a cell that begins to work from now on takes these
        if edit.inventory is not None and self._cells()[0].inventory is not self._inventory:
            self._inventory.replace_by(edit.inventory)
        for cell in self._cells():
            if not cell.is_standby:
                await cell.write(partial(self._take_all, cell, rules, edit))
            elif edit.inventory is not None:  # its rules are put in force when it is owned
                cell.inventory.replace_by(edit.inventory)
        if edit.inventory is not None:
            log.info(Event.INVENTORY_LOADED, rows=len(edit.inventory.rows), columns=len(edit.inventory.columns))
        if are_new:
            log.info(Event.RULES_LOADED, rules=len(rules))

    def _load(self, config: Config, is_inventory_new: bool) -> _Edit:
        """In a thread: what the files say now. An inventory under which the rules do not load is refused, not the rules."""
        edit = _Edit()
        if is_inventory_new:
            try:
                edit.inventory = _inventory_at(config.inventory)
            except InvalidFiles as error:
                edit.inventory_problem = error
        try:
            edit.rules = self._load_rules(config, edit.inventory or self._inventory)
        except InvalidFiles as error:
            edit.rules_problem = error
        if edit.rules is None and edit.inventory is not None:
            try:
                edit.rules = self._load_rules(config, self._inventory)
            except InvalidFiles:
                edit.inventory_problem = None
            else:
                edit.inventory_problem, edit.rules_problem = edit.rules_problem, None
            edit.inventory = None
        if edit.rules is not None:
            edit.matchers = {cell.name: _matcher(edit.rules, cell.inventory) for cell in self._cells()}
        return edit

    @staticmethod
    def _load_rules(config: Config, inventory: Inventory) -> tuple[Rule, ...]:
        return load_rules(config.rules, inventory=inventory, config=config).rules

    def _take_all(self, cell: Cell, rules: tuple[Rule, ...], edit: _Edit) -> None:
        """In the writer's thread of a cell: both at once, so that no event meets the rules of one edit with the rows of another."""
        if edit.inventory is not None:
            cell.inventory.replace_by(edit.inventory)
        self._take(cell, rules, edit.matchers.get(cell.name))

    def take(self, cell: Cell) -> None:
        """In the writer's thread of a cell that begins to work: put the rules in force."""
        if cell.inventory is not self._inventory:
            cell.inventory.replace_by(self._inventory)
        self._take(cell, self.rules, None)

    def _take(self, cell: Cell, rules: tuple[Rule, ...], matcher: Matcher | None) -> None:
        """Work with these rules; remember them, and since when others are missing."""
        now_ms, remembered, fleet = cell.clock.now_ms(), cell.store.rules, cell.fleet
        known = remembered.all()
        names = {rule.name for rule in rules}
        gone = []
        for name, (definition, missing) in known.items():
            if name not in names:
                if missing is None:
                    remembered.write(name, definition, now_ms, now_ms)
                with contextlib.suppress(ValueError):  # written by a version that knew more: nothing can be said of it
                    gone.append(fleet.alerts.rules.get(name) or rule_from_definition(definition))
        fleet.use(matcher or _matcher(rules, cell.inventory), gone)
        for rule in rules:
            if rule.name not in known:
                _adopt(fleet, rule, now_ms)
            remembered.write(rule.name, rule.definition, now_ms, None)


def _matcher(rules: tuple[Rule, ...], inventory: Inventory) -> Matcher:
    return Matcher(rules, inventory.attributes, compile_patterns)


def _understood(remembered: Iterable[tuple[str, int | None]]) -> Iterator[Rule]:
    """The rules of the last run, as far as this version still understands them."""
    for definition, missing_since in remembered:
        if missing_since is None:
            with contextlib.suppress(ValueError):
                yield rule_from_definition(definition)


def _adopt(fleet: Fleet, rule: Rule, now_ms: int) -> None:
    if not fleet.states or not {"offline", "online", "quorum"} & set(rule.triggers):
        return
    found = fleet.alerts.triggers.adopt(rule, list(fleet.states.items()), now_ms)
    if found:
        log.info(Event.RULE_ADDED, rule=rule.name, clients=found, fired=rule.existing)


def _retire(cell: Cell) -> None:
    now_ms, remembered = cell.clock.now_ms(), cell.store.rules
    for name, (_, missing) in remembered.all().items():
        if missing is not None and now_ms - missing >= RETIRE_AFTER_MS:
            cell.fleet.alerts.retire(name, now_ms)
            remembered.delete(name)
            log.info(Event.RULE_REMOVED, rule=name)


def _inventory_at(path: Path | None) -> Inventory:
    return Inventory((), ()) if path is None else load_inventory(path)


def _text(problem: InvalidFiles | None) -> str | None:
    return None if problem is None else str(problem)


def _shown(problem: InvalidFiles) -> dict[str, object]:
    return {"problems": len(problem.mistakes), "first": str(problem.mistakes[0])}
