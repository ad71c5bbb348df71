"""A real RabbitMQ on the loopback, with the vendor's queue and a login of the vendor's shape.

RabbitMQ asks a tiny server of ours about every login (its plugin for HTTP), because no password of its own could verify a
signature that changes. Everything is the test's own: node name, ports, folders, the port mapper. All of it ends by process
id, also when a test fails.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import aiormq
from yarl import URL

from engine.sources.amqp.login import signed_login
from tests.acceptance.service import eventually, free_port, requires

SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
CONTROL = SERVER.with_name("rabbitmqctl")

INSTANCE, ACCESS_KEY, SECRET = "mqtt-cn-test00001", "testAccessKeyId", "testSecretKey0123456789"
QUEUE, VHOST, GROUP = "STATUS", "MQTT", "GID_rollcall"
FRESH_MS = 5_000
"""How old a signature may be. The stand-in tries every instant, because RabbitMQ does not pass the client's properties on."""


class Logins:
    """Says yes to the tester, and to whoever signed an instant of the last seconds with the right secret."""

    def __init__(self) -> None:
        self.signed: list[int] = []  # instants of the logins that were accepted
        self.refused = 0
        self.secret = SECRET
        logins = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                good = self.path != "/user" or logins.accepts(asked["username"][0], asked["password"][0])
                body = b"allow" if good else b"deny"
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def accepts(self, user: str, password: str) -> bool:
        """The verdict on one login."""
        if (user, password) == ("tester", "tester"):
            return True
        now_ms = time.time_ns() // 1_000_000
        for at_ms in range(now_ms, now_ms - FRESH_MS, -1):
            if signed_login(INSTANCE, ACCESS_KEY, self.secret, at_ms)[:2] == (user, password):
                self.signed.append(at_ms)
                return True
        self.refused += 1
        return False

    def close(self) -> None:
        """Listen no longer."""
        self._server.shutdown()
        self._server.server_close()


class Broker:
    """One node and its port mapper. `start`, `kill` and `stop` as often as a test wants; its queue survives."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.tls_port, self._mapper_port, self._node_port = (free_port() for _ in range(4))
        self.logins = Logins()
        self._mapper: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None
        (folder / "home").mkdir(parents=True)
        (folder / "plugins").write_text("[rabbitmq_auth_backend_http].")
        queue = {"name": QUEUE, "vhost": VHOST, "durable": True, "auto_delete": False, "arguments": {}}
        (folder / "definitions.json").write_text(json.dumps({"vhosts": [{"name": VHOST}], "queues": [queue]}))
        asked = "".join(
            f"auth_http.{what}_path = http://127.0.0.1:{self.logins.port}/{what}\n"
            for what in ("user", "vhost", "resource", "topic")
        )
        (folder / "rabbit.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\nload_definitions = {folder}/definitions.json\n"
            f"auth_backends.1 = http\nauth_http.http_method = post\n{asked}"
            f"{self._tls_settings()}log.console = true\nlog.file = false\nlog.console.level = warning\n"
        )

    def _tls_settings(self) -> str:
        """A certificate of its own for localhost, and a port that speaks TLS."""
        folder = self.folder
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
             "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
             "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")],
            check=True, capture_output=True,
        )  # fmt: skip
        return (
            f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}\nssl_options.certfile = {folder}/cert.pem\n"
            f"ssl_options.keyfile = {folder}/key.pem\nssl_options.cacertfile = {folder}/cert.pem\n"
        )

    @property
    def _environment(self) -> dict[str, str]:
        folder = self.folder
        return os.environ | {
            "HOME": str(folder / "home"),  # where the cookie of the node is
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._mapper_port),
            "RABBITMQ_NODENAME": f"rollcall{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._node_port),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbit.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "none.conf"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1",
        }

    def start(self) -> None:
        """Returns when it takes connections."""
        if self._mapper is None:
            mapper = [shutil.which("epmd") or "epmd", "-port", str(self._mapper_port), "-address", "127.0.0.1"]
            self._mapper = subprocess.Popen(mapper, env=self._environment, start_new_session=True)
        with (self.folder / "log.txt").open("ab") as log:
            self._server = subprocess.Popen(
                [str(SERVER)],
                env=self._environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        eventually(self._is_up, lambda found: found == "up")

    def _is_up(self) -> str:
        assert self._server is not None and self._server.poll() is None, (self.folder / "log.txt").read_text()[-3000:]
        try:
            return str(asyncio.run(self._with_channel(lambda channel: _nothing())))
        except (OSError, aiormq.exceptions.AMQPError) as error:
            return repr(error)

    def kill(self) -> None:
        """As if the power had gone."""
        if self._server is not None:
            with suppress(ProcessLookupError):
                # The node is the child of a script; both are in a group of their own.
                os.killpg(self._server.pid, signal.SIGKILL)
            self._server.wait()
            self._server = None

    def close(self) -> None:
        """End everything."""
        self.kill()
        if self._mapper is not None:
            self._mapper.kill()
            self._mapper.wait()
        self.logins.close()

    # What tests do with it

    async def _with_channel(self, work: Any) -> Any:
        url = URL.build(
            scheme="amqp", host="127.0.0.1", port=self.port, user="tester", password="tester", path="/" + VHOST
        )
        async with asyncio.timeout(30):
            async with aiormq.connect(url) as connection:
                return await work(await connection.channel(publisher_confirms=True))

    def publish(self, bodies: Iterable[bytes | str], **properties: Any) -> None:
        """Durable messages, each confirmed by the broker."""

        async def work(channel: Any) -> None:
            told = aiormq.spec.Basic.Properties(delivery_mode=2, **properties)
            sent = [
                channel.basic_publish(
                    body.encode() if isinstance(body, str) else body, routing_key=QUEUE, properties=told
                )
                for body in bodies
            ]
            for start in range(0, len(sent), 500):
                await asyncio.gather(*sent[start : start + 500])

        asyncio.run(self._with_channel(work))

    def messages(self) -> int:
        """Messages of the queue that wait for a consumer."""

        async def work(channel: Any) -> int:
            return int((await channel.queue_declare(QUEUE, passive=True)).message_count)

        return int(asyncio.run(self._with_channel(work)))

    def purge(self) -> None:
        """Nothing is in the queue."""

        async def work(channel: Any) -> None:
            await channel.queue_purge(QUEUE)

        asyncio.run(self._with_channel(work))

    def listed(self, *arguments: str) -> list[dict[str, Any]]:
        """What `rabbitmqctl list_…` says, as objects."""
        done = subprocess.run(
            [str(CONTROL), "--formatter", "json", "-q", *arguments],
            env=self._environment, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found


async def _nothing() -> str:
    return "up"


@contextmanager
def broker(folder: Path) -> Iterator[Broker]:
    """A broker that runs."""
    requires("RabbitMQ (apt-get install rabbitmq-server)", SERVER.exists())
    requires("openssl", shutil.which("openssl"))
    made = Broker(folder)
    try:
        made.start()
        yield made
    finally:
        made.close()


def source(port: int, **more: Any) -> dict[str, Any]:
    """The configuration of a source that consumes it; the secrets come from `SECRETS`."""
    told = {
        "name": "cloud",
        "type": "amqp",
        "endpoint": f"127.0.0.1:{port}",
        "instance": INSTANCE,
        "access_key": {"env": "TEST_ACCESS_KEY"},
        "secret": {"env": "TEST_SECRET"},
        "consumer_group": GROUP,
    }
    return told | more


SECRETS = {"TEST_ACCESS_KEY": ACCESS_KEY, "TEST_SECRET": SECRET}
"""The environment of an engine that may log in."""
