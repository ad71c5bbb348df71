"""From an entry of the configuration to the source that it names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from engine.clock import EngineClock
from engine.config.loader import Config
from engine.config.secret import Secret
from engine.config.sources import SourceConfig
from engine.sources.base import Source
from engine.sources.file.source import FileSource
from engine.sources.http import HttpSource
from engine.sources.rocketmq.source import rocketmq_source
from engine.sources.simulator.source import SimulatorSource

FILE_WINDOW = 4
"""Batches of a file that may be read ahead of their commit."""


MakePush = Callable[[Mapping[str, Any]], Source]
"""Makes the source of events that are sent over HTTP, from what every source of pushed events is made with."""


def push_source(options: Mapping[str, Any]) -> HttpSource:
    """The source that takes them in this process."""
    return HttpSource(**options)


def source_of(entry: SourceConfig, config: Config, clock: EngineClock, make_push: MakePush = push_source) -> Source:
    """The source that an entry of the configuration names."""
    now_ms = clock.now_ms
    options = dict(entry.options)
    if entry.type == "file":
        return FileSource(
            name=entry.name,
            path=Path(options["path"]),
            follow=bool(options.get("follow", False)),
            now_ms=now_ms,
            max_future_ms=config.events.max_future_ms,
            window=FILE_WINDOW,
        )
    if entry.type == "rocketmq":
        return rocketmq_source(
            entry.name,
            {key: value.reveal() if isinstance(value, Secret) else value for key, value in options.items()},
            config.data / "rocketmq" if len(config.cells) == 1 else config.data / "rocketmq" / config.cell.name,
            now_ms,
            config.events.max_future_ms,
        )
    if entry.type == "simulator":
        return SimulatorSource(name=entry.name, now_ms=now_ms, grace_ms=config.debounce.offline_ms, **options)
    pushed: dict[str, Any] = {
        "name": entry.name,
        "now_ms": now_ms,
        "max_future_ms": config.events.max_future_ms,
        "max_lag_ms": config.feed.max_lag_ms,
        "grace_ms": config.debounce.offline_ms,
        "shifted_ms": lambda: clock.shifted_ms,
    }
    if entry.type == "amqp":
        from engine.sources.amqp.source import AmqpSource  # its library is not always installed

        login = {name: options.pop(name).reveal for name in ("access_key", "secret")}
        return AmqpSource(**pushed, **login, **options)
    return make_push(pushed)
