"""From a real RocketMQ broker on loopback: bare clients that read into nothing, and the engine, durable, on the same topic."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

from tests.benchmarks import rule_sets
from tests.benchmarks.engine_process import BenchmarkError, Engine
from tests.benchmarks.load import Load
from tests.benchmarks.works import MIB, WITHIN_S, Figures, cpu_figures, file_config
from tests.fetched import Absent
from tests.mq.broker import Broker, running
from tests.mq.jars import jars, java

MOST_EVENTS = 200_000
"""Of the day: publishing them one by one takes most of the time."""

SLICE = 5_000
TOPIC = "GID_BENCH_MQTT"

LAG_TOPIC = "GID_LAG_MQTT"
LAG_TURNS, LAG_TURN_S, LAG_SLICE = 100, 0.1, 500
"""Ten seconds at 5,000 events/s, if publishing is that fast."""
LAG_CLIENTS = 10_000


def measure(load: Load, folder: Path) -> Figures:
    """Publish the day's first events, then let each client read all of them. BenchmarkError without a broker."""
    from engine.sources.rocketmq.client import require_library
    from engine.sources.rocketmq.pipe import NativeLibraryMissing

    try:
        require_library()
        java()
        jars()
    except (NativeLibraryMissing, Absent) as reason:
        raise BenchmarkError(str(reason)) from reason
    with running(folder / "rocketmq") as broker:
        broker.topic(TOPIC)
        messages = _publish(load, broker)
        return {
            "bare push/s": _bare("push", broker, messages, 0),
            "bare pull of 32/s": _bare("pull", broker, messages, 32),
            "bare pull of 1000/s": _bare("pull", broker, messages, 1000),
            **_engine(folder / "read", broker, messages),
            **_lag(folder / "lag", broker),
        }


def _publish(load: Load, broker: Broker) -> int:
    """How many messages were published."""
    from engine.sources.rocketmq.publisher import Publisher

    publisher, published = Publisher(broker.address, TOPIC), 0
    with load.path.open("rb") as file:
        lines = islice(file, MOST_EVENTS)
        while some := [line.rstrip() for line in islice(lines, SLICE)]:
            publisher.send([(json.loads(line)["eventType"], line) for line in some])
            published += len(some)
    publisher.close()
    # A message whose answer was lost may be there twice.
    return sum(broker.max_offset(TOPIC, queue) for queue in range(4)) if published else 0


def _bare(kind: str, broker: Broker, messages: int, at_a_time: int) -> float:
    call = [sys.executable, "-m", "tests.benchmarks.bare_rocketmq", kind, broker.address, TOPIC]
    done = subprocess.run(
        [*call, str(messages), str(at_a_time)], capture_output=True, text=True, timeout=WITHIN_S, check=False
    )
    if done.returncode:
        raise BenchmarkError(f"the bare {kind} client failed: {done.stderr[-500:]}")
    return float(done.stdout.split()[-1])


def _engine(folder: Path, broker: Broker, messages: int) -> Figures:
    """From the first message's commit to the last one's: the bare clients' time begins with their first one too."""
    source = {"name": "mq", "type": "rocketmq", "name_servers": [broker.address], "consumer_group": "GID_bench"}
    config = file_config(sources=[source | {"topics": [TOPIC], "start": "earliest"}])
    with Engine.start(folder, config, rule_sets.ten()) as engine:
        started = engine.wait_until("the first commit", lambda: _committed(engine) > 0, within_s=60)
        first = _committed(engine)
        before = engine.usage()
        ended = engine.wait_until("all of it", lambda: _committed(engine) >= messages, within_s=WITHIN_S)
        after = engine.usage()
    read = messages - first
    figures = {"events/s": read / (ended - started), "peak_mib": after.peak_engine / MIB}
    return figures | cpu_figures(before.cpu_s, after.cpu_s, read)


def _lag(folder: Path, broker: Broker) -> Figures:
    """Events as they happen: from the time in an event, taken before it is published, to the engine's instant of it."""
    from engine.sources.rocketmq.publisher import Publisher

    broker.topic(LAG_TOPIC)
    source = {"name": "mq", "type": "rocketmq", "name_servers": [broker.address], "consumer_group": "GID_bench"}
    config = file_config(sources=[source | {"topics": [LAG_TOPIC], "start": "earliest"}], debounce={"offline": "0s"})
    publisher = Publisher(broker.address, LAG_TOPIC)
    with Engine.start(folder, config, rule_sets.ten()) as engine:
        engine.wait_for("/readyz")
        started = time.monotonic()
        for turn in range(LAG_TURNS):
            time.sleep(max(0.0, started + turn * LAG_TURN_S - time.monotonic()))
            publisher.send([_event(turn * LAG_SLICE + number) for number in range(LAG_SLICE)])
        seconds = time.monotonic() - started
        events = LAG_TURNS * LAG_SLICE
        engine.wait_until("all of it", lambda: _committed(engine) >= events, within_s=60)
        rows = engine.query("SELECT at, events FROM journal WHERE source = 'mq' AND count > 0")
    publisher.close()
    lags = [at - json.loads(line)["time"] for at, lines in rows for line in bytes(lines).split(b"\n")]
    cuts = statistics.quantiles(lags, n=100)
    return {"lag published/s": events / seconds, "lag p50_ms": cuts[49], "lag p99_ms": cuts[98]}


def _event(number: int) -> tuple[str, bytes]:
    """The number-th event of a fleet whose clients connect and drop in turn, dated now."""
    client, kind = f"GID_SITE00@@@pump-{number % LAG_CLIENTS:07d}", ("connect", "tcpclean")[number // LAG_CLIENTS % 2]
    channel = f"{number // (2 * LAG_CLIENTS):032x}"
    told = {"clientId": client, "time": time.time_ns() // 1_000_000, "eventType": kind, "channelId": channel}
    return kind, json.dumps(told).encode()


def _committed(engine: Engine) -> int:
    """Messages before the committed positions of all queues."""
    rows = engine.query("SELECT position FROM sources WHERE name = 'mq'")
    return sum(place[0] for place in json.loads(rows[0][0])["queues"].values()) if rows and rows[0][0] else 0
