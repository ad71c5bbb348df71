"""STAND-IN for the two status queries of the vendor, for tests and demonstrations; nothing here is the vendor's code.

`GET /route/clientId/get` verifies signature and timestamp as FACTS say; `POST /` speaks what the vendor's SDK sends for
`QuerySessionByClientId` and `BatchQuerySessionByClientIds` of OnsMqtt 2020-04-20 (ACS3-HMAC-SHA256). Read `StandIn` first.
From a shell, until Ctrl-C:

    python -m tests.status.standin --port 8900 --truth truth.json --fault unknown=0.05 --fault late=0.02
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import json
import random
import ssl
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.status.standin_server import Reply, Request, Server

INSTANCE, ACCESS_KEY, SECRET = "mqtt-cn-test00001", "testAccessKeyId", "testSecretKey0123456789"
ROUTE, SINGLE, BATCH = "route", "QuerySessionByClientId", "BatchQuerySessionByClientIds"
ROUTE_WINDOW_MS, OPENAPI_WINDOW_MS = 5 * 60_000, 15 * 60_000
MOST_IN_A_BATCH = 10

FAULTS = ("unknown", "late", "hang", "error", "throttled", "html", "truncated", "cut", "redirect", "forbidden", "wrong")
"""What it can do instead of a good answer. unknown: -1 (route only); late: the right answer after `late_s`; hang: never;
error: 503; throttled: 429 with `retry_after`; html: a page with status 200; truncated: half of the JSON; cut: the
connection ends in the middle of the answer; redirect: 302 to elsewhere; forbidden: 403; wrong: JSON of another shape."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call that arrived: when (monotonic seconds), which operation, about whom, and the fault it met or `ok`."""

    at_s: float
    operation: str
    clients: tuple[str, ...]
    said: str


@dataclass(slots=True)
class StandIn:
    """Both endpoints on one loopback port; a context manager, or `start` and `stop`. Change any field while it runs.

    `truth`: connections of each client (absent: 0). `rates`: fault -> probability, drawn from `seed`. `script`: faults for
    the next calls, one each ("ok" or a Reply are allowed too), before any is drawn. `clock_off_s`: its clock minus ours. `cache`: what
    batches answer, instead of the truth. `block_above`: once more calls than that came within a second, all are refused.
    `denied`: clients that our key may not ask about.
    """

    truth: dict[str, int] = field(default_factory=dict)
    rates: Mapping[str, float] = field(default_factory=dict)
    seed: int = 1
    script: deque[str | Reply] = field(default_factory=deque)
    clock_off_s: float = 0.0
    late_s: float = 0.2
    latency_s: float = 0.0  # of every answer
    retry_after: str = "1"
    cache: dict[str, int] | None = None
    block_above: int | None = None
    denied: set[str] = field(default_factory=set)
    instance: str = INSTANCE
    access_key: str = ACCESS_KEY
    secret: str = SECRET
    port: int = 0
    tls: tuple[Path, Path] | None = None  # certificate and key
    calls: list[Call] = field(default_factory=list)
    blocked: bool = False
    _chance: random.Random = field(init=False)
    _server: Server | None = None
    _nonces: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)
        unheard = {*self.rates, *(name for name in self.script if isinstance(name, str))} - {*FAULTS, "ok"}
        assert not unheard, f"no such fault: {unheard}"

    def start(self) -> StandIn:
        """Listen; on the port it had before, if it had one."""
        context = None
        if self.tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.tls)
        self._server = Server(self._answer, self._now_s, port=self.port, tls=context)
        self._server.start()
        self.port = self._server.port
        return self

    def stop(self) -> None:
        """Be gone."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    __enter__ = start

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where both endpoints are."""
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}"

    @property
    def keys(self) -> dict[str, str]:
        """What a client needs: endpoint, instance, access_key, secret."""
        return {
            "endpoint": self.url,
            "instance": self.instance,
            "access_key": self.access_key,
            "secret": self.secret,
        }

    def asked(self) -> list[str]:
        """Every client asked about, in order."""
        return [client for call in list(self.calls) for client in call.clients]

    def most_in_a_second(self) -> int:
        """The most calls that arrived in any sliding second, over both endpoints."""
        return most_within(call.at_s for call in list(self.calls))

    def _now_s(self) -> float:
        return time.time() + self.clock_off_s

    def _answer(self, request: Request) -> Reply:
        is_route = request.path == "/route/clientId/get"
        operation = ROUTE if is_route else request.headers.get("x-acs-action", "?")
        names = [request.query.get("resource", "")] if is_route else _clients_of(request)
        fault = self.script.popleft() if self.script else self._drawn()
        said = fault if isinstance(fault, str) else "reply"
        self.calls.append(Call(at_s=request.at_s, operation=operation, clients=tuple(names), said=said))
        if self._is_too_many(request.at_s):
            return Reply(status=403, body=b"your address is blocked", kind="text/plain")
        if isinstance(fault, Reply):
            return fault
        if fault in PLAIN:
            return PLAIN[fault](self)
        good = self._route(request, fault) if is_route else self._openapi(request, operation, names)
        if fault in ("truncated", "wrong"):
            body = good.body[: len(good.body) // 2] if fault == "truncated" else b'["online"]'
            return Reply(status=good.status, body=body)
        if fault == "cut":
            return Reply(status=good.status, body=good.body, cut=len(good.encoded(0)) - len(good.body) // 2)
        delay = self.latency_s + (self.late_s if fault == "late" else 0.0)
        return Reply(status=good.status, body=good.body, after_s=delay)

    def _drawn(self) -> str:
        point = self._chance.random()
        for fault, share in self.rates.items():
            point -= share
            if point < 0:
                return fault
        return "ok"

    def _is_too_many(self, at_s: float) -> bool:
        if self.block_above is not None and not self.blocked:
            recent = self.calls[-self.block_above - 1 :]
            self.blocked = len(recent) > self.block_above and at_s - recent[0].at_s < 1.0
        return self.blocked

    # The signed route

    def _route(self, request: Request, fault: str) -> Reply:
        given = dict(request.query)
        signature = given.pop("signature", "")
        if request.method != "GET":
            return Reply(status=400, body=b"bad request", kind="text/plain")
        if set(given) != {"accessKey", "resource", "timestamp", "instanceId"} or not all([signature, *given.values()]):
            return _said(1, "missing parameter")
        signed = "&".join(f"{name}={given[name]}" for name in sorted(given))
        digest = hmac.new(self.secret.encode(), signed.encode(), hashlib.sha1).digest()
        if given["accessKey"] != self.access_key or not hmac.compare_digest(
            base64.b64encode(digest).decode(), signature
        ):
            return _said(2, "signature check failed")
        if not given["timestamp"].isdigit() or abs(int(given["timestamp"]) - self._now_s() * 1000) > ROUTE_WINDOW_MS:
            return _said(4, "timestamp expired")
        if given["instanceId"] != self.instance or given["resource"] in self.denied:
            return _said(3, "no permission")
        return _said(0, "", -1 if fault == "unknown" else self.truth.get(given["resource"], 0))

    # The OpenAPI

    def _openapi(self, request: Request, operation: str, clients: list[str]) -> Reply:
        refused = self._refused(request)
        if refused is not None:
            return refused
        if request.query.get("InstanceId") != self.instance or self.denied.intersection(clients):
            return _failed(403, "Forbidden.RAM", "User not authorized to operate on the specified resource.")
        if operation == SINGLE and len(clients) == 1:
            return _json({"RequestId": "STAND-IN", "OnlineStatus": self.truth.get(clients[0], 0) > 0})
        if operation == BATCH and 1 <= len(clients) <= MOST_IN_A_BATCH:
            known = self.truth if self.cache is None else self.cache
            found = [{"ClientId": client, "OnlineStatus": known.get(client, 0) > 0} for client in clients]
            return _json({"RequestId": "STAND-IN", "OnlineStatusList": found})
        return _failed(400, "InvalidParameter", "The parameters are not those of the operation.")

    def _refused(self, request: Request) -> Reply | None:
        method, _, rest = request.headers.get("authorization", "").partition(" ")
        parts = dict(part.partition("=")[::2] for part in rest.split(","))
        names = parts.get("SignedHeaders", "").split(";")
        if method != "ACS3-HMAC-SHA256" or request.method != "POST":
            return _failed(400, "IncompleteSignature", "The request signature does not conform to the standards.")
        if parts.get("Credential") != self.access_key:
            return _failed(404, "InvalidAccessKeyId.NotFound", "Specified access key is not found.")
        query = "&".join(f"{name}={quote(request.query[name], safe='~')}" for name in sorted(request.query))
        headers = "".join(f"{name}:{request.headers.get(name, '')}\n" for name in names)
        payload = hashlib.sha256(request.body).hexdigest()
        canonical = f"{request.method}\n{request.path}\n{query}\n{headers}\n{';'.join(names)}\n{payload}"
        signed = f"{method}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        expected = hmac.new(self.secret.encode(), signed.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, parts.get("Signature", "")):
            return _failed(400, "SignatureDoesNotMatch", "Specified signature is not matched with our calculation.")
        dated = datetime.strptime(request.headers["x-acs-date"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        if abs(dated.timestamp() - self._now_s()) * 1000 > OPENAPI_WINDOW_MS:
            return _failed(400, "InvalidTimeStamp.Expired", "Specified time stamp or date value is expired.")
        nonce = request.headers.get("x-acs-signature-nonce", "")
        if nonce in self._nonces:
            return _failed(400, "SignatureNonceUsed", "Specified signature nonce was used already.")
        self._nonces.add(nonce)
        return None


def most_within(instants_s: Iterable[float], window_s: float = 1.0) -> int:
    """The most instants that lie less than `window_s` apart."""
    ordered = sorted(instants_s)
    most = first = 0
    for last, at_s in enumerate(ordered):
        while at_s - ordered[first] >= window_s:
            first += 1
        most = max(most, last - first + 1)
    return most


def _clients_of(request: Request) -> list[str]:
    if "ClientId" in request.query:
        return [request.query["ClientId"]]
    listed = {name: value for name, value in request.query.items() if name.startswith("ClientIdList.")}
    return [listed[name] for name in sorted(listed, key=lambda name: int(name.rpartition(".")[2]))]


def _json(found: Any, status: int = 200) -> Reply:
    return Reply(status=status, body=json.dumps(found).encode())


def _said(code: int, message: str, online: int | None = None) -> Reply:
    told = {"code": code, "success": code == 0, "message": message}
    return _json(told if online is None else told | {"online": online})


def _failed(status: int, code: str, message: str) -> Reply:
    return _json({"Code": code, "Message": message, "RequestId": "STAND-IN", "HostId": "stand-in"}, status)


PLAIN = {
    "hang": lambda standin: Reply(never=True),
    "error": lambda standin: Reply(status=503, body=b"<h1>503 Service Unavailable</h1>", kind="text/html"),
    "throttled": lambda standin: Reply(
        status=429,
        body=b'{"Code":"Throttling.User","Message":"Request was denied due to user flow control.","RequestId":"STAND-IN"}',
        headers={"Retry-After": standin.retry_after},
    ),
    "html": lambda standin: Reply(body=b"<html><body>Please sign in</body></html>", kind="text/html"),
    "redirect": lambda standin: Reply(status=302, headers={"Location": "http://127.0.0.1:9/elsewhere"}),
    "forbidden": lambda standin: Reply(status=403, body=b'{"Code":"Forbidden.RAM","Message":"Not authorized."}'),
}
"""Faults that do not depend on the question."""


def truth_of(path: Path) -> dict[str, int]:
    """Connections of each client, from a JSON object, or from a file of lifecycle events, one a line."""
    text = path.read_text()
    try:
        told = json.loads(text)
    except ValueError:
        told = None
    if isinstance(told, dict) and "eventType" not in told:
        return {str(client): int(connections) for client, connections in told.items()}
    opened: dict[str, set[str]] = {}
    closed: set[str] = set()
    for line in text.splitlines():
        event = json.loads(line)
        channels = opened.setdefault(event["clientId"], set())
        if event["eventType"] == "connect":
            channels.add(event["channelId"])
        elif event["eventType"] == "tcpclean":
            closed.add(event["channelId"])
    return {client: len(channels - closed) for client, channels in opened.items()}


def main() -> None:
    """Serve until Ctrl-C; the truth is read again when its file changes."""
    parser = argparse.ArgumentParser(description="STAND-IN for the vendor's status queries")
    parser.add_argument("--port", type=int, default=8900)
    parser.add_argument(
        "--truth", type=Path, help="a JSON object client -> connections, or lifecycle events one a line"
    )
    parser.add_argument("--fault", action="append", default=[], metavar="NAME=SHARE", help=f"of {', '.join(FAULTS)}")
    parser.add_argument("--clock-off", type=float, default=0.0, metavar="MINUTES")
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    rates = {name: float(share) for name, _, share in (fault.partition("=") for fault in given.fault)}
    made = StandIn(
        rates=rates,
        seed=given.seed,
        port=given.port,
        clock_off_s=given.clock_off * 60,
        latency_s=given.latency_ms / 1000,
    )
    with made as standin:
        print(f"STAND-IN at {standin.url}, instance {INSTANCE}, access key {ACCESS_KEY}, secret {SECRET}", flush=True)
        read_ns, shown = 0, 0
        try:
            while True:
                if given.truth is not None and given.truth.stat().st_mtime_ns != read_ns:
                    read_ns = given.truth.stat().st_mtime_ns
                    standin.truth = truth_of(given.truth)
                    print(f"truth: {len(standin.truth)} clients", flush=True)
                if len(standin.calls) != shown:
                    shown = len(standin.calls)
                    print(f"{shown} calls, at most {standin.most_in_a_second()} in a second", flush=True)
                time.sleep(1)
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
