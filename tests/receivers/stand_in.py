"""What the stand-ins of all services share: what came, what a person sees of it, and how a service answers when it is unhappy.

A stand-in is written from its service's documentation, not from our code: it checks shape, signature, size and identity, and reads texts as the
service's clients do: what of it is a mention, what can be clicked. `Loopback` serves all of them from one address.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True, kw_only=True)
class Came:
    """A request as a service sees it; `path` without the part that names the stand-in."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    def json(self) -> dict[str, Any]:
        """The body; ValueError when it is no JSON object in UTF-8."""
        found = json.loads(self.body.decode("utf-8"))
        if not isinstance(found, dict):
            raise ValueError("not an object")  # noqa: TRY004  # as for what is no JSON
        return found


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a service answers."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a person sees of one message, and what it does to them."""

    text: str
    links: tuple[str, ...] = ()  # what can be clicked
    mentions: tuple[str, ...] = ()  # who is notified by name


class Refused(Exception):
    """The service refuses what came, with this answer."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.body.decode("utf-8", "replace"))
        self.reply = reply


class StandIn:
    """One service. `shown`: what it took; `complaints`: what it refused, and why; `unhappy`: answers that it gives first."""

    def __init__(self) -> None:
        self.shown: list[Shown] = []
        self.complaints: list[str] = []
        self.unhappy: deque[Reply] = deque()

    def answer(self, came: Came) -> Reply:
        """Answer one request."""
        if self.unhappy:
            return self.unhappy.popleft()
        try:
            return self.take(came)
        except Refused as refused:
            self.complaints.append(str(refused))
            return refused.reply

    def take(self, came: Came) -> Reply:
        """Check and take one request. Raises Refused."""
        raise NotImplementedError


def json_reply(status: int, body: object, **headers: str) -> Reply:
    return Reply(status=status, body=json.dumps(body).encode(), headers={"Content-Type": "application/json", **headers})


HTML_PAGE = Reply(
    status=502, body=b"<html><body><h1>502 Bad Gateway</h1></body></html>", headers={"Content-Type": "text/html"}
)
LOGIN_PAGE = Reply(
    status=200, body=b"<!DOCTYPE html><html><body>Please log in</body></html>", headers={"Content-Type": "text/html"}
)


class Loopback:
    """All stand-ins behind one loopback address; the first part of a path names one."""

    def __init__(self) -> None:
        self.stand_ins: dict[str, StandIn] = {}
        served = self.stand_ins

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                parts = urlsplit(self.path)
                name, _, path = parts.path.removeprefix("/").partition("/")
                length = int(self.headers.get("Content-Length", "0"))
                headers = {key.lower(): value for key, value in self.headers.items()}
                came = Came(method="POST", path="/" + path, query=dict(parse_qsl(parts.query)), headers=headers, body=self.rfile.read(length))  # fmt: skip
                reply = served[name].answer(came)
                self.send_response_only(reply.status)
                for key, value in reply.headers.items():
                    self.send_header(key, value)
                if reply.status != 204:
                    self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
