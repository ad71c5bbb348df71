"""A fleet, a service and its neighbours over many simulated hours, and what the neighbours must have heard by an independent count.

Read `Day`. The fleet moves by a seed: who goes dark stays so until another hour, who blips is back in the same breath. So who must
be paged follows from what was done, not from what the service says.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from tests.acceptance.service import ROLLCALL, Answer, Service, Sink, event, eventually, offline_rule, sink
from tests.acceptance.wall_clock import WallClock
from tests.hostile.bad_server import BadServer, relay
from tests.hostile.log_pipe import LogPipe
from tests.mail.post_office import PostOffice, post_office
from tests.status.standin import StandIn

FLEET = [f"G@@@d{number:02}" for number in range(24)]
BY_FILE, BY_PUSH = FLEET[::2], FLEET[1::2]
DARK_AN_HOUR, BLIPS_AN_HOUR = 7, 3

SCALED = {
    "debounce": {"offline": "1s", "online": "0s"},  # 10 minutes of the day
    "feed": {"max_lag": "3s"},  # half an hour of it
}
"""An hour of the day is about 6 s: 600 times as fast."""

ENDS = ("gone", "checked", "shaky", "mailed")
"""The rules whose neighbours must hear everything in the end."""


class Day:
    """The service and everything around it: `move` is what the devices do in an hour, `heard` waits for what follows from it."""

    def __init__(self, folder: Path, seed: int, standin: StandIn, office: PostOffice, sinks: tuple[Sink, Sink, Sink]):
        self.chance = random.Random(seed)
        self.standin, self.office = standin, office
        self.good, self.shaky_end, self.refusing = sinks
        self.refusing.answer = lambda arrival: Answer(status=400)
        # Each stands before a good server, and is what it is until told otherwise.
        self.shaky = BadServer(relay(self.shaky_end.port))
        self.mail = BadServer(relay(office.port))
        self.status = BadServer(relay(standin.port))
        self.running = Service(folder, **SCALED, **self._config(folder))
        self.clock, self.log = WallClock(folder), LogPipe(folder)
        self.file = self.written = folder / "events.jsonl"  # what the service reads; where the broker writes
        self.file.touch()
        self.online = dict.fromkeys(FLEET, False)
        self.phases: dict[str, list[str]] = defaultdict(list)  # of each client: what its neighbours must hear, in order
        self.sessions: dict[str, int] = defaultdict(int)
        self.pending: list[str] = []  # events that their sender could not get rid of yet
        self.write_rules()

    def _config(self, folder: Path) -> dict[str, Any]:
        keys = self.standin.keys
        for name in ("access_key", "secret"):
            (folder / name).write_text(keys[name])
        login = {name: {"file": name} for name in ("access_key", "secret")}
        followed = {"name": "broker", "type": "file", "path": "events.jsonl", "follow": True}
        status = {
            "provider": "route",
            "endpoint": f"http://{self.status.address}",
            "instance": keys["instance"],
            **login,
        }
        return {
            "sources": [followed, {"name": "push", "type": "http"}],
            "status": status | {"timeout": "1s", "unknown_retries": 1},
            "smtp": {
                "host": "127.0.0.1",
                "port": self.mail.port,
                "from": "r@e.test",
                "starttls": False,
                "timeout": "1s",
            },
        }

    def write_rules(self) -> None:
        """The rules as they should be."""

        def mail(phase: str) -> list[dict[str, Any]]:
            return [{"email": {"to": "ops@e.test", "subject": phase + " {{ client.id }}", "text": "look"}}]

        of_offline = {"trigger": "offline", "flapping": "fire"}
        self.running.rules(
            offline_rule(self.good.url, "gone"),
            offline_rule(self.good.url, "checked", verify=True, verify_within="2s"),
            offline_rule(f"http://{self.shaky.address}/", "shaky", hook={"timeout": "700ms"}),
            offline_rule(self.refusing.url, "refused"),
            of_offline | {"name": "mailed", "actions": mail("firing"), "on_recovery": mail("recovery")},
            of_offline | {"name": "logged", "actions": [{"log": {"message": "{{ client.id }} is dark"}}]},
        )

    def start(self) -> None:
        """A life of the service, with the log and the clock of the day."""
        with self.log.writing() as stderr:
            self.running.process = subprocess.Popen(
                [ROLLCALL, "run", "-c", "config.yaml"],
                cwd=self.running.folder,
                env=os.environ | self.clock.environment,
                stderr=stderr,
            )
        self.running.wait_ready()

    # The fleet

    def say(self, client: str, kind: str) -> None:
        """What the broker says of a device, through the source of that device."""
        self.sessions[client] += kind == "connect"
        self.standin.truth[client] = int(kind == "connect")
        line = event(client, kind, f"c{self.sessions[client]}")
        if client in BY_PUSH:
            self.pending.append(line)
        else:
            with self.written.open("a") as out:
                out.write(line + "\n")

    def push(self) -> bool:
        """Send what is pending; whether it was accepted. It is sent again until it is, as senders should."""
        try:
            is_accepted = not self.pending or self.running.post(*self.pending).status_code == 202
        except requests.RequestException:
            return False
        if is_accepted:
            self.pending.clear()
        return is_accepted

    def move(self) -> None:
        """An hour of the fleet: most who were dark come back, some go dark, some are gone for less than the hold."""
        dark = [client for client in FLEET if not self.online[client]]
        lit = [client for client in FLEET if self.online[client]]
        for client in dark:
            if not self.sessions[client] or self.chance.random() < 0.7:
                if self.sessions[client]:
                    self.phases[client].append("recovery")
                self.online[client] = True
                self.say(client, "connect")
        self.chance.shuffle(lit)
        for client in lit[:DARK_AN_HOUR]:
            self.phases[client].append("firing")
            self.online[client] = False
            self.say(client, "tcpclean")
        for client in lit[DARK_AN_HOUR : DARK_AN_HOUR + BLIPS_AN_HOUR]:
            self.say(client, "tcpclean")
            self.say(client, "connect")

    # What was heard

    def heard(self, *rules: str) -> None:
        """Wait until all devices are believed to be what they are, and these rules' neighbours have heard all there is, in order."""
        wanted = {client: "online" if is_online else "offline" for client, is_online in self.online.items()}
        eventually(self.running.statuses, lambda found: found == wanted)
        for rule in rules:
            eventually(lambda: self.told(rule), lambda found: found == dict(self.phases))  # noqa: B023

    def told(self, rule: str) -> dict[str, list[str]]:
        """What a rule's neighbour has heard of each client: of each key once."""
        found: dict[str, list[str]] = defaultdict(list)
        if rule == "mailed":
            for letter in self.office.once():
                phase, client = letter.header("Subject").split()
                found[client].append(phase)
        else:
            end = self.shaky_end if rule == "shaky" else self.good
            for name, client, phase in end.told("rule", "client", "phase"):
                if name == rule:
                    found[client].append(phase)
        return dict(found)

    def close(self) -> None:
        """End everything."""
        self.running.close()
        for server in (self.shaky, self.mail, self.status):
            server.close()
        self.log.close()


@contextmanager
def a_day(folder: Path, seed: int) -> Iterator[Day]:
    """A service that has started, with a fleet that is online and neighbours that are well."""
    with StandIn() as standin, post_office() as office, sink() as good, sink() as shaky, sink() as refusing:
        day = Day(folder, seed, standin, office, (good, shaky, refusing))
        try:
            day.start()
            day.move()
            eventually(day.push)
            day.heard()
            yield day
        finally:
            day.close()
