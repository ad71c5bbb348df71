"""A real RocketMQ name server and broker on loopback: ephemeral ports, a temporary store, small heaps, ended by their ids.

`python -m tests.mq.broker` runs one until it is interrupted, for demos; `Broker` is what tests start.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tests.acceptance.service import free_ports
from tests.mq.jars import jars, java
from tests.mq.remoting import (
    DELETE_EXPIRED,
    DELETE_TOPIC_IN_BROKER,
    DELETE_TOPIC_IN_NAME_SERVER,
    MAX_OFFSET,
    MIN_OFFSET,
    ROUTE_OF_TOPIC,
    SUCCESS,
    UPDATE_TOPIC,
    ask,
)

CLUSTER: Final = "tests"
BOOT_S: Final = 90
"""How long a Java process may take to begin on a machine that has other things to do."""

_JAVA: Final = (
    "--add-exports=java.base/sun.nio.ch=ALL-UNNAMED",
    "--add-opens=java.base/java.nio=ALL-UNNAMED",
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
)
_AUTH: Final = "org.apache.rocketmq.auth.authentication.provider"


def _port() -> int:
    """A free port whose neighbours, two below and one above it, are free too: a broker listens on them as well."""
    return free_ports(4)[2]


def _until(holds: Callable[[], bool], what: str, within_s: float = BOOT_S) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {within_s} s"
        time.sleep(0.05)


class _Java:
    """One Java process: its properties file, its log, its life."""

    def __init__(self, folder: Path, name: str, main: str, heap_mb: int, properties: dict[str, object]) -> None:
        self.folder, self.name = folder, name
        self.address = f"127.0.0.1:{properties['listenPort']}"
        folder.mkdir(parents=True, exist_ok=True)
        self._config = folder / f"{name}.conf"
        self._config.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
        # A test run that is killed takes its servers along, where the system can be told so.
        along = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        self._command = [*along, java(), f"-Xms{heap_mb}m", f"-Xmx{heap_mb}m", f"-Duser.home={folder}"]
        self._command += [f"-Drocketmq.home.dir={folder}", *_JAVA, "-cp", f"{jars()}/*", main, "-c", str(self._config)]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin, and return when it says that it has booted."""
        log = self.folder / f"{self.name}.out"
        log.unlink(missing_ok=True)
        with log.open("wb") as out:
            self.process = subprocess.Popen(self._command, cwd=self.folder, stdout=out, stderr=subprocess.STDOUT)
        process = self.process

        def booted() -> bool:
            assert process.poll() is None, f"{self.name} ended: {log.read_text()[-2000:]}"
            return "boot success" in log.read_text("utf-8", "replace")

        _until(booted, f"{self.name} boots")

    def end(self, *, kill: bool = True) -> None:
        """End the process, and return when it is gone: its store is locked until then."""
        if self.process is not None and self.process.poll() is None:
            if kill:
                self.process.kill()
            else:
                self.process.terminate()
            self.process.wait(60)


class Broker:
    """A name server with one broker (or more) in a folder.

    `password` turns authentication on, for the user `u`. `more` are further properties of the brokers.
    """

    def __init__(self, folder: Path, password: str | None = None, **more: object) -> None:
        self.folder = folder
        self.port = _port()
        self._auth = _authentication(password) if password else {}
        self._more = more
        own = {"listenPort": self.port, "bindAddress": "127.0.0.1", "kvConfigPath": folder / "kv.json"}
        self.names = _Java(folder / "names", "names", "org.apache.rocketmq.namesrv.NamesrvStartup", 128, own)
        self.brokers: dict[str, _Java] = {}
        self.add("broker-a")

    @property
    def address(self) -> str:
        """The name server's `host:port`."""
        return f"127.0.0.1:{self.port}"

    def add(self, name: str) -> _Java:
        """Another broker of the same cluster, not started."""
        folder = self.folder / name
        own: dict[str, object] = {
            "brokerClusterName": CLUSTER, "brokerName": name, "brokerId": 0, "listenPort": _port(),
            "bindAddress": "127.0.0.1", "brokerIP1": "127.0.0.1", "namesrvAddr": self.address,
            "storePathRootDir": folder / "store", "storePathCommitLog": folder / "store" / "commitlog",
            "mappedFileSizeCommitLog": 67_108_864, "autoCreateTopicEnable": "true", "defaultTopicQueueNums": 4,
            "timerWheelEnable": "true", "timerFlushIntervalMs": 60_000, "diskMaxUsedSpaceRatio": 99, "maxTransferCountOnMessageInMemory": 1024,
            "maxTransferBytesOnMessageInMemory": 4_194_304, "registerNameServerPeriod": 10_000,
        }  # fmt: skip
        main = "org.apache.rocketmq.broker.BrokerStartup"
        self.brokers[name] = _Java(folder, name, main, 512, own | self._auth | self._more)
        return self.brokers[name]

    def start(self) -> None:
        """Begin: the name server first."""
        self.names.start()
        for broker in self.brokers.values():
            broker.start()
        _until(lambda: self.queues_of("TBW102") > 0, "the name server knows the broker")

    def end(self) -> None:
        """End everything that was started."""
        for java_process in [*self.brokers.values(), self.names]:
            java_process.end()

    def restart(self, *, kill: bool = False) -> None:
        """The first broker again, on its store."""
        broker = self.brokers["broker-a"]
        broker.end(kill=kill)
        broker.start()

    def topic(self, name: str, queues: int = 4) -> None:
        """Create a topic, or change how many queues it has, on every broker; returns when the name server knows it."""
        told = {"topic": name, "defaultTopic": "TBW102", "readQueueNums": queues, "writeQueueNums": queues, "perm": 6}
        told |= {"topicFilterType": "SINGLE_TAG", "topicSysFlag": 0, "order": "false"}
        for broker in self.brokers.values():
            self._ask(broker.address, UPDATE_TOPIC, **told)
        _until(lambda: self.queues_of(name) == queues * len(self.brokers), f"{name} has {queues} queues")

    def delete_topic(self, name: str) -> None:
        """Delete a topic and what is in it."""
        for broker in self.brokers.values():
            self._ask(broker.address, DELETE_TOPIC_IN_BROKER, topic=name)
        self._ask(self.address, DELETE_TOPIC_IN_NAME_SERVER, topic=name)

    def forget(self, topic: str) -> int:
        """Ask the broker to delete what has expired; the oldest offset that the topic's first queue still has."""
        address = self.brokers["broker-a"].address
        self._ask(address, DELETE_EXPIRED)
        return int(ask(address, MIN_OFFSET, topic=topic, queueId=0).fields["offset"])

    def max_offset(self, topic: str, queue: int) -> int:
        """The end of a queue on the first broker."""
        return int(ask(self.brokers["broker-a"].address, MAX_OFFSET, topic=topic, queueId=queue).fields["offset"])

    def queues_of(self, topic: str) -> int:
        """How many queues of a topic the name server knows, over all brokers."""
        found = ask(self.address, ROUTE_OF_TOPIC, topic=topic, acceptStandardJsonOnly=True)
        return sum(queue["readQueueNums"] for queue in found.body["queueDatas"]) if found.code == SUCCESS else 0

    def _ask(self, address: str, code: int, **fields: object) -> None:
        answer = ask(address, code, **fields)
        assert answer.code == SUCCESS, (code, fields, answer)


def _authentication(password: str) -> dict[str, object]:
    return {
        "authenticationEnabled": "true",
        "authenticationProvider": f"{_AUTH}.DefaultAuthenticationProvider",
        "authenticationMetadataProvider": f"{_AUTH}.LocalAuthenticationMetadataProvider",
        "initAuthenticationUser": json.dumps({"username": "u", "password": password}),
        "innerClientAuthenticationCredentials": json.dumps({"accessKey": "u", "secretKey": password}),
    }


@contextmanager
def running(folder: Path, password: str | None = None, **more: object) -> Iterator[Broker]:
    """A broker that has booted; ended when the block is left, also by a failure."""
    broker = Broker(folder, password, **more)
    try:
        broker.start()
        yield broker
    finally:
        broker.end()


def main() -> None:
    """Run one until it is interrupted, and print where it is."""
    import signal
    import threading

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with (
        suppress(KeyboardInterrupt),
        tempfile.TemporaryDirectory(prefix="rollcall-rocketmq-") as folder,
        running(Path(folder)) as broker,
    ):
        print(broker.address, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
