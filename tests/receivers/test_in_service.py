"""The real service and four stand-ins: one incident is opened and closed at each, over restarts between firing and recovery."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from engine.actions.receivers.wording import clean
from tests.acceptance.service import Service, event, eventually, service, without_tracebacks
from tests.command_line import command
from tests.receivers.dingtalk_stand_in import DingTalkStandIn
from tests.receivers.feishu_stand_in import FeishuStandIn
from tests.receivers.neighbours import NEIGHBOURS
from tests.receivers.pagerduty_stand_in import PagerDutyStandIn
from tests.receivers.stand_in import Loopback, Reply, StandIn, json_reply

CHATS = ("slack", "telegram", "dingtalk")
TOLD = ("pagerduty", *CHATS)
HOSTILE = "G@@@<!channel>[x](http://evil.example)\u202e"
OUTAGE = [f"G@@@sensor-{number:03}-of-the-north-wing-of-the-building" for number in range(500)]


@pytest.fixture
def neighbours(server: Loopback) -> dict[str, StandIn]:
    """New stand-ins of all services. Those that check a signature have the real clock."""
    server.stand_ins.update({name: one.make() for name, one in NEIGHBOURS.items()})
    server.stand_ins.update({"dingtalk": DingTalkStandIn(time.time), "feishu": FeishuStandIn(time.time)})
    return server.stand_ins


SECRETS = {"url", "token", "secret", "routing_key", "api_key", "topic"}
ADDRESSES = {("pagerduty", "url"), ("opsgenie", "url"), ("ntfy", "url")}
"""Addresses that are no secrets."""


def receivers(server: Loopback, folder: Path, names: Sequence[str] = TOLD) -> dict[str, Any]:
    """The section of the configuration; what is a secret stands in files."""
    found: dict[str, Any] = {}
    for name in names:
        one: dict[str, Any] = {"type": NEIGHBOURS[name].service}
        for key, value in NEIGHBOURS[name].at(f"{server.url}/{name}").items():
            is_secret = key in SECRETS and (name, key) not in ADDRESSES
            if is_secret:
                (folder / f"{name}-{key}").write_text(value)
            one[key] = {"file": f"{name}-{key}"} if is_secret else value
        found[name] = one
    return found


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_a_receiver_can_be_tried_from_the_command_line(
    name: str, tmp_path: Path, server: Loopback, neighbours: dict[str, StandIn]
) -> None:
    """From nothing but the configuration: what `docs/receivers.md` promises for each service."""
    config = {"version": 1, "receivers": receivers(server, tmp_path, [name])}
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    done = command(tmp_path, "notify", "test", name)
    assert (done.returncode, re.findall(r"^(\w+) +delivered", done.stdout, re.MULTILINE)) == (
        0,
        ["firing", "reminder", "recovery"],
    ), done
    assert neighbours[name].complaints == []
    assert getattr(neighbours[name], "open", {}) == {}
    neighbours[name].unhappy.append(Reply(status=400, body=b"a mistake"))
    done = command(tmp_path, "notify", "test", name)
    assert done.returncode == 1
    assert "firing    rejected: HTTP 400: a mistake" in done.stdout


def rule(**more: Any) -> dict[str, Any]:
    notify = [{"notify": list(TOLD)}]
    return {
        "name": "gone",
        "severity": "critical",
        "trigger": "offline",
        "actions": notify,
        "on_recovery": notify,
        **more,
    }


def incidents(chat: StandIn) -> list[tuple[str, bool]]:
    """Of each message: its incident, and whether it says that it is over."""
    return [(re.findall(r"incident (\S+)", shown.text)[-1], "resolved" in shown.text) for shown in chat.shown]


def wait_told(running: Service, neighbours: dict[str, StandIn], opened: int, closed: int) -> None:
    """Returns when every service has so many incidents behind it, and the outbox knows; fails with what there is instead."""

    def counts() -> dict[str, tuple[int, int]]:
        pager = neighbours["pagerduty"]
        assert isinstance(pager, PagerDutyStandIn)
        found = {"pagerduty": (pager.opened, pager.closed)}
        for name in CHATS:
            over = [is_over for _, is_over in incidents(neighbours[name])]
            found[name] = (over.count(False), over.count(True))
        found["not delivered"] = (
            len([one for one in running.items("/v1/deliveries") if one["state"] != "delivered"]),
            0,
        )
        return found

    wanted = dict.fromkeys(TOLD, (opened, closed)) | {"not delivered": (0, 0)}
    eventually(counts, lambda found: found == wanted, within_s=90)


def test_an_incident_is_opened_once_and_closed_once_over_restarts(
    tmp_path: Path, server: Loopback, neighbours: dict[str, StandIn]
) -> None:
    pager = neighbours["pagerduty"]
    assert isinstance(pager, PagerDutyStandIn)
    with service(
        tmp_path, receivers=receivers(server, tmp_path), debounce={"offline": "1s", "online": "0s"}
    ) as running:
        storm = {"name": "site-down", "trigger": "outage", "outage": {"by": ["group"], "at_least": 5, "within": "1m"}}
        running.rules(rule(**storm), rule())
        running.start()
        running.tell(event(HOSTILE, "connect", "1"))
        running.tell(event(HOSTILE, "tcpclean", "1"))
        wait_told(running, neighbours, 1, 0)
        running.kill()
        # While nothing runs, each service has become unhappy in its own way; all of that passes.
        neighbours["pagerduty"].unhappy.append(json_reply(429, {"status": "throttle exceeded"}))
        neighbours["slack"].unhappy.append(json_reply(429, {"ok": False}, **{"Retry-After": "1"}))
        neighbours["telegram"].unhappy.append(
            json_reply(429, {"ok": False, "error_code": 429, "parameters": {"retry_after": 1}})
        )
        neighbours["dingtalk"].unhappy.append(json_reply(200, {"errcode": 130101, "errmsg": "send too fast"}))
        running.start()
        running.tell(event(HOSTILE, "connect", "2"))
        wait_told(running, neighbours, 1, 1)

        running.tell(*[event(client, "connect", "1") for client in OUTAGE])
        running.tell(*[event(client, "tcpclean", "1") for client in OUTAGE])
        wait_told(running, neighbours, 2, 1)
        running.terminate()
        running.rules(
            rule(**storm, description="An edit changes no incident.", severity="warning"), rule(severity="info")
        )
        running.start()
        running.tell(*[event(client, "connect", "2") for client in OUTAGE])
        wait_told(running, neighbours, 2, 2)
        running.terminate()
        assert without_tracebacks(running.log_text())
        kept_out = [path.read_text() for path in tmp_path.glob("*-*")]
        assert [value for value in kept_out if value in running.log_text()] == []

    assert pager.open == {}
    assert pager.of_nothing == 0
    keys = [event["dedup_key"] for event in pager.events]
    for name in TOLD:
        assert neighbours[name].complaints == [], name
        assert all(shown.mentions == () for shown in neighbours[name].shown), name
        assert all("evil" not in link for shown in neighbours[name].shown for link in shown.links), name
        assert clean(HOSTILE.removeprefix("G@@@"))[:20] in neighbours[name].shown[0].text, name
    for name in CHATS:
        assert [incident for incident, _ in incidents(neighbours[name])] == keys, name
        named = sum(client in neighbours[name].shown[2].text for client in OUTAGE)
        assert f"… and {500 - named} more" in neighbours[name].shown[2].text, name
