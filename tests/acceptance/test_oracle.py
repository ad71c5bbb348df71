"""The product's replay against an independent, naive reading of its rules, over seeded adversarial traces.

A failure prints the smallest trace found that still disagrees; put it into `tests/oracle/histories` with `keep` once it is
understood. Thousands of seeds: `ROLLCALL_ORACLE_SEEDS=5000 pytest tests/acceptance/test_oracle.py`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.oracle import bundle_traces
from tests.oracle.oracle import Line, expected
from tests.oracle.running import disagreements, kept, replay_as_a_process, replay_in_process, shrunk, told
from tests.oracle.settings import Settings
from tests.oracle.traces import START_MS, Scenario, scenario

SEEDS = int(os.environ.get("ROLLCALL_ORACLE_SEEDS", "600"))
SEEDS_EVERY_TIME = 100
SEEDS_A_TEST = 50
HISTORIES = sorted((Path(__file__).parents[1] / "oracle" / "histories").glob("*.jsonl"))


def assert_agreement(trial: Scenario, name: str) -> None:
    """Fail with a shrunk trace when the product and the oracle differ."""
    if disagreements(trial, replay_in_process):
        small = shrunk(trial, lambda candidate: bool(disagreements(candidate, replay_in_process)))
        pytest.fail(f"{name} disagrees:\n{told(small, disagreements(small, replay_in_process))}")


@pytest.mark.parametrize(
    "first",
    [
        first if first < SEEDS_EVERY_TIME else pytest.param(first, marks=pytest.mark.long)
        for first in range(0, SEEDS, SEEDS_A_TEST)
    ],
)
def test_replay_and_the_oracle_agree_on_every_line_of_adversarial_traces(first: int) -> None:
    for seed in range(first, min(first + SEEDS_A_TEST, SEEDS)):
        assert_agreement(scenario(seed), f"seed {seed}")


@pytest.mark.parametrize(
    "first",
    [
        first if not first else pytest.param(first, marks=pytest.mark.long)
        for first in range(0, SEEDS, SEEDS_A_TEST * 2)
    ],
)
def test_replay_and_the_oracle_agree_on_what_fires_together(first: int) -> None:
    for seed in range(first, min(first + SEEDS_A_TEST * 2, SEEDS)):
        assert_agreement(bundle_traces.scenario(seed), f"bundle seed {seed}")


@pytest.mark.parametrize("file", HISTORIES, ids=lambda file: file.stem)
def test_histories_that_once_disagreed_agree(file: Path) -> None:
    assert_agreement(kept(file), file.stem)


def test_the_command_as_a_process_prints_the_same_as_in_process() -> None:
    assert disagreements(scenario(7), replay_as_a_process) == disagreements(scenario(7), replay_in_process) == []


# The oracle itself, held to lines worked out by hand.


def lines_of(rule: dict[str, object], *story: tuple[int, str, str, str]) -> list[Line]:
    """What the oracle expects of (second, client, kind, channel)s under one rule: hold 30 s, flapping 4 → 1 in 60 s."""
    settings = Settings(
        skew=1000, offline=30_000, online=0, overrides=[], start=4, stop=1, window=60_000, max_future=60_000,
        rules=[{"name": "r", "actions": [{"log": {"message": "x"}}], **rule}], inventory=[],
    )  # fmt: skip
    trace = [
        {"clientId": client, "time": START_MS + second * 1000, "eventType": kind, "channelId": channel}
        for second, client, kind, channel in story
    ]
    return expected(settings, "\n".join(json.dumps(event) for event in trace).encode())


def alerts_of(lines: list[Line]) -> list[tuple[str, str, str]]:
    """(minutes and seconds, client, state or reason) of every alert line."""
    return [
        (line["at"][14:19], line["client"], line.get("reason") or line["state"])
        for line in lines
        if line["type"] == "alert"
    ]


def test_the_oracle_settles_a_silent_cut_after_the_hold() -> None:
    lines = lines_of({"trigger": "offline"}, (0, "g@@@a", "connect", "1"), (60, "g@@@a", "tcpclean", "1"))
    assert [(line["status"], line["settled_at"][14:19]) for line in lines if line["type"] == "transition"] == [
        ("online", "00:00"),
        ("offline", "01:30"),
    ]
    assert alerts_of(lines) == [("01:30", "g@@@a", "firing")]


def test_the_oracle_drops_an_alert_whose_client_is_back_in_the_instant_it_is_due() -> None:
    story = [(0, "g@@@a", "connect", "1"), (10, "g@@@a", "tcpclean", "1"), (40, "g@@@a", "connect", "2")]
    assert alerts_of(lines_of({"trigger": "offline", "for": "31s"}, *story)) == []
    assert alerts_of(lines_of({"trigger": "offline"}, *story)) == [
        ("00:40", "g@@@a", "firing"),
        ("00:40", "g@@@a", "resolved"),
    ]


def test_the_oracle_releases_all_that_a_throttle_held_as_one_delivery() -> None:
    story = [(second, f"g@@@{device}", "tcpclean", "1") for second, device in enumerate("abc")]
    lines = lines_of({"trigger": "offline", "throttle": {"max": 1, "per": "1m"}}, *story)
    assert alerts_of(lines) == [
        ("00:30", "g@@@a", "firing"),
        ("00:31", "g@@@b", "throttle"),
        ("00:32", "g@@@c", "throttle"),
        ("01:30", "g@@@b", "firing"),
        ("01:30", "g@@@c", "firing"),
    ]
    assert [line.get("clients") for line in lines if line["type"] == "delivery"] == [None, ["g@@@b", "g@@@c"]]


def test_the_oracle_tells_what_fired_together_as_one_thing_until_the_last_of_it_is_back() -> None:
    story = [(second, f"g@@@{device}", "tcpclean", "1") for second, device in enumerate("abcd")]
    story += [(100, "g@@@b", "connect", "2"), (200, "g@@@b", "tcpclean", "2"), (400, "g@@@c", "connect", "2")]
    story += [(401, "g@@@b", "connect", "3"), (402, "g@@@d", "connect", "2")]
    rule: dict[str, object] = {
        "trigger": "offline",
        "throttle": {"max": 1, "per": "1m"},
        "on_recovery": [{"log": {"message": "x"}}],
    }
    told = [line for line in lines_of(rule, *story) if line["type"] == "delivery"]
    assert [(line["at"][14:19], line["phase"], line.get("clients") or line["client"]) for line in told] == [
        ("00:30", "firing", "g@@@a"),
        ("01:30", "firing", ["g@@@b", "g@@@c", "g@@@d"]),
        ("03:50", "firing", "g@@@b"),
        ("06:30", "firing", ["g@@@c", "g@@@d"]),  # b was back at 1:40: five minutes after the first list
        ("06:41", "recovery", "g@@@b"),
        ("11:30", "recovery", ["g@@@c", "g@@@d"]),  # five minutes after the second
    ]
    bundle = {line["about"] for line in told if "clients" in line}
    assert len(bundle) == 1
    assert not bundle & {line["about"] for line in told if "clients" not in line}


def test_the_oracle_fires_what_flapping_held_back_when_it_stops() -> None:
    story = [(0, "g@@@a", "connect", "1"), (5, "g@@@a", "tcpclean", "1")]
    story += [(10, "g@@@a", "connect", "2"), (20, "g@@@a", "tcpclean", "2")]
    assert alerts_of(lines_of({"trigger": "offline"}, *story)) == [
        ("00:50", "g@@@a", "flapping"),
        ("01:10", "g@@@a", "firing"),
    ]
