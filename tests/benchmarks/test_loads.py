"""What the benchmarks feed to the engine is what they say it is, and the same every time."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import rule_sets
from tests.benchmarks.load import GROUPS, write_day, write_storm


def _events(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_the_same_seed_writes_the_same_day_and_another_seed_another_one(tmp_path: Path) -> None:
    written = []
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        write_day(tmp_path / name, events=2_000, clients=200, seed=seed)
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1] != written[2]


@pytest.mark.parametrize(("events", "clients"), [(2_000, 200), (1_000, 333), (5_000, 100)])
def test_a_day_has_exactly_the_events_asked_for_and_every_client_connects(
    tmp_path: Path, events: int, clients: int
) -> None:
    load = write_day(tmp_path / "day", events=events, clients=clients)
    found = _events(load.path)
    assert len(found) == load.events == events
    assert load.size_bytes == load.path.stat().st_size
    assert len({event["clientId"] for event in found if event["eventType"] == "connect"}) == load.clients == clients


def test_a_day_holds_duplicates_and_closes_that_come_before_their_own_connect(tmp_path: Path) -> None:
    write_day(tmp_path / "day", events=5_000, clients=500)
    lines = (tmp_path / "day").read_bytes().splitlines()
    assert len(set(lines)) < len(lines)
    first: dict[str, str] = {}
    for event in _events(tmp_path / "day"):
        first.setdefault(event["channelId"], event["eventType"])
    assert Counter(first.values())["tcpclean"] > 0


def test_a_channel_connects_at_one_time_only(tmp_path: Path) -> None:
    for path in (
        write_day(tmp_path / "day", events=5_000, clients=500).path,
        write_storm(tmp_path / "storm", clients=500).path,
    ):
        connects = {(e["channelId"], e["time"]) for e in _events(path) if e["eventType"] == "connect"}
        assert len(connects) == len({channel for channel, _ in connects})


def test_a_storm_connects_drops_and_returns_every_client(tmp_path: Path) -> None:
    load = write_storm(tmp_path / "storm", clients=400)
    found = _events(load.path)
    seen: dict[str, list[str]] = {}
    for event in found:
        seen.setdefault(event["clientId"], []).append(event["eventType"])
    assert len(found) == load.events == 1_200
    assert len(seen) == 400
    assert all(Counter(types) == {"connect": 2, "tcpclean": 1} and types[0] == "connect" for types in seen.values())


def test_twenty_of_a_thousand_rules_concern_each_site() -> None:
    rules = rule_sets.thousand()
    assert len({rule["name"] for rule in rules}) == 1_000
    concerned = Counter(map(_site_of, rules))
    assert set(concerned.values()) == {20}
    assert len(concerned) == GROUPS


def _site_of(rule: dict[str, Any]) -> str:
    """The site that a rule of the thousand is written for, whichever way it says so."""
    pattern = next(iter(rule["match"].values()))
    text: str = pattern if isinstance(pattern, str) else pattern[0]
    return text.removeprefix("re:").partition("@@@")[0]
