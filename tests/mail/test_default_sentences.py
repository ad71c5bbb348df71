"""Default subjects and texts say what happened, how many of how many, and since when: for every trigger, at every point of its life."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from engine.core.rules import TRIGGERS
from engine.templates.defaults import default_text
from engine.templates.email import default_subject
from tests.acceptance.service import Service, event

MINUTE = 60_000
START = 1_767_225_600_000  # 2026-01-01T00:00:00Z


def mails(name: str, trigger: str, **more: Any) -> dict[str, Any]:
    mail = [{"email": {"to": "ops@example.com"}}]
    return {"name": name, "trigger": trigger, "flapping": "fire", "actions": mail, "on_recovery": mail, **more}


def replayed(folder: Path, rule: dict[str, Any], lines: list[tuple[str, str, str, float]], **config: Any) -> list[Any]:
    """The mails of a rule over some events (client, type, channel, minutes), as (subject, text)."""
    smtp = {"host": "mail.example.com", "from": "r@example.com"}
    running = Service(folder, smtp=smtp, **config)
    if rule["trigger"] in {"first_seen", "stable", "schedule"}:
        rule.pop("on_recovery")
    running.rules(rule)
    written = [event(client, kind, channel, START + int(at * MINUTE)) for client, kind, channel, at in lines]
    (folder / "events.jsonl").write_text("\n".join(written))
    sent = [line for line in running.printed("replay", "events.jsonl") if line["type"] == "delivery"]
    assert all("template_error" not in line["request"] for line in sent)
    return [(line["request"]["subject"], line["request"]["text"].split("\n")[0]) for line in sent]


def moves(kind: str, channel: str, at: float, *devices: str) -> list[tuple[str, str, str, float]]:
    return [(f"H@@@{device}", kind, channel, at) for device in devices]


def test_one_client_offline_reminded_of_and_back(tmp_path: Path) -> None:
    lines = [*moves("connect", "1", 0, "a"), *moves("tcpclean", "1", 1, "a"), *moves("connect", "2", 8, "a")]
    assert replayed(tmp_path, mails("dark", "offline", repeat="5m"), lines) == [
        ("[warning] dark: a is offline since 2026-01-01 00:01:00 UTC", "H@@@a is offline."),
        ("[warning, reminder] dark: a is still offline since 2026-01-01 00:01:00 UTC", "H@@@a is still offline."),
        (
            "[resolved] dark: a is online again; the alert lasted 7m, from 2026-01-01 00:01:00 UTC",
            "H@@@a is online again.",
        ),
    ]


def test_a_group_firing_updated_reminded_of_and_over(tmp_path: Path) -> None:
    rule = mails("dark", "offline", grouping={"by": ["group"], "wait": "10s", "interval": "1m"}, repeat="5m")
    lines = [
        *moves("connect", "1", 0, "a", "b", "c"),
        *moves("tcpclean", "1", 1, "a", "b"),
        *moves("tcpclean", "1", 3, "c"),
        *moves("connect", "2", 10, "a", "b", "c"),
    ]
    began = "since 2026-01-01 00:01:00 UTC"
    assert replayed(tmp_path, rule, lines) == [
        (f"[warning] dark: 2 clients of group H are offline {began}", "2 clients of group H are offline."),
        (
            f"[warning, update] dark: now 3 clients of group H are offline, the first {began}",
            "now 3 clients of group H are offline.",
        ),
        (
            f"[warning, reminder] dark: 3 clients of group H are still offline, the first {began}",
            "3 clients of group H are still offline.",
        ),
        (
            f"[warning, update] dark: now 2 clients of group H are offline, the first {began}",
            "now 2 clients of group H are offline.",
        ),
        (
            "[resolved] dark: 2 clients of group H are online again; the alert lasted 10m, from 2026-01-01 00:01:00 UTC",
            "2 clients of group H are online again.",
        ),
    ]


def test_an_outage_firing_reminded_of_and_over(tmp_path: Path) -> None:
    rule = mails("out", "outage", outage={"by": ["group"], "at_least": 3}, repeat="5m")
    devices = ["a", "b", "c", "d"]
    lines = [
        *moves("connect", "1", 0, *devices),
        *moves("tcpclean", "1", 1, *devices),
        *moves("connect", "2", 2, "a"),
        *moves("connect", "2", 8, "b", "c", "d"),
    ]
    began = "since 2026-01-01 00:01:00 UTC"
    found = replayed(tmp_path, rule, lines)
    assert found[0] == (
        f"[warning] out: outage of group H: 3 clients offline {began}",
        "outage of group H: 3 clients offline.",
    )
    assert found[1] == (
        f"[warning, reminder] out: outage of group H: 3 of 4 clients still offline {began}",
        "outage of group H: 3 of 4 clients still offline.",
    )
    assert found[2][0].startswith(
        "[resolved] out: outage of group H is over: all 4 clients back online; the alert lasted 7m, from"
    )


def test_a_roll_call_says_how_many_of_how_many(tmp_path: Path) -> None:
    rule = mails("out", "schedule", schedule={"cron": "5 * * * *"}, condition="status == 'offline'")
    lines = [
        *moves("connect", "1", 0, "a", "b", "c"),
        *moves("tcpclean", "1", 1, "a", "b"),
        *moves("connect", "9", 6, "z"),
    ]
    assert replayed(tmp_path, rule, lines) == [
        ("[warning] out: 2 of 3 clients are offline at 2026-01-01 00:05:00 UTC", "2 of 3 clients are offline.")
    ]


def test_what_fires_together_after_a_throttle_is_counted(tmp_path: Path) -> None:
    rule = mails("dark", "offline", throttle={"max": 1, "per": "5m", "by": ["group"]})
    lines = [*moves("connect", "1", 0, "a", "b", "c"), *moves("tcpclean", "1", 1, "a", "b", "c")]
    subjects = [subject for subject, _ in replayed(tmp_path, rule, lines)]
    assert subjects[1] == "[warning] dark: 2 clients of group H are offline since 2026-01-01 00:01:00 UTC"


def test_several_are_offline_since_the_first_of_them_went_and_not_since_their_alert_was_due(tmp_path: Path) -> None:
    rule = mails("dark", "offline", **{"for": "10m"}, grouping={"by": ["group"], "wait": "1m"})
    lines = [*moves("connect", "1", 0, "a", "b"), *moves("tcpclean", "1", 1, "a"), *moves("tcpclean", "1", 1.5, "b")]
    sent = [subject for subject, _ in replayed(tmp_path, rule, lines)]
    assert sent == ["[warning] dark: 2 clients of group H are offline, the first since 2026-01-01 00:01:00 UTC"]


def test_how_long_an_alert_lasted_is_said_in_whole_seconds(tmp_path: Path) -> None:
    lines = [*moves("connect", "1", 0, "a"), *moves("tcpclean", "1", 1, "a"), *moves("connect", "2", 2.00505, "a")]
    subject, _ = replayed(tmp_path, mails("dark", "offline"), lines)[1]
    assert subject == "[resolved] dark: a is online again; the alert lasted 1m, from 2026-01-01 00:01:00 UTC"


PHASES = ["firing", "update", "reminder", "recovery"]


@pytest.mark.parametrize("trigger", TRIGGERS)
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("count", [1, 3])
def test_every_trigger_has_a_sentence_with_what_how_many_and_since_when(trigger: str, phase: str, count: int) -> None:
    is_over = phase == "recovery"
    clients = [f"G@@@d{number}" for number in range(count)]
    alert: dict[str, Any] = {
        "id": "a",
        "state": "resolved" if is_over else "firing",
        "phase": phase,
        "trigger": trigger,
        "started_at": "2026-01-01T00:00:05.000Z",
        "duration": 62,
        "count": count,
        "clients": clients,
        "members": [
            {"id": client, "status": "offline", "occurred_at": "2026-01-01T00:00:05.000Z"} for client in clients
        ],
        "key": {"site": "north"} if count > 1 else {},
    }
    seen: dict[str, Any] = {"rule": {"name": "r", "severity": "critical"}, "alert": alert, "client": None}
    if trigger == "feed":
        alert |= {"source": "broker", "detail": "disconnected: the connection was refused", "count": 1}
    elif trigger == "outage":
        alert |= {"total": 4, "back": 4 if is_over else 1}
    elif trigger in {"schedule", "quorum"}:
        alert |= {"total": 9}
    if trigger == "quorum":
        seen |= {"occurred_at": alert["started_at"]}
    if count == 1 and trigger not in {"feed", "outage", "schedule", "quorum"}:
        seen |= {
            "client": {"id": "G@@@d0", "device": "d0"},
            "status": "offline",
            "occurred_at": "2026-01-01T00:00:05.000Z",
        }
    subject = default_subject("firing" if phase == "update" else phase, seen)
    for text in (subject, default_text(seen)):
        assert re.search(r"(since|at|from) 2026-01-01 00:00:05 UTC", text), text
        assert not re.search(r"\s{2}|None|: is |\bis$|: +since", text), text
        if trigger == "feed":
            assert "broker" in text
        elif trigger in {"outage", "schedule", "quorum"}:
            assert re.search(r"\d of \d clients|all 4 clients", text), text
        else:
            assert (f"{count} clients of site north" if count > 1 else "d0") in text
    if is_over and trigger not in {"first_seen", "stable", "schedule"}:
        assert "lasted 1m2s" in subject
    elif phase == "reminder":
        assert "still" in subject
