"""A replay that several processes share prints the lines that one process prints, in the order of the engine's clock."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from engine.config.loader import load_config
from engine.core.rules import CLIENT, FLEET, GROUP, reach
from engine.errors import RollcallError
from engine.replay import recording as recordings
from engine.replay.parallel import run_shared, shares_of
from engine.replay.recording import chunks_of
from engine.replay.runner import Replay, ReplaySettings
from engine.rulefiles.loader import load_rules
from engine.runtime.fleet_factory import inventory_of, policy_of
from tests.oracle.traces import scenario

THROTTLE = {"max": 1, "per": "1m"}


def settings_of(folder: Path) -> ReplaySettings:
    """The settings of a replay by the configuration in a folder."""
    config = load_config(folder / "config.yaml")
    inventory = inventory_of(config)
    rules = load_rules(config.rules, inventory=inventory, config=config).rules
    return ReplaySettings(
        policy=policy_of(config), rules=rules, inventory=inventory, max_future_ms=config.events.max_future_ms
    )


def alone(settings: ReplaySettings, folder: Path) -> list[str]:
    """The lines of one process."""
    found: list[bytes] = []
    with (folder / "events.jsonl").open("rb") as file:
        Replay(settings, found.append).run(chunks_of(file))
    return b"".join(found).decode().splitlines()


def shared(settings: ReplaySettings, folder: Path, shares: int) -> list[str]:
    """The lines of several."""
    found: list[bytes] = []
    share_of = shares_of(settings.rules)
    assert share_of is not None
    run_shared(settings, str(folder / "events.jsonl"), shares, share_of, found.append)
    return b"".join(found).decode().splitlines()


def instants(lines: list[str]) -> list[str]:
    """When each line was told, rejected ones left out."""
    told = [json.loads(line) for line in lines[:-1]]
    return [line.get("settled_at") or line["at"] for line in told if line["type"] != "rejected"]


@pytest.mark.parametrize("seed", range(40))
def test_several_processes_print_what_one_prints(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordings, "CHUNK_BYTES", 600)  # many chunks, though the trace is short
    scenario(seed).write(tmp_path)
    settings = settings_of(tmp_path)
    if shares_of(settings.rules) is None:
        settings = ReplaySettings(
            policy=settings.policy,
            rules=tuple(rule for rule in settings.rules if reach(rule) != FLEET),
            inventory=settings.inventory,
            max_future_ms=settings.max_future_ms,
        )
    expected, found = alone(settings, tmp_path), shared(settings, tmp_path, 2 + seed % 2)
    assert sorted(found) == sorted(expected)
    assert found[-1] == expected[-1]
    assert instants(found) == sorted(instants(expected))


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, CLIENT),
        ({"throttle": THROTTLE | {"by": "client"}}, CLIENT),
        ({"throttle": THROTTLE | {"by": ["group"]}}, GROUP),
        ({"throttle": THROTTLE, "match": {"group": "G1"}}, GROUP),
        ({"throttle": THROTTLE, "match": {"group": "G*"}}, FLEET),
        ({"throttle": THROTTLE, "match": {"group": ["G1", "G2"]}}, FLEET),
        ({"throttle": THROTTLE, "match": {"group": "re:G1"}}, FLEET),
        ({"throttle": THROTTLE}, FLEET),
    ],
)
def test_a_rule_reaches_as_far_as_clients_share_a_throttle(
    more: dict[str, object], expected: str, tmp_path: Path
) -> None:
    rule = {"name": "r", "trigger": "offline", "actions": [{"log": {"message": "x"}}]} | more
    (tmp_path / "r.yaml").write_text(json.dumps({"version": 1, "rules": [rule]}))
    (loaded,) = load_rules([tmp_path / "r.yaml"]).rules
    assert reach(loaded) == expected
    assert (shares_of([loaded]) is None) == (expected == FLEET)


def test_a_process_that_ends_unexpectedly_is_reported_in_a_sentence(tmp_path: Path) -> None:
    scenario(1).write(tmp_path)
    settings = settings_of(tmp_path)
    with pytest.raises(RollcallError, match="ended unexpectedly"):
        run_shared(settings, str(tmp_path / "is-not-there.jsonl"), 2, lambda clients: [0], lambda line: None)


def recording(folder: Path, *, every_ms: int, clients: int = 60) -> ReplaySettings:
    """Clients of two groups connect together and go offline one after the other; a rule logs each, a third line is none."""
    start_ms = 1_767_225_600_000
    names = [f"G{number % 2}@@@d{number}" for number in range(clients)]

    def line(client: str, kind: str, at_ms: int) -> str:
        return json.dumps({"clientId": client, "eventType": kind, "channelId": client, "time": at_ms})

    lines = [line(client, "connect", start_ms) for client in names]
    lines += [line(client, "tcpclean", start_ms + 1_000 + every_ms * turn) for turn, client in enumerate(names)]
    lines.insert(clients + 2, "no event")
    (folder / "events.jsonl").write_text("\n".join(lines) + "\n")
    rule = {"name": "gone", "trigger": "offline", "actions": [{"log": {"message": "{{ client.id }} is gone"}}]}
    (folder / "rules.yaml").write_text(json.dumps({"version": 1, "rules": [rule]}))
    (folder / "config.yaml").write_text(json.dumps({"version": 1, "rules": ["rules.yaml"]}))
    return settings_of(folder)


@pytest.mark.parametrize(
    ("burst", "every_ms", "held"),
    [
        (1, 500, 59),  # less than one a share
        (20, 500, 40),
        (58, 500, 2),  # a share has its part well before all have the whole
        (60, 500, 0),  # a share may have more than its part of what is within the whole
        (20, 6_000, 0),
        (0, 500, 0),  # no guard
    ],
)
def test_the_burst_guard_counts_over_all_shares(
    burst: int, every_ms: int, held: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recordings, "CHUNK_BYTES", 600)
    settings = replace(recording(tmp_path, every_ms=every_ms), burst=burst)
    expected, found = alone(settings, tmp_path), shared(settings, tmp_path, 3)
    told = [json.loads(line) for line in expected]
    assert sum(line.get("state") == "held" for line in told) == held
    assert sorted(found) == sorted(expected)
    assert found[-1] == expected[-1]
    assert instants(found) == sorted(instants(expected))


def test_a_summary_of_a_burst_is_shown_in_the_words_that_the_service_sends(tmp_path: Path) -> None:
    lines = alone(replace(recording(tmp_path, every_ms=500), burst=20), tmp_path)
    (summary,) = (line for line in map(json.loads, lines) if line.get("phase") == "summary")
    assert summary["request"]["message"].startswith(
        "gone decided more than 20 deliveries in a minute: the rest is held, 1 so far."
    )
    assert "template_error" not in summary
