"""Whatever a fleet does: when all are back and it has been quiet, every incident that was opened is closed.

The rules below tell one pager about single alerts, groups, outages and what fires together after a mute or a throttle. The engine's
deliveries of a scenario go, in their order, to a stand-in that keeps incidents as PagerDuty does.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.actions.receivers.base import PHASES, Message
from tests.command_line import command
from tests.receivers.neighbours import NEIGHBOURS, in_process
from tests.receivers.opsgenie_stand_in import OpsgenieStandIn
from tests.receivers.pagerduty_stand_in import PagerDutyStandIn

CLIENTS = [f"G@@@d{number}" for number in range(6)]
NOTIFY = [{"notify": "pager"}]


def rule(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "trigger": "offline", "actions": NOTIFY, "on_recovery": NOTIFY, **more}


RULES = [
    rule("single", repeat="7m", inhibited_by=["storm"]),
    rule("slow", **{"for": "2m"}, escalate=[{"after": "3m", "actions": NOTIFY, "on_recovery": NOTIFY}]),
    rule("grouped", grouping={"by": ["group"], "wait": "20s", "interval": "3m"}, repeat="10m"),
    rule("throttled", throttle={"max": 1, "per": "5m"}),
    rule("muted", mute=[{"hours": "00:02-00:12"}]),
    rule("storm", trigger="outage", outage={"by": ["group"], "at_least": 3, "within": "1m"}),
    rule("half", trigger="quorum", quorum={"by": ["group"], "down": 3}),
    rule("flaps", trigger="flapping"),
    rule("twice", trigger="duplicate"),
]
CONFIG = {
    "debounce": {"offline": "10s"},
    "flapping": {"start": 4, "stop": 1, "window": "3m"},
    "receivers": {"pager": {"type": "pagerduty", "routing_key": {"env": "PD_KEY"}}},
}

STEPS = st.lists(st.tuples(st.integers(2, 120), st.sampled_from(CLIENTS), st.booleans()), min_size=1, max_size=40)


def scenario(steps: list[tuple[int, str, bool]]) -> list[str]:
    """Events of these steps: (seconds after the one before, client, whether it comes); in the end all are there.

    Two seconds at least: two connections at one instant would both be live.
    """
    at, channels, events = 0, dict.fromkeys(CLIENTS, 0), []
    for pause, client, comes in [
        *[(0, client, True) for client in CLIENTS],
        *steps,
        *[(2, client, True) for client in CLIENTS],
    ]:
        at += pause
        if comes:
            channels[client] += 1
        events.append(f"{at}s {client} {'connect' if comes else 'tcpclean'} C{channels[client]}")
    return events


ACKS = st.lists(
    st.tuples(
        st.integers(0, 3000), st.sampled_from(["single", "slow", "throttled", "muted"]), st.sampled_from(CLIENTS)
    ),
    max_size=4,
)


def told(folder: Path, steps: list[tuple[int, str, bool]], acks: Sequence[tuple[int, str, str]] = ()) -> list[Message]:
    """What the receiver is sent in a scenario; `acks`: (seconds after the start, rule, client)."""
    (folder / "rules.yaml").write_text(json.dumps({"version": 1, "rules": RULES}))
    events = scenario(steps)
    test: dict[str, Any] = {
        "name": "x",
        "events": events,
        "until": f"{int(events[-1].partition('s')[0]) + 14_400}s",
        "expect": [],
    }
    test["acts"] = [{"at": f"{at}s", "ack": f"{name} {client}"} for at, name, client in sorted(acks)]
    (folder / "x.test.yaml").write_text(
        json.dumps({"version": 1, "rules": "rules.yaml", "config": CONFIG, "tests": [test]})
    )
    done = command(folder, "test", "x.test.yaml", "--format", "jsonl")
    found = json.loads(done.stdout.splitlines()[0])
    assert found["passed"] is not ("timeline" in found), done  # without any delivery the test passes
    sent = [line for line in found.get("timeline", []) if line["type"] == "delivery"]
    assert {line["action"] for line in sent} <= {"notify"}
    return [Message.of(line["request"]) for line in sent]


@settings(max_examples=25)
@given(STEPS, ACKS)
def test_every_incident_that_was_opened_is_closed(
    steps: list[tuple[int, str, bool]], acks: list[tuple[int, str, str]]
) -> None:
    pager, opsgenie = PagerDutyStandIn(), OpsgenieStandIn()
    with tempfile.TemporaryDirectory() as folder:
        messages = told(Path(folder), steps, acks)
    for one in messages:
        in_process("pagerduty", one, pager)
        in_process("opsgenie", one, opsgenie)
    assert pager.complaints == opsgenie.complaints == []
    assert (pager.open, opsgenie.open) == ({}, {})
    # A step that was sent has a recovery of its own, at once after that of its rule, which has closed the incident.
    of_steps = [
        two
        for one, two in pairwise(messages)
        if one.rule == two.rule == "slow" and one.incident == two.incident and one.phase == two.phase == "recovery"
    ]
    assert pager.of_nothing == len(of_steps)
    assert pager.opened == pager.closed == opsgenie.opened == opsgenie.closed


@pytest.mark.parametrize("name", ["slack", "telegram", "dingtalk"])
def test_a_storm_is_told_to_chats_with_its_incident(name: str, tmp_path: Path) -> None:
    steps = [(60, CLIENTS[0], False), (70, CLIENTS[1], False), (900, CLIENTS[0], True), (2, CLIENTS[1], True)]
    steps += [(900, CLIENTS[0], False), *[(2, client, False) for client in CLIENTS[1:]], (600, CLIENTS[0], True)]
    messages = told(tmp_path, steps, [(200, "single", CLIENTS[0])])
    stand_in = NEIGHBOURS[name].make()
    for one in messages:
        in_process(name, one, stand_in)
    assert stand_in.complaints == []
    assert [one.incident in shown.text for one, shown in zip(messages, stand_in.shown, strict=True)] == [True] * len(
        messages
    )
    assert {one.phase for one in messages} == set(PHASES) - {"summary"}
    assert {one.rule for one in messages} >= {"single", "slow", "half", "grouped", "throttled", "muted", "storm"}
