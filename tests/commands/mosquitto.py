"""A real Mosquitto on loopback, devices that listen to it, and a relay that makes it look older than it is."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.acceptance.service import eventually, free_port, now_ms, requires

PARENT: Final = "iot"
_BINARY: Final = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


class Mosquitto:
    """One broker on one port, over as many lives as a test wants; what it kept for devices survives a kill."""

    def __init__(
        self, folder: Path, users: dict[str, str] | None = None, tls: tuple[Path, Path] | None = None, more: str = ""
    ) -> None:
        requires("mosquitto", _BINARY)
        self.port = free_port()
        self._folder = folder
        lines = [f"listener {self.port} 127.0.0.1", "allow_anonymous " + ("false" if users else "true"), "user root"]
        if users:
            passwords = folder / "passwords"
            passwords.touch(mode=0o600)
            for name, password in users.items():
                subprocess.run(["mosquitto_passwd", "-b", str(passwords), name, password], check=True)
            lines.append(f"password_file {passwords}")
        if tls:
            lines += [f"certfile {tls[0]}", f"keyfile {tls[1]}"]
        (folder / "mosquitto.conf").write_text("\n".join([*lines, more]) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Begin; returns when it listens."""
        assert _BINARY is not None
        with (self._folder / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen([_BINARY, "-c", "mosquitto.conf", "-v"], cwd=self._folder, stderr=log)
        eventually(lambda: reachable(self.port))

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """It takes what the network brings and does nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def log(self) -> str:
        """All that it has said."""
        return (self._folder / "mosquitto.log").read_text("utf-8", "replace")


def reachable(port: int) -> bool:
    """Does somebody listen?"""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextmanager
def running(folder: Path, **more: Any) -> Iterator[Mosquitto]:
    """A broker that listens; ended when the block is left."""
    folder.mkdir(parents=True, exist_ok=True)
    broker = Mosquitto(folder, **more)
    try:
        broker.start()
        yield broker
    finally:
        broker.kill()


@dataclass(frozen=True, slots=True, kw_only=True)
class Got:
    """One message as a device got it."""

    payload: str
    qos: int
    id: str  # the user property `command-id`, empty in MQTT 3.1.1
    expires_at: str
    expiry_s: int | None
    at_ms: int


class Device:
    """A device that is connected and listens to its own topic. `keeps`: the broker is to keep for it what it misses."""

    def __init__(self, port: int, client_id: str, *, keeps: bool = False, user: tuple[str, str] | None = None) -> None:
        self.id = client_id
        self._port = port
        self._got: list[Got] = []
        self._ready = threading.Event()
        self._user, self._keeps = user, keeps

    def connect(self) -> None:
        """Returns when it listens."""
        self._ready.clear()
        self._client = client = Client(CallbackAPIVersion.VERSION2, self.id, protocol=MQTTProtocolVersion.MQTTv5)
        if self._user:
            client.username_pw_set(*self._user)
        client.on_connect = self._listen
        client.on_subscribe = lambda *_: self._ready.set()
        client.on_message = self._take
        session = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        session.SessionExpiryInterval = 3600 if self._keeps else 0
        client.connect("127.0.0.1", self._port, clean_start=not self._keeps, properties=session)
        client.loop_start()
        assert self._ready.wait(20)

    def leave(self) -> None:
        """Disconnect; what it got is kept."""
        self._client.disconnect()
        self._client.loop_stop()

    def _listen(self, client: Client, *told: Any) -> None:
        client.subscribe(f"{PARENT}/p2p/{self.id}", qos=2)

    def _take(self, client: Client, told: Any, message: MQTTMessage) -> None:
        found = vars(message.properties) if message.properties is not None else {}
        own = dict(found.get("UserProperty", []))
        self._got.append(
            Got(
                payload=message.payload.decode(),
                qos=message.qos,
                id=own.get("command-id", ""),
                expires_at=own.get("expires-at", ""),
                expiry_s=found.get("MessageExpiryInterval"),
                at_ms=now_ms(),
            )
        )

    def got(self) -> list[Got]:
        """Everything so far."""
        return list(self._got)

    def payloads(self) -> list[str]:
        """What was in it."""
        return [entry.payload for entry in self._got]

    def say(self, payload: str) -> None:
        """Send itself a message: what it got before that is all there was."""
        self._client.publish(f"{PARENT}/p2p/{self.id}", payload, qos=1).wait_for_publish(20)
        eventually(self.payloads, lambda found: payload in found)


@contextmanager
def device(port: int, client_id: str, **more: Any) -> Iterator[Device]:
    """A device that listens."""
    made = Device(port, client_id, **more)
    made.connect()
    try:
        yield made
    finally:
        made.leave()


class OldBroker:
    """A relay in front of a broker that speaks MQTT up to 3.1.1.

    It answers a login of MQTT 5 as brokers before 2018 do: with code 1 in the old form, or by closing (`silent`).
    """

    def __init__(self, port: int, *, silent: bool = False) -> None:
        self._port, self._silent = port, silent
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.versions: list[int] = []  # of each login
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                taken, _ = self._server.accept()
                threading.Thread(target=self._serve, args=(taken,), daemon=True).start()

    def _serve(self, taken: socket.socket) -> None:
        with taken, suppress(OSError):
            first = taken.recv(4096)
            if not first:
                return
            version = first[first.index(b"MQTT") + 4]
            self.versions.append(version)
            if version > 4:
                if not self._silent:
                    taken.sendall(b"\x20\x02\x00\x01")
                return
            with socket.create_connection(("127.0.0.1", self._port)) as onward:
                onward.sendall(first)
                back = threading.Thread(target=_pump, args=(onward, taken), daemon=True)
                back.start()
                _pump(taken, onward)
                back.join()

    def close(self) -> None:
        """Take no more."""
        self._server.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
