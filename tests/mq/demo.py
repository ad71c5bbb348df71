"""`make demo-rocketmq`: a broker, a synthetic fleet and an engine that reads it, together on this machine.

Everything is on loopback and in a temporary folder; Ctrl-C ends all of it, by process id.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from tests.fetched import Absent
from tests.mq.broker import running

GROUP: Final = "GID_SIM"
CLIENTS: Final = "200"
PORT: Final = 8080
ROLLCALL: Final = str(Path(sys.executable).with_name("rollcall"))

RULE: Final[dict[str, Any]] = {
    "name": "device-offline",
    "trigger": "offline",
    "actions": [{"log": {"message": "{{ client.id }} has been offline since {{ occurred_at }}"}}],
    "on_recovery": [{"log": {"message": "{{ client.id }} is back"}}],
}


def main() -> None:
    """Start the three, and wait for Ctrl-C or for one of them to end."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # like Ctrl-C: what was started is ended
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rollcall-demo-")))
        print("starting a RocketMQ name server and broker (the first time, Maven fetches 90 MB) …", flush=True)
        broker = stack.enter_context(running(folder / "rocketmq"))
        broker.topic(f"{GROUP}_MQTT")
        target = f"rocketmq://{broker.address}/{GROUP}_MQTT"
        print(
            f"broker: {broker.address}\nfleet:  rollcall simulate --to {target}\nengine: http://127.0.0.1:{PORT}/",
            flush=True,
        )
        fleet = _started(stack, "simulate", "--to", target, "--clients", CLIENTS)
        engine = _started(stack, "run", "-c", str(_configuration(folder, broker.address)))
        while fleet.poll() is None and engine.poll() is None:
            time.sleep(0.2)


def _started(stack: ExitStack, *arguments: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([ROLLCALL, *arguments])
    stack.callback(end, process)
    return process


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask it to stop, then make it."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _configuration(folder: Path, address: str) -> Path:
    (folder / "rules").mkdir()
    (folder / "rules" / "rules.yaml").write_text(json.dumps({"version": 1, "rules": [RULE]}))
    source = {"name": "broker", "type": "rocketmq", "name_servers": [address], "consumer_group": "GID_rollcall"}
    told = {
        "version": 1,
        "http": {"listen": f"127.0.0.1:{PORT}"},
        "sources": [source | {"mqtt_groups": [GROUP]}],
        "rules": "rules/",
        "debounce": {"offline": "5s", "online": "0s"},
    }
    path = folder / "config.yaml"
    path.write_text(json.dumps(told))
    return path


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
    except Absent as reason:
        sys.exit(f"RocketMQ cannot be had: {reason}")
