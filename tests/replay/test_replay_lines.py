"""The lines of `rollcall replay` about outages, groups, roll calls and bursts, and two rule sets beside each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.command_line import command

START_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z
SAY = [{"log": {"message": "{{ rule.name }}"}}]
DARK = {
    "name": "dark",
    "trigger": "outage",
    "outage": {"at_least": 2, "within": "1m"},
    "actions": SAY,
    "on_recovery": SAY,
}
DOWN = {"name": "down", "trigger": "offline", "actions": SAY, "on_recovery": SAY}
TOLD = {"name": "told", "trigger": "offline", "match": {"group": "H"}, "actions": SAY, "on_recovery": SAY}
TOLD["grouping"] = {"by": ["group"], "wait": "10s", "interval": "1m"}
ROLL = {"name": "roll", "trigger": "schedule", "schedule": {"cron": "*/2 * * * *"}, "actions": SAY}
ROLL["condition"] = "status == 'offline'"


def row(at_s: int, client: str, kind: str, channel: str) -> str:
    told = {"clientId": client, "time": START_MS + at_s * 1_000, "eventType": kind, "channelId": channel}
    return json.dumps({**told, "clientIp": "10.0.0.1:1"})


def house(folder: Path, *rules: Any, **config: Any) -> None:
    """A configuration with these rules, and a recording: G's two go dark for a while, and one of H."""
    folder.mkdir(parents=True, exist_ok=True)
    base = {"version": 1, "data": "./data", "rules": "rules/", "sources": [{"name": "push", "type": "http"}]}
    (folder / "config.yaml").write_text(yaml.safe_dump(base | config))
    write_rules(folder / "rules", *rules)
    clients = ["G@@@a", "G@@@b", "H@@@x"]
    told = [row(0, client, "connect", "A") for client in clients]
    told += [row(60, client, "tcpclean", "A") for client in clients]
    told += [row(200, client, "connect", "B") for client in clients]
    (folder / "events.jsonl").write_text("\n".join([*told[:4], "nonsense", *told[4:]]) + "\n")


def write_rules(folder: Path, *rules: Any) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "all.yaml").write_text(yaml.safe_dump({"version": 1, "rules": list(rules)}))


def replay(folder: Path, *arguments: str) -> str:
    done = command(folder, "replay", "events.jsonl", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def lines(folder: Path, **wanted: Any) -> list[dict[str, Any]]:
    """The lines with these values."""
    found = [json.loads(line) for line in replay(folder, "--format", "jsonl").splitlines()]
    return [line for line in found if all(line.get(name) == value for name, value in wanted.items())]


def test_an_outage_has_no_client_and_a_key_and_its_deliveries_list_clients(tmp_path: Path) -> None:
    house(tmp_path, DARK, DOWN)
    fired, ended = lines(tmp_path, type="alert", rule="dark")
    assert fired == {"type": "alert", "rule": "dark", "client": None, "state": "firing", "key": {"group": "G"},
                     "at": "2026-01-01T00:01:30.000Z"}  # fmt: skip
    assert (ended["client"], ended["state"], ended["key"]) == (None, "resolved", {"group": "G"})
    told, back = lines(tmp_path, type="delivery", rule="dark")
    assert (told["client"], told["clients"], told["phase"]) == (None, ["G@@@a", "G@@@b"], "firing")
    assert (back["client"], back["clients"], back["phase"]) == (None, [], "recovery")
    assert told["key"] != back["key"] and isinstance(told["key"], str)
    held = lines(tmp_path, type="alert", rule="down", state="suppressed")
    assert [(line["client"], line["reason"]) for line in held] == [("G@@@a", "inhibited"), ("G@@@b", "inhibited")]
    assert {line["client"] for line in lines(tmp_path, type="alert", rule="down", state="resolved")} == {"H@@@x"}


def test_a_group_and_a_roll_call(tmp_path: Path) -> None:
    house(tmp_path, TOLD, ROLL)
    alerts = lines(tmp_path, type="alert", rule="told")
    assert [(line["client"], line["state"]) for line in alerts] == [("H@@@x", "firing"), ("H@@@x", "resolved")]
    first, last = lines(tmp_path, type="delivery", rule="told")
    assert (first["at"], first["client"], first["clients"]) == ("2026-01-01T00:01:40.000Z", None, ["H@@@x"])
    assert (last["at"], last["client"], last["phase"]) == ("2026-01-01T00:03:20.000Z", None, "recovery")
    (roll,) = lines(tmp_path, type="delivery", rule="roll")
    assert (roll["at"], roll["client"], roll["clients"]) == (
        "2026-01-01T00:02:00.000Z", None, ["G@@@a", "G@@@b", "H@@@x"])  # fmt: skip
    assert all(line["client"] is None and line["key"] == {} for line in lines(tmp_path, type="alert", rule="roll"))


def test_the_summary_is_last_and_counts_what_was_printed(tmp_path: Path) -> None:
    house(tmp_path, DARK, DOWN, TOLD, ROLL, deliveries={"burst": 1})
    found = lines(tmp_path)
    count = {kind: sum(line["type"] == kind for line in found) for kind in ("delivery", "transition", "rejected")}
    assert found[-1] == {
        "type": "summary", "events": 9, "rejected": count["rejected"], "clients": 3, "online": 3, "offline": 0,
        "transitions": count["transition"], "flaps_suppressed": 0, "deliveries": count["delivery"],
    }  # fmt: skip
    assert count["rejected"] == 1
    clocks = [
        line.get("at") or line["settled_at"] for line in found if line["type"] in ("transition", "alert", "delivery")
    ]
    assert clocks == sorted(clocks)


def test_a_table_shows_the_client_and_when_in_an_alerts_life_and_what_would_not_be_sent(tmp_path: Path) -> None:
    house(tmp_path, DARK, {**DOWN, "match": {"group": "G"}, "name": "up", "trigger": "online"}, deliveries={"burst": 1})
    told = replay(tmp_path).splitlines()
    assert '2026-01-01T00:03:20.000Z  dark  {"group": "G"}  log recovery: dark' in told
    assert (
        len([line for line in told if line.startswith("2026-01-01T00:03:20.000Z  up") and "log (held): up" in line])
        == 1
    )
    assert "2026-01-01T00:01:30.000Z  dark  G@@@a, G@@@b  log: dark" in told
    assert not [line for line in told if '"019' in line]  # nobody reads a delivery's own key
    page = replay(tmp_path, "--format", "html")
    assert "(held)" in page and "G@@@a, G@@@b" in page


def test_two_rule_sets_differ_in_outages_of_other_keys(tmp_path: Path) -> None:
    """Both sides have a `dark` that fires at one instant; only what it is about differs. `--against` names the old rules."""
    by_net = {**DARK, "outage": {"at_least": 2, "within": "1m", "by": ["ip/24"]}}
    house(tmp_path, DARK)
    write_rules(tmp_path / "other", by_net)
    told = replay(tmp_path, "--against", "other").splitlines()
    assert '+ 2026-01-01T00:01:30.000Z  dark  {"group": "G"}  firing' in told
    assert '- 2026-01-01T00:01:30.000Z  dark  {"ip/24": "10.0.0.0/24"}  firing' in told
    assert "Differences" in replay(tmp_path, "--against", "other", "--format", "html")
    changes = [json.loads(line) for line in replay(tmp_path, "--against", "other", "--format", "jsonl").splitlines()]
    assert {(line["type"], line["side"]) for line in changes} == {("diff", "only_new"), ("diff", "only_old")}
    assert [line["kind"] for line in changes if line["side"] == "only_old"].count("delivery") == 2
    assert replay(tmp_path, "--against", "rules").splitlines()[-1] == "0 differences"


def test_a_comparison_begins_with_what_each_rule_does_before_and_after(tmp_path: Path) -> None:
    mail = {"email": {"to": ["a@example.com", "b@example.com"], "subject": "x", "text": "x"}}
    hook = {"webhook": {"url": "https://pager.example.com/x", "json": {}}}
    down = {"name": "down", "trigger": "offline", "actions": [hook, {"log": {"message": "x"}}]}
    house(tmp_path, {**down, "actions": [mail]}, {**down, "name": "new", "shadow": True})
    write_rules(tmp_path / "other", down, {**down, "name": "old"})
    assert replay(tmp_path, "--against", "other").splitlines()[:4] == [
        "rule  firings  deliveries  people",
        "down  3 -> 3   6 -> 3      3 -> 6",
        "new   0 -> 3   0 -> 0      0 -> 0",
        "old   3 -> 0   6 -> 0      3 -> 0",
    ]
    page = replay(tmp_path, "--against", "other", "--format", "html")
    assert "Rules (3)" in page and "3 → 6" in page


@pytest.mark.parametrize(("against", "code"), [("other", 1), ("rules", 0)])
def test_a_difference_can_be_the_answer_no(tmp_path: Path, against: str, code: int) -> None:
    house(tmp_path, DARK)
    write_rules(tmp_path / "other", {**DARK, "name": "renamed"})
    assert command(tmp_path, "replay", "events.jsonl", "--against", against, "--fail-on-diff").returncode == code
    assert command(tmp_path, "replay", "events.jsonl", "--fail-on-diff").returncode == 2
