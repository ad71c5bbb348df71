"""`python -m tests.benchmarks.bare_rocketmq push|pull NAME_SERVER TOPIC MESSAGES AT_A_TIME`: a client that does nothing else.

Prints how many messages a second it read into nothing, from its first message to its last. A process of its own, as
the engine is.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time

from engine.sources.rocketmq.binding import LOG_FILE_MB, LOG_FILES, PullConsumer
from engine.sources.rocketmq.native_log import writing_to
from engine.sources.rocketmq.pipe import FOUND, ClusterAccess, QueueName

WITHIN_S = 300.0
_LOG_WARN = 3


def push(address: str, topic: str, messages: int) -> float:
    """The wrapped push consumer with a callback that counts."""
    from rocketmq import ffi
    from rocketmq.client import ConsumeStatus, PushConsumer

    seen, first, done = [0], [0.0], threading.Event()

    def count(message: object) -> ConsumeStatus:
        if not seen[0]:
            first[0] = time.monotonic()
        seen[0] += 1
        if seen[0] >= messages:
            done.set()
        return ConsumeStatus.CONSUME_SUCCESS

    with writing_to(tempfile.gettempdir()):  # or its log goes into the home folder
        consumer = PushConsumer("GID_bare_push")
        consumer.set_name_server_address(address)
        ffi.dll.SetPushConsumerLogLevel(consumer._handle, _LOG_WARN)  # the package has no word for it
        ffi.dll.SetPushConsumerLogFileNumAndSize(consumer._handle, LOG_FILES, LOG_FILE_MB)  # nor for this
    consumer.set_thread_count(1)  # more are slower
    consumer.subscribe(topic, count)
    consumer.start()
    if not done.wait(WITHIN_S):
        raise SystemExit(f"only {seen[0]} of {messages} messages within {WITHIN_S:.0f} s")
    return messages / (time.monotonic() - first[0])


def pull(address: str, topic: str, messages: int, at_a_time: int) -> float:
    """The pull consumer on one thread, bodies and tags read."""
    consumer = PullConsumer(
        ClusterAccess(group="GID_bare_pull", name_servers=address, log_folder=tempfile.gettempdir())
    )
    consumer.start()
    queues = {QueueName(topic, broker, number): 0 for broker, number in consumer.queues(topic).queues}
    seen, started = 0, time.monotonic()
    while seen < messages:
        for queue, offset in list(queues.items()):
            found = consumer.pull(queue, b"*", offset, at_a_time)
            if found.status == FOUND:
                queues[queue] = found.next_offset
                seen += len(found.bodies)
        if time.monotonic() - started > WITHIN_S:
            raise SystemExit(f"only {seen} of {messages} messages within {WITHIN_S:.0f} s")
    return messages / (time.monotonic() - started)


def main() -> None:
    """Read, print, and leave at once: shutting the library down is not measured and may take seconds."""
    kind, address, topic, messages, at_a_time = sys.argv[1:]
    rate = (
        push(address, topic, int(messages)) if kind == "push" else pull(address, topic, int(messages), int(at_a_time))
    )
    print(rate, flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
