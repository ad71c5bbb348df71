"""What services are told, as their stand-ins take it: every phase, hostile ids, many clients."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from engine.actions.receivers.base import PHASES, Message
from engine.actions.receivers.wording import clean
from engine.core.delivery import Delivered
from tests.receivers.neighbours import (
    CHATS,
    LINK,
    NEIGHBOURS,
    NOW_S,
    RUNBOOK_SENT,
    in_process,
    message,
    over_http,
    service_of,
)
from tests.receivers.opsgenie_stand_in import OpsgenieStandIn
from tests.receivers.pagerduty_stand_in import PagerDutyStandIn
from tests.receivers.stand_in import Loopback

SENT = {LINK, RUNBOOK_SENT}
"""The only addresses that a message may have to click on."""

KEEPS_INCIDENTS = ("pagerduty", "opsgenie")
"""Services in which an incident stays open until it is closed."""

HOSTILE = [
    "<!channel>", "<!here|x>", "<@U024BE7LH>", "@everyone", "@here", "@all", "<@all>", "<@123456>", "<at id=all></at>",
    "[click](http://evil.example)", "evil.example", "https://evil.example/x", "<https://evil.example|Open in Rollcall>",
    "**bold** _it_ `code` ~no~ ||spoiler||", "<b>bold</b>&amp;", "</code></pre><a href='http://evil.example'>x</a>", "# heading", "> quote",
    "gpj\u202eexe", "zero\u200bwidth", "line\u2028break", "a\x00b\x1b[31m\nnext", "half\ud800", "\U0001f389" * 40, "x" * 3000,
    "/start@bot #tag $USD +491234567890", '"}],"a":[{"', "{{DATE(2020-01-01T00:00:00Z)}}", "\\[x\\](http://evil.example)", "\\", "](",
    "<font color=\"#ff0000\">red</font>", "%s %n {0} ${x}",
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "phase"),
    [(name, phase) for name in NEIGHBOURS for phase in PHASES if phase != "summary" or name not in KEEPS_INCIDENTS],
)
def test_every_phase_is_delivered(name: str, phase: str, loopback: Loopback) -> None:
    stand_in = loopback.stand_ins[name]
    over_http(name, message(), f"{loopback.url}/{name}")
    ended = 1_780_000_060_000 if phase == "recovery" else None
    said = message(phase=phase, ended_at_ms=ended, acknowledged_by="anna" if phase == "acknowledged" else "")
    assert over_http(name, said, f"{loopback.url}/{name}") == Delivered()
    assert stand_in.complaints == []


@pytest.mark.parametrize("name", KEEPS_INCIDENTS)
def test_a_summary_of_held_deliveries_opens_no_incident_because_nothing_would_close_it(name: str) -> None:
    summary = message(phase="summary", incident="burst:1")
    assert service_of(name).request(summary, NEIGHBOURS[name].at("http://127.0.0.1:1"), NOW_S) is None


@pytest.mark.parametrize("name", NEIGHBOURS)
@pytest.mark.parametrize("hostile", HOSTILE, ids=[ascii(one)[:24] for one in HOSTILE])
def test_a_hostile_id_is_a_text_and_nothing_else(name: str, hostile: str) -> None:
    stand_in = NEIGHBOURS[name].make()
    told = message(
        title=f"rule: {hostile} is offline",
        text=f"It is {hostile}.\n{hostile}",
        clients=(hostile,),
        key={"id": hostile},
    )
    in_process(name, told, stand_in)
    assert stand_in.complaints == []
    (shown,) = stand_in.shown
    assert shown.mentions == ()
    assert set(shown.links) <= SENT
    if name != "wecom":  # it shows some characters as their twins
        assert clean(hostile)[:60] in shown.text.replace("  \n", "\n")


def test_wecom_shows_what_could_be_markup_as_its_twin() -> None:
    stand_in = NEIGHBOURS["wecom"].make()
    in_process("wecom", message(text="<@all> [x](y) *b* `c`"), stand_in)
    assert "＜@all＞ ［x］(y) ＊b＊ ｀c｀" in stand_in.shown[0].text


CLIENTS = tuple(f"GID_SITE@@@sensor-{number:04}-north-wing" for number in range(500))
LISTED = "500 clients of GID_SITE are offline.\n" + "\n".join(f"- {client} since 12:00" for client in CLIENTS)


@pytest.mark.parametrize("name", NEIGHBOURS)
@pytest.mark.parametrize(
    "text", [LISTED, "500 clients are offline.", LISTED.replace("12:00", "<12:00> & `later` [x](y) " * 3)]
)
def test_500_clients_are_cut_and_counted(name: str, text: str, loopback: Loopback) -> None:
    stand_in = loopback.stand_ins[name]
    told = message(text=text, clients=CLIENTS, count=500, key={"group": "GID_SITE"}, title="500 clients are offline")
    assert over_http(name, told, f"{loopback.url}/{name}") == Delivered()
    assert stand_in.complaints == []
    (shown,) = stand_in.shown
    named = {client for client in CLIENTS if client in shown.text}
    more = re.findall(r"… and (\d+) more", shown.text)
    assert len(named) >= 20
    if len(named) < 500:
        assert [int(one) for one in more] == [500 - len(named)]


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_clients_beyond_those_that_are_listed_are_counted(name: str) -> None:
    stand_in = NEIGHBOURS[name].make()
    in_process(name, message(text="Many are offline.", clients=CLIENTS[:3], count=215), stand_in)
    shown = stand_in.shown[0].text
    assert all(client in shown for client in CLIENTS[:3])
    assert name == "pagerduty" or "… and 212 more" in shown


def test_pagerduty_is_told_how_many_are_not_listed() -> None:
    stand_in = PagerDutyStandIn()
    in_process("pagerduty", message(text="Many.", clients=CLIENTS[:3], count=215), stand_in)
    assert stand_in.events[0]["payload"]["custom_details"]["not_listed"] == "… and 212 more"


def test_a_list_that_the_text_has_is_not_repeated() -> None:
    stand_in = NEIGHBOURS["slack"].make()
    in_process("slack", message(text="Two: a-1, b-2.", clients=("a-1", "b-2"), count=2), stand_in)
    assert stand_in.shown[0].text.count("a-1") == 1


@pytest.mark.parametrize("name", CHATS)
def test_a_recovery_is_seen_to_belong_to_its_firing(name: str) -> None:
    stand_in = NEIGHBOURS[name].make()
    in_process(name, message(), stand_in)
    in_process(name, message(phase="recovery", text="It is online again.", ended_at_ms=1_780_000_060_000), stand_in)
    assert all("incident pump-offline:01JD7Q" in shown.text for shown in stand_in.shown)
    assert "resolved" in stand_in.shown[1].text


@pytest.mark.parametrize("name", [name for name in NEIGHBOURS if name != "opsgenie"])
def test_the_console_and_the_runbook_are_one_click_away(name: str) -> None:
    stand_in = NEIGHBOURS[name].make()
    in_process(name, message(), stand_in)
    assert set(stand_in.shown[0].links) == SENT


@pytest.mark.parametrize(
    "runbook",
    [
        "javascript:alert(1)",
        "ftp://x.example",
        "//x.example",
        "http://",
        "http://[::1",
        "https://x.example/" + "y" * 600,
    ],
)
def test_what_is_no_address_of_a_page_is_no_link(runbook: str) -> None:
    stand_in = NEIGHBOURS["slack"].make()
    in_process("slack", message(labels={"runbook": runbook}, link=""), stand_in)
    assert stand_in.shown[0].links == ()


LIFE = [("firing", {}), ("update", {"text": "More."}), ("reminder", {}), ("escalation", {}), ("acknowledged", {"acknowledged_by": "anna"}),
        ("update", {"title": "Another title"}), ("recovery", {"severity": "info"})]  # fmt: skip


@pytest.mark.parametrize("incident", ["a:01", "a" * 600, "ü" * 300, "a b/c?d#e%2F", "\ud800"])
def test_an_incident_has_one_alert_from_firing_to_recovery(incident: str, loopback: Loopback) -> None:
    pagerduty, opsgenie = loopback.stand_ins["pagerduty"], loopback.stand_ins["opsgenie"]
    assert isinstance(pagerduty, PagerDutyStandIn)
    assert isinstance(opsgenie, OpsgenieStandIn)
    over_http("pagerduty", message(incident="another"), f"{loopback.url}/pagerduty")
    over_http("opsgenie", message(incident="another"), f"{loopback.url}/opsgenie")
    for phase, changed in LIFE:
        for name in ("pagerduty", "opsgenie"):
            said = message(phase=phase, incident=incident, **changed)
            assert over_http(name, said, f"{loopback.url}/{name}") == Delivered()
    assert (pagerduty.opened, pagerduty.closed, list(pagerduty.open)) == (2, 1, ["another"])
    assert (opsgenie.opened, opsgenie.closed, list(opsgenie.open)) == (2, 1, ["another"])
    assert pagerduty.of_nothing == 0
    assert pagerduty.notified == 1 + 4  # whoever acknowledged it is not notified again
    assert list(opsgenie.acknowledged.values()) == ["anna"]


def test_an_alert_that_is_gone_is_closed_already(loopback: Loopback) -> None:
    answer = over_http("opsgenie", message(phase="recovery"), f"{loopback.url}/opsgenie")
    assert isinstance(answer, Delivered)
    assert "no such alert any more" in answer.detail


TEXT = (
    st.text(max_size=200)
    | st.lists(st.sampled_from(HOSTILE), max_size=8).map(" ".join)
    | st.text("<>&@[]()*_`\\.:/ab\n", max_size=60)
)
MESSAGES = st.builds(
    message,
    phase=st.sampled_from(PHASES),
    severity=st.sampled_from(["info", "warning", "critical"]),
    title=TEXT,
    text=TEXT | st.lists(TEXT, max_size=300).map("\n".join),
    clients=st.lists(TEXT, max_size=20).map(tuple),
    count=st.integers(0, 10_000),
    key=st.dictionaries(TEXT, TEXT, max_size=3),
    labels=st.dictionaries(TEXT, TEXT, max_size=3),
    acknowledged_by=TEXT,
)


@pytest.mark.parametrize("name", NEIGHBOURS)
@settings(max_examples=25)
@given(told=MESSAGES)
def test_whatever_a_message_holds_its_service_takes_it(name: str, told: Message) -> None:
    stand_in = NEIGHBOURS[name].make()
    assume(told.phase != "summary" or name not in KEEPS_INCIDENTS)
    in_process(name, told, stand_in)
    assert stand_in.complaints == []
    for shown in stand_in.shown:
        assert shown.mentions == ()
        assert set(shown.links) <= SENT


@given(told=MESSAGES)
def test_a_message_survives_the_outbox(told: Message) -> None:
    assert Message.of({**told.as_json(), "a key of a newer version": 1}) == told


@pytest.mark.parametrize(
    "broken",
    [
        {"title": 1},
        {"clients": "abc"},
        {"clients": [1]},
        {"key": {"a": 1}},
        {"count": "2"},
        {"count": True},
        {"at_ms": None},
        {"labels": []},
    ],
)
def test_a_message_that_is_none_is_an_error(broken: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a message whose"):
        Message.of({**message().as_json(), **broken})


def test_a_message_without_a_key_that_it_needs_is_an_error() -> None:
    with pytest.raises(ValueError, match="not complete"):
        Message.of({key: value for key, value in message().as_json().items() if key != "incident"})
