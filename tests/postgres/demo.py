"""`make demo-cluster`: PostgreSQL, RocketMQ, three replicas and a synthetic fleet on this machine; a replica is killed every 20 seconds.

Each replica has its console. Everything is on loopback and in temporary folders; Ctrl-C ends all of it, by process id. Where RocketMQ cannot
be had, or with `--http`, the fleet posts its events to a replica over HTTP, and only the others are killed.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

import requests

from tests.fetched import Absent
from tests.mq.demo import end
from tests.postgres.server import PostgresServer

GROUP: Final = "GID_SIM"
CLIENTS: Final = "200"
NAMES: Final = ("one", "two", "three")
PORTS: Final = dict(zip(NAMES, (8081, 8082, 8083), strict=True))
STARTED_S: Final = 120.0
EVERY_S: Final = 20.0
BACK_S: Final = 8.0
"""A replica that was killed is started again after so long."""

LEASE: Final = "3s"
HTTP: Final = "--http"
ROLLCALL: Final = str(Path(sys.executable).with_name("rollcall"))

RULE: Final[dict[str, Any]] = {
    "name": "device-offline",
    "trigger": "offline",
    "actions": [{"log": {"message": "{{ client.id }} has been offline since {{ occurred_at }}"}}],
    "on_recovery": [{"log": {"message": "{{ client.id }} is back"}}],
}


class Demo:
    """The replicas of the demonstration, and what is said of them."""

    def __init__(self, stack: ExitStack, folder: Path, store: dict[str, Any], sources: list[dict[str, Any]]) -> None:
        self._stack, self._folder = stack, folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        (folder / "rules").mkdir()
        (folder / "rules" / "rules.yaml").write_text(json.dumps({"version": 1, "rules": [RULE]}))
        for name in NAMES:
            told = {
                "version": 1,
                "data": f"data-{name}",
                "store": store,
                "cluster": {"name": name, "lease": LEASE},
                "http": {"listen": f"127.0.0.1:{PORTS[name]}"},
                "sources": sources,
                "rules": "rules/",
                "debounce": {"offline": "5s", "online": "0s"},
            }
            (folder / f"{name}.yaml").write_text(json.dumps(told))

    def start(self, name: str) -> None:
        """Start a replica; what it logs goes into a file."""
        with (self._folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [ROLLCALL, "run", "-c", f"{name}.yaml"], cwd=self._folder, stderr=log, stdout=log
            )
        self._processes[name] = process
        self._stack.callback(end, process)

    def kill(self, name: str) -> None:
        """End a replica as a power cut does."""
        process = self._processes[name]
        process.kill()
        process.wait()

    def print_logs(self) -> None:
        """The end of each log."""
        for name in NAMES:
            print((self._folder / f"{name}.log").read_text(errors="replace")[-2000:])

    def standings(self) -> dict[str, str]:
        """How each replica stands to the cell: owner, standby, behind, or down."""
        found = dict.fromkeys(NAMES, "down")
        for name in NAMES:
            with suppress(requests.RequestException, ValueError, LookupError):
                cells = requests.get(f"http://127.0.0.1:{PORTS[name]}/readyz", timeout=1).json()["cells"]
                found[name] = cells[0]["standing"]
        return found

    def wait_for_owner(self, within_s: float) -> float | None:
        """Until some replica owns the cell; the seconds that took, None: none did."""
        began_s = time.monotonic()
        while time.monotonic() - began_s < within_s:
            if "owner" in self.standings().values():
                return time.monotonic() - began_s
            time.sleep(0.1)
        return None

    def show(self, what: str) -> None:
        """One line of what is going on."""
        standings = "  ".join(f"{name}: {standing}" for name, standing in self.standings().items())
        print(f"{time.strftime('%H:%M:%S')}  {what:<34} {standings}", flush=True)


def main() -> None:
    """Start everything, and kill a replica again and again until Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # like Ctrl-C: what was started is ended
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rollcall-demo-")))
        print("starting PostgreSQL …", flush=True)
        server = PostgresServer.create(fsync="on", full_page_writes="on")
        stack.callback(server.close)
        sources, broker = _sources(stack, folder)
        demo = Demo(stack, folder, {"type": "postgres", "dsn": server.dsn(server.database())}, sources)
        for name in NAMES:
            demo.start(name)
        for name in NAMES:
            print(f"{name + ':':<7} http://127.0.0.1:{PORTS[name]}/   log: {folder / name}.log")
        if demo.wait_for_owner(STARTED_S) is None:
            demo.print_logs()
            sys.exit(f"no replica took the cell within {STARTED_S:.0f} s; the logs above say why")
        standings = demo.standings()
        spared = None if broker is not None else min(NAMES, key=lambda name: standings[name] == "owner")
        fleet = _fleet(stack, folder, broker or f"http://127.0.0.1:{PORTS[str(spared)]}")
        demo.show("started")
        while fleet.poll() is None:
            time.sleep(EVERY_S - BACK_S)
            _kill_one(demo, spared)


def _kill_one(demo: Demo, spared: str | None) -> None:
    standings = demo.standings()
    victims = [name for name, standing in standings.items() if standing != "down" and name != spared]
    if not victims:
        return
    victim = random.choice(victims)
    demo.kill(victim)
    if standings[victim] == "owner":
        took_s = demo.wait_for_owner(30)
        demo.show(f"killed {victim}; " + ("no owner yet" if took_s is None else f"next owner after {took_s:.1f} s"))
    else:
        demo.show(f"killed {victim}, a {standings[victim]}")
    time.sleep(BACK_S)
    demo.start(victim)
    demo.show(f"started {victim} again")


def _sources(stack: ExitStack, folder: Path) -> tuple[list[dict[str, Any]], str | None]:
    """The sources of the replicas, and the broker that the fleet sends its events to; None: it posts them to a replica."""
    posted = [{"name": "push", "type": "http"}], None
    if HTTP in sys.argv:
        return posted
    try:
        from tests.mq.broker import running

        print("starting a RocketMQ name server and broker (the first time, Maven fetches 90 MB) …", flush=True)
        broker = stack.enter_context(running(folder / "rocketmq"))
    except Absent as reason:
        print(f"RocketMQ cannot be had ({reason}); the fleet posts to a replica over HTTP", flush=True)
        return posted
    broker.topic(f"{GROUP}_MQTT")
    source = {"name": "broker", "type": "rocketmq", "name_servers": [broker.address], "consumer_group": "GID_rollcall"}
    return [source | {"mqtt_groups": [GROUP]}], f"rocketmq://{broker.address}/{GROUP}_MQTT"


def _fleet(stack: ExitStack, folder: Path, target: str) -> subprocess.Popen[bytes]:
    print(f"fleet:  rollcall simulate --to {target}", flush=True)
    with (folder / "fleet.log").open("ab") as log:
        process = subprocess.Popen(
            [ROLLCALL, "simulate", "--to", target, "--clients", CLIENTS], cwd=folder, stderr=log, stdout=log
        )
    stack.callback(end, process)
    return process


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
