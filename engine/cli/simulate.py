"""`rollcall simulate`: events of a synthetic fleet, written to a file, sent to a running engine, or published to RocketMQ."""

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
"""Events in one request, and lines written at a time."""

TURN_S: Final = 0.1
"""Seconds of events that one request carries in real time."""

TIMEOUT_S: Final = 30
ROCKETMQ: Final = "rocketmq://"
DEFAULT_EVENTS: Final = 10_000
"""Events written to a file when neither --events nor --duration is given."""


class Duration(click.ParamType[int]):
    """A duration such as `500ms`, `30s` or `6m2s`, in milliseconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Milliseconds from text; a number is returned as it is."""
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
        """A storm from text; a storm is returned as it is."""
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
    "--clients", type=click.IntRange(1, 10_000_000), default=200, show_default=True, help="Number of clients."
)
@click.option("--events", type=click.IntRange(1), help="Stop after this many events.")
@click.option("--duration", type=Duration(), help="Stop after this much simulated time, such as 5m.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same events.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Events per second, of all clients together.")
@click.option(
    "--flaps", type=_SHARE, default=0.2, show_default=True, help="Share of disconnections followed by a quick return."
)
@click.option(
    "--takeovers",
    type=_SHARE,
    default=0.1,
    show_default=True,
    help="Share of disconnections caused by a new connection.",
)
@click.option(
    "--graceful", type=_SHARE, default=0.5, show_default=True, help="Share of disconnections with a disconnect event."
)
@click.option(
    "--late", type=_SHARE, default=0.03, show_default=True, help="Share of events that arrive late, after newer ones."
)
@click.option("--max-late", type=Duration(), default=3000, show_default="3s", help="Longest delay of a late event.")
@click.option("--duplicates", type=_SHARE, default=0.02, show_default=True, help="Share of events delivered twice.")
@click.option("--losses", type=_SHARE, default=0.0, show_default=True, help="Share of events never delivered.")
@click.option(
    "--storm",
    type=StormAt(),
    help="Simulate a broker failover, such as 1m:0.9:20s: when, the share of clients that return, and within which time.",
)
@click.option(
    "--spread", type=Duration(), default=5000, show_default="5s", help="All clients connect within this time."
)
@click.option(
    "--start",
    "start_ms",
    type=int,
    help="Start time in epoch milliseconds; default: 2026-01-01 for files, now otherwise.",
)
@click.option(
    "--speed",
    type=click.FloatRange(0, min_open=True),
    default=1.0,
    help="When sending to an engine: how many times faster than real time.",
)
@click.option(
    "--to",
    "target",
    type=click.Path(allow_dash=True, readable=False),
    default="-",
    show_default=True,
    help="A file, - for standard output, http://HOST:PORT, or rocketmq://HOST:PORT/TOPIC.",
)
@click.option("--token", envvar="ROLLCALL_TOKEN", help="Bearer token of the engine, if it needs one.")
def simulate(
    target: str, events: int | None, duration: int | None, rate: float | None, token: str | None, **options: Any
) -> None:
    """Generate events of a synthetic fleet: sessions, flaps, takeovers, late, duplicate and lost events, a failover.

    A file is written as fast as possible, in virtual time: each line has the time of its arrival ("received_at") and
    `rollcall replay` reads it. An engine (http://...) gets the events in real time, until --events, --duration or
    Ctrl-C; so does a RocketMQ topic (name server and topic in the address), with one message per event, tagged by its type.
    The environment variables ROCKETMQ_ACCESS_KEY and ROCKETMQ_SECRET hold the credentials, if the broker needs them.
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
        raise SystemExit(0) from None  # the reader (`| head`) has closed the pipe
    except OSError as error:
        raise click.ClickException(f"cannot write {target}: {error.strerror}") from error
    click.echo(f"{written} synthetic events written to {target}", err=True)


def _post(target: str, token: str | None, stream: Iterator[Arrival]) -> None:
    """Send the stream in real time."""
    url = f"{target.rstrip('/')}/v1/events"
    sent = 0
    with requests.Session() as session:
        session.trust_env = False  # no proxy stands before an engine on this machine
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
    """Publish the stream in real time; the first message creates the topic, if the broker allows it."""
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
    """What has arrived by now, in batches."""
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
    """Post until the engine has accepted it; an overloaded engine says when to try again."""
    while True:
        try:
            answer = session.post(url, data=body, timeout=TIMEOUT_S)
        except requests.RequestException as error:
            raise click.ClickException(f"{url} did not answer: {error}") from error
        if answer.status_code != requests.codes.too_many_requests:
            break
        time.sleep(float(answer.headers.get("Retry-After", "1")))
    if not answer.ok:
        raise click.ClickException(f"{url} answered {answer.status_code}: {answer.text[:200]}")
