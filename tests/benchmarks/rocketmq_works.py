"""From a real RocketMQ broker on loopback: bare clients that read into nothing, and the engine, durable, on the same topic."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import islice
from pathlib import Path

from tests.benchmarks import rule_sets
from tests.benchmarks.engine_process import BenchmarkError, Engine
from tests.benchmarks.load import Load
from tests.benchmarks.works import MIB, WITHIN_S, Figures, cpu_figures, file_config
from tests.mq.broker import Broker, running
from tests.mq.jars import Absent, jars, java

MOST_EVENTS = 200_000
"""Of the day: publishing them one by one takes most of the time."""

SLICE = 5_000
TOPIC = "GID_BENCH_MQTT"


def measure(load: Load, folder: Path) -> Figures:
    """Publish the day's first events, then let each client read all of them. BenchmarkError without a broker."""
    from engine.sources.rocketmq_binding import NativeLibraryMissing, library

    try:
        library()
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
            **_engine(folder, broker, messages),
        }


def _publish(load: Load, broker: Broker) -> int:
    """How many messages were published."""
    from engine.sources.rocketmq_publishing import Publisher

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


def _committed(engine: Engine) -> int:
    """Messages before the committed positions of all queues."""
    rows = engine.query("SELECT position FROM sources WHERE name = 'mq'")
    return sum(place[0] for place in json.loads(rows[0][0])["queues"].values()) if rows and rows[0][0] else 0
