"""What operators do in a scenario: silences and acknowledgements, at their instants."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.core.rules import Action, Rule
from engine.errors import InvalidFiles
from engine.replay.scenarios.diff import offset
from engine.replay.scenarios.file import load_scenarios
from engine.replay.scenarios.runner import ScenarioRunner
from engine.replay.scenarios.scenario import AckAct, SilenceAct
from tests.replay.test_command import CONTRACT
from tests.replay.writing import GONE, passing, run, write

LOG = Action(kind="log", spec={"message": "x"})
QUIET = {"match": {"group": "G"}, "for": "10m"}


def told(folder: Path, *rules: Rule, **test: Any) -> list[str]:
    """The acts, alerts and deliveries that a test saw, with their offsets."""
    file = load_scenarios(write(folder, {"name": "x", "events": GONE, **test}))
    outcome = ScenarioRunner(replace(file, rules=rules or file.rules)).run(file.scenarios[0])
    found = []
    for seen in outcome.timeline:
        at, line = offset(seen.at_ms - outcome.scenario.start_ms), seen.line
        if line["type"] == "act":
            found.append(f"{at} {line['text']}")
        elif line["type"] == "alert" and line["state"] != "pending":
            found.append(f"{at} {line['state']} {line.get('reason', '')}".strip())
        elif line["type"] == "delivery":
            found.append(f"{at} > {line['phase']}")
    return found


def test_a_silence_keeps_a_page_back_until_it_ends(tmp_path: Path) -> None:
    acts = [{"at": "2m", "silence": QUIET}]
    assert told(tmp_path, acts=acts, until="11m59s") == [
        '2m silence {"group": "G"} for 10m',
        "6m2s suppressed silence",
    ]
    assert told(tmp_path, acts=acts, until="12m")[2:] == ["12m firing", "12m > firing"]


def test_a_silence_of_others_keeps_nothing_back(tmp_path: Path) -> None:
    acts = [{"at": "2m", "silence": {"match": {"client": "G@@@x*"}, "for": "1h"}}]
    assert told(tmp_path, acts=acts)[1:] == ["6m2s firing", "6m2s > firing"]


@pytest.mark.parametrize("ack", ["sticky G@@@p1", "sticky  G@@@p1"])
def test_an_acknowledged_alert_sends_no_reminder(tmp_path: Path, ack: str) -> None:
    sticky = Rule(name="sticky", triggers=("offline",), actions=(LOG,), repeat_ms=600_000)
    pages = [line for line in told(tmp_path, sticky, until="40m") if ">" in line]
    assert [line.split()[0] for line in pages] == ["1m32s", "11m32s", "21m32s", "31m32s"]
    file = load_scenarios(write(tmp_path, {"name": "x", "events": GONE, "until": "40m"}))
    act = AckAct(at_ms=file.scenarios[0].start_ms + 720_000, text="ack", rule="sticky", client="G@@@p1", alert=None)
    scenario = replace(file.scenarios[0], acts=(act,))
    outcome = ScenarioRunner(replace(file, rules=(sticky,))).run(scenario)
    assert sum(seen.line["type"] == "delivery" for seen in outcome.timeline) == 2
    assert [seen.line["text"] for seen in outcome.timeline if seen.line["type"] == "act"] == [
        "ack (1 alert acknowledged)"
    ]


def test_operators_act_after_what_is_due_and_before_the_events_of_their_instant(tmp_path: Path) -> None:
    acts = [{"at": "6m2s", "silence": QUIET}]
    assert told(tmp_path, acts=acts) == ["6m2s firing", "6m2s > firing", '6m2s silence {"group": "G"} for 10m']
    instant = Rule(name="pump-offline", triggers=("first_seen",), actions=(LOG,))
    assert told(tmp_path, instant, acts=[{"at": "0s", "silence": QUIET}])[1] == "0s suppressed silence"


def test_an_act_after_the_last_event_is_carried_out(tmp_path: Path) -> None:
    assert told(tmp_path, acts=[{"at": "1h", "ack": "pump-offline G@@@p1"}])[-1] == (
        "1h ack pump-offline G@@@p1 (1 alert acknowledged)"
    )
    assert told(tmp_path, acts=[{"at": "5m", "ack": "pump-offline G@@@p1"}])[0] == (
        "5m ack pump-offline G@@@p1 (no alerts acknowledged)"
    )


def test_acts_are_read(tmp_path: Path) -> None:
    acts = [
        {"at": "1m", "silence": {**QUIET, "author": "ann", "comment": "works"}},
        {"at": "2m", "ack": "pump-offline G@@@my pump"},
        {"at": "3m", "ack": "0" * 28},
    ]
    silence, ack, other = load_scenarios(write(tmp_path, passing(acts=acts))).scenarios[0].acts
    assert isinstance(silence, SilenceAct)
    assert (silence.match.group, silence.for_ms, silence.author, silence.comment) == (("G",), 600_000, "ann", "works")
    assert isinstance(ack, AckAct)
    assert (ack.rule, ack.client, ack.alert) == ("pump-offline", "G@@@my pump", None)
    assert isinstance(other, AckAct)
    assert (other.rule, other.client, other.alert) == (None, None, "0" * 28)


@pytest.mark.parametrize(
    ("act", "said"),
    [
        ({"at": "1m"}, "acts[0]: must contain either `silence` or `ack`"),
        ({"at": "1m", "silence": QUIET, "ack": "pump-offline p"}, "acts[0]: must contain either `silence` or `ack`"),
        ({"at": "1m", "silence": {"for": "1h"}}, "acts[0].silence: `match` is missing"),
        ({"at": "1m", "silence": {"match": {"grp": "G"}, "for": "1h"}}, "unknown key `grp`; did you mean `group`?"),
        ({"at": "1m", "silence": {"match": {"group": "re:("}, "for": "1h"}}, "acts[0].silence.match.group"),
        ({"at": "1m", "silence": {"match": {"group": "G"}, "until": "1h"}}, "unknown key `until`; write `for`"),
        ({"at": "1m", "ack": "pump-ofline G@@@p1"}, "there is no rule `pump-ofline`; did you mean `pump-offline`?"),
        ({"at": "1m", "mute": {}}, "unknown key `mute`; write `silence`"),
        ({"at": "2h", "ack": "pump-offline p"}, "acts[0].at: is after `until` (1h)"),
    ],
)
def test_an_act_that_cannot_be_says_why(tmp_path: Path, act: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidFiles) as refused:
        load_scenarios(write(tmp_path, passing(acts=[act], until="1h")))
    assert said in str(refused.value)


def test_the_whole_example_of_the_contract_loads_and_its_silence_keeps_the_page_back(tmp_path: Path) -> None:
    """Its answers and acts show the form; with them, the silence covers the very client it expects a page for."""
    more = """\
    answers: [{at: 6m, client: G@@@p1, connections: 0}]   # optional: what a synchronous query would say, from then on
    acts: [{at: 2m, silence: {match: {group: G}, for: 1h}}, {at: 9m, ack: pump-offline G@@@p1}]    # optional: operators
"""
    write(tmp_path).write_text(CONTRACT.replace("    until: 20m ", f"{more}    until: 20m "))
    done = run(tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert "alert pump-offline G@@@p1 suppressed (silence)" in done.stdout
    assert "expect[0]: this did not happen" in done.stdout
