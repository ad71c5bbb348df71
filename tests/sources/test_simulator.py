"""The synthetic fleet: one seed tells one story, the story is what was asked for, and it plays in real time."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice, takewhile
from pathlib import Path
from typing import ClassVar

from click.testing import CliRunner

from engine.cli.simulate import simulate
from engine.core.events import CONNECT, DISCONNECT, TCPCLEAN
from engine.sources.base import Batch
from engine.sources.simulator.source import SimulatorSource
from engine.sources.simulator.synthetic import START_MS, Arrival, Storm, SyntheticFleet, arrivals
from engine.sources.wire import decode_lines, decode_replay_lines

CALM = SyntheticFleet(clients=200, late=0, duplicates=0, takeovers=0, flaps=0)


def story(plan: SyntheticFleet, seconds: float) -> list[Arrival]:
    """What arrives within so many seconds after the start."""
    end_ms = plan.start_ms + round(seconds * 1000)
    return list(takewhile(lambda arrival: arrival.received_at_ms < end_ms, arrivals(plan)))


def test_the_same_plan_tells_the_same_story_and_another_seed_another() -> None:
    plan = SyntheticFleet(clients=50, storm=Storm(at_ms=20_000))
    assert story(plan, 60) == story(plan, 60)
    assert story(plan, 60) != story(replace(plan, seed=2), 60)


def test_a_later_start_never_uses_a_channel_again() -> None:
    channels = {arrival.event.channel for arrival in story(CALM, 60)}
    assert not channels & {arrival.event.channel for arrival in story(replace(CALM, start_ms=START_MS + 1), 60)}


def test_messages_come_in_the_order_of_arrival_and_never_before_they_happened() -> None:
    told = story(SyntheticFleet(clients=300, storm=Storm(at_ms=20_000)), 120)
    assert [arrival.received_at_ms for arrival in told] == sorted(arrival.received_at_ms for arrival in told)
    assert all(arrival.event.occurred_at_ms <= arrival.received_at_ms for arrival in told)


def test_every_line_is_acceptable_as_it_is_and_as_a_recording() -> None:
    told = story(SyntheticFleet(clients=100), 60)
    decoded = decode_lines([arrival.line for arrival in told], START_MS + 60_000, 0)
    assert decoded.events == [arrival.event for arrival in told]
    replayed = decode_replay_lines([arrival.recorded() for arrival in told], 0)
    assert replayed.received == [arrival.received_at_ms for arrival in told]


def test_everyone_connects_first_and_each_channel_has_one_life() -> None:
    told = story(CALM, 600)
    first = [arrival.event for arrival in story(CALM, 5.1)]
    assert {event.client for event in first if event.type == CONNECT} == {arrival.event.client for arrival in told}
    kinds = Counter((arrival.event.channel, arrival.event.type) for arrival in told)
    assert set(kinds.values()) == {1}
    closed = {channel for channel, kind in kinds if kind == TCPCLEAN}
    assert {channel for channel, kind in kinds if kind == DISCONNECT} <= closed


def test_within_twenty_seconds_devices_stay_away_longer_than_a_short_hold_and_come_back() -> None:
    told = [arrival.event for arrival in story(SyntheticFleet(clients=200), 20)]
    left = {event.client: event.occurred_at_ms for event in told if event.type == TCPCLEAN}
    back = [e for e in told if e.type == CONNECT and e.occurred_at_ms - left.get(e.client, e.occurred_at_ms) > 5_000]
    assert back


def test_losses_duplicates_and_lateness_have_the_share_that_was_asked_for() -> None:
    plan = SyntheticFleet(clients=2_000, session_ms=20_000, late=0.1, duplicates=0.2, takeovers=0)
    told = list(islice(arrivals(plan), 20_000))
    copies = Counter(arrival.event for arrival in told)
    assert 0.17 < sum(count - 1 for count in copies.values()) / len(copies) < 0.23
    whole = list(islice(arrivals(replace(CALM, session_ms=20_000)), 5_000))
    assert all(arrival.received_at_ms - arrival.event.occurred_at_ms < 30 for arrival in whole)
    lossy = story(replace(CALM, losses=0.5), 5.1)
    assert 70 < sum(arrival.event.type == CONNECT for arrival in lossy) < 130


def test_a_storm_drops_everyone_and_brings_back_the_share_that_was_asked_for() -> None:
    plan = replace(CALM, session_ms=10**9, storm=Storm(at_ms=30_000, returns=0.8, spread_ms=10_000))
    told = story(plan, 60)
    dropped = {arrival.event.client for arrival in told if arrival.event.type == TCPCLEAN}
    connects = Counter(arrival.event.client for arrival in told if arrival.event.type == CONNECT)
    assert len(dropped) == 200
    assert 140 < sum(count == 2 for count in connects.values()) < 180


def test_a_fleet_can_be_told_how_many_events_to_make() -> None:
    for rate in (10, 100):
        plan = SyntheticFleet(clients=1_000).at_rate(rate)
        told = [a for a in story(plan, 120) if a.received_at_ms >= plan.start_ms + 20_000]
        assert 0.7 * rate < len(told) / 100 < 1.4 * rate


class Engine:
    """A clock that stands still until it is set, and what was stored."""

    def __init__(self) -> None:
        self.now_ms = START_MS
        self.stored: list[Batch] = []
        self.fail_next = 0
        self.changed = asyncio.Event()

    async def offer(self, batch: Batch) -> None:
        assert batch.acknowledge is not None
        failed = self.fail_next > 0
        self.fail_next -= failed
        if not failed:
            self.stored.append(batch)
        batch.acknowledge(OSError("disk full") if failed else None)
        self.changed.set()


def test_the_source_plays_the_story_up_to_the_present_and_says_that_it_is_invented() -> None:
    async def go() -> None:
        engine = Engine()
        source = SimulatorSource(
            name="fleet",
            now_ms=lambda: engine.now_ms,
            clients=50,
            seed=3,
            grace_ms=5_000,
            tick_s=0.001,
            retry_s=(0.001,),
        )
        playing = asyncio.create_task(source.run(engine.offer))
        await asyncio.sleep(0)
        assert source.caught_up_to(START_MS + 4_999) is None
        engine.fail_next = 2
        engine.now_ms = START_MS + 30_000
        while source.caught_up_to(engine.now_ms) != START_MS + 30_000:
            await asyncio.sleep(0.001)
        expected = [
            arrival.event
            for arrival in takewhile(
                lambda a: a.received_at_ms <= START_MS + 30_000, arrivals(SyntheticFleet(clients=50, seed=3))
            )
        ]
        assert [event for batch in engine.stored for event in batch.events] == expected
        health = source.health(engine.now_ms)
        assert health.connected and "synthetic" in health.detail
        playing.cancel()
        await asyncio.gather(playing, return_exceptions=True)
        assert not source.health(engine.now_ms).connected

    asyncio.run(asyncio.wait_for(go(), 10))


def test_simulate_writes_a_recording_of_the_length_asked_for(tmp_path: Path) -> None:
    target = tmp_path / "fleet.jsonl"
    done = CliRunner().invoke(simulate, ["--clients", "30", "--events", "500", "--seed", "4", "--to", str(target)])
    assert done.exit_code == 0, done.output
    replayed = decode_replay_lines(target.read_bytes(), 0)
    assert len(replayed.events) == 500 and not replayed.rejected
    assert None not in replayed.received


def test_simulate_stops_after_the_duration_asked_for_and_knows_storms() -> None:
    arguments = ["--clients", "30", "--duration", "1m30s", "--storm", "30s:1:5s", "--late", "0"]
    done = CliRunner().invoke(simulate, arguments)
    assert done.exit_code == 0, done.output
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(event["received_at"] < START_MS + 90_000 for event in told)
    assert sum(30_000 <= event["time"] - START_MS < 31_000 for event in told) >= 15


class Taker(BaseHTTPRequestHandler):
    """An engine that is full at first."""

    bodies: ClassVar[list[bytes]] = []
    refuse: ClassVar[int] = 1

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        refused = Taker.refuse > 0
        Taker.refuse -= refused
        if not refused and self.path == "/v1/events":
            Taker.bodies.append(body)
        self.send_response(429 if refused else 202)
        self.send_header("Retry-After", "0")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def test_simulate_posts_to_an_engine_and_comes_back_when_it_is_full() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Taker) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        done = CliRunner().invoke(simulate, ["--events", "20", "--spread", "100ms", "--speed", "10", "--to", url])
        server.shutdown()
    assert done.exit_code == 0, done.output
    posted = decode_lines(b"\n".join(Taker.bodies), time.time_ns() // 1_000_000, 0)
    assert len(posted.events) == 20


def test_simulate_refuses_what_is_no_duration_storm_or_share() -> None:
    for arguments in (["--duration", "soon"], ["--storm", "x"], ["--storm", "1m:much"], ["--flaps", "2"]):
        assert CliRunner().invoke(simulate, arguments).exit_code == 2
