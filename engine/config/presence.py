"""The sections `events`, `resolver`, `debounce`, `flapping` and `feed`: how events become a client's status."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from engine.config.matchers import check_match, match_of
from engine.config.patterns import MAX_PROGRAM_TOGETHER, TOO_LARGE_TOGETHER, program_size
from engine.config.reader import ConfigReader
from engine.core.rules import Match


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsConfig:
    """Which events are accepted."""

    max_future_ms: int = 60_000  # how far ahead of the engine's clock an event may be dated


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolverConfig:
    """How events become a status."""

    clock_skew_ms: int = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DebounceOverride:
    """Other holds for the clients that match; None leaves a hold as it is."""

    match: Match
    offline_ms: int | None = None
    online_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DebounceConfig:
    """How long a change must last before it counts: the hold."""

    offline_ms: int = 30_000
    online_ms: int = 0
    overrides: tuple[DebounceOverride, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FlappingConfig:
    """How many changes inside the window start and stop flapping."""

    start: int = 6
    stop: int = 2
    window_ms: int = 600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedConfig:
    """When a source counts as degraded; `max_silence_ms` None: however long no event arrives."""

    max_lag_ms: int = 60_000
    max_hold_ms: int = 300_000
    max_silence_ms: int | None = None


def read_debounce(reader: ConfigReader) -> DebounceConfig:
    """The section `debounce`, its overrides in the order of the file."""
    raw = reader.raw.get("debounce") or {}
    overrides = []
    for index, entry in enumerate(raw.get("overrides") or ()):
        at = ("debounce", "overrides", index)
        place = (*at, "match")
        if entry["match"].get("ip"):
            reader.report((*place, "ip"), "an override cannot match an address: it may change during the hold")
        check_match(entry["match"], place, reader.document, None, reader.problems)
        overrides.append(
            DebounceOverride(
                match=match_of(entry["match"]),
                offline_ms=reader.duration_ms((*at, "offline"), entry["offline"]) if "offline" in entry else None,
                online_ms=reader.duration_ms((*at, "online"), entry["online"]) if "online" in entry else None,
            )
        )
    patterns = {text for entry in overrides for text in _patterns_of(entry.match)}
    if program_size(patterns) > MAX_PROGRAM_TOGETHER:
        reader.report(("debounce", "overrides"), TOO_LARGE_TOGETHER)
    return DebounceConfig(
        offline_ms=reader.duration_ms(("debounce", "offline"), raw.get("offline", "30s")),
        online_ms=reader.duration_ms(("debounce", "online"), raw.get("online", "0s")),
        overrides=tuple(overrides),
    )


def check_overrides_without_inventory(reader: ConfigReader) -> None:
    """Report overrides by attribute where no inventory is configured. Scenarios have theirs beside the configuration."""
    if reader.raw.get("inventory") is not None:
        return
    for index, entry in enumerate((reader.raw.get("debounce") or {}).get("overrides") or ()):
        if entry["match"].get("attributes"):
            message = "can never match: no inventory is configured (`inventory: inventory.csv`), so clients have no attributes"
            reader.report(("debounce", "overrides", index, "match", "attributes"), message)


def _patterns_of(match: Match) -> Iterator[str]:
    yield from (*match.group, *match.device, *match.client)
    for _, patterns in match.attributes:
        yield from patterns


def read_flapping(reader: ConfigReader) -> FlappingConfig:
    """The section `flapping`."""
    raw = reader.raw.get("flapping") or {}
    found = FlappingConfig(
        start=raw.get("start", 6),
        stop=raw.get("stop", 2),
        window_ms=reader.duration_ms(("flapping", "window"), raw.get("window", "10m")),
    )
    if found.start <= found.stop:
        reader.report(("flapping",), f"`start` ({found.start}) must be more than `stop` ({found.stop})")
    return found


def read_feed(reader: ConfigReader) -> FeedConfig:
    """The section `feed`."""
    return FeedConfig(**reader.durations("feed"))


def warn_of_max_hold(reader: ConfigReader) -> None:
    """Warn when `feed.max_hold` is set and has no effect."""
    if "max_hold" in (reader.raw.get("feed") or {}) and reader.raw.get("status") is None:
        message = "has no effect without `status`: long holds are checked by querying the status provider"
        reader.report(("feed", "max_hold"), message, warning=True)
