"""A command that waits for its broker while its replica stands still: the next owner sends it, and the first one never does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.acceptance.service import event, eventually
from tests.commands.mosquitto import PARENT, device, running
from tests.postgres.replicas import freeze, replicas, standing, thaw
from tests.postgres.server import fresh_database
from tests.postgres.slow_line import slow_line

pytestmark = pytest.mark.long

GATEWAY = "GID_GW@@@gw-north"


def test_a_replica_that_stood_still_before_its_broker_answered_sends_no_command(tmp_path: Path) -> None:
    rule = {"name": "cycle", "trigger": "offline", "actions": [{"command": {"to": GATEWAY, "payload": "cycle", "expires": "10m"}}]}  # fmt: skip
    with (
        fresh_database() as dsn,
        running(tmp_path / "broker") as broker,
        device(broker.port, GATEWAY) as gateway,
        slow_line(broker.port) as line,
        replicas(tmp_path, dsn, 2, lease_s=2.0, mqtt={"endpoint": broker.address, "parent_topic": PARENT}) as made,
    ):
        first, second = made.made
        config = json.loads((first.folder / "config.yaml").read_text())
        config["mqtt"]["endpoint"] = f"127.0.0.1:{line.port}"
        (first.folder / "config.yaml").write_text(json.dumps(config))
        for one in made.made:
            one.rules(rule)
        first.start(ready=False)
        eventually(lambda: standing(first) == "owner")
        second.start(ready=False)
        made.wait_warm()
        line.cut()
        made.append(event("G@@@d1", "connect", "c"), event("G@@@d1", "tcpclean", "c"))
        eventually(lambda: [row["state"] for row in first.items("/v1/deliveries")] == ["due"])
        freeze(first)
        assert made.owner(but=first) is second
        eventually(gateway.got)
        line.mend()
        thaw(first)
        made.wait_warm()
        eventually(lambda: {row["state"] for row in second.items("/v1/deliveries")} == {"delivered"})
        gateway.say("that is all")
        assert [got.payload for got in gateway.got()] == ["cycle", "that is all"]
