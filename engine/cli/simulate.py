"""`rollcall simulate`: a synthetic fleet written to a file, played against a running engine, or published to RocketMQ."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice
from typing import IO, Any, Final

import click
import requests

from engine.config.durations import parse_duration
from engine.sources.rocketmq.publisher import Publisher
from engine.sources.simulator.synthetic import Arrival, Storm, SyntheticFleet, arrivals

BATCH_EVENTS: Final = 1000
"""Events in one request, and lines written at once."""

TURN_S: Final = 0.1
"""Seconds of the fleet's life that one request carries in real time."""

TIMEOUT_S: Final = 30
ROCKETMQ: Final = "rocketmq://"
DEFAULT_EVENTS: Final = 10_000
"""Events written to a file when neither a number nor a duration is asked for."""


class Duration(click.ParamType[int]):
    """A duration such as `500ms`, `30s` or `6m2s`, in milliseconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Milliseconds from text; what is one already passes."""
        if isinstance(value, int):
            return value
        try:
            return parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class StormAt(click.ParamType[Storm]):
    """A failover as `AT[:RETURNS[:SPREAD]]`, such as `1m:0.9:20s`."""

    name = "at[:returns[:spread]]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Storm:
        """A storm from text; what is one already passes."""
        if isinstance(value, Storm):
            return value
        at, _, rest = str(value).partition(":")
        returns, _, spread = rest.partition(":")
        duration = Duration()
        return Storm(
            at_ms=duration.convert(at, param, ctx),
            returns=_SHARE(returns or "0.95", param, ctx),
            spread_ms=duration.convert(spread or "15s", param, ctx),
        )


_SHARE: Final = click.FloatRange(0, 1)


@click.command()
@click.option(
    "--clients", type=click.IntRange(1, 10_000_000), default=200, show_default=True, help="Size of the fleet."
)
@click.option("--events", type=click.IntRange(1), help="Stop after so many events.")
@click.option("--duration", type=Duration(), help="Stop after so much of the fleet's time, such as 5m.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same events.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Events a second, of all clients together.")
@click.option("--flaps", type=_SHARE, default=0.2, show_default=True, help="Share of ends followed by a quick return.")
@click.option("--takeovers", type=_SHARE, default=0.1, show_default=True, help="Share of ends by a new connection.")
@click.option("--graceful", type=_SHARE, default=0.5, show_default=True, help="Share of ends with a disconnect.")
@click.option("--late", type=_SHARE, default=0.03, show_default=True, help="Share of events overtaken by others.")
@click.option("--max-late", type=Duration(), default=3000, show_default="3s", help="How late those are at most.")
@click.option("--duplicates", type=_SHARE, default=0.02, show_default=True, help="Share of events delivered twice.")
@click.option("--losses", type=_SHARE, default=0.0, show_default=True, help="Share of events never delivered.")
@click.option("--storm", type=StormAt(), help="A failover: when, share that returns, within which time; 1m:0.9:20s.")
@click.option("--spread", type=Duration(), default=5000, show_default="5s", help="The first connects take this long.")
@click.option("--start", "start_ms", type=int, help="Epoch milliseconds of the start; in files 2026-01-01 by default.")
@click.option(
    "--speed", type=click.FloatRange(0, min_open=True), default=1.0, help="Against an engine: live this fast."
)
@click.option(
    "--to",
    "target",
    default="-",
    show_default=True,
    help="A file, - for the output, http://HOST:PORT, or rocketmq://HOST:PORT/TOPIC.",
)
@click.option("--token", envvar="ROLLCALL_TOKEN", help="Bearer token of the engine, where it wants one.")
def simulate(
    target: str, events: int | None, duration: int | None, rate: float | None, token: str | None, **options: Any
) -> None:
    """Make up a fleet: sessions, flaps, takeovers, late, repeated and lost events, a failover storm.

    Files get virtual time, as fast as they can be written, each line with the instant of its arrival ("received_at"),
    ready for `rollcall replay`. An engine (http://...) gets the events in real time, until --events, --duration or
    Ctrl-C; so does a RocketMQ topic (name server and topic in the address), each event a message tagged by its type.
    ROCKETMQ_ACCESS_KEY and ROCKETMQ_SECRET are the login, where one is needed.
    """
    live = target.startswith(("http://", "https://", ROCKETMQ))
    plan = _plan(live, rate, options)
    stream = arrivals(plan)
    if duration is not None:
        stream = _until(stream, plan.start_ms + duration)
    if events is not None or (not live and duration is None):
        stream = islice(stream, events or DEFAULT_EVENTS)
    if target.startswith(ROCKETMQ):
        _publish(target, stream)
    elif live:
        _post(target, token, stream)
    else:
        _write(target, stream)


def _plan(live: bool, rate: float | None, options: dict[str, Any]) -> SyntheticFleet:
    now_ms = time.time_ns() // 1_000_000
    start_ms = (
        options["start_ms"]
        if options["start_ms"] is not None
        else now_ms
        if live
        else SyntheticFleet(clients=1).start_ms
    )
    shares = {key: options[key] for key in ("flaps", "takeovers", "graceful", "late", "duplicates", "losses")}
    plan = SyntheticFleet(
        clients=options["clients"],
        seed=options["seed"],
        start_ms=start_ms,
        spread_ms=options["spread"],
        max_late_ms=options["max_late"],
        storm=options["storm"],
        **shares,
    )
    plan = plan if rate is None else plan.at_rate(rate)
    return plan.faster(options["speed"]) if live else plan


def _until(stream: Iterator[Arrival], end_ms: int) -> Iterator[Arrival]:
    for arrival in stream:
        if arrival.received_at_ms >= end_ms:
            return
        yield arrival


def _write(target: str, stream: Iterator[Arrival]) -> None:
    written = 0
    try:
        with nullcontext(sys.stdout.buffer) if target == "-" else open(target, "wb") as out:
            file: IO[bytes] = out
            while lines := [arrival.recorded() for arrival in islice(stream, BATCH_EVENTS)]:
                file.write(b"\n".join(lines) + b"\n")
                written += len(lines)
            file.flush()
    except BrokenPipeError:
        raise SystemExit(0) from None  # `| head` has seen enough
    except OSError as error:
        raise click.ClickException(f"cannot write {target}: {error.strerror}") from error
    click.echo(f"{written} synthetic events written to {target}", err=True)


def _post(target: str, token: str | None, stream: Iterator[Arrival]) -> None:
    """Send the stream as its time comes."""
    url = f"{target.rstrip('/')}/v1/events"
    sent = 0
    with requests.Session() as session:
        session.trust_env = False  # an engine on loopback is not to be sought behind a proxy
        session.headers["Content-Type"] = "application/x-ndjson"
        if token:
            session.headers["Authorization"] = f"Bearer {token}"
        try:
            for arrived in _in_real_time(stream):
                _deliver(session, url, b"\n".join(arrival.line for arrival in arrived))
                sent += len(arrived)
        except KeyboardInterrupt:
            pass
    click.echo(f"{sent} synthetic events sent to {url}", err=True)


def _publish(target: str, stream: Iterator[Arrival]) -> None:
    """Publish the stream as its time comes; the topic is made by the first message, where the broker lets it."""
    servers, _, topic = target.removeprefix(ROCKETMQ).partition("/")
    if not servers or not topic:
        raise click.ClickException(f"`{target}` is not rocketmq://HOST:PORT/TOPIC")
    login = os.environ.get("ROCKETMQ_ACCESS_KEY", ""), os.environ.get("ROCKETMQ_SECRET", "")
    publisher = Publisher(servers.replace(",", ";"), topic, "PID_rollcall_simulate", *login)
    sent = 0
    try:
        for arrived in _in_real_time(stream):
            publisher.send([(arrival.event.type, arrival.line) for arrival in arrived])
            sent += len(arrived)
    except KeyboardInterrupt:
        pass
    finally:
        publisher.close()
    click.echo(f"{sent} synthetic events published to {target}", err=True)


def _in_real_time(stream: Iterator[Arrival]) -> Iterator[list[Arrival]]:
    """What has arrived by now, a batch at a time."""
    waiting: list[Arrival] = []
    for arrival in stream:
        while arrival.received_at_ms > time.time_ns() // 1_000_000:
            if waiting:
                yield waiting
                waiting = []
            ahead_s = arrival.received_at_ms / 1000 - time.time()
            time.sleep(max(0.0, min(TURN_S, ahead_s)))
        waiting.append(arrival)
        if len(waiting) >= BATCH_EVENTS:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def _deliver(session: requests.Session, url: str, body: bytes) -> None:
    """Post until the engine has taken it; a full one says when to come back."""
    while True:
        try:
            answer = session.post(url, data=body, timeout=TIMEOUT_S)
        except requests.RequestException as error:
            raise click.ClickException(f"{url} does not answer: {error}") from error
        if answer.status_code != requests.codes.too_many_requests:
            break
        time.sleep(float(answer.headers.get("Retry-After", "1")))
    if not answer.ok:
        raise click.ClickException(f"{url} answered {answer.status_code}: {answer.text[:200]}")
