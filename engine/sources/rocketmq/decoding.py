"""The events in what was pulled, each message checked against its own tag. Pure; read `decode_messages`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from engine.core.events import EVENT_TYPES, Rejection
from engine.sources.rocketmq.intake import QueueChunk
from engine.sources.wire import Decoded, decode_lines

_TYPES: Final = {name.encode(): name for name in EVENT_TYPES}


def decode_messages(chunks: Sequence[QueueChunk], received_at_ms: int, max_future_ms: int) -> Decoded:
    """The events of all messages, in order; what is malformed is in `rejected`, never raised."""
    bodies = [body for chunk in chunks for body in chunk.bodies]
    decoded = decode_lines(bodies, received_at_ms, max_future_ms)
    if not decoded.rejected and len(decoded.events) == len(bodies):
        tagged = [_TYPES.get(tag) for chunk in chunks for tag in chunk.tags]
        if [event.type for event in decoded.events] == tagged:
            return decoded
    return _one_by_one(chunks, received_at_ms, max_future_ms)


def _one_by_one(chunks: Sequence[QueueChunk], received_at_ms: int, max_future_ms: int) -> Decoded:
    """The same, message by message: a missing type is taken from the tag, and one that contradicts the tag is malformed."""
    events, raw, rejected, future = [], [], [], 0
    messages = ((body, tag) for chunk in chunks for body, tag in zip(chunk.bodies, chunk.tags, strict=True))
    for number, (body, tag) in enumerate(messages, 1):
        one = decode_lines([body], received_at_ms, max_future_ms, tag=tag.decode("utf-8", "replace") or None)
        events += one.events
        raw += one.raw
        rejected += [fault._replace(line=number) for fault in one.rejected]
        future += one.future
        if not one.events and not one.rejected:
            rejected.append(Rejection(number, "the message is empty", body))
    return Decoded(events, raw, rejected, future)
