"""Edits while the service runs: the inventory is picked up as rules are, and SIGHUP has everything read again that can change."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.service import Service, event, eventually, free_port, service

CLIENT = "G@@@a"

LOG_RULE = {"name": "a", "trigger": "offline", "actions": [{"log": {"message": "{{ client.id }}"}}]}

SITE_RULE = {
    "name": "north",
    "trigger": "offline",
    "match": {"attributes": {"site": "north"}},
    "actions": [{"log": {"message": "{{ client.attributes.site }}"}}],
}


def put(path: Path, text: str) -> None:
    """Write a file at once: nobody may see half of it."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(text)
    new.replace(path)


def inventory(running: Service, text: str) -> None:
    put(running.folder / "inventory.csv", text)


def configure(running: Service, **keys: Any) -> None:
    """Change keys of the configuration; None removes one."""
    path = running.folder / "config.yaml"
    told = json.loads(path.read_text()) | keys
    put(path, json.dumps({key: value for key, value in told.items() if value is not None}))


def hang_up(running: Service) -> None:
    os.kill(running.pid, signal.SIGHUP)


def site(running: Service) -> str:
    found: str = running.get(f"/v1/clients/{CLIENT}")["attributes"].get("site", "")
    return found


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Service]:
    """A service with an inventory and a rule about it."""
    with service(tmp_path, inventory="inventory.csv", clients={"forget": "30d"}) as found:
        inventory(found, "client,site\nG@@@b,north\nG@@@a,south\n")
        found.rules(SITE_RULE)
        found.start()
        found.tell(event(CLIENT, "connect", "1"))
        yield found


def test_an_edited_inventory_is_in_force_for_clients_and_for_rules(running: Service) -> None:
    assert site(running) == "south"
    inventory(running, "client,site\nG@@@b,south\nG@@@a,north\n")
    eventually(lambda: site(running), lambda found: found == "north")
    (line,) = running.log_lines("inventory.loaded")
    assert line["rows"] == 2
    running.tell(event(CLIENT, "tcpclean", "1"))
    (alert,) = eventually(lambda: running.items("/v1/alerts", state="firing"))
    assert (alert["rule"], alert["client"]) == ("north", CLIENT)
    eventually(lambda: [line["message"] for line in running.log_lines("action.log")], lambda found: found == ["north"])


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ("client,site\nG@@@a,north,\0\n", "inventory.csv:2"),
        ("client,town\nG@@@a,north\n", "rules.yaml:1"),  # the rules do not load with it
    ],
)
def test_a_broken_inventory_leaves_the_running_one_in_force_and_is_shown(
    running: Service, broken: str, told: str
) -> None:
    inventory(running, broken)
    eventually(lambda: running.metric("rollcall_inventory_broken"), lambda found: found == 1)
    assert running.metric("rollcall_rules_broken") == 0
    assert site(running) == "south"
    assert running.get("/readyz")["refused_edits"] == ["inventory"]
    page = running.send("GET", "/").text
    assert "The edited inventory does not load" in page and told in page
    (line,) = running.log_lines("inventory.broken")
    assert told in line["first"]

    running.rules(SITE_RULE, LOG_RULE)  # an edit of the rules is taken all the same
    eventually(lambda: len(running.get("/v1/rules")["items"]), lambda found: found == 2)
    assert running.metric("rollcall_inventory_broken") == 1

    inventory(running, "client,site\nG@@@a,north\n")
    eventually(lambda: site(running), lambda found: found == "north")
    assert running.metric("rollcall_inventory_broken") == 0
    assert running.get("/readyz")["refused_edits"] == []


def test_sighup_takes_what_can_change_and_names_what_needs_a_restart(running: Service) -> None:
    (running.folder / "other").mkdir()
    put(running.folder / "other" / "r.yaml", json.dumps({"version": 1, "rules": [LOG_RULE]}))
    other_port = free_port()
    configure(running, rules="other/", inventory=None, http={"listen": f"127.0.0.1:{other_port}"})
    hang_up(running)
    (line,) = eventually(lambda: running.log_lines("config.reloaded"))
    assert (line["changed"], line["needs_restart"]) == ("inventory, rules", "http")
    eventually(lambda: [rule["name"] for rule in running.get("/v1/rules")["items"]], lambda found: found == ["a"])
    assert site(running) == ""

    put(running.folder / "other" / "r.yaml", json.dumps({"version": 1, "rules": [LOG_RULE | {"name": "b"}]}))
    eventually(lambda: [rule["name"] for rule in running.get("/v1/rules")["items"]], lambda found: found == ["b"])

    hang_up(running)  # nothing was edited since, but the restart is still due
    line = eventually(lambda: running.log_lines("config.reloaded")[1:])[0]
    assert (line["changed"], line["needs_restart"]) == ("nothing", "http")


def test_a_broken_configuration_changes_nothing_and_is_shown(running: Service) -> None:
    good = (running.folder / "config.yaml").read_text()
    put(running.folder / "config.yaml", good.replace('"rules/"', '"nowhere/"'))
    hang_up(running)
    eventually(lambda: running.metric("rollcall_config_broken"), lambda found: found == 1)
    (line,) = running.log_lines("config.broken")
    assert "nowhere" in line["first"]
    assert running.get("/readyz")["refused_edits"] == ["configuration"]
    assert "The edited configuration does not load" in running.send("GET", "/").text
    put(running.folder / "config.yaml", good)
    hang_up(running)
    eventually(lambda: running.metric("rollcall_config_broken"), lambda found: found == 0)
    assert site(running) == "south"


def test_sighup_while_starting_and_while_stopping_does_no_harm(tmp_path: Path) -> None:
    with service(tmp_path) as running:
        running.rules(LOG_RULE)
        process = running.start(ready=False)
        lock = tmp_path / "data" / "rollcall.lock"
        eventually(lambda: lock.exists() and lock.read_text())
        for _ in range(20):
            process.send_signal(signal.SIGHUP)
        running.wait_ready()
        eventually(lambda: running.log_lines("config.reloaded"))
        process.send_signal(signal.SIGTERM)
        while process.poll() is None:
            process.send_signal(signal.SIGHUP)
        assert process.returncode == 0, running.log_text()
        assert not running.log_lines("task.failed")


def test_an_edited_time_interval_is_in_force_for_routes_as_it_is_for_rules(tmp_path: Path) -> None:
    always, long_ago = [{"hours": "00:00-24:00"}], [{"dates": ["2001-01-01"]}]
    receivers = {
        "day": {"type": "webhook", "url": "http://127.0.0.1:9/day"},
        "night": {"type": "webhook", "url": "http://127.0.0.1:9/night"},
        "oncall": {"type": "route", "routes": [{"when": {"active": "office"}, "to": "day"}, {"to": "night"}]},
    }
    with service(tmp_path, receivers=receivers, time_intervals={"office": always}, debounce={"offline": "0s"}) as found:
        found.rules({"name": "a", "trigger": "offline", "actions": [{"notify": "oncall"}]})
        found.start()

        def target_of(client: str) -> str:
            found.tell(event(client, "connect", "1"), event(client, "tcpclean", "1"))
            sent = eventually(
                lambda: [one for one in found.get("/v1/deliveries")["items"] if one["client"] == client], bool
            )
            target: str = sent[0]["target"]
            return target

        assert target_of("G@@@by-day") == "notify:day"
        configure(found, time_intervals={"office": long_ago})
        hang_up(found)
        eventually(lambda: found.log_lines("config.reloaded"), bool)
        assert target_of("G@@@by-night") == "notify:night"
