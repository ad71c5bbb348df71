"""SIGHUP: the configuration is read again; what can change in a running service does, and what cannot is named.

A configuration that does not load changes nothing. Read `ConfigReload.read`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from engine.config.loader import Config, load_config
from engine.config.receivers import with_intervals
from engine.errors import InvalidFiles
from engine.telemetry import Event, logger

AT_RUN_TIME: Final = ("rules", "time_intervals", "inventory", "history", "clients", "log")
"""The keys of the configuration that take effect without a restart."""

log = logger(__name__)


class ConfigReload:
    """The configuration in force, and why the file says something else."""

    def __init__(self, config: Config, configured: Callable[[Config], None]) -> None:
        self.config = config
        self.problem: str | None = None  # why the file does not load
        self._configured = configured

    async def read(self) -> None:
        """Read the file again and put in force what can be. Logs what was changed, and what needs a restart."""
        try:
            found = await asyncio.to_thread(load_config, self.config.path)
        except InvalidFiles as error:
            self.problem = str(error)
            log.error(Event.CONFIG_REJECTED, problems=len(error.mistakes), first=str(error.mistakes[0]))
            return
        self.problem = None
        before = self.config
        edited = [
            key
            for key in sorted({*found.written, *before.written})
            if found.written.get(key) != before.written.get(key)
        ]
        changed = [key for key in edited if key in AT_RUN_TIME]
        # What needs a restart is compared with what runs, each time anew: it is named until the restart.
        written = dict(before.written)
        for key in changed:
            written.pop(key, None)
            written |= {key: found.written[key]} if key in found.written else {}
        self.config = replace(
            before,
            written=written,
            rules=found.rules,
            time_intervals=found.time_intervals,
            receivers=with_intervals(before.receivers, found.time_intervals),
            inventory=found.inventory,
            history=found.history,
            clients=found.clients,
            log=found.log,
        )
        self._configured(self.config)
        log.info(
            Event.CONFIG_RELOADED,
            changed=", ".join(changed) or "nothing",
            needs_restart=", ".join(key for key in edited if key not in changed) or "nothing",
        )
