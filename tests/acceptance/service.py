"""The service as its users meet it: a process, its HTTP interface, its log, its signals; and a target for its webhooks.

Nothing here sleeps to wait for the service: `eventually` asks until something holds, and fails with what it saw last.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import requests

from tests.command_line import command
from tests.warm_process import WarmProcess

T = TypeVar("T")

ROLLCALL = str(Path(sys.executable).with_name("rollcall"))
PATIENCE_S = 150.0
"""How long anything may take on a machine that has other things to do."""

LOG_LATENCY_S = 1.0
"""How long a line may be on its way to the log file."""


def now_ms() -> int:
    """The present, epoch milliseconds."""
    return time.time_ns() // 1_000_000


def eventually(ask: Callable[[], T], holds: Callable[[T], object] = bool, within_s: float = PATIENCE_S) -> T:
    """The first answer that holds. AssertionError with the last one when none does in time."""
    deadline = time.monotonic() + within_s
    while True:
        found = ask()
        if holds(found):
            return found
        assert time.monotonic() < deadline, f"not within {within_s} s; last seen: {found!r:.2000}"
        time.sleep(0.02)


_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
_OWN_PORTS = range(10_000 + 2_750 * _WORKER, 10_000 + 2_750 * (_WORKER + 1))
"""Below the ports that the system gives to connections: one of those may be taken before a server listens on it.

Processes that share the tests have ports of their own for the same reason.
"""
_PORTS = itertools.cycle(_OWN_PORTS)

for _ in range(os.getpid() * 97 % len(_OWN_PORTS)):  # another run of the tests at the same time begins elsewhere
    next(_PORTS)


def free_port() -> int:
    """A port nobody listens on right now, and that this process has not been given before."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """So many ports in a row, each as `free_port` gives one."""
    row: list[int] = []
    for port in itertools.islice(_PORTS, len(_OWN_PORTS)):
        if row and port != row[-1] + 1:  # the ports begin again
            row = []
        row = [*row, port] if _is_free(port) else []
        if len(row) == count:
            return row
    raise AssertionError("no ports are free")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def event(client: str, kind: str, channel: str, time_ms: int | None = None, **more: Any) -> str:
    """One event as the broker writes it, on one line."""
    told = {
        "clientId": client,
        "time": now_ms() if time_ms is None else time_ms,
        "eventType": kind,
        "channelId": channel,
    }
    return json.dumps(told | more)


TOLD = {
    "client": ("rule.name", "client.id", "occurred_at", "settled_at", "alert.reason"),
    "feed": ("rule.name", "alert.source", "alert.detail", "alert.started_at"),
}
"""What a sink is told about alerts of clients and of feeds."""


def webhook(url: str, phase: str, about: str = "client", **more: Any) -> dict[str, Any]:
    """An action that tells the sink which decision it is about: `rule`, `client`, `occurred_at`, `phase` …"""
    names = {"rule.name": "rule", "client.id": "client"}
    body = {names.get(path, path.rpartition(".")[2]): "{{ " + path + " }}" for path in TOLD[about]}
    return {"webhook": {"url": url, "json": body | {"phase": phase}, **more}}


class Service:
    """A folder with a configuration, and the process that serves it, over as many lives as a test wants."""

    def __init__(self, folder: Path, **config: Any) -> None:
        """Write the configuration: an HTTP source, no holds, and what `config` says instead."""
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | WarmProcess | None = None
        (folder / "rules").mkdir(exist_ok=True)
        told = {
            "version": 1,
            "http": {"listen": f"127.0.0.1:{self.port}"},
            "sources": [{"name": "push", "type": "http"}],
            "rules": "rules/",
            "debounce": {"offline": "0s", "online": "0s"},
        }
        # JSON is YAML.
        (folder / "config.yaml").write_text(json.dumps(told | config))

    def rules(self, *rules: Mapping[str, Any], file: str = "rules.yaml") -> None:
        """Write a rule file, at once: an editor may not be caught in the middle."""
        path = self.folder / "rules" / file
        new = path.with_suffix(".new")
        new.write_text(json.dumps({"version": 1, "rules": list(rules)}))
        new.replace(path)

    # Its life

    def start(
        self, *, ready: bool = True, under: Sequence[str] = (), **environment: str
    ) -> subprocess.Popen[bytes] | WarmProcess:
        """A new process, perhaps `under` a command that watches it; waits until it is ready, unless told not to."""
        assert self.process is None or self.process.poll() is not None
        arguments, log_file = ["run", "-c", "config.yaml"], self.folder / "log.jsonl"
        if under or any(name.startswith("PYTHON") for name in environment):  # what Python reads while it starts
            with log_file.open("ab") as log:
                self.process = subprocess.Popen(
                    [*under, ROLLCALL, *arguments], cwd=self.folder, env=os.environ | environment, stderr=log
                )
        else:
            self.process = WarmProcess(arguments, self.folder, os.environ | environment, log_file)
        if ready:
            self.wait_ready()
        return self.process

    def wait_ready(self) -> None:
        """Returns when `/readyz` says so; fails when the process ends instead."""

        def ask() -> bool:
            assert self.process is not None and self.process.poll() is None, self.log_text()[-2000:]
            return self.readiness()[0] == 200

        eventually(ask)

    @property
    def pid(self) -> int:
        """The service's own process: what it wrote into its lock, also when it runs under another command."""
        return int((self.folder / "data" / "rollcall.lock").read_text().split()[0])

    def kill(self) -> None:
        """As if the power had gone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def terminate(self, within_s: float = PATIENCE_S) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        os.kill(self.pid, signal.SIGTERM)
        return self.process.wait(within_s)

    def close(self) -> None:
        """End it, if it still runs."""
        if self.process is not None and self.process.poll() is None:
            with suppress(OSError, ValueError):
                os.kill(self.pid, signal.SIGKILL)
            self.process.kill()
            self.process.wait()

    # What it says

    def get(self, path: str, **query: Any) -> Any:
        """The JSON at a path."""
        answer = requests.get(self.url + path, query, timeout=10)
        assert answer.status_code == 200, (answer.status_code, answer.text)
        return answer.json()

    def items(self, path: str, **query: Any) -> list[dict[str, Any]]:
        """Everything in a list, page after page."""
        found: list[dict[str, Any]] = []
        query["limit"] = 1000
        while True:
            page = self.get(path, **query)
            found += page["items"]
            if not page["next"]:
                return found
            query["cursor"] = page["next"]

    def readiness(self) -> tuple[int, str]:
        """Status and text of `/readyz`; (0, reason) when nobody answers."""
        try:
            answer = requests.get(f"{self.url}/readyz", timeout=10)
        except requests.RequestException as error:
            return 0, str(error)
        return answer.status_code, answer.text

    def metric(self, name: str) -> float:
        """One number of `/metrics`, counters by their base name."""
        text = requests.get(f"{self.url}/metrics", timeout=10).text
        found = re.search(rf"^{name}(?:_total)? (\S+)$", text, re.MULTILINE)
        assert found is not None, text
        return float(found[1])

    def statuses(self) -> dict[str, str]:
        """The settled status of every client."""
        return {entry["client"]: entry["status"] for entry in self.items("/v1/clients")}

    def log_text(self) -> str:
        """All it wrote to standard error, over all its lives."""
        return (self.folder / "log.jsonl").read_text("utf-8", "replace")

    def log_lines(self, event_name: str) -> list[dict[str, Any]]:
        """The log's lines about one event. A thread of the service writes the log, so the newest may come a moment later."""
        deadline = time.monotonic() + LOG_LATENCY_S
        while True:
            lines = (json.loads(line) for line in self.log_text().splitlines() if line.startswith("{"))
            found = [line for line in lines if line["event"] == event_name]
            if found or time.monotonic() > deadline:
                return found
            time.sleep(0.02)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Another command on the same configuration, from the test's main thread."""
        return command(self.folder, *arguments) if arguments[:1] != ("run",) else self.process_of(*arguments)

    def process_of(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The same in a process of its own: for several at once, and where it matters which process holds a lock."""
        return subprocess.run(
            [ROLLCALL, *arguments], cwd=self.folder, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )

    def command_that_waits(
        self, *arguments: str, said: str, then: Callable[[], object]
    ) -> subprocess.CompletedProcess[str]:
        """A command that waits for something: when it has `said` so on standard error, `then` makes it go on to its end."""
        words = [ROLLCALL, *arguments]
        with subprocess.Popen(
            words, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr is not None
            lines = []
            for line in process.stderr:
                lines.append(line)
                if said in line:
                    then()
                    break
            stdout, stderr = process.communicate(timeout=PATIENCE_S)
        return subprocess.CompletedProcess(words, process.returncode, stdout, "".join(lines) + stderr)

    def printed(self, *arguments: str) -> list[dict[str, Any]]:
        """What a command prints with `--format jsonl`."""
        done = self.command(*arguments, "--format", "jsonl")
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    # What it is told

    def send(self, method: str, path: str, body: Any = None) -> requests.Response:
        """A request with a JSON body."""
        return requests.request(method, self.url + path, json={} if body is None else body, timeout=30)

    def post(self, *events: str) -> requests.Response:
        """Events, in one request."""
        headers = {"Content-Type": "application/x-ndjson"}
        return requests.post(f"{self.url}/v1/events", "\n".join(events), headers=headers, timeout=30)

    def tell(self, *events: str) -> None:
        """Events that must be accepted."""
        answer = self.post(*events)
        assert answer.status_code == 202 and answer.json()["accepted"] == len(events), answer.text


@contextmanager
def service(folder: Path, **config: Any) -> Iterator[Service]:
    """A service, not started; ended when the block is left."""
    made = Service(folder, **config)
    try:
        yield made
    finally:
        made.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One request that reached the sink."""

    path: str
    key: str
    body: Any
    headers: Mapping[str, str]
    at_s: float  # monotonic


@dataclass(slots=True)
class Answer:
    """What the sink says: a status, headers, and what it waits for first."""

    status: int = 204
    headers: Mapping[str, str] = field(default_factory=dict)
    after: threading.Event | None = None


class Sink:
    """A webhook target on the loopback: records what arrives, in order, and answers as the test wants.

    `answer` may be replaced at any time; it is given the arrival. `stop` and `start` make it unreachable and reachable.
    """

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []
        self.answer: Callable[[Arrival], Answer] = lambda arrival: Answer()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self._connections: set[socket.socket] = set()

    def start(self) -> None:
        """Listen, on the same port as ever."""
        sink = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                sink._take(self)

            do_GET = do_POST

            def setup(self) -> None:
                super().setup()
                with sink._lock:
                    sink._connections.add(self.request)

            def finish(self) -> None:
                with suppress(OSError):
                    super().finish()
                with sink._lock:
                    sink._connections.discard(self.request)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 128
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *_: Any) -> None:
                pass  # a peer that was killed

        self._server = Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Be gone: connections are cut, new ones are refused."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        with self._lock:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _take(self, handler: BaseHTTPRequestHandler) -> None:
        raw = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        try:
            body = json.loads(raw)
        except ValueError:
            body = raw.decode("utf-8", "replace")
        headers = dict(handler.headers.items())
        key = headers.get("Idempotency-Key", "")
        arrival = Arrival(path=handler.path, key=key, body=body, headers=headers, at_s=time.monotonic())
        with self._lock:
            self.arrivals.append(arrival)
        answer = self.answer(arrival)
        if answer.after is not None:
            answer.after.wait(PATIENCE_S)
        with suppress(OSError):  # whoever asked may be gone
            handler.send_response(answer.status)
            for name, value in answer.headers.items():
                handler.send_header(name, value)
            handler.send_header("Content-Length", "0")
            handler.end_headers()

    def seen(self) -> list[Arrival]:
        """What has arrived so far."""
        with self._lock:
            return list(self.arrivals)

    def first_seen(self) -> list[Arrival]:
        """The same without repetitions: of each key, its first arrival."""
        found: dict[str, Arrival] = {}
        for arrival in self.seen():
            found.setdefault(arrival.key, arrival)
        return list(found.values())

    def told(self, *names: str) -> list[tuple[Any, ...]]:
        """Some fields of the bodies, in the order of first arrival."""
        return [tuple(arrival.body.get(name) for name in names) for arrival in self.first_seen()]


def answers(*statuses: int | Answer) -> Callable[[Arrival], Answer]:
    """For each delivery these answers one after the other, the last one for ever."""
    tried: Counter[str] = Counter()

    def answer(arrival: Arrival) -> Answer:
        turn = min(tried[arrival.key], len(statuses) - 1)
        tried[arrival.key] += 1
        said = statuses[turn]
        return said if isinstance(said, Answer) else Answer(said)

    return answer


@contextmanager
def sink() -> Iterator[Sink]:
    """A target that listens."""
    made = Sink()
    made.start()
    try:
        yield made
    finally:
        made.stop()


def offline_rule(
    url: str,
    name: str = "gone",
    recovery: bool = True,
    hook: Mapping[str, Any] | None = None,
    for_: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Pages a sink when a client goes offline, and tells it when the client is back."""
    rule: dict[str, Any] = {"name": name, "trigger": "offline", "flapping": "fire"}
    if for_ is not None:
        rule["for"] = for_
    rule["actions"] = [webhook(url, "firing", **(hook or {}))]
    if recovery:
        rule["on_recovery"] = [webhook(url, "recovery", **(hook or {}))]
    return rule | more


def without_tracebacks(log: str) -> bool:
    """Did nothing blow up?"""
    return "Traceback" not in log


def requires(what: str, present: object) -> None:
    """Skip a test whose tool is missing here; in CI, where all are promised, fail."""
    if not present:
        missing(f"{what} is not installed")


def missing(why: str) -> NoReturn:
    """Skip a test for what is missing here, and say what; in CI, where all is promised, fail."""
    import pytest

    if os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail(f"required here: {why}")
    pytest.skip(why)


Lines = Sequence[str]
