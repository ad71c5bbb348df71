"""A bad night on a real service, for tests of the console, its screenshots, and to look at: `python -m tests.web.bad_night`.

The fleet is that of `rollcall simulate`. A site is dark, a pump is silenced, a camera's delivery is dead, deliveries are held, a file that
is followed has gone, a sweep has corrected a client whose end was lost, and two devices have hostile names.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.acceptance.service import Answer, Service, Sink, event, eventually, now_ms
from tests.command_line import command
from tests.queries.serving import ended, querying
from tests.status.standin import StandIn

INVENTORY = """client,kind,site
GID_SIM@@@pump-*,pump,
GID_SIM@@@cam-*,camera,
GID_SIM@@@meter-*,meter,
GID_SIM@@@valve-*,valve,
GID_WEST@@@*,pump,west
GID_H@@@*,test,south
GID_SIM@@@*-000[0-4]?,,north
GID_SIM@@@*,,east
"""

MARKUP = "GID_H@@@<script>alert(1)</script><b>bold</b>\"'&amp;"
TURNED = "GID_H@@@\u202egnp.erutcip\u202c\u05d0\u05d1\u05d2 \u0627\u0644"
LONG = "GID_H@@@" + "x" * 240
HOSTILE = (MARKUP, TURNED, LONG)

WEST = [f"GID_WEST@@@pump-{number}" for number in range(12)]
PUMP_12 = "GID_SIM@@@pump-00012"
DARK_CAMERA = "GID_SIM@@@cam-00900"
LOST = "GID_SIM@@@meter-00901"


@dataclass
class Night:
    """The service and what is around it."""

    service: Service
    sink: Sink
    stand_in: StandIn

    @property
    def url(self) -> str:
        """Where the console is."""
        return self.service.url


def rules(sink: Sink) -> list[dict[str, Any]]:
    """The rules of the night."""

    def hook(phase: str, **more: Any) -> list[dict[str, Any]]:
        return [
            {"webhook": {"url": f"{sink.url}/{phase}", "json": {"rule": "{{ rule.name }}", "phase": phase}, **more}}
        ]

    outage = {"by": ["site"], "at_least": 5, "percent": 50, "within": "10m", "recover_within": "1d"}
    return [
        {"name": "site-down", "description": "Half a site went offline. Check its power and its line first.", "severity": "critical",
         "trigger": "outage", "outage": outage, "match": {"group": "GID_WEST"}, "actions": hook("site"), "on_recovery": hook("site")},
        {"name": "pump-offline", "description": "A pump is offline.", "trigger": "offline", "match": {"attributes": {"kind": "pump"}},
         "actions": hook("pump"), "on_recovery": hook("pump")},
        {"name": "camera-offline", "severity": "info", "trigger": "offline", "match": {"device": "cam-*"}, "actions": hook("camera")},
        {"name": "hostile-offline", "trigger": "offline", "match": {"group": "GID_H"}, "actions": [{"log": {"message": "{{ client.id }}"}}]},
        {"name": "arrived", "trigger": "first_seen", "match": {"group": "GID_SIM"}, "actions": [{"log": {"message": "new"}}]},
        {"name": "feed-trouble", "severity": "critical", "trigger": "feed", "actions": [{"log": {"message": "{{ alert.detail }}"}}]},
    ]  # fmt: skip


@contextmanager
def bad_night(folder: Path, **config: Any) -> Iterator[Night]:
    """The night, once everything of it has happened."""
    with ExitStack() as stack:
        stand_in = stack.enter_context(StandIn())
        sink = Sink()
        sink.start()
        stack.callback(sink.stop)
        sink.answer = lambda arrival: Answer(410 if "camera" in arrival.path else 204)
        (folder / "inventory.csv").write_text(INVENTORY)
        more = {"inventory": "inventory.csv", "deliveries": {"burst": 5}} | config
        running = stack.enter_context(querying(folder, stand_in, **more))
        written = yaml.safe_dump({"version": 1, "rules": rules(sink)}, sort_keys=False, width=120)
        (folder / "rules" / "waterworks.yaml").write_text(written)
        running.start()
        night = Night(running, sink, stand_in)
        _happen(night)
        yield night


def _happen(night: Night) -> None:
    running = night.service
    _tell_simulated(running)
    ago = now_ms() - 1_000  # a feed whose events are late holds back what depends on missing ones
    named = [*WEST, PUMP_12, DARK_CAMERA, LOST, *HOSTILE]
    running.tell(*(event(client, "connect", f"channel-{number}", ago) for number, client in enumerate(named)))
    silence = {"match": {"client": PUMP_12}, "for": "8h", "author": "Zoë", "comment": "the pump is being serviced"}
    assert running.send("POST", "/v1/silences", silence).status_code == 201
    gone = [*WEST[:10], PUMP_12, DARK_CAMERA, *HOSTILE]
    running.tell(*(event(client, "tcpclean", f"channel-{named.index(client)}", ago + 500) for client in gone))
    running.tell(*(event(client, "connect", "again", ago + 900) for client in WEST[:3]))
    down = {*gone} - {*WEST[:3]}
    eventually(running.statuses, lambda found: {client for client in down if found[client] == "offline"} == down)
    for client, status in running.statuses().items():
        night.stand_in.truth[client] = int(status == "online")
    night.stand_in.truth[LOST] = 0  # its end was lost
    begun = running.send("POST", "/v1/reconciliations", {})
    assert begun.status_code == 202, begun.text
    ended(running, begun.json()["id"])
    eventually(lambda: running.items("/v1/deliveries", state="dead"))
    eventually(lambda: running.items("/v1/alerts", rule="site-down", state="firing"))
    # At the end: what waits for missing events waits for this source from now on.
    running.terminate()
    file = running.folder / "config.yaml"
    written = json.loads(file.read_text())
    written["sources"].append({"name": "old-log", "type": "file", "path": "old.jsonl", "follow": True})
    file.write_text(json.dumps(written))
    running.start(ready=False)
    eventually(running.readiness, lambda found: "starting" not in found[1] and found[0])
    eventually(lambda: running.items("/v1/alerts", rule="feed-trouble", state="firing"))


def _tell_simulated(running: Service) -> None:
    """A minute and a half of the synthetic fleet, pressed into one second."""
    simulated = command(running.folder, "simulate", "--clients", "60", "--duration", "90s")
    events = [json.loads(line) for line in simulated.stdout.splitlines() if line.startswith("{")]
    first, newest = min(one["time"] for one in events), now_ms()
    for one in events:
        del one["received_at"]
        one["time"] = newest - 1_000 + (one["time"] - first) // 100
    running.tell(*map(json.dumps, events))


def main() -> None:
    """Run it until it is interrupted."""
    with tempfile.TemporaryDirectory(prefix="bad-night-") as folder, bad_night(Path(folder)) as night:
        print(night.url, flush=True)
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    main()
