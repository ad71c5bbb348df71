"""The rules in force: taken from their files, remembered, watched, and retired when they are gone. Read `RuleReloader.take`."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Iterator

from engine.clock import Clock
from engine.config.inventory import Inventory
from engine.config.loader import Config
from engine.config.patterns import compile_patterns
from engine.core.fleet import Fleet
from engine.core.matching import Matcher
from engine.core.rules import Rule
from engine.errors import InvalidFiles
from engine.rulefiles.files import fingerprint
from engine.rulefiles.loader import load_rules, rule_from_definition
from engine.stores.base import Rules
from engine.telemetry import Event, logger

RULES_POLL_S = 1.0
RETIRE_AFTER_MS = int(os.environ.get("ROLLCALL_RETIRE_AFTER_MS", "60000"))
"""A rule that disappeared is retired after this: a checkout may pass through. Tests do not wait that long."""

log = logger(__name__)


class RuleReloader:
    """Keeps the fleet's rules as the files say."""

    def __init__(
        self,
        config: Config,
        inventory: Inventory,
        fleet: Fleet,
        remembered: Rules,
        clock: Clock,
        write: Callable[[Callable[[], None]], Awaitable[None]],
        rules: tuple[Rule, ...],
        seen: object,
    ) -> None:
        """`write` does work in the writer's next transaction; `seen`: the fingerprint of the files that `rules` came from."""
        self.rules = rules
        self.problem: str | None = None  # why the files do not load
        self._seen = seen
        self._config, self._inventory, self._fleet, self._remembered = config, inventory, fleet, remembered
        self._clock, self._write = clock, write

    def fall_back(self, problem: InvalidFiles) -> bool:
        """The rule files do not load: work with the rules that were in force before. False: there are none."""
        rules = tuple(self._rules_of_last_run())
        if not rules:
            return False
        self.rules, self.problem = rules, str(problem)
        self._fleet.use(Matcher(rules, self._inventory.attributes, compile_patterns))
        log.error(
            Event.RULES_REJECTED, problems=len(problem.problems), first=str(problem.problems[0]), rules=len(rules)
        )
        return True

    def _rules_of_last_run(self) -> Iterator[Rule]:
        """The rules of the last run, as far as this version still understands them."""
        for definition, missing_since in self._remembered.all().values():
            if missing_since is None:
                with contextlib.suppress(ValueError):
                    yield rule_from_definition(definition)

    async def watch(self) -> None:
        """Look at the files from time to time, until cancelled."""
        while True:
            await asyncio.sleep(RULES_POLL_S)
            now = await asyncio.to_thread(fingerprint, self._config.rules)
            retire = self._fleet.alerts.rules.keys() - {rule.name for rule in self.rules}
            if now != self._seen:
                await self._reload()
                self._seen = now  # not before: an edit that could not be stored is tried again
            elif retire:
                await self._write(lambda: self._retire())

    async def _reload(self) -> None:
        """Take edited files, all or nothing: a broken edit changes nothing and is shown."""
        try:
            loaded = await asyncio.to_thread(
                load_rules, self._config.rules, inventory=self._inventory, config=self._config
            )
        except InvalidFiles as error:
            self.problem = str(error)
            log.error(Event.RULES_REJECTED, problems=len(error.problems), first=str(error.problems[0]))
            return
        self.problem = None
        await self._write(lambda: self.take(loaded.rules))
        log.info(Event.RULES_LOADED, rules=len(loaded.rules))

    def take(self, rules: tuple[Rule, ...]) -> None:
        """In the writer's thread: work with these rules; remember them, and since when others are missing."""
        now_ms, remembered, book = self._clock.now_ms(), self._remembered, self._fleet.alerts
        known = remembered.all()
        names = {rule.name for rule in rules}
        gone = []
        for name, (definition, missing) in known.items():
            if name not in names:
                if missing is None:
                    remembered.write(name, definition, now_ms, now_ms)
                with contextlib.suppress(ValueError):  # written by a version that knew more: nothing can be said of it
                    gone.append(book.rules.get(name) or rule_from_definition(definition))
        self.rules = rules
        self._fleet.use(Matcher(rules, self._inventory.attributes, compile_patterns), gone)
        for rule in rules:
            if rule.name not in known:
                self._adopt(rule, now_ms)
            remembered.write(rule.name, rule.definition, now_ms, None)

    def _adopt(self, rule: Rule, now_ms: int) -> None:
        if not self._fleet.states or not {"offline", "online"} & set(rule.triggers):
            return
        found = self._fleet.alerts.triggers.adopt(rule, list(self._fleet.states.items()), now_ms)
        if found:
            log.info(Event.RULE_ADDED, rule=rule.name, clients=found, fired=rule.existing)

    def _retire(self) -> None:
        now_ms = self._clock.now_ms()
        for name, (_, missing) in self._remembered.all().items():
            if missing is not None and now_ms - missing >= RETIRE_AFTER_MS:
                self._fleet.alerts.retire(name, now_ms)
                self._remembered.delete(name)
                log.info(Event.RULE_REMOVED, rule=name)
